//! The certificate with which a device reports. The device makes a key, which never leaves it, and the receiver signs its certificate:
//! Enrollment over Secure Transport (EST, RFC 7030), first with `ReportEnrollmentToken`, and from then on with the certificate itself.
//! In: policy, what is kept, and the time. Out: the certificate with its key for the next delivery, or why there is none.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use jiff::Timestamp;
use net::chain;
use net::http::{Fetched, Http, Network, Payload};
use platform::file::Access;
use platform::random::hex;
use platform::state::{StateError, StateFile};
use platform::{clock, vault};
use policy_schema::settings::ReportCertificate;
use policy_schema::{Code, Extra, Problem, Secret};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use ring::digest;
use serde::{Deserialize, Serialize};
use url::Url;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _, EncodePem as _};

use super::sinks::LONGEST_RETRY_AFTER;
use crate::state;

/// A response is not longer, in bytes.
const MAXIMUM_RESPONSE: usize = 256 * 1024;
/// The entry of the machine's secret store that has the key.
const STORE: (&str, &str) = ("Steward", "report certificate");

/// Who enrols where.
pub(crate) struct Enrolment<'a> {
    /// Where reports go: what signs certificates has the same origin.
    pub(crate) receiver: &'a Url,
    pub(crate) token: Option<&'a Secret>,
    pub(crate) network: &'a Network,
    pub(crate) device_id: &'a str,
    /// What policy wants.
    pub(crate) wanted: ReportCertificate,
}

/// A certificate, and where it is from. It holds a key, so it cannot print itself.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The origin of its issuer.
    server: String,
    device_id: String,
    /// A hash of the token with which it was enrolled: with another one, an administrator wants another certificate.
    token: String,
    /// In PEM, that of the device first.
    certificates: String,
    /// In PEM; absent where the machine has a store for secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    begins: Timestamp,
    ends: Timestamp,
    #[serde(flatten)]
    extra: Extra,
}

/// A request that was made and not answered with a certificate: the same key is in every repetition, so that an administrator who agrees to
/// one agrees to all (RFC 7030, section 4.2.3). It cannot print itself either.
#[derive(Serialize, Deserialize)]
struct Pending {
    server: String,
    device_id: String,
    token: String,
    operation: String,
    /// In PEM.
    key: String,
    /// The receiver wants to be asked again then.
    not_before: Option<Timestamp>,
    #[serde(flatten)]
    extra: Extra,
}

/// What is to be done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Policy wants none.
    Nothing,
    /// It can be used.
    Use,
    /// It can be used, and another one is due.
    Renew,
    /// There is none that can be used.
    Enrol,
}

/// What a delivery can use, and what is wrong.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Certificates and key in PEM.
    pub(crate) identity: Option<String>,
    /// Until when the certificate is valid.
    pub(crate) until: Option<Timestamp>,
    pub(crate) problem: Option<Problem>,
}

