//! The machine service under the service control manager ([`scm`]), requests to stop of a user at the console, and logs.

mod ffi;
mod scm;

use std::io;
use std::os::windows::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use tokio::sync::Notify;
use tracing_subscriber::layer::Identity;
use windows_registry::{CURRENT_USER, LOCAL_MACHINE};
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

use crate::paths::Paths;
use crate::role::{BackgroundItems, Role, Severity, Startup};
use crate::{environment, log_file};

pub use crate::no_units::{alive, run_unit, update_unit, watchdog_interval};
pub use scm::{dispatch, session_change};

/// The name of the agent in the event log, and that of the value that starts the broker.
const SOURCE: &str = "Steward";
/// What Windows starts when a user logs on, for all users.
const RUN: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Run";
/// What the user has turned off of it.
const APPROVED: &str = r"Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run";

/// A request to stop, of the system or of a user at the console.
pub struct StopSignal(Origin);

enum Origin {
    Console { interrupt: CtrlC, end: CtrlBreak, close: CtrlClose, shutdown: CtrlShutdown },
    Service(Arc<Notify>),
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refused.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Origin::Console {
            interrupt: ctrl_c()?,
            end: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        }))
    }

    /// The one of the service control manager.
    fn of_service(stop: Arc<Notify>) -> Self {
        Self(Origin::Service(stop))
    }

    /// Waits for the request.
    pub async fn wait(&mut self) {
        match &mut self.0 {
            Origin::Console { interrupt, end, close, shutdown } => tokio::select! {
                _ = interrupt.recv() => {}
                _ = end.recv() => {}
                _ = close.recv() => {}
                _ = shutdown.recv() => {}
            },
            Origin::Service(stop) => stop.notified().await,
        }
    }
}

/// How an administrator starts the machine service.
pub const START: &str = "sc.exe start Steward";

/// Reports to the service control manager, if that started this process, that the service is ready.
pub fn ready(_: &str) {
    scm::ready();
}

/// Reports the same way that the service is stopping.
pub fn stopping() {
    scm::stopping();
}

/// Nothing: Windows has no umask. Access is that of the folder ([`super::file`]).
pub fn set_umask() {}

/// Nothing: Windows writes no image of a crashed process unless an administrator has asked for it.
pub fn protect_memory() {}

/// Not applicable: what users can turn off here is what [`startup`] tells.
#[must_use]
pub fn background_items() -> BackgroundItems {
    BackgroundItems::NotApplicable
}

/// How Windows starts a process: the service control manager the machine service, a value of the registry the program that keeps
/// the broker.
#[must_use]
pub fn startup(role: Role) -> Startup {
    match role {
        Role::Agent => scm::startup(),
        Role::Broker => broker_startup(),
    }
}

fn broker_startup() -> Startup {
    let run = LOCAL_MACHINE.open(RUN).and_then(|key| key.get_string(SOURCE));
    if run.is_err() {
        return Startup::NotInstalled;
    }
    // What Task Manager writes when somebody turns a program off: an odd first byte. Which part of the registry it takes for a
    // program that starts for all users, differs between versions of Windows.
    let is_off = [LOCAL_MACHINE, CURRENT_USER].into_iter().any(|part| {
        let approved = part.open(APPROVED).and_then(|key| key.get_value(SOURCE));
        approved.is_ok_and(|value| value.first().is_some_and(|first| first & 1 == 1))
    });
    if is_off { Startup::Disabled } else { Startup::Automatic }
}

/// Whether whoever keeps the log adds the time to each line: nobody keeps one.
#[must_use]
pub fn log_has_times() -> bool {
    false
}

/// A log with fields besides standard error: there is none.
#[must_use]
pub fn journal() -> Option<Identity> {
    None
}

/// Where a process keeps its log besides standard error, which a service does not have.
#[must_use]
pub fn log_file(paths: &Paths, role: Role) -> Option<PathBuf> {
    Some(match role {
        Role::Agent => paths.state().join(r"private\logs\agent.log"),
        Role::Broker => paths.session_folder().join(r"logs\broker.log"),
    })
}

/// Tells the event log `Application`, as the source `Steward`. The text can be read whether or not the source is registered:
/// then Windows says so before it. What cannot be told is in the log file.
pub fn report_event(severity: Severity, text: &str) {
    drop(ffi::report_event(severity, text));
}

/// The end of the services' logs, by name, and what the event log has of the agent. A log that cannot be read is left out.
#[must_use]
pub fn logs(paths: &Paths, bytes: u64) -> Vec<(&'static str, String)> {
    let files = [("agent.log", log_file(paths, Role::Agent)), ("broker.log", log_file(paths, Role::Broker))];
    log_file::ends(files, bytes).chain(event_log()).collect()
}

/// The latest entries of the event log, as Windows' own program prints them.
fn event_log() -> Option<(&'static str, String)> {
    let system = environment::directory("SystemRoot").unwrap_or_else(|| PathBuf::from(r"C:\Windows"));
    let query = format!("/q:*[System[Provider[@Name='{SOURCE}']]]");
    let output = Command::new(system.join(r"System32\wevtutil.exe"))
        .args(["qe", "Application", &query, "/f:text", "/rd:true", "/c:500"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(CREATE_NO_WINDOW)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (!text.trim().is_empty()).then_some(("event-log.txt", text))
}
