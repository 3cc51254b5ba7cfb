//! What `steward report --show` shows: the next report as it would be sent now, to whom, when, and what it leaves out.
//!
//! In: what the main loop published. Out: a [`Preview`], the same for everybody who asks within [`LIFETIME`], but that only an
//! administrator sees how it names users. Made in the task of a caller: the main loop does not wait for it.

use std::time::Duration;

use platform::clock;
use platform::paths::Paths;
use policy_schema::settings::ReportIdentity;
use protocol::health::Protection;
use protocol::report::{Destination, LeftOut, Preview};
use protocol::status::Status;
use protocol::update::History;
use tokio::sync::Mutex;

use super::Service;
use crate::health::identity::Identity;
use crate::health::report::{self, PostureInput, ReportInputs};
use crate::health::sinks::http::{Known, Receiver};

/// A local user who asks again and again does not make the agent ask every broker each time.
const LIFETIME: Duration = Duration::from_secs(2);

/// What the main loop knows about reports besides the status.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PreviewInputs {
    identity: Identity,
    destinations: Vec<Destination>,
    receiver: Known,
    names: ReportIdentity,
    posture: bool,
    interval: u64,
}

impl Service {
    /// What a preview is made of.
    pub(super) fn preview_inputs(&self) -> PreviewInputs {
        let policy = &self.snapshot.resolved.policy;
        let receiver = Receiver::of(policy, &self.receiver);
        let destinations = receiver.iter().map(|receiver| Destination {
            setting: "ReportUrl".to_owned(),
            url: receiver.shown(),
            form: "report".to_owned(),
            token: policy.report_enrollment_token.is_some() && self.certificate_until.is_none(),
            certificate: self.certificate_until.is_some(),
            next: self.delivery.due(),
            interval: receiver.interval,
            heartbeat: false,
            queued: self.queued,
        });
        PreviewInputs {
            identity: self.identity.clone(),
            destinations: destinations.chain(self.sink_destinations()).collect(),
            receiver: self.receiver.clone(),
            names: policy.report_identity,
            posture: policy.report_posture,
            interval: u64::from(policy.report_interval_minutes) * 60,
        }
    }
}

/// The previews that were made last: with the names that policy allows, and without any.
#[derive(Debug, Default)]
pub(super) struct Previews([Mutex<Option<Made>>; 2]);

/// A preview, and of what it was made.
#[derive(Debug)]
struct Made {
    at: Duration,
    status: Status,
    known: PreviewInputs,
    preview: Preview,
}

impl Previews {
    /// The preview for a caller. Also gives what protects the device, if that was looked at just now.
    pub(super) async fn get(
        &self,
        paths: &Paths,
        status: &Status,
        history: &History,
        known: &PreviewInputs,
        is_administrator: bool,
    ) -> (Preview, Vec<Protection>) {
        let inputs = ReportInputs {
            paths: paths.clone(),
            status: Some(status.clone()),
            agent_running: true,
            identity: known.names,
            posture: PostureInput::of(known.posture),
            updates: history.entries.clone(),
            interval: known.interval,
        };
        let (whole, protections) = self.made(0, &inputs, status, known).await;
        if is_administrator || known.names == ReportIdentity::None {
            return (whole, protections);
        }
        let inputs = ReportInputs { identity: ReportIdentity::None, ..inputs };
        let (nameless, _) = self.made(1, &inputs, status, known).await;
        // Whether a heartbeat goes in its place is true of the other one. The digest of that one would confirm a guess at a name.
        let left_out = left_out(known, is_administrator);
        (Preview { destinations: whole.destinations, left_out, report: nameless.report }, protections)
    }

    /// A preview, made now unless there is one of the same that is not old.
    async fn made(
        &self,
        place: usize,
        inputs: &ReportInputs,
        status: &Status,
        known: &PreviewInputs,
    ) -> (Preview, Vec<Protection>) {
        let mut last = self.0[place].lock().await;
        let is_new = |made: &&Made| {
            clock::monotonic().saturating_sub(made.at) < LIFETIME
                && made.status == *status
                && made.known == *known
        };
        if let Some(made) = last.as_ref().filter(is_new) {
            return (made.preview.clone(), Vec::new());
        }
        let (report, protections) = report::make(inputs, &known.identity).await;
        let mut destinations = known.destinations.clone();
        for destination in &mut destinations {
            destination.heartbeat = destination.setting == "ReportUrl"
                && destination.queued == 0
                && known.receiver.has(&report.digest, report.sent_at);
        }
        let preview = Preview { destinations, left_out: left_out(known, true), report };
        let at = clock::monotonic();
        *last = Some(Made { at, status: status.clone(), known: known.clone(), preview: preview.clone() });
        (preview, protections)
    }
}

/// What a report leaves out, and why.
fn left_out(known: &PreviewInputs, is_administrator: bool) -> Vec<LeftOut> {
    let item = |what: &str, why: &str| LeftOut { what: what.to_owned(), why: why.to_owned() };
    let names = match known.names {
        _ if !is_administrator && known.names != ReportIdentity::None => {
            Some(item("how users are named", "only an administrator sees it here; `ReportIdentity` says how"))
        }
        ReportIdentity::None => Some(item("who is signed in", "`ReportIdentity` is `none`")),
        ReportIdentity::Pseudonym => {
            Some(item("the addresses of users", "`ReportIdentity` is `pseudonym`, which stands for each"))
        }
        ReportIdentity::Email => None,
    };
    let posture = (!known.posture)
        .then(|| item("facts about the device and what protects it", "`ReportPosture` is `false`"));
    let never = item("`OrganizationName`, `SupportContact`, tokens and keys", "never sent");
    names.into_iter().chain(posture).chain([never]).collect()
}
