//! What a process is, and how much an entry of its log matters. For the logs, which each system keeps in its own way.

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
