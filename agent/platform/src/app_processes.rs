//! The processes of an app: since when it has been running, ending it, starting it again. Looked at only while that matters: after its
//! configuration has changed, and while an update waits for it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tokio::process::Command;

use crate::os::desktop::{ask_to_close, launch};
use crate::paths::Paths;

/// How long processes may take to end before they are killed, and after that.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// An app that runs so long after its start has survived it.
const SURVIVES: Duration = Duration::from_secs(10);

/// How an app's processes are known.
#[derive(Clone, Debug)]
enum Program {
    /// By the name of the program.
    Name(String),
    /// By a folder that the program lies in.
    Below(PathBuf),
}

impl Program {
    /// As a descriptor writes it: a folder has a separator in it.
    fn new(paths: &Paths, text: &str) -> Self {
        if text.contains(['/', '\\']) {
            Self::Below(paths.under_root(text.as_ref()))
        } else {
            Self::Name(text.to_owned())
        }
    }

    /// Whether a process runs it, by the path of the program, else by its name.
    fn is(&self, exe: Option<&Path>, name: &str) -> bool {
        match self {
            Self::Below(folder) => exe.is_some_and(|exe| exe.starts_with(folder)),
            Self::Name(program) => {
                let file_name = exe.and_then(Path::file_name).map(|name| name.to_string_lossy());
                program.eq_ignore_ascii_case(file_name.as_deref().unwrap_or(name))
            }
        }
    }
}

/// How the processes of one app are known: names of programs, or folders (with a separator in them) that they lie in.
#[derive(Clone, Debug)]
pub struct AppProcesses(Vec<Program>);

impl AppProcesses {
    /// As a descriptor names them.
    #[must_use]
    pub fn new(paths: &Paths, names: &[String]) -> Self {
        Self(names.iter().map(|name| Program::new(paths, name)).collect())
    }

    /// Since when the app has been running, whichever user runs it; `None` if it does not.
    #[must_use]
    pub fn running_since(&self) -> Option<Timestamp> {
        let system = list(false)?;
        let started = self.of(&system).map(Process::start_time).min()?;
        Timestamp::from_second(i64::try_from(started).ok()?).ok()
    }

    /// Whether the user who runs this process has the app open.
    #[must_use]
    pub fn run_as_own_user(&self) -> bool {
        list(true).is_some_and(|system| self.of_own_user(&system).next().is_some())
    }

    /// Whether another user than the one who runs this process has the app open.
    #[must_use]
    pub fn run_as_others(&self) -> bool {
        list(true).is_some_and(|system| self.of(&system).count() > self.of_own_user(&system).count())
    }

    /// The environment in which the user who runs this process has started the app; `None` if the user does not have it open, or the
    /// system does not say.
    #[must_use]
    pub fn environment_of_own(&self) -> Option<Environment> {
        let mut system = System::new().ok()?;
        let wanted = wanted().with_user(UpdateKind::Always).with_environ(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        // The others have it from the oldest.
        let oldest = self.of_own_user(&system).min_by_key(|process| process.start_time())?;
        let variables = oldest.environ().iter().filter_map(|variable| variable.to_str()?.split_once('='));
        // Windows keeps a folder for each drive under names that begin with `=`.
        let variables = variables.filter(|(name, _)| !name.is_empty());
        let variables: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (!variables.is_empty()).then_some(Environment(variables))
    }

    /// Asks the app to close, if the user who runs this process has it open. Gives whether that is so.
    #[must_use]
    pub fn ask_own_to_close(&self) -> bool {
        let Some(system) = list(true) else { return false };
        let ids: BTreeSet<Pid> = self.of_own_user(&system).map(Process::pid).collect();
        // The others end with the first one, which may want to know why.
        let is_first = |id: &&Pid| {
            let parent = system.process(**id).and_then(Process::parent);
            parent.is_none_or(|parent| !ids.contains(&parent))
        };
        for id in ids.iter().filter(is_first) {
            ask_to_close(id.as_u32());
        }
        !ids.is_empty()
    }

    /// Ends the app, whichever user runs it: it is asked to, and killed if it does not. Gives whether no process is left.
    pub async fn end(&self) -> bool {
        for kill in [false, true] {
            let Some(system) = list(false) else { return false };
            for process in self.of(&system) {
                if kill {
                    process.kill();
                } else {
                    ask_to_close(process.pid().as_u32());
                }
            }
            let mut waited = Duration::ZERO;
            while waited < LIMIT {
                if self.running_since().is_none() {
                    return true;
                }
                tokio::time::sleep(POLL).await;
                waited += POLL;
            }
        }
        false
    }

    /// Starts the app for the user who runs this process, in the environment in which it was open. Gives how it ended, if it failed
    /// within some seconds. Without that environment nothing can be said: a display may be missing.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        &self,
        program: &Path,
        environment: Option<&Environment>,
    ) -> io::Result<Option<String>> {
        let (mut command, is_itself) = launch(program);
        if let Some(Environment(variables)) = environment {
            command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        }
        let mut command: Command = command.into();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let Ok(ended) = tokio::time::timeout(SURVIVES, child.wait()).await else { return Ok(None) };
        let status = ended?;
        // It may have left its work to another process, or the user has closed it.
        let failed = !status.success() && is_itself && environment.is_some() && !self.run_as_own_user();
        Ok(failed.then(|| format!("it ended with {status} right after its start")))
    }

