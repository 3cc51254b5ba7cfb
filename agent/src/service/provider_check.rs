//! Checks at a quiet pace whether users can sign in: the documents of the identity provider, the port of the redirect URI,
//! and whether anybody ever signed in. Dashboards then know before the first user does.
//!
//! Discovery document and keys are fetched once a day, and some time after policy has changed. The moment differs from
//! device to device, so that a fleet does not ask in one instant.

use jiff::Timestamp;
use platform::file::Access;
use platform::state::StateFile;
use platform::{clock, random};
use policy_schema::{Code, Extra, Problem};
use protocol::status::SignInStatus;
use serde::{Deserialize, Serialize};

use super::event::Event;
use super::{Service, recurring};
use crate::app::descriptor;
use crate::health::sources::provider::{self, ProviderOutcome};
use crate::health::sources::sessions::Sessions;
use crate::state::private_folder;

/// Seconds after which the check follows a change of policy, or the start, at the earliest: after a start of the system, the
/// network needs a moment, and an administrator often corrects a change right away.
const SETTLED: u64 = 60;
/// The same at the latest.
const AFTER_CHANGE: u64 = 5 * 60;
/// Seconds from one check to the next, which may be up to a tenth later.
const INTERVAL: u64 = 24 * 60 * 60;
/// The same after a check that did not reach the provider, or found the port in use: both may pass.
const RETRY: u64 = 20 * 60;
/// Seconds after which a sign-in is noted again.
const NOTE_AGAIN: i64 = 24 * 60 * 60;

/// What is known of sign-in on this device.
#[derive(Default)]
pub(super) struct SignInFacts {
    outcome: Option<ProviderOutcome>,
    proof: Option<Proof>,
}

/// That a user was signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof {
    issuer: String,
    client_id: String,
    at: Timestamp,
    /// What only a newer version knows.
    #[serde(flatten)]
    extra: Extra,
}

impl SignInFacts {
    pub(super) fn load(paths: &platform::paths::Paths) -> Self {
        // What cannot be read proves nothing; the next sign-in replaces it.
        Self { outcome: None, proof: file(paths).load().ok().flatten() }
    }
}

fn file(paths: &platform::paths::Paths) -> StateFile<Proof> {
    StateFile::new(private_folder(paths).join("sign-in-proof.json"), Access::Private)
}

/// When a check is due whose time has come.
pub(super) fn soon(now: Timestamp) -> Timestamp {
    let spread = u64::from(u32::from_le_bytes(random::bytes())) % (AFTER_CHANGE - SETTLED);
    clock::after(now, SETTLED + spread)
}

impl Service {
    /// Starts a check in a task of its own.
    pub(super) fn check_provider(&mut self) {
        self.provider_check = self.provider_check.step(recurring::Event::Started);
        let policy = &self.snapshot.resolved.policy;
        let configuration = descriptor::sign_in_configuration(policy);
        let (check, events) = (provider::Check::new(self.paths.clone(), configuration), self.events.clone());
        tokio::spawn(async move {
            drop(events.send(Event::ProviderChecked(Box::new(check.run().await))).await);
        });
    }

    pub(super) fn provider_checked(&mut self, outcome: ProviderOutcome) {
        let now = outcome.finished_at;
        let passing = [Code::SignInProviderUnreachable, Code::SignInPortTaken, Code::SignInPortReserved];
        let again =
            outcome.problem.as_ref().is_some_and(|problem| passing.iter().any(|code| problem.code == *code));
        let pause = if again { RETRY } else { INTERVAL };
        let spread = u64::from(u32::from_le_bytes(random::bytes())) % (pause / 10);
        let next = clock::after(now, pause + spread);
        self.provider_check = self.provider_check.step(recurring::Event::Finished { now, next });
        if let Some(problem) = &outcome.problem {
            tracing::warn!("{}: {problem}", problem.code.as_str());
        }
        self.sign_in.outcome = Some(outcome);
    }

    /// Notes that a user is signed in with what policy says now.
    pub(super) fn note_sign_in(&mut self, sessions: &Sessions, now: Timestamp) {
        let policy = &self.snapshot.resolved.policy;
        let (Some(issuer), Some(client_id)) = (&policy.issuer, &policy.client_id) else { return };
        let is_current = |session: &&protocol::session::SessionStatus| {
            session.is_signed_in() && session.issuer.as_ref().is_none_or(|own| own == issuer)
        };
        if !sessions.sessions.iter().any(|session| is_current(&session)) {
            return;
        }
        let known = self.sign_in.proof.as_ref().is_some_and(|proof| {
            proof.issuer == *issuer
                && proof.client_id == *client_id
                && proof.at.duration_until(now).as_secs().abs() < NOTE_AGAIN
        });
        if known {
            return;
        }
        let proof =
            Proof { issuer: issuer.clone(), client_id: client_id.clone(), at: now, extra: Extra::default() };
        // If it cannot be written, the next start does not know of it, and says so.
        if let Err(error) = file(&self.paths).save(&proof) {
            tracing::warn!("{error}");
        }
        self.sign_in.proof = Some(proof);
    }

    pub(super) fn sign_in_status(&self) -> SignInStatus {
        let policy = &self.snapshot.resolved.policy;
        let proof = self.sign_in.proof.as_ref().filter(|proof| {
            Some(&proof.issuer) == policy.issuer.as_ref()
                && Some(&proof.client_id) == policy.client_id.as_ref()
        });
        let outcome = self.provider_outcome();
        let configured = self.configures_sign_in();
        SignInStatus {
            configured,
            proven_at: proof.map(|proof| proof.at),
            checked_at: outcome.map(|outcome| outcome.finished_at),
            next: self.provider_check.due().filter(|_| configured),
            diagnoses: outcome.map(|outcome| outcome.diagnoses.clone()).unwrap_or_default(),
            extra: Extra::default(),
        }
    }

    /// What is wrong with the identity provider's documents or with the port.
    pub(super) fn provider_problem(&self) -> Option<Problem> {
        self.provider_outcome()?.problem.clone()
    }

    pub(super) fn configures_sign_in(&self) -> bool {
        let policy = &self.snapshot.resolved.policy;
        policy.issuer.is_some() && policy.client_id.is_some()
    }

    /// The result of the last check, if it is about the policy that is in effect.
    fn provider_outcome(&self) -> Option<&ProviderOutcome> {
        let policy = &self.snapshot.resolved.policy;
        self.sign_in.outcome.as_ref().filter(|outcome| outcome.is_about(policy))
    }
}
