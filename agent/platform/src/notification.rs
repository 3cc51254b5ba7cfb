//! Something that the user decides, on the desktop: what it says. Each operating system shows it its own way
//! ([`crate::desktop::ask`]).

/// A question with the buttons "Update now" and "Later".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// One line.
    pub title: String,
    /// A few sentences.
    pub text: String,
    /// A sentence about the first button.
    pub about_button: String,
    /// It stays until the user has seen it.
    pub urgent: bool,
}

/// What the button says that agrees.
pub(crate) const NOW: &str = "Update now";
/// What the other one says.
pub(crate) const LATER: &str = "Later";
