//! New versions of an app that the operating system installs: packages of Debian and of rpm, installed below the root of a device by
//! the real package managers. What Windows does is in `windows_packages_of_apps`.

#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::crash_point::CrashPoint;
use e2e::device::Device;
use e2e::feed::Feed;
use e2e::memo::{Behavior, Workshop};
use e2e::process::Process;
use policy_schema::{Code, Severity};

/// A package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Dpkg,
    Rpm,
}

/// A device with an app that a package manager installs.
pub(super) struct PackageDevice {
    feed: Feed,
    workshop: Workshop,
    pub(super) device: Device,
    manager: Manager,
    agent: Process,
}

/// A device with version 1.0.0.
async fn device(manager: Manager) -> PackageDevice {
    device_of(manager, Device::new()).await
}

/// The same on a device that is prepared.
pub(super) async fn device_of(manager: Manager, device: Device) -> PackageDevice {
    assert!(nix::unistd::geteuid().is_root(), "package managers need root");
    let feed = Feed::start().await;
    match manager {
        Manager::Dpkg => {
            for folder in ["info", "updates"] {
                fs_err::create_dir_all(device.path("var/lib/dpkg").join(folder)).unwrap();
            }
            fs_err::write(device.path("var/lib/dpkg/status"), "").unwrap();
        }
        Manager::Rpm => {
            let root = format!("--root={}", device.path("").display());
            fs_err::create_dir_all(device.path("var/lib/rpm")).unwrap();
            assert!(device.run("rpm".as_ref(), &[&root, "--initdb"]).await.status.success());
        }
    }
    let policy =
        "App = \"lab-memo\"\nProxyMode = \"direct\"\nUpdateMode = \"automatic\"\nAppSelfUpdate = \"none\"\n";
    device.push("50.toml", &format!("{policy}UpdateFeed = \"{}\"\n", feed.url()));
    let agent = device.start_agent().await;
    let fixture = PackageDevice { feed, workshop: Workshop::new(), device, manager, agent };
    fixture.publish("1.0.0", Behavior::Works);
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.0.0 was installed"), "{printed}");
    fixture
}

impl PackageDevice {
    pub(super) fn publish(&self, version: &str, behavior: Behavior) {
        let (bytes, ending) = match self.manager {
            Manager::Dpkg => (self.workshop.deb(version, behavior), "deb"),
            Manager::Rpm => (self.workshop.rpm(version, behavior), "rpm"),
        };
        self.feed.publish_file(version, &format!("lab-memo-{version}.{ending}"), bytes);
    }

    /// With the device's environment as it is now.
    pub(super) async fn restart_agent(&mut self) {
        self.agent.signal(nix::sys::signal::Signal::SIGTERM);
        self.agent.wait_for_exit().await;
        self.agent = self.device.start_agent().await;
    }

    pub(super) async fn update(&self) -> String {
        self.device.printed(&["update"]).await
    }

    /// What the package manager itself says.
    pub(super) async fn installed(&self) -> String {
        let root = self.device.path("");
        let (program, arguments) = match self.manager {
            Manager::Dpkg => (
                "dpkg-query",
                vec![
                    format!("--admindir={}", root.join("var/lib/dpkg").display()),
                    "--show".to_owned(),
                    "--showformat=${Version} ${db:Status-Status}".to_owned(),
                ],
            ),
            Manager::Rpm => (
                "rpm",
                vec![
                    format!("--root={}", root.display()),
                    "--query".to_owned(),
                    "--queryformat=%{VERSION}-%{RELEASE}".to_owned(),
                ],
            ),
        };
        let arguments = arguments.iter().map(String::as_str).chain(["lab-memo"]).collect::<Vec<_>>();
        String::from_utf8(self.device.run(program.as_ref(), &arguments).await.stdout).unwrap()
    }

    /// Whether a version is installed, whole, and starts.
    pub(super) async fn assert_installed(&self, version: &str, context: &str) {
        let expected = match self.manager {
            Manager::Dpkg => format!("1:{version}-1 installed"),
            Manager::Rpm => format!("{version}-1"),
        };
        assert_eq!(self.installed().await, expected, "{context}");
        let program = self.device.path("opt/lab-memo/bin/lab-memo");
        assert!(self.device.run(&program, &["--self-check"]).await.status.success(), "{context}");
        let files = fs_err::read_to_string(self.device.path("opt/lab-memo/VERSION")).unwrap();
        assert_eq!(files, version, "{context}");
    }

