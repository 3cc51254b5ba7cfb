//! A watch over keys of the registry. Windows notifies once per request, so [`KeyWatch::arm`] requests anew before each
//! read; a thread waits for the notifications and calls `nudge`.
//!
//! Each request has a signal of its own. A key that was deleted and made again under its name is another key, so every call
//! of [`KeyWatch::arm`] requests everything anew; the signals of before, which closing their keys sets as well, are waited for
//! no longer.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use windows_registry::Key;

use super::ffi::{Notification, Scope, Signal};

/// A key of `HKEY_LOCAL_MACHINE` that is open, with its name there.
pub(in crate::os) type NamedKey = (String, Key);

/// How long to wait after waiting itself has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys that come and go all the time are watched as they are after so many rounds.
const MAXIMUM_ROUNDS: usize = 5;

/// A watch over one key with everything in it, and over the subkeys of another.
pub(in crate::os) struct KeyWatch {
    shared: Arc<Shared>,
    armed: Vec<Notification>,
    failure: Option<String>,
}

struct Shared {
    stop: Signal,
    /// What is waited for has changed.
    changed: Signal,
    awaited: Mutex<Vec<Arc<Signal>>>,
}

impl KeyWatch {
    /// Starts the thread that calls `nudge`.
    pub(in crate::os) fn new(nudge: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (stop, changed) = (Signal::new()?, Signal::new()?);
        let shared = Arc::new(Shared { stop, changed, awaited: Mutex::default() });
        let waiting = Arc::clone(&shared);
        std::thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            // One that has come is spent: Windows sets it once per request.
            let mut spent: Vec<Arc<Signal>> = Vec::new();
            loop {
                let mut awaited = waiting.awaited();
                spent.retain(|signal| awaited.iter().any(|awaited| Arc::ptr_eq(signal, awaited)));
                awaited.retain(|signal| !spent.iter().any(|spent| Arc::ptr_eq(signal, spent)));
                let own = [&waiting.stop, &waiting.changed];
                let signals: Vec<&Signal> =
                    own.into_iter().chain(awaited.iter().map(|signal| &**signal)).collect();
                match Signal::wait_for_one(&signals) {
                    Ok(1) => {}
                    Ok(index @ 2..) => {
                        spent.push(Arc::clone(&awaited[index - 2]));
                        nudge();
                    }
                    Ok(_) => return,
                    // Changes may have been missed; the read that follows requests everything anew.
                    Err(_) => {
                        std::thread::sleep(PAUSE);
                        nudge();
                    }
                }
            }
        })?;
        Ok(Self { shared, armed: Vec::new(), failure: None })
    }

    /// Requests a notification of the next change: of everything in the first key, of the subkeys of the second, which is the
    /// nearest above it. They give `None` for a key that does not exist, `Err` says why one could not be opened.
    ///
    /// The key above comes first: one that is made before it is watched is then found, and one that is made later is told. Once
    /// both are watched, another key may have become the nearest above, and then both are requested again.
    pub(in crate::os) fn arm(
        &mut self,
        own: impl Fn() -> Result<Option<NamedKey>, String>,
        above: impl Fn() -> Result<Option<NamedKey>, String>,
    ) {
        let mut requested = Vec::new();
        for _ in 0..MAXIMUM_ROUNDS {
            requested.clear();
            self.failure = None;
            let nearest = above();
            let name = name_of(&nearest);
            for (key, scope) in [(nearest, Scope::Subkeys), (own(), Scope::Tree)] {
                match key.and_then(|key| key.map(|key| request(key, scope)).transpose()) {
                    Ok(notification) => requested.extend(notification),
                    Err(failure) => {
                        self.failure.get_or_insert(failure);
                    }
                }
            }
            if name_of(&above()) == name {
                break;
            }
        }
        *self.shared.lock() =
            requested.iter().map(|notification| Arc::clone(notification.signal())).collect();
        if let Err(error) = self.shared.changed.set() {
            self.failure.get_or_insert(error.to_string());
        }
        // The keys of before are closed now, and nobody waits for their signals.
        self.armed = requested;
    }

    /// Why changes are not noticed at once.
    pub(in crate::os) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        // If this fails, the thread ends with the process.
        drop(self.shared.stop.set());
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Signal>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> Vec<Arc<Signal>> {
        self.lock().clone()
    }
}

