//! The sessions of all users: every broker is asked, all together and within one limit.

use std::path::PathBuf;
use std::time::Duration;

use net::client::{CallError, call_within};
use platform::paths::Paths;
use protocol::broker::SESSION;
use protocol::endpoint::Nothing;
use protocol::health::Brokers;
use protocol::session::SessionStatus;
use tokio::task::JoinSet;

/// A broker belongs to its user: what it says counts for that user only, and at most this number of bytes is read.
const MAXIMUM_RESPONSE: usize = 16 * 1024;
/// How long all brokers together may take. One that hangs delays nobody else.
const LIMIT: Duration = Duration::from_secs(2);

/// What the brokers of a device say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sessions {
    /// What those that answered say, in the order of their sockets.
    pub(crate) sessions: Vec<SessionStatus>,
    /// How many are there and did not answer.
    pub(crate) silent: usize,
}

impl Sessions {
    /// For the assessment.
    pub(crate) fn brokers(&self) -> Brokers<'_> {
        Brokers { sessions: &self.sessions, silent: self.silent }
    }
}

/// Asks every broker of the device.
pub(crate) async fn observe(paths: &Paths) -> Sessions {
    let sockets = paths.session_sockets();
    let mut calls = JoinSet::new();
    for (number, socket) in sockets.into_iter().enumerate() {
        calls.spawn(async move { (number, session(socket).await) });
    }
    let mut replies: Vec<(usize, Reply)> = calls.join_all().await;
    replies.sort_by_key(|(number, _)| *number);
    let mut observed = Sessions::default();
    for (_, reply) in replies {
        match reply {
            Reply::Session(session) => observed.sessions.push(*session),
            Reply::Silent => observed.silent += 1,
            Reply::Absent => {}
        }
    }
    observed
}

enum Reply {
    Session(Box<SessionStatus>),
    /// Somebody is there and does not say how the session is doing.
    Silent,
    /// Nobody is there: a broker that ended left its socket behind.
    Absent,
}

async fn session(socket: PathBuf) -> Reply {
    let call = call_within(MAXIMUM_RESPONSE, &socket, &SESSION, &Nothing {});
    match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(session)) => Reply::Session(Box::new(session)),
        Ok(Err(CallError::Absent { source, .. }))
            if source.kind() != std::io::ErrorKind::PermissionDenied =>
        {
            Reply::Absent
        }
        Ok(Err(error)) => {
            tracing::debug!("a broker does not report its session: {error}");
            Reply::Silent
        }
        Err(_) => Reply::Silent,
    }
}

#[cfg(test)]
mod tests {
    use platform::ipc;

    use super::*;

    /// Found by trial: fifty brokers that hung delayed a report by 100 seconds, because they were asked one after another.
    #[tokio::test(start_paused = true)]
    async fn fifty_brokers_that_hang_delay_as_long_as_one() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let mut listeners = Vec::new();
        for user in 1000..1050 {
            let socket = paths.under_root(format!("/run/user/{user}/steward/session.sock").as_ref());
            listeners.push(ipc::listen(&socket, ipc::Audience::OwnerAndAgent).unwrap());
        }
        let begun = tokio::time::Instant::now();
        let observed = observe(&paths).await;
        assert_eq!((observed.sessions.len(), observed.silent), (0, 50));
        assert!(begun.elapsed() <= LIMIT, "{:?}", begun.elapsed());
        // Brokers that ended leave their sockets behind: nobody is silent there.
        drop(listeners);
        assert_eq!(observe(&paths).await, Sessions::default());
    }
}
