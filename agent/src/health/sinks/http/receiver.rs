//! A receiver of reports: where it is, what it said of itself, and how a body gets there: with the certificate of the device or with the
//! token.

use std::path::Path;

use jiff::Timestamp;
use net::chain;
use net::http::{Fetched, Http, Network};
use policy_schema::settings::{ReportAcknowledgement, ReportCertificate};
use policy_schema::{Code, Policy, Problem, Secret};
use protocol::report::Receipt;
use url::Url;

use super::super::{Target, payload, shown};
use crate::health::enrolment::{Enrolment, Prepared};

/// Only this many bytes of a response are read.
const MAXIMUM_RESPONSE: usize = 64 * 1024;
/// A receiver gets a whole report at least this often, in seconds: measurements move, and no digest says so.
const WHOLE: i64 = 24 * 60 * 60;

/// Where reports go.
pub(crate) struct Receiver {
    url: Url,
    acknowledgement: ReportAcknowledgement,
    certificate: ReportCertificate,
    /// A client that shows the certificate of this device, if there is one that was not refused.
    secure: Option<Http>,
    token: Option<Secret>,
    pub(super) network: Network,
    /// In seconds; the promise of the next report is twice this.
    pub(crate) interval: u64,
    /// What it said of itself.
    pub(super) known: Known,
    /// It does not take the certificate of this device.
    pub(super) refused: Option<Problem>,
}

/// Why a body did not get there.
pub(super) struct Undelivered {
    pub(super) reason: String,
    /// Perhaps only this one.
    pub(super) only_this: bool,
}

/// What a receiver said of itself since the agent started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Which one.
    target: Option<Target>,
    /// It takes requests that gzip has compressed.
    pub(super) gzip: bool,
    /// It takes heartbeats, and has a report with this digest since then.
    pub(super) has: Option<(String, Timestamp)>,
}

impl Known {
    /// Whether this is about the receiver that policy names.
    pub(crate) fn is_of(&self, policy: &Policy) -> bool {
        self.target == Target::of_reports(policy)
    }

    /// Whether a heartbeat says as much as a report with this digest.
    pub(crate) fn has(&self, digest: &str, now: Timestamp) -> bool {
        self.has.as_ref().is_some_and(|(known, at)| {
            known == digest && (0..WHOLE).contains(&at.duration_until(now).as_secs())
        })
    }
}

impl Receiver {
    /// Where policy wants reports to go. What is known about another receiver says nothing about this one.
    pub(crate) fn of(policy: &Policy, known: &Known) -> Option<Self> {
        let known = if known.is_of(policy) {
            known.clone()
        } else {
            Known { target: Target::of_reports(policy), ..Known::default() }
        };
        Some(Self {
            known,
            url: policy.report_url.as_ref()?.parse().ok()?,
            acknowledgement: policy.report_acknowledgement,
            certificate: policy.report_certificate,
            secure: None,
            token: policy.report_enrollment_token.clone(),
            network: Network::from(policy),
            interval: u64::from(policy.report_interval_minutes) * 60,
            refused: None,
        })
    }

    /// Gets the certificate of this device ready, if policy wants one.
    pub(super) async fn prepare(&mut self, device_id: &str, private: &Path) -> Prepared {
        let enrolment = Enrolment {
            receiver: &self.url,
            token: self.token.as_ref(),
            network: &self.network,
            device_id,
            wanted: self.certificate,
        };
        let prepared = enrolment.prepare(private).await;
        let client = prepared.identity.as_ref().map(|pem| Http::with_identity(&self.network, pem));
        self.secure = client.and_then(|client| {
            client.inspect_err(|error| tracing::warn!("the certificate for reports: {}", chain(error))).ok()
        });
        prepared
    }

    /// Posts with the certificate, if there is one that the receiver takes; else with the token, if policy allows that.
    pub(super) async fn post(&mut self, http: &Http, body: &[u8]) -> Result<Fetched, Undelivered> {
        let payload = || payload("application/json", body.to_vec(), self.known.gzip);
        let may_use_token = self.certificate != ReportCertificate::Required;
        if let Some(secure) = &self.secure {
            let (why, only_this) = match secure.post(&self.url, None, payload(), MAXIMUM_RESPONSE).await {
                // 400, 495 and 496 are what servers say that look at the certificate after the handshake.
                Ok(response) if matches!(response.status, 400 | 401 | 403 | 495 | 496) => {
                    (format!("it responded with status {}", response.status), response.status == 400)
                }
                Ok(response) => return Ok(response),
                Err(error) => match error.refused_certificate() {
                    Some(why) => (why.to_owned(), false),
                    // Whoever hangs up on a certificate may do so before anybody has read why.
                    None if may_use_token && !error.never_arrived() => (chain(&error), false),
                    None => return Err(Undelivered { reason: chain(&error), only_this: false }),
                },
            };
            let using = if may_use_token { "`ReportEnrollmentToken`" } else { "nothing: reports wait" };
            let reason = format!("the receiver does not take the certificate of this device: {why}");
            let problem = Problem::new(Code::ReportCertificateRefused, reason.clone());
            self.refused = Some(problem.key("ReportCertificate").at(self.shown()).using(using));
            if !may_use_token {
                return Err(Undelivered { reason, only_this });
            }
            self.secure = None;
        } else if !may_use_token {
            let reason =
                "there is no certificate for reports, and `ReportCertificate` is `required`".to_owned();
            return Err(Undelivered { reason, only_this: false });
        }
        let token = self.token.as_ref().map(Secret::expose);
        let response = http.post(&self.url, token, payload(), MAXIMUM_RESPONSE).await;
        response.map_err(|error| Undelivered { reason: chain(&error), only_this: false })
    }

    /// What a successful response of the receiver says; `None` if it is not the receiver's own. A captive portal is successful as well.
    pub(super) fn receipt(&self, response: &Fetched, sequence: u64) -> Option<Receipt> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Number {
            Number(u64),
            Text(String),
        }
        #[derive(serde::Deserialize)]
        struct Body {
            sequence: Option<Number>,
            #[serde(default)]
            heartbeats: bool,
            #[serde(default)]
            resend: bool,
        }
        let body = serde_json::from_slice::<Body>(&response.body).ok();
        let receipt = body.map_or_else(Receipt::default, |Body { sequence, heartbeats, resend }| {
            let sequence = sequence.and_then(|number| match number {
                Number::Number(number) => Some(number),
                Number::Text(text) => text.parse().ok(),
            });
            Receipt { sequence, heartbeats, resend }
        });
        let repeats = receipt.sequence == Some(sequence);
        let is_own = match self.acknowledgement {
            ReportAcknowledgement::AnySuccess => true,
            ReportAcknowledgement::Receipt => matches!(response.status, 202 | 204) || repeats,
        };
        // Whoever does not repeat the number does not speak of this report.
        is_own.then(|| if repeats { receipt } else { Receipt::default() })
    }

    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }
}