impl Enrolment<'_> {
    /// PURE: what is to be done. Two thirds of its time are a certificate's life; the last third is for trying to renew it.
    fn step(&self, kept: Option<&Kept>, now: Timestamp) -> Step {
        if self.wanted == ReportCertificate::Never {
            return Step::Nothing;
        }
        let is_own = |kept: &&Kept| {
            kept.server == self.server()
                && kept.device_id == self.device_id
                && (self.token.is_none() || kept.token == self.token_hash())
        };
        let Some(kept) = kept.filter(is_own) else { return Step::Enrol };
        let life = kept.begins.duration_until(kept.ends).as_secs();
        let age = kept.begins.duration_until(now).as_secs();
        if now >= kept.ends {
            Step::Enrol
        } else if age >= life / 3 * 2 {
            Step::Renew
        } else {
            Step::Use
        }
    }

    /// The certificate for the next delivery. Enrols or renews if that is due; one that is still valid is used while that fails.
    pub(crate) async fn prepare(&self, private: &Path) -> Prepared {
        if self.wanted == ReportCertificate::Never {
            return Prepared::default();
        }
        let (kept, lost) = match load(private).await {
            Ok(kept) => (kept, None),
            Err(error) => (None, Some(state::unreadable("the certificate for reports is lost", &error))),
        };
        // One whose key the machine's store does not give any more, or that is for another key, is as good as none.
        let fits =
            |kept: &Kept| kept.identity().is_some_and(|pem| Http::with_identity(self.network, &pem).is_ok());
        let kept = kept.filter(fits);
        let now = clock::now();
        let made = match (self.step(kept.as_ref(), now), &kept) {
            (Step::Nothing, _) => return Prepared::default(),
            (Step::Use, Some(kept)) => return Prepared { problem: lost, ..kept.prepared() },
            (Step::Renew, Some(kept)) => self.enrol("simplereenroll", Some(kept), private).await,
            (Step::Use | Step::Renew | Step::Enrol, _) => self.enrol("simpleenroll", None, private).await,
        };
        match made {
            Ok(made) => {
                tracing::info!("a certificate for reports was issued, valid until {}", made.ends);
                let prepared = made.prepared();
                // It can be used in any case: the receiver has to hear of a disk that is full.
                let unsaved = save(private, made).await.err().map(|error| {
                    let message = format!("the certificate for reports could not be kept: {error:#}");
                    Problem::new(Code::AgentStateUnwritable, message).using("it, until the next report")
                });
                Prepared { problem: unsaved.or(lost), ..prepared }
            }
            Err(error) => {
                // Whatever another token may bring, this one is still valid.
                let usable = kept.filter(|kept| {
                    kept.server == self.server() && kept.device_id == self.device_id && now < kept.ends
                });
                let using = match (&usable, self.wanted) {
                    (Some(kept), _) => format!("the certificate that is valid until {}", kept.ends),
                    (None, ReportCertificate::Required) => "nothing: reports wait for it".to_owned(),
                    (None, _) => "`ReportEnrollmentToken`".to_owned(),
                };
                let message = format!("no certificate was issued: {error:#}");
                let problem = Problem::new(Code::ReportEnrollmentFailed, message)
                    .key("ReportCertificate")
                    .at(self.server())
                    .using(using);
                let usable = usable.map(|kept| kept.prepared()).unwrap_or_default();
                Prepared { problem: Some(problem), ..usable }
            }
        }
    }

    /// The key of the pending request, or a new one, with the request as it is kept.
    fn request(&self, operation: &str, file: &StateFile<Pending>) -> anyhow::Result<(KeyPair, Pending)> {
        let is_same = |pending: &Pending| {
            pending.server == self.server()
                && pending.device_id == self.device_id
                && pending.token == self.token_hash()
                && pending.operation == operation
        };
        if let Some(pending) = file.load().ok().flatten().filter(is_same)
            && let Ok(key) = KeyPair::from_pem(&pending.key)
        {
            return Ok((key, pending));
        }
        let key = KeyPair::generate().context("no key could be made")?;
        let pending = Pending {
            server: self.server(),
            device_id: self.device_id.to_owned(),
            token: self.token_hash(),
            operation: operation.to_owned(),
            key: key.serialize_pem(),
            not_before: None,
            extra: Extra::default(),
        };
        Ok((key, pending))
    }

    /// Asks for a certificate for a new key (RFC 7030, section 4.2), unless the receiver wants to be asked later.
    async fn enrol(&self, operation: &str, before: Option<&Kept>, private: &Path) -> anyhow::Result<Kept> {
        anyhow::ensure!(self.receiver.scheme() == "https", "`ReportUrl` has to begin with https for that");
        let token = match (before, self.token) {
            (Some(_), _) => None,
            (None, Some(token)) => Some(token.expose()),
            (None, None) => anyhow::bail!("`ReportEnrollmentToken` is not set"),
        };
        let file = pending(private);
        let (key, mut pending) = self.request(operation, &file)?;
        let now = clock::now();
        if let Some(not_before) =
            pending.not_before.filter(|at| now < *at && *at <= clock::after(now, LONGEST_RETRY_AFTER))
        {
            anyhow::bail!(
                "an administrator of the receiver has to agree first; it is asked again at {not_before}"
            );
        }
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, self.device_id);
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name = subject;
        let request = wanted.serialize_request(&key).context("no request could be made")?;
        let payload = Payload {
            kind: "application/pkcs10",
            gzip: false,
            header: Some(("content-transfer-encoding", "base64".to_owned())),
            bytes: STANDARD.encode(request.der()).into_bytes(),
        };
        let http = match before.and_then(Kept::identity) {
            Some(identity) => Http::with_identity(self.network, &identity)?,
            None => Http::new(self.network)?,
        };
        let mut url = self.receiver.clone();
        url.set_query(None);
        url.set_path(&format!("/.well-known/est/{operation}"));
        let response =
            http.post(&url, token, payload, MAXIMUM_RESPONSE).await.map_err(|error| {
                match error.refused_certificate() {
                    Some(why) => {
                        anyhow::anyhow!("the receiver refused the certificate of this device: {why}")
                    }
                    None => anyhow::anyhow!("{}", chain(&error)),
                }
            })?;
        if response.status == 202 {
            let wait = response.retry_after.unwrap_or(0).min(LONGEST_RETRY_AFTER);
            pending.not_before = Some(clock::after(now, wait));
            file.save(&pending)?;
        }
        let certificates = issued(&response)?;
        let own = key.subject_public_key_info();
        let is_own = |one: &&Certificate| {
            one.tbs_certificate().subject_public_key_info().to_der().is_ok_and(|info| info == own)
        };
        let device = certificates.iter().find(is_own).context("the certificate is for another key")?;
        let others = certificates.iter().filter(|one| !is_own(one));
        let pem: String = std::iter::once(device)
            .chain(others)
            .map(|one| one.to_pem(x509_cert::der::pem::LineEnding::LF))
            .collect::<Result<_, _>>()?;
        let validity = device.tbs_certificate().validity();
        let time = |time: &x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs())
                .ok()
                .and_then(|at| Timestamp::from_second(at).ok())
        };
        let ends = time(&validity.not_after).context("it has no end")?;
        anyhow::ensure!(ends > clock::now(), "it ended on {ends}, by the clock of this device");
        let made = Kept {
            server: self.server(),
            device_id: self.device_id.to_owned(),
            token: match (before, self.token) {
                (Some(before), None) => before.token.clone(),
                (Some(_) | None, _) => self.token_hash(),
            },
            certificates: pem,
            key: Some(key.serialize_pem()),
            // What was issued now begins now, whatever it says of itself: a receiver dates it back for clocks that are slow.
            begins: now,
            ends,
            extra: Extra::default(),
        };
        Http::with_identity(self.network, &made.identity().unwrap_or_default())
            .context("it cannot be used")?;
        Ok(made)
    }

    fn server(&self) -> String {
        self.receiver.origin().ascii_serialization()
    }

    /// Not the token itself: a file that leaks must not let others enrol.
    fn token_hash(&self) -> String {
        let token = self.token.map(Secret::expose).unwrap_or_default();
        let text = format!("steward enrolment|{}|{token}", self.device_id);
        hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..16])
    }
}

