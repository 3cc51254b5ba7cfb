//! Keeps the broker running in a user's session, and begins a sign-in if policy asks for one, where the system itself does not.
//!
//! In: the program `steward` that lies beside this one. Called by `steward-session`, which Windows starts at logon.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock;
use crate::os::process::{has_desktop, without_window};

/// A broker that lived this long had started well: the next pause is the first again.
const WELL: Duration = Duration::from_mins(1);
/// The first pause before a broker is started again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// After so many failures in a row to start the program, it is not there any more. An upgrade takes it away for seconds.
const FAILURES: u32 = 15;

/// Runs the broker, and again whenever it ends: whoever ends it for good ends this program, or the session, first. That includes
/// one that found another broker of this user, in another session, which may end before this session does.
///
/// # Errors
/// This session belongs to services, or the broker's program cannot be started any more.
pub fn keep_broker() -> io::Result<()> {
    if !has_desktop() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a broker belongs into the session of a user",
        ));
    }
    let own = std::env::current_exe()?;
    let program = own.with_file_name("steward").with_extension(std::env::consts::EXE_EXTENSION);
    let mut sign_in = Command::new(&program);
    sign_in.args(["login", "--at-logon"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It waits for the broker by itself. Without it, apps ask for the sign-in.
    drop(without_window(&mut sign_in).spawn());
    let (mut pause, mut failures) = (FIRST_PAUSE, 0);
    loop {
        let mut command = Command::new(&program);
        command.arg("broker").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = clock::monotonic();
        match without_window(&mut command).status() {
            Ok(_) => failures = 0,
            Err(error) if failures == FAILURES => return Err(error),
            Err(_) => failures += 1,
        }
        pause = next_pause(pause, clock::monotonic().saturating_sub(begun));
        std::thread::sleep(pause);
    }
}

/// How long to wait after a broker that lived so long; `before` is the pause before it.
fn next_pause(before: Duration, lived: Duration) -> Duration {
    if lived >= WELL { FIRST_PAUSE } else { (before * 2).min(LONGEST_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_brokers_fail_and_shrink_after_one_that_lived() {
        let short = Duration::from_millis(20);
        let mut pause = FIRST_PAUSE;
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            pause = next_pause(pause, short);
            assert_eq!(pause.as_secs(), expected);
        }
        assert_eq!(next_pause(pause, WELL), FIRST_PAUSE);
    }
}
