//! The machine service's local API. Every local user may read the machine's status: it holds no secrets. What changes
//! something needs an administrator.

use std::sync::Arc;

use net::admission::{Admission, Caller, Refusal, StatusCode};
use net::server::Api;
use platform::ipc::Peer;
use platform::paths::Paths;
use protocol::agent::{
    CHECK_FOR_UPDATE, POLICY, RELOAD_POLICY, REPORT, SESSION_CHANGED, STATUS, UPDATE_HISTORY,
};
use protocol::endpoint::Nothing;
use protocol::policy::ResolvedPolicy;
use protocol::report::Preview;
use protocol::status::Status;
use protocol::update::{History, UpdateRequest};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::event::Event;
use super::preview::{PreviewInputs, Previews};

/// What the machine service publishes.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) status: Status,
    pub(super) policy: ResolvedPolicy,
    pub(super) history: History,
    /// `None` before the first round.
    pub(super) preview: Option<PreviewInputs>,
}

/// What the handlers need.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) session_changed: Arc<Notify>,
    pub(super) paths: Paths,
    pub(super) previews: Arc<Previews>,
}

pub(super) fn api(machine: Machine) -> Api<Machine> {
    Api::new(machine)
        .on(&STATUS, status)
        .on(&POLICY, policy)
        .on(&RELOAD_POLICY, reload_policy)
        .on(&CHECK_FOR_UPDATE, check_for_update)
        .on(&UPDATE_HISTORY, update_history)
        .on(&REPORT, report)
        .on(&SESSION_CHANGED, session_changed)
}

/// Every local user.
struct LocalUser;

impl Admission<Machine> for LocalUser {
    fn admit(_: &Machine, _: &Caller, _: &'static str) -> Result<Self, Refusal> {
        Ok(Self)
    }
}

/// Every local user, of whom it matters whether it is an administrator.
struct AnyUser {
    is_administrator: bool,
}

impl Admission<Machine> for AnyUser {
    fn admit(_: &Machine, caller: &Caller, _: &'static str) -> Result<Self, Refusal> {
        Ok(Self { is_administrator: caller.peer.as_ref().is_some_and(Peer::may_manage) })
    }
}

/// An administrator ([`platform::ipc::Peer::may_manage`]).
struct Administrator;

impl Admission<Machine> for Administrator {
    fn admit(_: &Machine, caller: &Caller, _: &'static str) -> Result<Self, Refusal> {
        caller.peer.as_ref().filter(|peer| peer.may_manage()).map(|_| Self).ok_or_else(|| {
            let refusal = Refusal::new(StatusCode::FORBIDDEN, "only an administrator may do this");
            let hint = "run the command as root, on Windows as an administrator".to_owned();
            Refusal { problem: refusal.problem.hint(hint), ..refusal }
        })
    }
}

async fn status(machine: Machine, _: LocalUser, _: Nothing) -> Result<Status, Refusal> {
    Ok(machine.published.borrow().status.clone())
}

async fn policy(machine: Machine, _: LocalUser, _: Nothing) -> Result<ResolvedPolicy, Refusal> {
    Ok(machine.published.borrow().policy.clone())
}

async fn reload_policy(
    machine: Machine,
    caller: Administrator,
    _: Nothing,
) -> Result<ResolvedPolicy, Refusal> {
    request(&machine, caller, Event::ReloadPolicy).await?;
    Ok(machine.published.borrow().policy.clone())
}

async fn check_for_update(
    machine: Machine,
    caller: Administrator,
    UpdateRequest { command }: UpdateRequest,
) -> Result<Status, Refusal> {
    request(&machine, caller, |done| Event::CheckForUpdate(command, done)).await?;
    Ok(machine.published.borrow().status.clone())
}

async fn update_history(machine: Machine, _: LocalUser, _: Nothing) -> Result<History, Refusal> {
    Ok(machine.published.borrow().history.clone())
}

/// The user can always look. What a broker says about its user is that user's, so others do not see it here.
async fn report(machine: Machine, caller: AnyUser, _: Nothing) -> Result<Preview, Refusal> {
    let published = Arc::clone(&machine.published.borrow());
    let Published { status, history, preview, .. } = &*published;
    let Some(known) = preview else {
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent has just started"));
    };
    let previews = machine.previews.get(&machine.paths, status, history, known, caller.is_administrator);
    let (preview, protections) = previews.await;
    if !protections.is_empty() {
        // A full channel means that somebody else's look comes in any case.
        drop(machine.events.try_send(Event::PostureObserved(protections)));
    }
    Ok(preview)
}

/// Any local user may call it, since nothing in it is trusted: the service asks the brokers itself, and not often.
async fn session_changed(machine: Machine, _: LocalUser, _: Nothing) -> Result<Nothing, Refusal> {
    machine.session_changed.notify_one();
    Ok(Nothing {})
}

/// Hands an administrator's request to the main loop and waits until it is done.
async fn request(
    machine: &Machine,
    _: Administrator,
    event: impl FnOnce(oneshot::Sender<()>) -> Event,
) -> Result<(), Refusal> {
    let (done, wait) = oneshot::channel();
    machine.events.send(event(done)).await.map_err(|_| stopping())?;
    wait.await.map_err(|_| stopping())
}

fn stopping() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping")
}