impl Kept {
    fn identity(&self) -> Option<String> {
        Some(format!("{}{}", self.certificates, self.key.as_ref()?))
    }

    fn prepared(&self) -> Prepared {
        Prepared { identity: self.identity(), until: Some(self.ends), problem: None }
    }
}

/// What is kept, with its key. A store for secrets may take its time, so this waits for it on a thread of its own.
async fn load(private: &Path) -> Result<Option<Kept>, StateError> {
    let file = file(private);
    let loading = tokio::task::spawn_blocking(move || {
        let Some(mut kept) = file.load()? else { return Ok(None) };
        if kept.key.is_none() && vault::of_machine() {
            let stored = vault::get(STORE.0, STORE.1).ok().flatten();
            kept.key = stored.and_then(|key| String::from_utf8(key).ok());
        }
        Ok(Some(kept))
    });
    loading.await.unwrap_or(Ok(None))
}

/// Keeps it: the key in the machine's store for secrets if it has one, else in a file that only the service can read.
async fn save(private: &Path, mut kept: Kept) -> anyhow::Result<()> {
    let (file, pending) = (file(private), pending(private));
    let saving = tokio::task::spawn_blocking(move || {
        if let Some(key) = kept.key.as_ref().filter(|_| vault::of_machine()) {
            match vault::set(STORE.0, STORE.1, key.as_bytes()) {
                Ok(()) => kept.key = None,
                Err(error) => tracing::warn!("the key stays in a file: {}", chain(&error)),
            }
        }
        file.save(&kept)?;
        // The request has its answer.
        if pending.path().exists() {
            platform::file::remove(pending.path())?;
        }
        Ok(())
    });
    saving.await?
}

