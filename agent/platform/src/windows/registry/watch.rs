//! A watch over keys of the registry. Windows notifies once per request, so [`KeyWatch::arm`] requests anew before each
//! read; a thread waits for the notifications and calls `nudge`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use windows_registry::Key;

use super::ffi::{Notification, Scope, Signal};

/// A key of `HKEY_LOCAL_MACHINE` that is open, with its name there.
pub(in crate::os) type NamedKey = (String, Key);

/// A watch over one key with everything in it, and over the subkeys of another.
pub(in crate::os) struct KeyWatch {
    shared: Arc<Shared>,
    own: Option<Armed>,
    above: Option<Armed>,
    failure: Option<String>,
}

struct Shared {
    stop: Signal,
    own: Notice,
    above: Notice,
}

struct Notice {
    signal: Arc<Signal>,
    /// Whether the notification has come since it was last requested.
    came: AtomicBool,
}

struct Armed {
    name: String,
    _notification: Notification,
}

impl KeyWatch {
    /// Starts the thread that calls `nudge`.
    pub(in crate::os) fn new(nudge: impl Fn() + Send + 'static) -> io::Result<Self> {
        let notice =
            || Ok::<_, io::Error>(Notice { signal: Arc::new(Signal::new()?), came: AtomicBool::new(true) });
        let shared = Arc::new(Shared { stop: Signal::new()?, own: notice()?, above: notice()? });
        let waiting = Arc::clone(&shared);
        std::thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            let signals = [&waiting.stop, &*waiting.own.signal, &*waiting.above.signal];
            while let Ok(index @ (1 | 2)) = Signal::wait_for_one(&signals) {
                let notice = if index == 1 { &waiting.own } else { &waiting.above };
                notice.came.store(true, Ordering::Release);
                nudge();
            }
        })?;
        Ok(Self { shared, own: None, above: None, failure: None })
    }

    /// Requests a notification of the next change: of everything in the first key, of the subkeys of the second.
    /// `None` is a key that does not exist, `Err` says why one could not be opened.
    pub(in crate::os) fn arm(
        &mut self,
        own: Result<Option<NamedKey>, String>,
        above: Result<Option<NamedKey>, String>,
    ) {
        let results = [
            own.and_then(|own| arm(&mut self.own, own, Scope::Tree, &self.shared.own)),
            above.and_then(|above| arm(&mut self.above, above, Scope::Subkeys, &self.shared.above)),
        ];
        self.failure = results.into_iter().find_map(Result::err);
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

fn arm(
    armed: &mut Option<Armed>,
    wanted: Option<NamedKey>,
    scope: Scope,
    notice: &Notice,
) -> Result<(), String> {
    let same = armed.as_ref().map(|armed| &armed.name) == wanted.as_ref().map(|(name, _)| name);
    if same && !notice.came.load(Ordering::Acquire) {
        return Ok(());
    }
    // Closing a key sends its notification as well: that is one nudge too many, and then quiet. The new key is opened
    // even if the name is the same, for the old one may have been deleted and created again.
    let before = armed.take();
    notice.came.store(false, Ordering::Release);
    if let Some((name, key)) = wanted {
        let requested = Notification::request(key, scope, &notice.signal);
        let notification = requested.map_err(|error| format!(r"HKLM\{name}: {error}"))?;
        *armed = Some(Armed { name, _notification: notification });
    }
    drop(before);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

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
            watch.arm(open(), Ok(None));
            assert_eq!(watch.failure(), None);
            // Closing the key of before may have nudged as well.
            while received.try_recv().is_ok() {}
            key.set_u32("Value", number).unwrap();
            received.recv_timeout(LIMIT).unwrap();
        }
        assert_eq!(super::super::values(&key).unwrap().len(), 1);
        CURRENT_USER.remove_tree(&name).unwrap();
    }

    #[test]
    fn key_that_cannot_be_opened_is_a_failure_and_missing_key_is_none() {
        let mut watch = KeyWatch::new(|| {}).unwrap();
        watch.arm(Err("access denied".to_owned()), Ok(None));
        assert_eq!(watch.failure(), Some("access denied"));
        watch.arm(Ok(None), Ok(None));
        assert_eq!(watch.failure(), None);
    }
}
