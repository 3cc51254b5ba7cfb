//! Since when an app has been running. Looked at only while that matters: after its configuration has changed.

use std::path::Path;

use jiff::Timestamp;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// When the oldest of an app's processes started, whoever runs it; `None` if none runs.
pub(super) fn oldest(programs: &[String]) -> Option<Timestamp> {
    let mut system = System::new().ok()?;
    let exe = ProcessRefreshKind::nothing().with_exe(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, exe);
    let started = system
        .processes()
        .values()
        .filter(|process| is_one(programs, process.exe(), &process.name().to_string_lossy()))
        .map(sysinfo::Process::start_time)
        .min()?;
    Timestamp::from_second(i64::try_from(started).ok()?).ok()
}

/// Whether a process runs one of these programs, by the path of its program, else by its name.
fn is_one(programs: &[String], exe: Option<&Path>, name: &str) -> bool {
    programs.iter().any(|program| {
        if program.contains(['/', '\\']) {
            return exe.is_some_and(|exe| exe.starts_with(program));
        }
        let file_name = exe.and_then(Path::file_name).map(|name| name.to_string_lossy());
        program.eq_ignore_ascii_case(file_name.as_deref().unwrap_or(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_another_is_not() {
        let own = std::env::current_exe().unwrap();
        let name = own.file_name().unwrap().to_string_lossy().into_owned();
        let started = oldest(&[name]).unwrap();
        assert!(started <= crate::clock::now());
        assert_eq!(oldest(&["no such program".to_owned()]), None);
    }

    #[test]
    fn programs_are_known_by_folder_or_by_name() {
        let mac = ["/Applications/Amazon Quick.app/".to_owned()];
        assert!(is_one(&mac, Some(Path::new("/Applications/Amazon Quick.app/Contents/MacOS/x")), "x"));
        assert!(!is_one(&mac, Some(Path::new("/Applications/Amazon Quick.app.old/x")), "x"));
        let windows = ["Amazon Quick.exe".to_owned()];
        assert!(is_one(&windows, None, "amazon quick.exe"));
        assert!(!is_one(&windows, Some(Path::new("/usr/bin/other")), "Amazon Quick.exe"));
    }
}
