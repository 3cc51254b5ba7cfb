//! Who made an installer: it is not started unless a publisher signed it who may install the app.
//!
//! In: an open file, and the names that policy or the app's description accept. Out: nothing, or why it is refused. A signature
//! that cannot be read is no signature. Packages of Linux have none that names a publisher; their hash is in the feed, and a
//! signature that rpm does not accept is refused.

use std::io;
use std::path::{Path, PathBuf};

use net::chain;
use platform::file;
use platform::signature::Signature;
use platform::trust;

/// Why an installer is not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublisherError {
    #[error("its signature cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature is not accepted: {0}")]
    Invalid(String),
    #[error("it is signed by `{0}`, and no publisher is known for the app")]
    NoneKnown(String),
    #[error("it is signed by `{by}`, but accepted are {accepted}")]
    Other { by: String, accepted: String },
}

impl PublisherError {
    /// What an administrator can do.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unreadable(_) => "the agent tries again; on this device, the services for signatures may not run".to_owned(),
            Self::Unsigned => "publish an installer that the vendor has signed".to_owned(),
            Self::Invalid(_) => "get the file from the vendor again; a company's own authority has to be trusted by the device".to_owned(),
            Self::NoneKnown(by) | Self::Other { by, .. } => {
                format!("if `{by}` is the app's vendor, name it in `UpdatePublishers`")
            }
        }
    }

    /// In one line.
    pub(super) fn fault(&self) -> String {
        chain(self)
    }
}

/// Checks the signature of a file, which takes its time.
pub(super) async fn check(path: PathBuf, accepted: Vec<String>) -> Result<(), PublisherError> {
    let checking = tokio::task::spawn_blocking(move || {
        let file = file::open_unchangeable(&path).map_err(PublisherError::Unreadable)?;
        check_open(&file, &path, &accepted)
    });
    checking.await.unwrap_or_else(|error| Err(PublisherError::Unreadable(io::Error::other(error))))
}

/// Checks the signature of a file that is open, so that it cannot be exchanged after that.
pub(super) fn check_open(
    file: &fs_err::File,
    path: &Path,
    accepted: &[String],
) -> Result<(), PublisherError> {
    judge(trust::check_signature(file, path), accepted)
}

fn judge(signature: io::Result<Signature>, accepted: &[String]) -> Result<(), PublisherError> {
    match signature.map_err(PublisherError::Unreadable)? {
        Signature::NoPublishers => Ok(()),
        Signature::Unsigned => Err(PublisherError::Unsigned),
        Signature::Invalid(why) => Err(PublisherError::Invalid(why)),
        Signature::By(by) if accepted.contains(&by) => Ok(()),
        Signature::By(by) if accepted.is_empty() => Err(PublisherError::NoneKnown(by)),
        Signature::By(by) => {
            let accepted = accepted.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(PublisherError::Other { by, accepted })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_valid_signature_of_an_accepted_publisher_is_accepted() {
        let ours = ["Example Corp, Inc.".to_owned()];
        let by = |name: &str| Ok(Signature::By(name.to_owned()));
        assert!(
            judge(by("Example Corp, Inc."), &ours).is_ok() && judge(Ok(Signature::NoPublishers), &[]).is_ok()
        );
        for (signature, accepted, expected) in [
            (
                by("Example Corp"),
                &ours[..],
                "signed by `Example Corp`, but accepted are `Example Corp, Inc.`",
            ),
            (by("example corp, inc."), &ours, "signed by `example corp, inc.`"),
            (by("Example Corp, Inc."), &[], "no publisher is known"),
            (Ok(Signature::Unsigned), &ours, "not signed"),
            (Ok(Signature::Invalid("it was changed".to_owned())), &ours, "not accepted: it was changed"),
            (Err(io::Error::other("no answer")), &ours, "cannot be read: no answer"),
        ] {
            let error = judge(signature, accepted).unwrap_err();
            assert!(error.fault().contains(expected), "{}", error.fault());
        }
    }
}
