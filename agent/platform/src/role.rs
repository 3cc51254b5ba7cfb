//! What a process is, whether the system starts it, and how much an entry of its log matters. For what each system keeps in its
//! own way.

/// A process that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The machine service.
    Agent,
    /// The broker of a user.
    Broker,
}

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something may not work.
    Warning,
    /// Something has happened.
    Information,
}

/// Whether the system starts a process by itself: the machine service with the device, the broker with a user's session or
/// with the first request of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Startup {
    /// It does.
    Automatic,
    /// It is installed, and somebody turned it off.
    Disabled,
    /// Nobody can start it, not even by hand.
    Masked,
    /// Nothing that would start it is installed.
    NotInstalled,
    /// The system does not say: why.
    Unknown(String),
}

/// Whether users can turn off what the system starts (macOS 13, "Login Items").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackgroundItems {
    /// This system has no such switch.
    NotApplicable,
    /// A profile keeps them from it.
    Managed,
    /// They can.
    Unmanaged,
    /// The system does not say: why.
    Unknown(String),
}
