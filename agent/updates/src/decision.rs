//! What [`crate::decide`] decides.

use crate::Reason;
use crate::feed::Release;

/// What to do, about which release, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// What to do.
    pub verdict: Verdict,
    /// The release that it is about.
    pub release: Option<&'a Release>,
    /// Why.
    pub reason: Reason,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// Say that there is a release.
    Announce,
    /// Download it. It is installed later.
    Prepare,
    /// Download it, and install it.
    Install,
}
