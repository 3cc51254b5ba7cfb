//! Who may call an endpoint: proof that a handler needs before it runs.
//!
//! In: a caller. Out: a value that implements [`Admission`], or a [`Refusal`]. [`crate::server::Api::on`] makes the
//! value before it reads the request, and each handler takes one: a handler without admission does not compile.

use std::sync::atomic::AtomicU64;

use platform::ipc::Peer;
use policy_schema::{Code, Problem};
use serde::Serialize;

pub use hyper::StatusCode;

/// The other end of a connection. There is one value for each connection.
#[derive(Debug, Default)]
pub struct Caller {
    /// The peer, if the operating system identifies it.
    pub peer: Option<Peer>,
    /// For the owner of the API: what it decided about this connection last, and under which version of its rules; 0 if
    /// nothing yet.
    pub admitted: AtomicU64,
}

/// Proof that a caller may use an endpoint of an API with the state `S`.
pub trait Admission<S>: Sized + Send {
    /// Admits a caller to the endpoint at `path`.
    ///
    /// # Errors
    /// The caller may not use the endpoint.
    fn admit(state: &S, caller: &Caller, path: &'static str) -> Result<Self, Refusal>;
}

/// A response that is no success: `{"error": {"code": "...", "message": "...", "hint": "..."}}`.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What is wrong and what to do.
    pub problem: Problem,
}

impl Refusal {
    /// A refusal by the API itself.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(Code::ApiRefused, message) }
    }
}

/// The body of a [`Refusal`].
#[derive(Serialize)]
pub(crate) struct RefusalBody<'p> {
    pub(crate) error: &'p Problem,
}