    /// The versions whose installers are kept.
    fn kept(&self) -> Vec<String> {
        let folder = self.device.path("var/lib/steward/private/installers/lab-memo");
        let entries = fs_err::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[tokio::test]
async fn package_manager_installs_new_version_and_says_so_itself() {
    for manager in [Manager::Dpkg, Manager::Rpm] {
        let fixture = device(manager).await;
        fixture.publish("1.1.0", Behavior::Works);
        let printed = fixture.update().await;
        assert!(printed.contains("version 1.1.0 was installed, 1.0.0 before"), "{printed}");
        fixture.assert_installed("1.1.0", &printed).await;
        assert_eq!(fixture.update().await, "1.1.0 is up to date\n");
        let version = fixture.device.status().await.status.unwrap().app.version.unwrap().to_string();
        assert_eq!(version, "1.1.0");
        assert_eq!(fixture.kept(), ["1.0.0", "1.1.0"]);
        fixture.publish("1.2.0", Behavior::Works);
        fixture.update().await;
        assert_eq!(fixture.kept(), ["1.1.0", "1.2.0"]);
    }
}

#[tokio::test]
async fn package_that_does_not_start_is_replaced_by_the_one_that_was_kept() {
    for manager in [Manager::Dpkg, Manager::Rpm] {
        let fixture = device(manager).await;
        fixture.publish("2.0.0", Behavior::DoesNotStart);
        let printed = fixture.update().await;
        assert!(printed.contains("update.rolled-back") && printed.contains("1.0.0 again"), "{printed}");
        fixture.assert_installed("1.0.0", &printed).await;
        let printed = fixture.update().await;
        assert!(printed.contains("2.0.0 is quarantined"), "{printed}");
        fixture.publish("2.0.1", Behavior::Works);
        fixture.update().await;
        fixture.assert_installed("2.0.1", "after a corrected release").await;
        // By hand.
        let printed = fixture.device.printed(&["update", "rollback"]).await;
        fixture.assert_installed("1.0.0", &printed).await;
    }
}

/// The package manager refuses, and nothing has changed.
#[tokio::test]
async fn package_that_is_refused_leaves_the_version_before_and_is_not_tried_for_ever() {
    for manager in [Manager::Dpkg, Manager::Rpm] {
        let fixture = device(manager).await;
        fixture.publish("2.0.0", Behavior::Refuses);
        for _ in 0..3 {
            let printed = fixture.update().await;
            assert!(
                printed.contains("update.install-failed") && printed.contains("lab-missing"),
                "{printed}"
            );
            assert!(printed.contains("1.0.0 is still installed"), "{printed}");
            fixture.assert_installed("1.0.0", &printed).await;
        }
        let printed = fixture.update().await;
        assert!(printed.contains("update.given-up"), "{printed}");
        assert_eq!(fixture.device.problem(Code::UpdateGivenUp).await.severity, Severity::Error);
    }
}

/// The package is unpacked over the version before, and then not configured: that version is gone, and comes back.
#[tokio::test]
async fn package_that_breaks_the_version_before_is_rolled_back() {
    let fixture = device(Manager::Dpkg).await;
    fixture.publish("2.0.0", Behavior::Breaks);
    let printed = fixture.update().await;
    assert!(printed.contains("update.rolled-back") && printed.contains("1.0.0 again"), "{printed}");
    fixture.assert_installed("1.0.0", &printed).await;
    assert!(fixture.update().await.contains("2.0.0 is quarantined"));
}

/// Another package manager is at work: the update waits for it, and no attempt is used up.
#[tokio::test]
async fn update_waits_for_the_lock_of_another_package_manager() {
    let fixture = device(Manager::Dpkg).await;
    fixture.publish("1.1.0", Behavior::Works);
    let lock = fixture.device.path("var/lib/dpkg/lock");
    let hold = "import fcntl, sys, time; fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX); print('held', flush=True); time.sleep(5)";
    let mut holder = std::process::Command::new("python3");
    holder.args(["-c", hold]).arg(&lock).stdout(std::process::Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut line = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
    let printed = fixture.update().await;
    fixture.assert_installed("1.1.0", &printed).await;
    holder.wait().unwrap();
}

/// Two updaters at once leave no app. So nothing is installed while the app's own updater is active, also below the minimum
/// version; and it stays active until the app is started again.
#[tokio::test]
async fn update_waits_until_own_updater_is_off_and_app_was_restarted() {
    let fixture = device(Manager::Dpkg).await;
    let program = fixture.device.path("opt/lab-memo/bin/window");
    fs_err::copy("/bin/sleep", &program).unwrap();
    fixture.device.push("60.toml", "AppSelfUpdate = \"all\"\nUpdateMinimumVersion = \"1.1.0\"\n");
    fixture.publish("1.1.0", Behavior::Works);
    let printed = fixture.update().await;
    assert!(
        printed.starts_with("1.1.0 is out; waits until the app's own updater is switched off"),
        "{printed}"
    );
    assert_eq!(fixture.device.problem(Code::UpdateWaitsForOwnUpdater).await.severity, Severity::Warning);
    let app = fixture.device.start(&program, &["600"]);
    // The start of a process and the change are known to the second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;

    fixture.device.push("60.toml", "UpdateMinimumVersion = \"1.1.0\"\n");
    e2e::wait::until("the wait for a restart of the app", async || {
        let printed = fixture.update().await;
        if printed.contains("waits until the app is started again") { Ok(()) } else { Err(printed) }
    })
    .await;
    // An app that is closed may still install what it has downloaded.
    app.kill().await;
    for _ in 0..2 {
        let printed = fixture.update().await;
        assert!(printed.contains("waits until the app is started again"), "{printed}");
    }
    fixture.assert_installed("1.0.0", "the app has not been started again").await;
    // The system counts the start of a process from its own start, which it tells in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let app = fixture.device.start(&program, &["600"]);
    e2e::wait::until("the wait for the app", async || {
        let printed = fixture.update().await;
        if printed.contains("waits until the app is closed") { Ok(()) } else { Err(printed) }
    })
    .await;
    app.kill().await;
    e2e::wait::until("the new version", async || {
        let printed = fixture.update().await;
        if fixture.installed().await.starts_with("1:1.1.0") { Ok(()) } else { Err(printed) }
    })
    .await;
}

/// The agent is killed at each step of its journal, and the package manager in the middle of its own. A package manager that dies
/// may leave anything, which the kept package mends.
#[tokio::test]
async fn kill_at_every_step_of_a_package_update_leaves_a_working_version() {
    let mut fixture = device(Manager::Dpkg).await;
    let path = |path: &str| fixture.device.path(path);
    let journal =
        [path("var/lib/steward/private/update.json"), path("var/lib/steward/private/.update.json.new")];
    let database = [path("var/lib/dpkg/status-new"), path("var/lib/dpkg/status")];
    let (mut version, mut before) = (1, "1.0.0".to_owned());
    for (paths, most) in [(journal, 12), (database, 3)] {
        let paths: Vec<&std::path::Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
        for when in 1..most {
            version += 1;
            let new = format!("{version}.0.0");
            fixture.publish(&new, Behavior::Works);
            let crash_point = CrashPoint::set(fixture.agent.id(), "rename", when, &paths).await.unwrap();
            let output = fixture.device.steward(&["update"]).await;
            crash_point.remove().await.unwrap();
            fixture.agent.signal(nix::sys::signal::Signal::SIGKILL);
            fixture.agent.wait_for_exit().await;
            fixture.agent = fixture.device.start_agent().await;
            e2e::wait::until("a version at rest", async || {
                let printed = fixture.update().await;
                let installed = fixture.installed().await;
                let is = |version: &str| installed == format!("1:{version}-1 installed");
                // A version whose installer was killed may be quarantined.
                let stays = is(&before) && printed.contains("is quarantined");
                if is(&new) || stays { Ok(()) } else { Err((installed, printed)) }
            })
            .await;
            let current = if fixture.installed().await.contains(&new) { new } else { before };
            fixture.assert_installed(&current, &format!("{when}: {output:?}")).await;
            before = current;
        }
    }
}
