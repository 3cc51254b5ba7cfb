//! A device: the agent's own scheduler and identity, and what it would look like.

use std::time::Duration;

use agent::lab::{Delivery, End, Event, Identity, Origin, Outcome, next_slot};
use anyhow::Context as _;
use jiff::Timestamp;
use protocol::report::{Receipt, Report};

use crate::random::Random;

/// The clock of the receiver at the start, in seconds since 1970.
const START: i64 = 1_800_000_000;
/// The shortest and the longest sleep of a device, in seconds.
const SLEEP: (u64, u64) = (300, 4 * 3600);
/// A report as a device of this version writes it.
const REPORT: &str = include_str!("../../../fixtures/frozen/0.1/queued-report.json");

/// What all devices have in common.
pub(crate) struct Fleet {
    report: Report,
    /// In seconds.
    interval: u64,
    lost: u32,
    asleep: u32,
}

/// One device.
pub(crate) struct Device {
    identity: Identity,
    delivery: Delivery,
    /// How far its clock is ahead, in seconds.
    skew: i64,
    /// Another device has the same identity and the same machine ID.
    is_indistinguishable: bool,
    /// The receiver takes heartbeats and has its report.
    is_known: bool,
    /// The receiver said so.
    was_taken: bool,
    /// It sleeps until this second.
    asleep_until: u64,
    /// The hour for which it was decided whether it sleeps.
    decided: u64,
}

impl Fleet {
    /// Minutes, percent, percent.
    pub(crate) fn new(interval: u32, lost: u32, asleep: u32) -> Self {
        let report: Report = serde_json::from_str(REPORT).expect("a frozen sample can be read");
        let report = Report { digest: "f00d".repeat(8), ..report };
        Self { report, interval: u64::from(interval) * 60, lost, asleep }
    }

    /// The fleet. Half of the copies are on another machine, which each of them finds out; the others have the machine ID of the original
    /// as well, which only a receiver can find out.
    pub(crate) fn devices(&self, count: usize, copies: usize, skew: u32, random: &mut Random) -> Vec<Device> {
        let mut devices: Vec<Device> = Vec::with_capacity(count);
        for place in 0..count {
            let machine = |number: usize| Origin { machine: Some(number.to_string()), boot: None };
            // The last ones are copies of as many in the middle.
            let original = (place >= count - copies.min(count / 2)).then(|| place - count / 2);
            let has_machine_id_of_original = original.is_some() && place % 2 == 1;
            let identity = match original {
                None => Identity::new(&random.bytes(), machine(place)),
                Some(original) => {
                    let here = if has_machine_id_of_original { original } else { place };
                    devices[original].identity.clone().found_on(&machine(here), &random.bytes())
                }
            };
            let spread = u64::from(skew) * 2 + 1;
            let skew = i64::try_from(random.below(spread)).unwrap_or(0) - i64::from(skew);
            let now = at(0, skew);
            let due = next_slot(now, self.interval, identity.phase());
            devices.push(Device {
                is_indistinguishable: has_machine_id_of_original,
                identity,
                delivery: Delivery::Waiting { due, dirty: true, failures: 0 },
                skew,
                is_known: false,
                was_taken: false,
                asleep_until: 0,
                decided: 0,
            });
        }
        devices
    }

    /// Whether a device sleeps now that something is due; then it is due when it wakes up.
    pub(crate) fn sleeps(&self, device: &mut Device, second: u64, random: &mut Random) -> bool {
        let hour = second / 3600 + 1;
        if device.decided < hour {
            device.decided = hour;
            if random.happens(self.asleep) {
                device.asleep_until = second + SLEEP.0 + random.below(SLEEP.1 - SLEEP.0);
            }
        }
        device.asleep_until > second
    }

    /// What a device sends: a new report, or the one that waits, or a heartbeat in its place.
    pub(crate) fn message(&self, device: &mut Device, second: u64) -> anyhow::Result<Vec<u8>> {
        if device.delivery.is_dirty() {
            device.identity.sequence += 1;
        }
        device.delivery = device.delivery.step(Event::Started);
        let now = at(second, device.skew);
        let promise = Duration::from_secs(self.interval * 2);
        let report = Report {
            device_id: device.identity.device_id.clone(),
            cloned_from: device.identity.cloned_from.clone(),
            epoch: device.identity.epoch.clone(),
            sequence: device.identity.sequence,
            sent_at: now,
            next_report_by: now.checked_add(promise)?,
            ..self.report.clone()
        };
        let body = if device.is_known {
            serde_json::to_vec(&report.heartbeat())
        } else {
            serde_json::to_vec(&report)
        };
        body.context("a report can be written")
    }

    /// What follows from a receipt; without one, the receiver could not be reached.
    pub(crate) fn finish(
        &self,
        device: &mut Device,
        receipt: Option<Receipt>,
        second: u64,
        random: &mut Random,
    ) {
        // The receiver has it, and the device does not know.
        let receipt = receipt.filter(|_| !random.happens(self.lost));
        let outcome = match &receipt {
            Some(receipt) if receipt.resend => {
                device.is_known = false;
                Outcome::InPart
            }
            Some(receipt) => {
                device.is_known = receipt.heartbeats;
                device.was_taken = true;
                Outcome::Delivered
            }
            None => Outcome::Left,
        };
        device.delivery = device.delivery.step(Event::Finished(End {
            at: at(second, device.skew),
            outcome,
            interval: self.interval,
            phase: device.identity.phase(),
            retry_after: None,
            random: random.next(),
        }));
    }
}

impl Device {
    /// The second in which it does something next, by the clock of the receiver; later than now.
    pub(crate) fn due(&self, now: u64) -> u64 {
        let due = self.delivery.due().map_or(0, |due| due.as_second() - START - self.skew);
        u64::try_from(due).unwrap_or(0).max(self.asleep_until).max(now + 1)
    }

    pub(crate) fn id(&self) -> &str {
        &self.identity.device_id
    }

    pub(crate) fn was_taken(&self) -> bool {
        self.was_taken
    }

    pub(crate) fn is_indistinguishable(&self) -> bool {
        self.is_indistinguishable
    }
}

/// The time of a clock that is ahead by so many seconds.
fn at(second: u64, skew: i64) -> Timestamp {
    let second = START + i64::try_from(second).unwrap_or(0) + skew;
    Timestamp::from_second(second).expect("a time of this century")
}