fn name_of(key: &Result<Option<NamedKey>, String>) -> Option<String> {
    key.as_ref().ok()?.as_ref().map(|(name, _)| name.clone())
}

fn request((name, key): NamedKey, scope: Scope) -> Result<Notification, String> {
    let requested = Signal::new().and_then(|signal| Notification::request(key, scope, &Arc::new(signal)));
    requested.map_err(|error| format!(r"HKLM\{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use windows_registry::CURRENT_USER;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn change_of_armed_key_is_notified_after_each_request() {
        let name = format!(r"Software\Steward Test {}", std::process::id());
        let key = CURRENT_USER.create(&name).unwrap();
        let open = || Ok(Some((name.clone(), CURRENT_USER.open(&name).unwrap())));
        let (nudges, received) = channel();
        let mut watch = KeyWatch::new(move || nudges.send(()).unwrap_or_default()).unwrap();
        for number in 0..3 {
            watch.arm(open, || Ok(None));
            assert_eq!(watch.failure(), None);
            key.set_u32("Value", number).unwrap();
            received.recv_timeout(LIMIT).unwrap();
        }
        assert_eq!(super::super::values(&key).unwrap().len(), 1);
        CURRENT_USER.remove_tree(&name).unwrap();
    }

    /// Found by trial: an import that deletes the key first made the watch deaf, for the key that was watched was gone.
    #[test]
    fn key_that_was_deleted_and_made_again_is_watched_once_the_key_above_has_told_so() {
        let parent = format!(r"Software\Steward Test Again {}", std::process::id());
        let name = format!(r"{parent}\Policy");
        let above = CURRENT_USER.create(&parent).unwrap();
        CURRENT_USER.create(&name).unwrap().set_u32("Value", 0).unwrap();
        let own = || Ok(CURRENT_USER.open(&name).ok().map(|key| (name.clone(), key)));
        let parent_key = || Ok(Some((parent.clone(), CURRENT_USER.open(&parent).unwrap())));
        let (nudges, received) = channel();
        let mut watch = KeyWatch::new(move || nudges.send(()).unwrap_or_default()).unwrap();
        for number in 0..10 {
            watch.arm(own, parent_key);
            above.remove_tree("Policy").unwrap();
            let again = above.create("Policy").unwrap();
            again.set_u32("Value", number).unwrap();
            received.recv_timeout(LIMIT).unwrap();
            watch.arm(own, parent_key);
            while received.recv_timeout(Duration::from_millis(100)).is_ok() {}
            again.set_u32("Value", number + 100).unwrap();
            received.recv_timeout(LIMIT).unwrap();
        }
        drop(watch);
        CURRENT_USER.remove_tree(&parent).unwrap();
    }

    #[test]
    fn watch_that_is_armed_again_and_again_does_not_nudge_by_itself() {
        let name = format!(r"Software\Steward Test Quiet {}", std::process::id());
        CURRENT_USER.create(&name).unwrap();
        let open = || Ok(Some((name.clone(), CURRENT_USER.open(&name).unwrap())));
        let (nudges, received) = channel();
        let mut watch = KeyWatch::new(move || nudges.send(()).unwrap_or_default()).unwrap();
        for _ in 0..20 {
            watch.arm(open, open);
        }
        assert!(received.recv_timeout(Duration::from_millis(300)).is_err());
        drop(watch);
        CURRENT_USER.remove_tree(&name).unwrap();
    }

    #[test]
    fn key_that_cannot_be_opened_is_a_failure_and_missing_key_is_none() {
        let mut watch = KeyWatch::new(|| {}).unwrap();
        watch.arm(|| Err("access denied".to_owned()), || Ok(None));
        assert_eq!(watch.failure(), Some("access denied"));
        watch.arm(|| Ok(None), || Ok(None));
        assert_eq!(watch.failure(), None);
    }
}
