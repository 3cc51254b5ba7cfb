//! Under which identity a device reports. Pure but for its file: who reports, how far it has counted, and what becomes of that when the
//! files of one device are found on another machine, or after a start of the operating system.

use std::path::Path;

use platform::file::Access;
use platform::posture as system;
use platform::random::hex;
use platform::state::StateFile;
use policy_schema::Extra;
use ring::digest;
use serde::{Deserialize, Serialize};

/// Who reports, and how far it has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random identifier of this installation.
    pub device_id: String,
    /// Changes when the sequence may not go on.
    pub epoch: String,
    /// Counts the reports of an epoch.
    pub sequence: u64,
    /// The machine and the start of its system where this was written.
    #[serde(flatten)]
    pub origin: Origin,
    /// The device that this one is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloned_from: Option<String>,
    #[serde(flatten)]
    /// What a newer version writes besides.
    pub extra: Extra,
}

/// A machine, and one start of its operating system. What is not known is never another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A hash of the ID of the installation of the system: the ID itself is for this device only (machine-id(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// The start of the system.
    pub boot: Option<String>,
}

impl Origin {
    /// This machine, now.
    pub(crate) fn observe() -> Self {
        let hash = |id: String| {
            let digest = digest::digest(&digest::SHA256, format!("steward device|{id}").as_bytes());
            hex(&digest.as_ref()[..16])
        };
        Self { machine: system::machine_id().ok().flatten().map(hash), boot: system::boot_id() }
    }

    fn is_other(known: Option<&String>, now: Option<&String>) -> bool {
        known.zip(now).is_some_and(|(known, now)| known != now)
    }
}

impl Identity {
    /// A new device, made of random bytes.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(random: &[u8; 24], origin: Origin) -> Self {
        let (device, epoch) = random.split_at(16);
        let device = device.try_into().map(uuid::Builder::from_random_bytes).expect("16 of 24 bytes");
        Self {
            device_id: device.into_uuid().to_string(),
            epoch: hex(epoch),
            sequence: 0,
            origin,
            cloned_from: None,
            extra: Extra::default(),
        }
    }

    /// What becomes of it where it was found. On another machine it is a copy: the device gets an identity of its own, and says
    /// whose it had. After a start of the system it counts on in a new epoch, so that a device that was set back to an earlier state
    /// never repeats a number. One that says nothing about its origin is at home.
    #[must_use]
    pub fn found_on(self, origin: &Origin, random: &[u8; 24]) -> Self {
        if Origin::is_other(self.origin.machine.as_ref(), origin.machine.as_ref()) {
            let new = Self::new(random, origin.clone());
            return Self {
                sequence: self.sequence,
                cloned_from: Some(self.device_id),
                extra: self.extra,
                ..new
            };
        }
        let restarted = Origin::is_other(self.origin.boot.as_ref(), origin.boot.as_ref());
        let epoch = if restarted { hex(&random[16..]) } else { self.epoch };
        let origin = Origin {
            machine: self.origin.machine.or_else(|| origin.machine.clone()),
            boot: origin.boot.clone().or(self.origin.boot),
        };
        Self { epoch, origin, ..self }
    }

    /// A number that is this device's own and stays so, for its place in every interval.
    #[must_use]
    pub fn phase(&self) -> u64 {
        let digest = digest::digest(&digest::SHA256, self.device_id.as_bytes());
        digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The ID of this device; `None` if it has none yet, or if this process may not read it.
    pub(crate) fn device_id(private: &Path) -> Option<String> {
        Some(file(private).peek().ok()??.device_id)
    }
}

/// Where it is kept.
pub(crate) fn file(private: &Path) -> StateFile<Identity> {
    StateFile::new(private.join("identity.json"), Access::Private)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(machine: Option<&str>, boot: Option<&str>) -> Origin {
        Origin { machine: machine.map(ToOwned::to_owned), boot: boot.map(ToOwned::to_owned) }
    }

    #[test]
    fn copy_gets_an_identity_of_its_own_and_a_restart_an_epoch() {
        let known = Identity { sequence: 7, ..Identity::new(&[1; 24], origin(Some("a"), Some("1"))) };
        for (case, machine, boot, is_copy, is_restart) in [
            ("the same", Some("a"), Some("1"), false, false),
            ("after a restart", Some("a"), Some("2"), false, true),
            ("on another machine", Some("b"), Some("2"), true, false),
            ("on another machine, as far as that is known", Some("b"), None, true, false),
            ("where nothing is known", None, None, false, false),
            ("where the machine is not known", None, Some("2"), false, true),
        ] {
            let found = known.clone().found_on(&origin(machine, boot), &[2; 24]);
            assert_eq!(found.device_id != known.device_id, is_copy, "{case}");
            assert_eq!(found.cloned_from, is_copy.then(|| known.device_id.clone()), "{case}");
            assert_eq!(found.epoch != known.epoch, is_copy || is_restart, "{case}");
            assert_eq!(found.sequence, 7, "{case}: reports that wait have numbers as well");
            // Twice is once: the next start of the agent changes nothing more.
            assert_eq!(found.clone().found_on(&origin(machine, boot), &[3; 24]), found, "{case}");
        }
    }

    #[test]
    fn identity_of_before_is_at_home_where_it_is_found() {
        let text = r#"{"device_id":"d","epoch":"e","sequence":3,"moon":7}"#;
        let known: Identity = serde_json::from_str(text).unwrap();
        let found = known.found_on(&origin(Some("a"), Some("1")), &[2; 24]);
        assert_eq!((found.device_id.as_str(), found.epoch.as_str(), found.sequence), ("d", "e", 3));
        assert_eq!(found.origin, origin(Some("a"), Some("1")));
        assert_eq!(serde_json::to_value(&found).unwrap()["moon"], 7);
    }
}
