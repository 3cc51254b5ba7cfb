//! The version of this program.

use std::sync::OnceLock;

use semver::Version;

static OWN: OnceLock<Version> = OnceLock::new();

/// The version of this program.
pub(crate) fn own() -> &'static Version {
    OWN.get_or_init(|| env!("CARGO_PKG_VERSION").parse().unwrap_or_else(|_| Version::new(0, 0, 0)))
}

/// Lets this program be of another version, before anything else: so that tests have a newer one without building everything twice.
pub(crate) fn set(version: Version) {
    OWN.get_or_init(|| version);
}
