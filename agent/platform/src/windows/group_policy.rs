//! Group Policy's own lock, which keeps it from writing while somebody reads (Microsoft, `EnterCriticalPolicySection`).

mod ffi;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long Group Policy may write before policy is read all the same.
const LIMIT: Duration = Duration::from_secs(3);

/// Some thread waits for the lock.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Runs a function while Group Policy does not write. `None` if the lock cannot be had, or not in time.
///
/// The lock has no time limit and belongs to the thread that takes it, so a thread of its own waits for it and runs the
/// function. One that comes too late gives the lock back at once.
pub(super) fn paused<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if WAITING.swap(true, Ordering::AcqRel) {
        return None;
    }
    let (sender, receiver) = mpsc::sync_channel(0);
    let (tell, entered) = mpsc::sync_channel(1);
    let waiting = std::thread::Builder::new().name("policy-lock".to_owned()).spawn(move || {
        let lock = ffi::CriticalSection::enter();
        // Nobody listens any more if it took too long.
        if tell.send(lock.is_ok()).is_ok() && lock.is_ok() {
            drop(sender.send(run()));
        }
        drop(lock);
        WAITING.store(false, Ordering::Release);
    });
    if waiting.is_err() {
        WAITING.store(false, Ordering::Release);
        return None;
    }
    let has_lock = entered.recv_timeout(LIMIT).unwrap_or(false);
    drop(entered);
    // The function reads the registry only, which ends.
    if has_lock { receiver.recv().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_runs_or_is_told_not_to_again_and_again() {
        for number in 0..5 {
            // Another test may hold the lock; Wine has none to give.
            assert!(paused(move || number).is_none_or(|result| result == number));
        }
    }
}
