//! What a supervised version and its watchdog say to each other, one word a line: through the standard output of the version it says how
//! it is doing, through its standard input it hears what the service manager wants. When that ends, it is to stop: also because the
//! watchdog is gone.

use std::io::{self, BufRead as _, Write as _};
use std::sync::Arc;

use platform::environment;
use tokio::sync::Notify;

/// The variable that a supervised version has: how often it was started since it was stable last.
pub(crate) const SUPERVISED: &str = "STEWARD_SUPERVISED";
/// A user has logged on or off.
pub(crate) const SESSION: &str = "session";

/// What a version says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Policy is in effect, and the local API is open.
    Ready,
    /// Its loop turns, which systemd wants to hear.
    Alive,
    /// It works: its own API answered, policy is loaded, a report was attempted.
    Proved,
    /// It ends so that another version can start.
    Restart,
    /// It ends because another machine service runs, which says nothing about this version.
    Busy,
}

impl Word {
    const ALL: [(Self, &str); 5] = [
        (Self::Alive, "alive"),
        (Self::Ready, "ready"),
        (Self::Proved, "proved"),
        (Self::Restart, "restart"),
        (Self::Busy, "busy"),
    ];

    pub(crate) fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, text)| *text == line.trim()).map(|(word, _)| word)
    }
}

/// How often this version was started since it was stable last; `None` if nobody supervises this process.
#[must_use]
pub fn supervised() -> Option<u32> {
    environment::variable(SUPERVISED)?.parse().ok()
}

/// Says a word to the watchdog.
pub fn say(word: Word) {
    let text = Word::ALL.into_iter().find(|(other, _)| *other == word).map_or("", |(_, text)| text);
    // A watchdog that is gone has closed the other pipe as well.
    let _gone = writeln!(io::stdout(), "{text}");
}

/// What the watchdog wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// This process is to stop.
    pub stop: Arc<Notify>,
    /// A user has logged on or off.
    pub session_changed: Arc<Notify>,
}

/// Listens to the watchdog from now on.
#[must_use]
pub fn listen() -> Wanted {
    let wanted = Wanted::default();
    let told = wanted.clone();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim() == SESSION {
                told.session_changed.notify_one();
            }
        }
        told.stop.notify_one();
    });
    wanted
}
