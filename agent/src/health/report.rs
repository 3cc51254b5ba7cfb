//! A report from its parts: the machine's facts, every user's session, the device's posture.
//!
//! Called by the machine service to send one, and by `steward report` to print one.

use broker::configuration::Configuration;
use platform::paths::Paths;
use platform::random::hex;
use platform::{clock, posture as system};
use policy_schema::Problem;
use policy_schema::settings::ReportIdentity;
use protocol::FORMAT;
use protocol::diagnosis::{self, ReportedDiagnosis};
use protocol::health::history::HealthHistory;
use protocol::health::{self, Protection, assess, next_history};
use protocol::report::Report;
use protocol::session::SessionStatus;
use protocol::status::Status;
use protocol::update::HistoryEntry;
use ring::digest;

use super::identity::Identity;
use super::sources::sessions::Sessions;
use super::sources::{posture, sessions};

/// At most this many events of updates are in a report.
const UPDATE_EVENTS: usize = 20;

/// What a report is made of.
#[derive(Clone)]
pub(crate) struct ReportInputs {
    pub(crate) paths: Paths,
    /// `None` before the machine service has run.
    pub(crate) status: Option<Status>,
    /// Whether the machine service that knows the status runs.
    pub(crate) agent_running: bool,
    pub(crate) identity: ReportIdentity,
    pub(crate) posture: PostureInput,
    /// What happened in updates of the app, the newest last.
    pub(crate) updates: Vec<HistoryEntry>,
    /// Between reports, in seconds.
    pub(crate) interval: u64,
}

/// What becomes of posture in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostureInput {
    /// It is observed.
    Observed,
    /// `ReportPosture` leaves it out.
    LeftOut,
    /// Nobody knows what policy wants, so it is left out.
    NoAgent,
}

impl PostureInput {
    /// As policy says.
    pub(crate) fn of(report_posture: bool) -> Self {
        if report_posture { Self::Observed } else { Self::LeftOut }
    }
}

/// Makes a report of what is known now. Also gives what protects the device, if that was observed.
pub(crate) async fn make(inputs: &ReportInputs, identity: &Identity) -> (Report, Vec<Protection>) {
    let now = clock::now();
    let observed = sessions::observe(&inputs.paths).await;
    let diagnoses = diagnose(inputs, &observed.sessions);
    let named = |session| pseudonymize(session, inputs.identity, &identity.device_id);
    let observed = Sessions { sessions: observed.sessions.into_iter().map(named).collect(), ..observed };
    let mut status = inputs.status.clone();
    if let Some(status) = status.as_mut().filter(|_| inputs.agent_running) {
        status.history = next_history(status, observed.brokers(), now);
    }
    let mut health = assess(status.as_ref(), inputs.agent_running, observed.brokers(), now);
    let known = status.as_ref().map_or_else(HealthHistory::default, |status| status.history.clone());
    let observed_posture = match inputs.posture {
        PostureInput::Observed => posture::observe(&inputs.paths).await,
        PostureInput::LeftOut | PostureInput::NoAgent => None,
    };
    let (posture, protections) = observed_posture.unzip();
    let protections = protections.unwrap_or_default();
    health.components.push(match inputs.posture {
        PostureInput::Observed => health::posture(&protections, known, now).0,
        PostureInput::LeftOut => health::left_out(now),
        PostureInput::NoAgent => health::not_observed(now),
    });
    let mut status = status.unwrap_or_else(|| Status { format: FORMAT, ..Status::default() });
    status.policy.organization = None;
    status.policy.support_contact = None;
    // The tree says it.
    status.history = HealthHistory::default();
    let mut report = Report {
        format: FORMAT,
        device_id: identity.device_id.clone(),
        cloned_from: identity.cloned_from.clone(),
        boot_id: system::boot_id(),
        epoch: identity.epoch.clone(),
        sequence: identity.sequence,
        sent_at: now,
        digest: String::new(),
        next_report_by: clock::after(now, inputs.interval * 2),
        health,
        status,
        sign_in: observed.sessions,
        diagnoses,
        update_history: inputs.updates.iter().rev().take(UPDATE_EVENTS).rev().cloned().collect(),
        posture,
        extra: policy_schema::Extra::default(),
    };
    seal(&mut report);
    (report, protections)
}

/// Gives a report the digest of what it says.
pub(crate) fn seal(report: &mut Report) {
    // Of an object of numbers and texts; none of it can fail to be written.
    let essence = serde_json::to_vec(&report.essence()).unwrap_or_default();
    report.digest = hex(&digest::digest(&digest::SHA256, &essence).as_ref()[..16]);
}

/// What is known to be the matter. Only the names of causes: the words of a problem may name a user.
fn diagnose(inputs: &ReportInputs, sessions: &[SessionStatus]) -> Vec<ReportedDiagnosis> {
    let Ok(configuration) = Configuration::load(&inputs.paths) else { return Vec::new() };
    let status = inputs.status.as_ref();
    let of_machine = status.into_iter().flat_map(|status| &status.problems);
    let problems = of_machine.chain(sessions.iter().flat_map(|one| &one.problems));
    let found = diagnosis::of_problems(&configuration.context(), problems).into_iter();
    let mut reported: Vec<ReportedDiagnosis> = found.map(Into::into).collect();
    // What the agent's own check of the identity provider found.
    let checked =
        status.and_then(|status| status.sign_in.as_ref()).into_iter().flat_map(|sign_in| &sign_in.diagnoses);
    for diagnosis in checked {
        if !reported.iter().any(|known| known.id == diagnosis.id) {
            reported.push(diagnosis.clone());
        }
    }
    reported
}

/// Names the user as policy allows.
fn pseudonymize(mut session: SessionStatus, identity: ReportIdentity, device_id: &str) -> SessionStatus {
    session.account = match identity {
        ReportIdentity::None => None,
        ReportIdentity::Email => session.account,
        ReportIdentity::Pseudonym => session.account.map(|account| {
            let digest = digest::digest(&digest::SHA256, format!("{device_id}|{account}").as_bytes());
            hex(&digest.as_ref()[..8])
        }),
    };
    if identity != ReportIdentity::Email {
        session.other_accounts.clear();
        // What a newer broker writes besides may name a user as well.
        session.extra = policy_schema::Extra::default();
        session.problems = session.problems.iter().map(Problem::without_text).collect();
    }
    session
}

#[cfg(test)]
mod tests {
    use policy_schema::Code;
    use protocol::session::SessionState;

    use super::*;

    #[test]
    fn user_is_named_as_policy_allows_and_not_otherwise() {
        let session = || SessionStatus {
            state: SessionState::SignedIn.into(),
            account: Some("ada@example.com".to_owned()),
            other_accounts: vec!["ada.lovelace@example.com".to_owned()],
            issuer: None,
            signed_in_at: None,
            token_expires_at: None,
            kept: None,
            lasting: false,
            problems: vec![Problem::new(Code::SignInAddressRefused, "ada@example.com is not allowed")],
            extra: serde_json::from_str("{\"nickname\": \"ada\"}").unwrap(),
        };
        let text = |identity| serde_json::to_string(&pseudonymize(session(), identity, "device")).unwrap();
        assert!(text(ReportIdentity::Email).contains("ada@example.com"));
        assert!(!text(ReportIdentity::None).contains("ada"));
        let pseudonym = pseudonymize(session(), ReportIdentity::Pseudonym, "device").account.unwrap();
        assert!(pseudonym.len() == 16 && !text(ReportIdentity::Pseudonym).contains("ada"));
        assert_ne!(pseudonymize(session(), ReportIdentity::Pseudonym, "other").account, Some(pseudonym));
    }
}
