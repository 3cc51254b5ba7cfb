//! What an app that the operating system installs is known by.

/// One app. Each operating system knows it by another of these.
#[derive(Clone, Copy, Debug, Default)]
pub struct App<'a> {
    /// The name of its package (Linux).
    pub package: Option<&'a str>,
    /// The folders that its programs lie in (Windows, macOS).
    pub folders: &'a [String],
    /// Its name in the list of installed programs (Windows).
    pub title: &'a str,
}
