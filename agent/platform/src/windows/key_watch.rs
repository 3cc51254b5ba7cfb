//! A watch over keys of the registry. A notification comes once for each time that it is asked for, so it is asked for
//! anew before each read; the thread only waits and nudges.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use windows_registry::Key;

use super::ffi::{self, Signal};

/// A watch over one key with all that is in it, and over the coming and going of keys in another.
pub(super) struct KeyWatch {
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
    signal: Signal,
    /// Whether it came since it was last asked for.
    came: AtomicBool,
}

struct Armed {
    name: String,
    /// Kept open: a key that is closed is watched no more.
    _key: Key,
}

impl KeyWatch {
    /// Starts the thread that nudges.
    pub(super) fn new(nudge: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let notice =
            || Ok::<_, std::io::Error>(Notice { signal: Signal::new()?, came: AtomicBool::new(true) });
        let shared = Arc::new(Shared { stop: Signal::new()?, own: notice()?, above: notice()? });
        let waiting = Arc::clone(&shared);
        std::thread::Builder::new().name("policy-watch".to_owned()).spawn(move || {
            let signals = [&waiting.stop, &waiting.own.signal, &waiting.above.signal];
            while let Ok(which @ (1 | 2)) = Signal::wait_for_one(&signals) {
                let notice = if which == 1 { &waiting.own } else { &waiting.above };
                notice.came.store(true, Ordering::Release);
                nudge();
            }
        })?;
        Ok(Self { shared, own: None, above: None, failure: None })
    }

    /// Asks for a notice of the next change: of everything in the first key, of the subkeys of the second.
    pub(super) fn arm(&mut self, own: Option<(String, Key)>, above: Option<(String, Key)>) {
        let results = [
            arm(&mut self.own, own, true, &self.shared.own),
            arm(&mut self.above, above, false, &self.shared.above),
        ];
        self.failure = results.into_iter().find_map(Result::err);
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        // The thread ends by itself with the process if this fails.
        drop(self.shared.stop.set());
    }
}

fn arm(
    armed: &mut Option<Armed>,
    wanted: Option<(String, Key)>,
    inside: bool,
    notice: &Notice,
) -> Result<(), String> {
    let same = armed.as_ref().map(|armed| &armed.name) == wanted.as_ref().map(|(name, _)| name);
    if same && !notice.came.load(Ordering::Acquire) {
        return Ok(());
    }
    // Closing a key sends its notice as well: that is one nudge too many, and then quiet. The new key is opened even if
    // the name is the same, for the old one may have been deleted and made anew.
    let before = armed.take();
    notice.came.store(false, Ordering::Release);
    if let Some((name, key)) = wanted {
        let asked = ffi::notify(&key, inside, &notice.signal);
        asked.map_err(|error| format!(r"HKLM\{name}: {error}"))?;
        *armed = Some(Armed { name, _key: key });
    }
    drop(before);
    Ok(())
}
