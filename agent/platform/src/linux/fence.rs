//! What a program that was started for a trial has started itself: found, and ended.

use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgrp, getpid};
use tokio::process::{Child, Command};

/// How often what is left is looked for, and how long apart: two seconds together.
const ROUNDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// While it stands, a process whose parent has ended becomes a child of this process, so that none gets away
/// (`PR_SET_CHILD_SUBREAPER`).
pub(crate) struct Fence;

impl Fence {
    pub(crate) fn around(command: &mut Command) -> Self {
        command.process_group(0);
        // A kernel before 3.4 does not know this.
        let _unknown = set_child_subreaper(true);
        Self
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on the other systems")]
    pub(crate) const fn hold(&self, _child: &Child) -> std::io::Result<()> {
        Ok(())
    }

    /// Ends what is left, after the program itself.
    pub(crate) async fn end_all(self) {
        for _ in 0..ROUNDS {
            let left = strangers();
            if left.is_empty() {
                break;
            }
            for id in left {
                // It may have ended by itself.
                let _gone = kill(id, Signal::SIGKILL);
                let _gone = waitpid(id, Some(WaitPidFlag::WNOHANG));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let _unknown = set_child_subreaper(false);
    }
}

/// Children of this process that are in another process group than this one or have other rights. What this process
/// starts for other purposes has its group and its user.
fn strangers() -> Vec<Pid> {
    let Ok(entries) = fs_err::read_dir("/proc") else { return Vec::new() };
    let (own, group) = (getpid().as_raw(), getpgrp().as_raw());
    let user = nix::unistd::geteuid().as_raw();
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let folder = format!("/proc/{id}");
        // `ID (NAME) STATE PARENT GROUP ...`; the name may hold anything.
        let Ok(stat) = fs_err::read_to_string(format!("{folder}/stat")) else { return false };
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(1);
        let mut number = || fields.next().and_then(|field| field.parse::<i32>().ok());
        let (parent, its_group) = (number(), number());
        let status = fs_err::read_to_string(format!("{folder}/status")).unwrap_or_default();
        let its_user =
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next());
        let other_user = its_user.is_some_and(|its_user| its_user.parse() != Ok(user));
        parent == Some(own) && (its_group != Some(group) || other_user)
    })
    .map(Pid::from_raw)
    .collect()
}
