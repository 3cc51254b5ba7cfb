//! What an operating system says about who signed a file.

/// What the system says about the signature of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// It is valid, and trusted by the system. On Windows the publisher is the common name in its certificate, on macOS its
    /// team ID.
    By(String),
    /// There is none.
    Unsigned,
    /// There is one that is wrong or not trusted, and why.
    Invalid(String),
    /// The system names no publishers of such files. A signature in a package for Linux is right, if there is one.
    NoPublishers,
}
