//! A report from its parts: the machine's facts, every person's sign-in, the device's posture.
//!
//! Called by the main loop to send one, and by `steward report` to print one.

use std::time::Duration;

use agent_platform::paths::Paths;
use agent_platform::posture as system;
use policy_schema::settings::ReportIdentity;
use policy_schema::{Code, Policy, Problem};
use ring::digest;

use crate::broker::configuration::Configuration;
use crate::health::model::{FORMAT, KnownCause, Report, SignIn, Status, assess};
use crate::health::posture;
use crate::health::queue::{Identity, Queue};
use crate::health::send::{self, Delivery, Receiver};
use crate::http::Network;
use crate::policy::hex;
use crate::{api, clock, doctor};

/// A broker is its person's: what it says is believed about that person only, and only so many bytes of it.
const BROKER_ANSWER: usize = 16 * 1024;
/// A broker that does not answer in this time is left out.
const BROKER_LIMIT: Duration = Duration::from_secs(2);

/// What a report is made of.
pub(crate) struct Material {
    pub(crate) paths: Paths,
    pub(crate) status: Status,
    /// Whether a new report is to be made; else only what waits is sent.
    pub(crate) news: bool,
    pub(crate) identity: ReportIdentity,
    pub(crate) posture: bool,
    /// In seconds.
    pub(crate) interval: u64,
}

/// Where policy wants reports to go.
pub(crate) fn receiver(policy: &Policy) -> Option<Receiver> {
    Some(Receiver {
        url: policy.report_url.as_ref()?.parse().ok()?,
        token: policy.report_enrollment_token.clone(),
        network: Network::from(policy),
        interval: u64::from(policy.report_interval_minutes) * 60,
    })
}

/// Makes a report, puts it on disk, and sends what waits there.
pub(crate) async fn make_and_send(receiver: Receiver, mut queue: Queue, material: Material) -> Delivery {
    if material.news {
        // Without a durable number two reports could share one: then what waits is sent, and no new one is made.
        let kept = match queue.next_sequence() {
            Ok(_) => queue.add(&make(&material, queue.identity()).await),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let problem = Problem::new(Code::AgentStateUnwritable, format!("no report was made: {error}"));
            return Delivery {
                queue,
                problem: Some(problem),
                delivered: false,
                retry_after: None,
                finished_at: clock::now(),
            };
        }
    }
    send::send(receiver, queue).await
}

/// Makes a report of what is known now.
pub(crate) async fn make(material: &Material, identity: &Identity) -> Report {
    let now = clock::now();
    let mut heard = Vec::new();
    for socket in material.paths.broker_sockets() {
        let question = api::request_within::<SignIn>(BROKER_ANSWER, &socket, "GET", "/v1/session", None);
        if let Ok(Ok(one)) = tokio::time::timeout(BROKER_LIMIT, question).await {
            heard.push(one);
        }
    }
    let diagnoses = diagnose(material, &heard);
    let named = |one| disguise(one, material.identity, &identity.device_id);
    let sign_in: Vec<SignIn> = heard.into_iter().map(named).collect();
    let posture =
        if material.posture { tokio::task::spawn_blocking(posture::observe).await.ok() } else { None };
    let mut status = material.status.clone();
    status.policy.organization = None;
    status.policy.support_contact = None;
    Report {
        format: FORMAT,
        device_id: identity.device_id.clone(),
        boot_id: system::boot_id(),
        epoch: identity.epoch.clone(),
        sequence: identity.sequence,
        sent_at: now,
        next_report_by: clock::after(now, material.interval * 2),
        health: assess(Some(&status), true, &sign_in, now),
        status,
        sign_in,
        diagnoses,
        posture,
    }
}

/// What is known to be the matter. Only the names of causes: the words of a problem may name a person.
fn diagnose(material: &Material, sign_in: &[SignIn]) -> Vec<KnownCause> {
    let Ok(configuration) = Configuration::load(&material.paths) else { return Vec::new() };
    let problems = material.status.problems.iter().chain(sign_in.iter().flat_map(|one| &one.problems));
    let found = doctor::of_problems(&configuration, problems).into_iter();
    found.map(|one| KnownCause { id: one.id, confidence: one.confidence }).collect()
}

/// Names the person as policy allows.
fn disguise(mut sign_in: SignIn, identity: ReportIdentity, device_id: &str) -> SignIn {
    sign_in.account = match identity {
        ReportIdentity::None => None,
        ReportIdentity::Email => sign_in.account,
        ReportIdentity::Pseudonym => sign_in.account.map(|account| {
            let digest = digest::digest(&digest::SHA256, format!("{device_id}|{account}").as_bytes());
            hex(&digest.as_ref()[..8])
        }),
    };
    if identity != ReportIdentity::Email {
        sign_in.other_accounts.clear();
        // What they say may name a person.
        for problem in &mut sign_in.problems {
            *problem = problem.without_text();
        }
    }
    sign_in
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::model::SignInState;

    #[test]
    fn a_person_is_named_as_policy_allows_and_not_otherwise() {
        let person = || SignIn {
            state: SignInState::SignedIn,
            account: Some("ada@example.com".to_owned()),
            other_accounts: vec!["ada.lovelace@example.com".to_owned()],
            issuer: None,
            signed_in_at: None,
            token_expires_at: None,
            kept: None,
            lasting: false,
            problems: vec![Problem::new(Code::SignInAddressRefused, "ada@example.com is not allowed")],
        };
        let text = |identity| serde_json::to_string(&disguise(person(), identity, "device")).unwrap();
        assert!(text(ReportIdentity::Email).contains("ada@example.com"));
        assert!(!text(ReportIdentity::None).contains("ada"));
        let pseudonym = disguise(person(), ReportIdentity::Pseudonym, "device").account.unwrap();
        assert!(pseudonym.len() == 16 && !text(ReportIdentity::Pseudonym).contains("ada"));
        assert_ne!(disguise(person(), ReportIdentity::Pseudonym, "other").account, Some(pseudonym));
    }
}
