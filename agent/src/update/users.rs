//! The users who have the app open while an update waits for it: what is said to them goes through their brokers, all together and
//! within one limit. Called by the machine service, in tasks of their own.

use std::path::PathBuf;
use std::time::Duration;

use net::client::{CallError, call_within};
use platform::paths::Paths;
use protocol::app::{APP_CLOSE, APP_RESUME, APP_TELL, App, AppNotice, AppResumed, AppState};
use protocol::endpoint::Endpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// A broker belongs to its user: at most this number of bytes is read of what it says.
const MAXIMUM_RESPONSE: usize = 16 * 1024;
/// So much of how an app ended is kept, in characters.
const LONGEST_END: usize = 300;
/// How long all brokers together may take; one that does not run yet starts in that time.
const LIMIT: Duration = Duration::from_secs(10);
/// The same where they start the app and see whether it stays.
const START_LIMIT: Duration = Duration::from_secs(40);

/// Tells the users who have the app open of an update. Gives how many do, and how many of them have the notice on their screen.
pub(crate) async fn tell(paths: &Paths, notice: &AppNotice) -> (usize, usize) {
    let states: Vec<AppState> = ask_all(paths.broker_sockets(), &APP_TELL, notice, LIMIT).await;
    let count = |is: fn(&AppState) -> bool| states.iter().filter(|state| is(state)).count();
    (count(|state| state.open), count(|state| state.told))
}

/// Asks the app to close, wherever it is open.
pub(crate) async fn close(paths: &Paths, app: &App) {
    ask_all(paths.session_sockets(), &APP_CLOSE, app, LIMIT).await;
}

/// Takes notices back, and starts the app again for those for whom it was closed. Gives how it ended right after that, if that is so
/// for everybody. A broker that does not run has closed nothing, and is not started.
pub(crate) async fn resume(paths: &Paths, app: &App) -> Option<String> {
    let resumed = ask_all(paths.session_sockets(), &APP_RESUME, app, START_LIMIT).await;
    let started: Vec<AppResumed> = resumed.into_iter().filter(|resumed| resumed.started).collect();
    // Where it runs for somebody, it is not the version.
    if started.iter().any(|resumed| resumed.ended.is_none()) {
        return None;
    }
    let ended = started.into_iter().find_map(|resumed| resumed.ended)?;
    // What a broker says is its user's.
    Some(ended.chars().filter(|letter| !letter.is_control()).take(LONGEST_END).collect())
}

async fn ask_all<Request, Response>(
    sockets: Vec<PathBuf>,
    endpoint: &'static Endpoint<Request, Response>,
    request: &Request,
    limit: Duration,
) -> Vec<Response>
where
    Request: Clone + Send + Sync + Serialize + 'static,
    Response: Send + DeserializeOwned + 'static,
{
    let mut calls = JoinSet::new();
    for socket in sockets {
        let request = request.clone();
        calls.spawn(async move {
            let call = call_within(MAXIMUM_RESPONSE, &socket, endpoint, &request);
            match tokio::time::timeout(limit, call).await {
                Ok(Ok(response)) => return Some(response),
                // A broker that ended left its socket behind.
                Ok(Err(CallError::Absent { .. })) => {}
                Ok(Err(error)) => tracing::debug!("a broker does not do what it was asked: {error}"),
                Err(_) => tracing::debug!("the broker at {} does not respond", socket.display()),
            }
            None
        });
    }
    calls.join_all().await.into_iter().flatten().collect()
}
