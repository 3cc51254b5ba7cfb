//! Who gets the messages: a receiver in this process, or one behind an address.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use net::http::{Http, Network, Payload};
use policy_schema::settings::ProxyMode;
use protocol::report::{Heartbeat, Receipt, Report};
use tokio::sync::Semaphore;
use url::Url;

use crate::device::Device;

/// So many requests are under way at once.
const PARALLEL: usize = 256;
/// A receipt is not longer, in bytes.
const MAXIMUM_RECEIPT: usize = 64 * 1024;

/// Who gets the messages.
pub(crate) enum Receiver {
    Own(Box<Own>),
    Server(Server),
}

/// A receiver in this process. It keeps the digest of each device, and takes heartbeats.
pub(crate) struct Own {
    devices: HashMap<String, Seen>,
    reports: usize,
    heartbeats: usize,
    again: usize,
    conflicts: HashSet<String>,
    copies: usize,
}

struct Seen {
    epoch: String,
    sequence: u64,
    digest: String,
    /// The last second in which a message with each number came.
    at: u64,
}

/// A receiver behind an address.
pub(crate) struct Server {
    http: Http,
    url: Url,
    limit: Arc<Semaphore>,
}

impl Receiver {
    /// Gives it the messages of one second. A receipt for each; `None` for one that it did not take.
    pub(crate) async fn take(&mut self, bodies: &[&[u8]], second: u64) -> Vec<Option<Receipt>> {
        match self {
            Self::Own(own) => bodies.iter().map(|body| own.take(body, second)).collect(),
            Self::Server(server) => server.take(bodies).await,
        }
    }
}

impl Own {
    pub(crate) fn new() -> Self {
        Self {
            devices: HashMap::new(),
            reports: 0,
            heartbeats: 0,
            again: 0,
            conflicts: HashSet::new(),
            copies: 0,
        }
    }

    fn take(&mut self, body: &[u8], second: u64) -> Option<Receipt> {
        let heartbeat: Heartbeat = serde_json::from_slice(body).ok()?;
        // A heartbeat is the beginning of a report.
        let is_report = serde_json::from_slice::<Report>(body).is_ok();
        let known = self.devices.get_mut(&heartbeat.device_id);
        let is_known = known.is_some();
        let has_digest = known.as_ref().is_some_and(|known| known.digest == heartbeat.digest);
        match (is_report, has_digest) {
            (true, _) => self.reports += 1,
            (false, _) => self.heartbeats += 1,
        }
        if let Some(known) = known.filter(|known| known.epoch == heartbeat.epoch) {
            if heartbeat.sequence == known.sequence && second > known.at {
                self.again += 1;
            }
            // Numbers only go back where two devices count.
            if heartbeat.sequence < known.sequence {
                self.conflicts.insert(heartbeat.device_id.clone());
            }
        }
        if is_report && !is_known {
            let report: Report = serde_json::from_slice(body).ok()?;
            self.copies += usize::from(report.cloned_from.is_some());
        }
        let digest = if is_report || has_digest { heartbeat.digest } else { String::new() };
        let seen = Seen { epoch: heartbeat.epoch, sequence: heartbeat.sequence, digest, at: second };
        self.devices.insert(heartbeat.device_id, seen);
        Some(Receipt {
            sequence: Some(heartbeat.sequence),
            heartbeats: true,
            resend: !is_report && !has_digest,
        })
    }

    pub(crate) fn knows(&self, device: &Device) -> bool {
        self.devices.contains_key(device.id())
    }

    /// Identities under which two devices count.
    pub(crate) fn conflicts(&self) -> usize {
        self.conflicts.len()
    }

    pub(crate) fn sums(&self) -> String {
        format!(
            "{} reports, {} heartbeats, {} came again; {} copies said so, {} identities are used twice",
            self.reports,
            self.heartbeats,
            self.again,
            self.copies,
            self.conflicts.len()
        )
    }
}

impl Server {
    pub(crate) fn new(url: &Url) -> anyhow::Result<Self> {
        Ok(Self {
            http: Http::new(&Network::of(ProxyMode::Direct))?,
            url: url.clone(),
            limit: Arc::new(Semaphore::new(PARALLEL)),
        })
    }

    async fn take(&self, bodies: &[&[u8]]) -> Vec<Option<Receipt>> {
        let sending: Vec<_> = bodies
            .iter()
            .map(|body| {
                let (http, url, limit) = (self.http.clone(), self.url.clone(), Arc::clone(&self.limit));
                let payload =
                    Payload { kind: "application/json", gzip: false, header: None, bytes: body.to_vec() };
                tokio::spawn(async move {
                    let _permit = limit.acquire().await.ok()?;
                    let response = http.post(&url, None, payload, MAXIMUM_RECEIPT).await.ok()?;
                    let is_taken = matches!(response.status, 200..=299 | 409);
                    is_taken.then(|| serde_json::from_slice(&response.body).unwrap_or_default())
                })
            })
            .collect();
        let mut receipts = Vec::with_capacity(sending.len());
        for one in sending {
            receipts.push(one.await.ok().flatten());
        }
        receipts
    }
}
