//! The watchdog by itself, with scripts as versions of the agent.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::future::pending;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;
use std::time::Duration;

use platform::paths::Paths;
use semver::Version;
use updates::versions::Launch;
use watchdog::{Ended, change, launch, load, log_of_failed, newer, program, supervise};

/// A device with a version on probation that is a script.
fn device(script: &str) -> (tempfile::TempDir, Paths, Launch) {
    let root = tempfile::tempdir().unwrap();
    let (paths, version) = (Paths::new(Some(root.path().to_owned())), Version::new(2, 0, 0));
    let file = program(&paths, &version);
    fs_err::create_dir_all(file.parent().unwrap()).unwrap();
    fs_err::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    change(&paths, |versions| versions.arm(version)).unwrap();
    let launch = launch(&paths, &Version::new(1, 0, 0));
    (root, paths, launch)
}

/// Time passes as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn version_that_only_runs_misses_its_deadline() {
    let (_root, paths, launch) = device("echo ready; exec sleep 1000");
    let ended = supervise(&paths, &launch, &[], pin!(pending())).await;
    assert_eq!(ended, Ended::Next);
    let failed = load(&paths).failed;
    assert_eq!(failed[0].reason, "it did not show within 10 minutes that it works");
    assert!(fs_err::read_to_string(log_of_failed(&paths)).unwrap().contains("version 2.0.0: it did not"));
}

#[tokio::test]
async fn version_that_says_so_has_proved_itself_and_can_make_way() {
    let (_root, paths, launch) = device("echo nonsense; echo proved; echo restart");
    assert_eq!(supervise(&paths, &launch, &[], pin!(pending())).await, Ended::Next);
    let kept = load(&paths);
    assert_eq!((kept.current, kept.starts), (Some(Version::new(2, 0, 0)), 1));
}

#[tokio::test]
async fn version_that_is_stopped_hears_that_its_input_has_ended() {
    let (_root, paths, launch) = device("cat > /dev/null; exit 0");
    let stop = tokio::time::sleep(Duration::from_millis(200));
    assert_eq!(supervise(&paths, &launch, &[], pin!(stop)).await, Ended::Stopped);
    let kept = load(&paths);
    assert_eq!((kept.starts, kept.probation), (0, Some(Version::new(2, 0, 0))));
}

#[tokio::test]
async fn program_that_cannot_be_run_is_given_up_at_once() {
    let (_root, paths, launch) = device("");
    fs_err::write(program(&paths, &Version::new(2, 0, 0)), b"\x7fELF and nothing else").unwrap();
    assert_eq!(supervise(&paths, &launch, &[], pin!(pending())).await, Ended::Next);
    assert!(load(&paths).failed[0].reason.contains("cannot be started"));
}

#[tokio::test]
async fn program_that_others_can_change_is_never_started() {
    let (old, new) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
    for of_folder in [false, true] {
        let (_root, paths, first) = device("exit 0");
        assert_eq!(first.version.as_ref(), Some(&new));
        change(&paths, |versions| versions.proved(&new)).unwrap();
        // This program is the one that called `launch`.
        assert!(newer(&paths, &old).is_some());
        let file = program(&paths, &new);
        let open = if of_folder { file.parent().unwrap() } else { &file };
        fs_err::set_permissions(open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(newer(&paths, &old), None);
        assert_eq!(launch(&paths, &old).version, None);
    }
}
