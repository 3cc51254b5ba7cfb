//! The processes of a device, and the programs that they run.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// A process of a device; it is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a process that appends its standard error to a log.
    ///
    /// # Panics
    /// The program was not built, or the disk is full.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let file =
            fs_err::OpenOptions::new().create(true).append(true).open(&log).expect("the disk has room");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.into_parts().0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; build it first"));
        Self { child, log }
    }

    /// Its process ID.
    ///
    /// # Panics
    /// It has ended and was waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("process IDs are small");
        kill(Pid::from_raw(id), signal).expect("the process runs");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub async fn wait_for_exit(&mut self) {
        self.child.wait().await.expect("it can be waited for");
    }

    /// Ends it without warning, as `kill -9` does.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the process runs");
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.wait_for_exit().await;
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    /// Waits for the end, so that nothing writes into a folder that is being removed.
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.start_kill());
        for _ in 0..400 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// The path of a built program of the workspace.
///
/// # Panics
/// The caller does not run from the build folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of the own program is known");
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder: &Path| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not built; run `cargo build --workspace` first"))
}
