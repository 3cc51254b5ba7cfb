//! What can happen to the machine service: one closed enum, and the wait for the next one.

use std::convert::Infallible;
use std::future::{self, Future};
use std::pin::Pin;
use std::time::Duration;

use platform::service;
use platform::watch::Hint;
use policy_schema::Problem;
use protocol::update::Command;
use semver::Version;
use tokio::sync::{Notify, mpsc, oneshot};
use watchdog::child::{self, Word};

use crate::health::sinks::http::DeliveryReport;
use crate::health::sinks::opamp::Pushed;
use crate::health::sinks::{Kind, SinkOutcome};
use crate::health::sources::provider::ProviderOutcome;
use crate::health::sources::sessions::Sessions;
use crate::update::{self, FailedStart};
use protocol::health::Protection;

/// What can happen.
pub(super) enum Event {
    /// A source of policy may have changed.
    PolicyHint(Hint),
    /// The time has come for something.
    Due,
    /// The local API can be used, or why it cannot.
    LocalApi(Option<Problem>),
    /// An administrator wants policy to be read now. The sender is notified when it is in effect.
    ReloadPolicy(oneshot::Sender<()>),
    /// An administrator wants the feed to be checked now, and perhaps something to be done before. The sender is notified
    /// when that is done.
    CheckForUpdate(Option<Command>, oneshot::Sender<()>),
    /// What the app finds may have changed.
    AppChanged,
    /// A broker says that the state of its user's session has changed, or the system that a user has logged on or off.
    SessionChanged,
    /// The brokers were asked.
    SessionsObserved(Sessions),
    /// A switch that a crash had interrupted is finished.
    UpdateRecovered(Option<Problem>),
    /// A check of the feed has ended.
    UpdateFinished(update::Outcome),
    /// A check for a new version of the agent has ended.
    AgentUpdateFinished(update::Outcome),
    /// This version asked its own API, which answered or not.
    OwnApiAnswered(bool),
    /// The watchdog has saved that this version works.
    AgentVersionProved,
    /// The app was asked to close once more, and its time is over.
    AppClosing(Version),
    /// The app was started again for those users for whom it was closed, but the version that had just been installed failed.
    FirstStartFailed(FailedStart),
    /// A check of the identity provider's documents has ended.
    ProviderChecked(Box<ProviderOutcome>),
    /// A delivery has ended.
    DeliveryFinished(Box<DeliveryReport>),
    /// Somebody looked at what is sent, and so at the protection of the device.
    PostureObserved(Vec<Protection>),
    /// A sink that keeps no queue was served, or could not be.
    SinkServed(Kind, Box<SinkOutcome>),
    /// An OpAMP server said something that nobody asked for.
    OpampPushed(Pushed),
    /// The service manager wants an end.
    Stop,
}

/// Waits for the next event, at most for `wake`. Meanwhile the service manager hears that the loop turns.
pub(super) async fn next_event(
    events: &mut mpsc::Receiver<Event>,
    session_changed: &Notify,
    app_changed: &Notify,
    pushed: impl Future<Output = Pushed>,
    stop: Pin<&mut impl Future<Output = ()>>,
    wake: Duration,
) -> Event {
    tokio::select! {
        event = events.recv() => event.unwrap_or(Event::Stop),
        () = session_changed.notified() => Event::SessionChanged,
        () = service::session_change() => Event::SessionChanged,
        () = app_changed.notified() => Event::AppChanged,
        pushed = pushed => Event::OpampPushed(pushed),
        () = stop => Event::Stop,
        () = tokio::time::sleep(wake) => Event::Due,
        never = report_alive() => match never {},
    }
}

/// Tells the service manager at once, and again and again, that the loop has come this far.
async fn report_alive() -> Infallible {
    let Some(interval) = service::watchdog_interval() else { return future::pending().await };
    let supervised = child::supervised().is_some();
    loop {
        if supervised {
            child::say(Word::Alive);
        } else {
            service::alive();
        }
        tokio::time::sleep(interval).await;
    }
}