/// The certificates of a response (RFC 7030, section 4.2.3): base64 of CMS without signatures (RFC 5652, "certs-only").
fn issued(response: &Fetched) -> anyhow::Result<Vec<Certificate>> {
    match response.status {
        200 => {}
        202 => {
            let wait = response.retry_after.map_or_else(String::new, |seconds| format!(", for {seconds} s"));
            anyhow::bail!("an administrator of the receiver has to agree first{wait}");
        }
        401 | 403 => {
            anyhow::bail!("the receiver refused `ReportEnrollmentToken` with status {}", response.status)
        }
        404 => anyhow::bail!("the receiver issues no certificates (status 404)"),
        status => anyhow::bail!("the receiver responded with status {status}"),
    }
    let text: Vec<u8> = response.body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // Some send DER although the standard says base64.
    let bytes = if response.body.first() == Some(&0x30) {
        response.body.clone()
    } else {
        STANDARD.decode(text).context("the response is not base64")?
    };
    let read = || -> Result<Vec<Certificate>, x509_cert::der::Error> {
        let content: SignedData = ContentInfo::from_der(&bytes)?.content.decode_as()?;
        let all = content.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
        Ok(all
            .into_iter()
            .filter_map(|one| match one {
                CertificateChoices::Certificate(certificate) => Some(certificate),
                CertificateChoices::Other(_) => None,
            })
            .collect())
    };
    let certificates = read().context("the response holds no certificate")?;
    anyhow::ensure!(!certificates.is_empty(), "the response holds no certificate");
    Ok(certificates)
}

/// Where a request is kept that has no answer yet.
fn pending(private: &Path) -> StateFile<Pending> {
    StateFile::new(private.join("enrolment-pending.json"), Access::Private)
}

/// Where it is kept.
fn file(private: &Path) -> StateFile<Kept> {
    StateFile::new(private.join("enrolment.json"), Access::Private)
}

#[cfg(test)]
mod tests {
    use policy_schema::settings::ProxyMode;

    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    #[test]
    fn each_certificate_is_used_renewed_or_replaced() {
        let (url, other): (Url, Url) = (
            "https://reports.example.com/v1/reports".parse().unwrap(),
            "https://other.example.com/v1/reports".parse().unwrap(),
        );
        let (token, new) = (Secret::new("enrol-example".to_owned()), Secret::new("another".to_owned()));
        let network = Network::of(ProxyMode::Direct);
        let of = |receiver, token, device_id, wanted| Enrolment {
            receiver,
            token,
            network: &network,
            device_id,
            wanted,
        };
        let usual = || of(&url, Some(&token), "d", ReportCertificate::Preferred);
        let kept = Kept {
            server: usual().server(),
            device_id: "d".to_owned(),
            token: usual().token_hash(),
            certificates: String::new(),
            key: Some(String::new()),
            begins: at(0),
            ends: at(90),
            extra: Extra::default(),
        };
        let required = ReportCertificate::Required;
        for (case, enrolment, kept, now, expected) in [
            (
                "none wanted",
                of(&url, Some(&token), "d", ReportCertificate::Never),
                Some(&kept),
                1,
                Step::Nothing,
            ),
            ("none there", usual(), None, 1, Step::Enrol),
            ("young", usual(), Some(&kept), 1, Step::Use),
            ("young, by a clock that is slow", usual(), Some(&kept), -400, Step::Use),
            ("before its last third", usual(), Some(&kept), 59, Step::Use),
            ("in its last third", usual(), Some(&kept), 60, Step::Renew),
            ("on its last day", usual(), Some(&kept), 89, Step::Renew),
            ("ended", usual(), Some(&kept), 90, Step::Enrol),
            ("of another receiver", of(&other, Some(&token), "d", required), Some(&kept), 1, Step::Enrol),
            (
                "of the device that this one is a copy of",
                of(&url, Some(&token), "e", required),
                Some(&kept),
                1,
                Step::Enrol,
            ),
            ("with another token", of(&url, Some(&new), "d", required), Some(&kept), 1, Step::Enrol),
            ("without a token", of(&url, None, "d", required), Some(&kept), 1, Step::Use),
        ] {
            assert_eq!(enrolment.step(kept, at(now)), expected, "{case}");
        }
    }

    #[test]
    fn response_without_a_certificate_says_why() {
        let response = |status, body: &str| Fetched { status, body: body.into(), ..Fetched::default() };
        for (case, expected) in [
            (response(202, ""), "has to agree"),
            (response(403, ""), "refused `ReportEnrollmentToken`"),
            (response(404, ""), "issues no certificates"),
            (response(500, ""), "status 500"),
            (response(200, "<html>"), "not base64"),
            (response(200, "MAA="), "holds no certificate"),
            (response(200, ""), "holds no certificate"),
        ] {
            let error = format!("{:#}", issued(&case).unwrap_err());
            assert!(error.contains(expected), "{case:?}: {error}");
        }
    }
}