    fn of<'a>(&'a self, system: &'a System) -> impl Iterator<Item = &'a Process> {
        system.processes().values().filter(|process| {
            let name = process.name().to_string_lossy();
            let path = process.exe().or_else(|| claimed_program(process.cmd()));
            self.0.iter().any(|program| program.is(path, &name))
        })
    }

    fn of_own_user<'a>(&'a self, system: &'a System) -> impl Iterator<Item = &'a Process> {
        let own = own(system).and_then(Process::user_id);
        self.of(system).filter(move |process| own.is_some() && process.user_id() == own)
    }
}

/// Whether a process of this process's own user was started from a folder, or with a path in it. Others cannot pretend it; where
/// the system does not list processes, one may run.
#[must_use]
pub fn runs_with(folder: &Path) -> bool {
    let Some(system) = list(true) else { return true };
    let own = own(&system).and_then(Process::user_id);
    let text = folder.join("").to_string_lossy().into_owned();
    // Whoever reads a log there installs nothing.
    let named = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.contains(&text) && !argument.ends_with(".log")
    };
    system.processes().values().any(|process| {
        process.user_id() == own
            && (process.exe().is_some_and(|exe| exe.starts_with(folder)) || process.cmd().iter().any(named))
    })
}

/// The environment of a process. It may hold secrets, so it cannot be shown.
pub struct Environment(Vec<(String, String)>);

/// Every process; `None` where the system does not list them.
fn list(with_user: bool) -> Option<System> {
    let mut system = System::new().ok()?;
    let wanted = if with_user { wanted().with_user(UpdateKind::Always) } else { wanted() };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    Some(system)
}

fn wanted() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing().with_exe(UpdateKind::Always).with_cmd(UpdateKind::Always)
}

fn own(system: &System) -> Option<&Process> {
    system.process(sysinfo::get_current_pid().ok()?)
}

/// The path by which a process was started, as it says itself: on Linux, what another user's process runs is told only to those
/// who may trace it, which the agent's unit may not. Whoever hides a process so hides it from nobody but themselves.
fn claimed_program(command: &[OsString]) -> Option<&Path> {
    command.first().map(Path::new).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_another_is_not() {
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_string_lossy().into_owned();
        for known in [Program::Name(name), Program::Below(own.parent().unwrap().to_owned())] {
            let processes = AppProcesses(vec![known]);
            assert!(processes.running_since().unwrap() <= crate::clock::now());
            assert!(processes.run_as_own_user());
        }
        let other = AppProcesses(vec![Program::Name("no such program".to_owned())]);
        assert_eq!(other.running_since(), None);
        assert!(!other.run_as_own_user() && !other.ask_own_to_close());
    }

    #[test]
    fn process_is_known_by_the_folder_that_it_was_started_from() {
        let own = std::env::current_exe().unwrap();
        assert!(runs_with(own.parent().unwrap()));
        assert!(!runs_with(Path::new("/no such folder")));
    }

    #[test]
    fn programs_are_known_by_folder_or_by_name() {
        let program = |text| Program::new(&Paths::new(None), text);
        let mac = program("/Applications/Amazon Quick.app/");
        assert!(mac.is(Some(Path::new("/Applications/Amazon Quick.app/Contents/MacOS/x")), "x"));
        assert!(!mac.is(Some(Path::new("/Applications/Amazon Quick.app.old/x")), "x"));
        let windows = program("Amazon Quick.exe");
        assert!(windows.is(None, "amazon quick.exe"));
        assert!(!windows.is(Some(Path::new("/usr/bin/other")), "Amazon Quick.exe"));
    }
}
