//! Since when an app has been running. Looked at only while that matters: after its configuration has changed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use platform::paths::Paths;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, UpdateKind};

use super::descriptor::System;

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

/// Since when an app has been running; `None` if it does not.
pub(crate) fn running_since(paths: &Paths, system: &System) -> Option<Timestamp> {
    let programs = system.processes.iter().map(|program| Program::new(paths, program));
    oldest(&programs.collect::<Vec<_>>())
}

/// Whether a process of this process's own user was started from a folder, or with a path in it. Others cannot pretend it; where
/// the system does not list processes, one may run.
pub(crate) fn runs_with(folder: &Path) -> bool {
    let Ok(mut system) = sysinfo::System::new() else { return true };
    let wanted = ProcessRefreshKind::nothing()
        .with_exe(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let own = sysinfo::get_current_pid().ok().and_then(|id| system.process(id)?.user_id().cloned());
    let text = folder.join("").to_string_lossy().into_owned();
    // Whoever reads a log there installs nothing.
    let named = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.contains(&text) && !argument.ends_with(".log")
    };
    system.processes().values().any(|process| {
        process.user_id() == own.as_ref()
            && (process.exe().is_some_and(|exe| exe.starts_with(folder)) || process.cmd().iter().any(named))
    })
}

/// When the oldest of an app's processes started, whichever user runs it; `None` if none runs.
fn oldest(programs: &[Program]) -> Option<Timestamp> {
    let mut system = sysinfo::System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_exe(UpdateKind::Always).with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
    let started = system
        .processes()
        .values()
        .filter(|process| {
            let name = process.name().to_string_lossy();
            let path = process.exe().or_else(|| claimed_program(process.cmd()));
            programs.iter().any(|program| program.is(path, &name))
        })
        .map(sysinfo::Process::start_time)
        .min()?;
    Timestamp::from_second(i64::try_from(started).ok()?).ok()
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
            assert!(oldest(&[known]).unwrap() <= platform::clock::now());
        }
        assert_eq!(oldest(&[Program::Name("no such program".to_owned())]), None);
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
