//! What the device is like, and what protects it. Observed when a report is made, never on a timer of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use platform::paths::Paths;
use platform::protection::{self, Finding, Observation};
use platform::{SYSTEM_DISK, clock, disk};
use policy_schema::Extra;
use protocol::health::{ComponentName, Protection, State};
use protocol::report::Posture;
use sysinfo::{MemoryRefreshKind, System};
use tokio::sync::Mutex;

/// What an observation of the device finds.
pub(crate) type Found = (Posture, Vec<Protection>);

/// How long an observation may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Reports that are made together share one observation.
const LIFETIME: Duration = Duration::from_secs(2);

/// The last observation.
static LAST: Mutex<Option<(Duration, Found)>> = Mutex::const_new(None);
/// An observation that does not end is not begun again beside itself.
static OBSERVING: AtomicBool = AtomicBool::new(false);

/// Observes the device, in a thread of its own. What the system does not tell is unknown, with the reason; `None` if that takes too
/// long.
pub(crate) async fn observe(paths: &Paths) -> Option<Found> {
    let observation = async {
        let mut last = LAST.lock().await;
        let is_new = |at: &Duration| clock::monotonic().saturating_sub(*at) < LIFETIME;
        if let Some((_, found)) = last.as_ref().filter(|(at, _)| is_new(at)) {
            return Some(found.clone());
        }
        if OBSERVING.swap(true, Ordering::AcqRel) {
            return None;
        }
        let paths = paths.clone();
        let found = tokio::task::spawn_blocking(move || {
            let found = (facts(), protections(&protection::observe(&paths)));
            OBSERVING.store(false, Ordering::Release);
            found
        });
        let found = found.await.ok()?;
        *last = Some((clock::monotonic(), found.clone()));
        Some(found)
    };
    tokio::time::timeout(LIMIT, observation).await.ok()?
}

fn facts() -> Posture {
    let memory = memory();
    let disk = disk::space(SYSTEM_DISK);
    let mut unknown = BTreeMap::new();
    let mut why = |name: &str, reason: &str| drop(unknown.insert(name.to_owned(), reason.to_owned()));
    if disk.is_none() {
        for name in ["disk_total", "disk_available"] {
            why(name, "the system does not say");
        }
    }
    if memory.is_none() {
        for name in ["memory_total", "memory_available"] {
            why(name, "the system does not say");
        }
    }
    let mut known = |name: &str, value: Option<String>, reason: &str| {
        if value.is_none() {
            why(name, reason);
        }
        value
    };
    let not_said = "the system does not say";
    let operating_system = known("operating_system", System::long_os_version().ok(), not_said);
    let counts_none = "this system has no number of a build";
    let operating_system_build = known("operating_system_build", protection::build(), counts_none);
    let kernel = known("kernel", System::kernel_version().ok(), not_said);
    let uptime = System::uptime().ok();
    if uptime.is_none() {
        why("uptime", not_said);
    }
    Posture {
        operating_system,
        operating_system_build,
        kernel,
        architecture: std::env::consts::ARCH.to_owned(),
        uptime,
        memory_total: memory.map(|(total, _)| total),
        memory_available: memory.map(|(_, available)| available),
        disk_total: disk.map(|(total, _)| total),
        disk_available: disk.map(|(_, available)| available),
        unknown,
        extra: Extra::default(),
    }
}

fn protections(found: &protection::Protections) -> Vec<Protection> {
    let on_is_good = |name, observation| protection_of(name, observation, State::Pass, State::Fail);
    vec![
        on_is_good(ComponentName::DiskEncryption, &found.disk_encryption),
        on_is_good(ComponentName::Firewall, &found.firewall),
        on_is_good(ComponentName::SecureBoot, &found.secure_boot),
        on_is_good(ComponentName::ScreenLock, &found.screen_lock),
        protection_of(ComponentName::PendingRestart, &found.pending_restart, State::Pending, State::Pass),
    ]
}

fn protection_of(name: ComponentName, observation: &Observation, on: State, off: State) -> Protection {
    let (state, reason) = match &observation.finding {
        Finding::On(reason) => (on, reason),
        Finding::Off(reason) => (off, reason),
        Finding::Unknown(reason) => (State::Unknown, reason),
    };
    Protection { name, state, reason: reason.clone(), evidence: observation.source.clone() }
}

/// The version of the kernel, as release feeds of electron-builder mean it (Node.js, `os.release()`).
pub(crate) fn kernel() -> Option<String> {
    let version = System::kernel_version().ok()?;
    // Windows gives the number of its build alone.
    Some(if cfg!(windows) && !version.contains('.') { format!("10.0.{version}") } else { version })
}

fn memory() -> Option<(u64, u64)> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    Some((system.total_memory(), system.available_memory())).filter(|(total, _)| *total > 0)
}
