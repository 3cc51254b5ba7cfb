//! The packages for Linux, installed on a device with a real systemd: what an administrator does with them, and what a device
//! goes through.

use e2e::container::{Container, USER};
use e2e::feed::Feed;
use e2e::memo::{Behavior, Workshop};
use e2e::wait::until;
use protocol::health::{ComponentName, State};

/// The version under test, and what lies before and after it.
pub(super) const CURRENT: &str = env!("CARGO_PKG_VERSION");
const OLDER: &str = "0.0.9";
const NEWER: &str = "99.0.0";

pub(super) const POLICY: &str = "App = \"lab-notes\"\nIssuer = \"https://login.example.com\"\nClientId = \"client\"\n\
                      AppSelfUpdate = \"none\"\nUpdateMode = \"off\"\n";
/// What the agent sets for the sample app.
const MANAGED: &str = "/etc/opt/lab-notes/managed.json";

/// Whether the broker of the user runs.
async fn broker_runs(device: &Container) -> bool {
    device.as_user("systemctl --user is-active steward-broker.service").await.success
}

#[tokio::test]
async fn agent_of_installed_package_applies_policy() {
    let Some(device) = Container::boot().await else { return };
    device.install(CURRENT).await;
    device.other_agent(0).await;
    device.push(POLICY).await;
    let overview = until("the policy in effect", async || {
        let overview = device.status().await.map_err(|ran| format!("{ran:?}"))?;
        let settings = overview.status.as_ref().map(|status| status.policy.settings);
        if settings == Some(5) { Ok(overview) } else { Err(format!("{overview:?}")) }
    })
    .await;
    assert!(overview.agent_running);
    let component = |name: ComponentName| {
        let found = overview.health.components.iter().find(|one| one.name == name);
        found.and_then(|one| one.state.known()).unwrap_or_else(|| panic!("no {name:?}: {overview:?}"))
    };
    assert_eq!(
        (component(ComponentName::Agent), component(ComponentName::Policy)),
        (State::Pass, State::Pass)
    );
    let managed = device.must(&format!("cat {MANAGED}")).await;
    assert!(managed.contains("https://login.example.com"), "{managed}");
    // Ordinary users read the status, and what is private stays so.
    assert!(device.as_user("steward status --json").await.text.contains("\"agent_running\": true"));
    for private in ["cat /var/lib/steward/private/*", "ls /var/lib/steward/private"] {
        assert!(!device.as_user(private).await.success, "{private}");
    }
    // Nobody but root writes policy, whatever umask the package was unpacked under.
    assert!(!device.as_user("touch /etc/steward/policy.d/60.toml").await.success);
    let failed = device.run("journalctl --boot --priority err --no-pager --unit steward-agent").await;
    assert!(failed.text.contains("-- No entries --"), "{failed:?}");
}

/// The commands of the guide for Linux, as they are written there.
#[tokio::test]
async fn commands_of_the_guide_install_show_and_remove() {
    let Some(device) = Container::boot().await else { return };
    device.must("echo 'APT::Get::Assume-Yes \"true\";' >/etc/apt/apt.conf.d/90-yes").await;
    let guide = include_str!("../../mdm-profiles/README.md").replace("VERSION", CURRENT);
    let (_, guide) = guide.split_once("## Install the package").expect("the guide has this part");
    let command = |start: &str| {
        let line = guide.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
        format!("cd /packages && {}", line.split('#').next().unwrap_or_default())
    };
    device.must(&command("apt-get install ./steward_")).await;
    device.other_agent(0).await;
    device.push(POLICY).await;
    let status = device.run(&command("steward status ")).await;
    assert!(status.text.contains("Agent     running"), "{status:?}");
    let doctor = device.run(&command("steward doctor ")).await;
    assert!(doctor.text.contains("ok    agent "), "{doctor:?}");
    // What the audit script compares.
    assert_eq!(device.must("steward --version").await, format!("steward {CURRENT}\n"));
    let found = guide.contains("`apt-get purge steward`").then_some("apt-get purge steward");
    device.must("systemctl stop steward-agent && steward cleanup").await;
    assert!(!device.run(&format!("test -e {MANAGED}")).await.success, "cleanup left the values of the app");
    device.must(found.expect("the guide says how to remove it")).await;
    assert!(!device.run("test -e /var/lib/steward").await.success);
}

/// No broker runs until somebody needs it, and a report is no reason to start one.
#[tokio::test]
async fn first_request_of_an_app_starts_the_broker_and_a_report_does_not() {
    let Some(device) = Container::boot().await else { return };
    device.install(CURRENT).await;
    device.other_agent(0).await;
    device.push(POLICY).await;
    device.must("steward report").await;
    device.must("steward policy reload && steward report --format json").await;
    assert!(!broker_runs(&device).await, "a report started a broker");
    // What a desktop runs at logon. Policy does not ask for a sign-in then.
    let entry = "/etc/xdg/autostart/dev.steward.sign-in.desktop";
    let logon = device.as_user(&format!("$(sed -n 's/^Exec=//p' {entry})")).await;
    assert!(logon.success && logon.text.is_empty(), "{logon:?}");
    assert!(!broker_runs(&device).await, "a logon started a broker");
    let whoami = device.as_user("steward whoami").await;
    assert!(whoami.text.contains("No user is signed in"), "{whoami:?}");
    assert!(broker_runs(&device).await);
    // The machine service sees it, with the few rights of its unit.
    until("a broker that the agent sees", async || {
        let report = device.must("steward report --format json").await;
        if report.contains("signed-out") { Ok(()) } else { Err(report) }
    })
    .await;
    // A broker that ends is started again by the next request, at the same socket.
    device.as_user("systemctl --user kill --signal KILL steward-broker.service").await;
    until("a broker after a crash", async || {
        let whoami = device.as_user("steward whoami").await;
        if whoami.text.contains("No user is signed in") { Ok(()) } else { Err(whoami) }
    })
    .await;
    // No other user reaches it.
    device.must("useradd eve").await;
    let id = device.must(&format!("id --user {USER}")).await;
    let socket = format!("/run/user/{}/steward/broker.sock", id.trim());
    let connect = format!("import socket; socket.socket(socket.AF_UNIX).connect(\"{socket}\")");
    let other = device.run(&format!("runuser --user eve -- python3 -c '{connect}'")).await;
    assert!(other.errors.contains("PermissionError"), "{other:?}");
}

#[tokio::test]
async fn agent_that_is_killed_or_hangs_is_started_again() {
    let Some(device) = Container::boot().await else { return };
    let unit = "/run/systemd/system/steward-agent.service.d";
    device
        .must(&format!(
            "mkdir -p {unit} && printf '[Service]\\nRestartSec=0.1\\nWatchdogSec=2\\n' > {unit}/fast.conf"
        ))
        .await;
    device.install(CURRENT).await;
    let first = device.other_agent(0).await;
    device.push(POLICY).await;
    device.must(&format!("kill -9 {first}")).await;
    let second = device.other_agent(first).await;
    // It reports in time as long as it turns.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(device.agent().await, second);
    device.must(&format!("kill -STOP {second}")).await;
    device.other_agent(second).await;
    let log = device.must("journalctl --unit steward-agent --no-pager").await;
    assert!(log.contains("Watchdog timeout"), "{log}");
    let managed = device.must(&format!("cat {MANAGED}")).await;
    assert!(managed.contains("https://login.example.com"), "{managed}");
}

#[tokio::test]
async fn upgrade_starts_the_agent_again_only_if_it_ran_and_downgrade_is_refused() {
    let Some(device) = Container::boot().await else { return };
    device.install(OLDER).await;
    let first = device.other_agent(0).await;
    device.push(POLICY).await;
    device.install(CURRENT).await;
    let second = device.other_agent(first).await;

    let refused = device.run(&format!("dpkg --install /packages/steward_{OLDER}_*.deb")).await;
    assert!(!refused.success && refused.errors.contains("is older. Nothing was changed."), "{refused:?}");
    let version =
        device.must("dpkg-query --show --showformat '${Version} ${db:Status-Status}' steward").await;
    assert_eq!(version, format!("{CURRENT} installed"));
    assert_eq!(device.agent().await, second, "a refused downgrade disturbed the agent");

    device.must("systemctl stop steward-agent").await;
    device.install(NEWER).await;
    assert_eq!(device.agent().await, 0, "an upgrade started what an administrator had stopped");
    device.must("systemctl disable steward-agent").await;
    device.install(NEWER).await;
    let state = device.run("systemctl is-enabled steward-agent").await;
    assert_eq!(state.text.trim(), "disabled");
}

#[tokio::test]
async fn removal_keeps_state_purge_removes_it_and_reinstallation_repairs_damage() {
    let Some(device) = Container::boot().await else { return };
    device.install(CURRENT).await;
    let first = device.other_agent(0).await;
    device.push(POLICY).await;
    until("the app's configuration", async || {
        let managed = device.run(&format!("cat {MANAGED}")).await;
        if managed.success { Ok(()) } else { Err(managed) }
    })
    .await;

    // Damage: programs, units and folders that are gone, or have other content and modes.
    device.must("rm /usr/lib/systemd/system/steward-agent.service /usr/lib/sysusers.d/steward.conf").await;
    device.must("echo broken > /usr/bin/steward.new && mv /usr/bin/steward.new /usr/bin/steward").await;
    device.must("rm -r /run/steward/policy.d && chmod 0777 /var/lib/steward").await;
    device.must(&format!("kill -9 {first}")).await;
    device.install(CURRENT).await;
    device.other_agent(first).await;
    assert_eq!(device.must("stat --format %a /var/lib/steward /usr/bin/steward").await, "755\n755\n");
    assert_eq!(device.must("stat --format %a /run/steward/policy.d").await, "755\n");

    device.must("dpkg --remove steward").await;
    assert!(!device.run("pgrep --exact steward").await.success, "the agent still runs");
    for kept in ["/var/lib/steward/status.json", "/etc/steward/policy.d/50-test.toml", MANAGED] {
        device.must(&format!("test -e {kept}")).await;
    }
    device.install(CURRENT).await;
    device.other_agent(0).await;
    // What an upgrade that failed leaves does not keep a later installation from starting it.
    device.must("touch /run/steward.upgrade && dpkg --remove steward").await;
    device.install(CURRENT).await;
    device.other_agent(0).await;

    device.must("dpkg --purge steward").await;
    for gone in [
        "/var/lib/steward",
        "/run/steward",
        "/usr/bin/steward",
        "/usr/lib/systemd/system/steward-agent.service",
    ] {
        device.must(&format!("test ! -e {gone}")).await;
    }
    device.must("test ! -e /etc/xdg/autostart/dev.steward.sign-in.desktop").await;
    // Policy is the administrator's.
    device.must("test -e /etc/steward/policy.d/50-test.toml").await;
    let links = device.must("find /etc/systemd -name 'steward*'").await;
    assert_eq!(links, "", "links to units are left");
    let failed = device.must("systemctl list-units --failed --no-legend 'steward*'").await;
    assert_eq!(failed, "");
    assert!(
        !device.as_user(&format!("test -e /run/user/$(id --user {USER})/steward/broker.sock")).await.success
    );
}

/// The doctor knows how the service is installed, not only whether it runs.
#[tokio::test]
async fn doctor_names_a_service_that_is_disabled_masked_or_missing() {
    let Some(device) = Container::boot().await else { return };
    device.install(CURRENT).await;
    device.other_agent(0).await;
    device.push(POLICY).await;
    let diagnosis = async |check: &str, command: &str| {
        let ran = if check == "broker" { device.as_user(command).await } else { device.run(command).await };
        let findings: serde_json::Value =
            serde_json::from_str(&ran.text).unwrap_or_else(|_| panic!("{ran:?}"));
        let findings = findings["findings"].as_array().unwrap().clone();
        let finding = findings.iter().find(|finding| finding["check"] == check).unwrap();
        finding["diagnoses"][0]["id"].as_str().unwrap_or("none").to_owned()
    };
    let doctor = "steward doctor --json";
    for (change, check, expected) in [
        ("true", "agent", "none"),
        ("systemctl disable steward-agent", "agent", "agent-disabled"),
        ("systemctl stop steward-agent", "agent", "agent-disabled"),
        ("systemctl enable steward-agent", "agent", "agent-not-running"),
        ("systemctl mask steward-agent", "agent", "agent-masked"),
        ("systemctl unmask steward-agent; systemctl start steward-agent", "agent", "none"),
        ("systemctl --global disable steward-broker.socket", "broker", "none"),
    ] {
        device.must(change).await;
        assert_eq!(diagnosis(check, doctor).await, expected, "{change}");
    }
    device.as_user("systemctl --user disable --now steward-broker.socket").await;
    assert_eq!(diagnosis("broker", doctor).await, "broker-not-started");
    device.must("cp /usr/bin/steward /usr/local/bin/ && dpkg --remove steward").await;
    assert_eq!(diagnosis("agent", "/usr/local/bin/steward doctor --json").await, "agent-not-installed");
}

/// The agent's unit may not write apps: another unit installs, and it runs an app's check of itself as a user without rights.
#[tokio::test]
async fn update_is_installed_by_a_unit_of_its_own() {
    let Some(device) = Container::boot().await else { return };
    let feed = Feed::start().await;
    feed.publish("1.0.0");
    feed.save(device.shared());
    let _server = device.serve_shared(8000);
    device.must("mkdir -p /opt").await;
    device.install(CURRENT).await;
    let policy = "App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateFeed = \"http://127.0.0.1:8000/latest.yml\"\nUpdateMode = \"automatic\"\n";
    device.push(policy).await;
    let installed = |version: &'static str| {
        let device = &device;
        until("an installed version", async move || {
            let link = device.run("readlink /opt/lab-notes/current").await;
            let update = device.run("steward update").await;
            if link.text.trim().ends_with(version) { Ok(()) } else { Err((link, update)) }
        })
    };
    installed("1.0.0").await;
    feed.publish_faulty("1.1.0", e2e::feed::Fault::DoesNotStart);
    feed.save(device.shared());
    until("a version that was rolled back", async || {
        let update = device.run("steward update").await;
        if update.text.contains("1.1.0") && update.text.contains("quarantined") {
            Ok(())
        } else {
            Err(update)
        }
    })
    .await;
    installed("1.0.0").await;
    let units = device.must("journalctl --no-pager --unit steward-update").await;
    assert!(units.contains("Finished steward-update.service"), "{units}");
    // A unit that does not run is told, and where to look.
    device.must("systemctl mask steward-update").await;
    let update = device.run("steward update").await;
    let told = "did not check for updates";
    assert!(
        update.text.contains(told) && update.text.contains("journalctl --unit steward-update"),
        "{update:?}"
    );
    let agent = device.agent().await;
    let writable = device.run(&format!("nsenter --target {agent} --mount touch /opt/x")).await;
    assert!(writable.errors.contains("Read-only file system"), "{writable:?}");
}

/// A package of an app writes wherever it wants, and may stop the services of the device: its package manager runs in a unit of its
/// own, outside the sandbox of the agent's, and goes on when the agent ends.
#[tokio::test]
async fn package_manager_for_an_app_runs_outside_of_the_agent_s_units_and_outlives_them() {
    let Some(device) = Container::boot().await else { return };
    let (feed, workshop) = (Feed::start().await, Workshop::new());
    let publish = |version: &str, behavior| {
        feed.publish_file(version, &format!("lab-memo-{version}.deb"), workshop.deb(version, behavior));
        feed.save(device.shared());
    };
    publish("1.0.0", Behavior::Works);
    let _server = device.serve_shared(8000);
    device.install(CURRENT).await;
    let policy = "App = \"lab-memo\"\nProxyMode = \"direct\"\nUpdateFeed = \"http://127.0.0.1:8000/latest.yml\"\n\
                  UpdateMode = \"automatic\"\nAppSelfUpdate = \"none\"\n";
    device.push(policy).await;
    let installed = |version: &'static str| {
        let device = &device;
        until("an installed version", async move || {
            let update = device.run("steward update").await;
            let package =
                device.run("dpkg-query --show --showformat='${Version} ${db:Status-Status}' lab-memo").await;
            if package.text == format!("1:{version}-1 installed") { Ok(()) } else { Err((package, update)) }
        })
    };
    installed("1.0.0").await;
    publish("1.1.0", Behavior::WritesElsewhere);
    device.must("systemd-run --quiet steward update").await;
    until("the package manager at work", async || {
        let unit = device.run("systemctl is-active 'steward-install-lab-memo-*'").await;
        if unit.text.trim() == "active" { Ok(()) } else { Err(unit) }
    })
    .await;
    // A process that ends meanwhile makes systemctl fail, so what counts is that there is another agent.
    let agent = device.agent().await;
    device.run("systemctl kill --signal KILL steward-update steward-agent").await;
    device.other_agent(agent).await;
    until("the package", async || {
        let package = device.run("dpkg-query --show --showformat='${db:Status-Status}' lab-memo").await;
        let trace = device.run("ls /usr/share/lab-memo-was-here").await;
        if package.text == "installed" && trace.success { Ok(()) } else { Err((package, trace)) }
    })
    .await;
    until("an update that is confirmed", async || {
        let history = device.run("steward update history").await;
        let text = history.text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.contains("version 1.1.0 was installed, 1.0.0 before") { Ok(()) } else { Err(history) }
    })
    .await;
    installed("1.1.0").await;
    // One that does not start is replaced by the package that was kept.
    publish("2.0.0", Behavior::DoesNotStart);
    until("a version that was rolled back", async || {
        let update = device.run("steward update").await;
        if update.text.contains("2.0.0 is quarantined") { Ok(()) } else { Err(update) }
    })
    .await;
    installed("1.1.0").await;
}

/// The machine service reaches the user's broker with the few rights of its unit, and systemd starts the broker for that.
#[tokio::test]
async fn user_who_has_the_app_open_is_told_of_an_update_by_a_broker_that_starts_for_that() {
    let Some(device) = Container::boot().await else { return };
    let (feed, workshop) = (Feed::start().await, Workshop::new());
    let publish = |version: &str| {
        let package = workshop.deb(version, Behavior::Works);
        feed.publish_file(version, &format!("lab-memo-{version}.deb"), package);
        feed.save(device.shared());
    };
    publish("1.0.0");
    let _server = device.serve_shared(8000);
    device.install(CURRENT).await;
    let policy = "App = \"lab-memo\"\nProxyMode = \"direct\"\nUpdateFeed = \"http://127.0.0.1:8000/latest.yml\"\n\
                  UpdateMode = \"automatic\"\nAppSelfUpdate = \"none\"\n";
    device.push(policy).await;
    let says = async |text: &str| {
        until(text, async || {
            let update = device.run("steward update").await;
            if update.text.contains(text) { Ok(()) } else { Err(update) }
        })
        .await;
    };
    says("1.0.0 is up to date").await;
    device.as_user("systemd-run --user --unit lab-memo /opt/lab-memo/bin/lab-memo").await;
    assert!(!broker_runs(&device).await);
    publish("1.1.0");
    says("waits until the app is closed").await;
    until("a broker that tells the user", async || {
        let log = device.run("journalctl --no-pager _SYSTEMD_USER_UNIT=steward-broker.service").await;
        if log.text.contains("An update of Lab Memo is ready") { Ok(()) } else { Err(log) }
    })
    .await;
    device.as_user("systemctl --user stop lab-memo").await;
    says("1.1.0 is up to date").await;
}

#[tokio::test]
async fn rpm_is_installed_upgraded_and_removed() {
    let Some(device) = Container::boot().await else { return };
    let rpm = |arguments: &str, version: &str| {
        format!("rpm {arguments} --nodeps /packages/steward-{version}-1.*.rpm")
    };
    device.must(&rpm("--install", OLDER)).await;
    let first = device.other_agent(0).await;
    device.push(POLICY).await;
    assert!(
        device.as_user("test -e /etc/systemd/user/sockets.target.wants/steward-broker.socket").await.success
    );
    // The user was signed in to the device before the installation.
    let socket = "systemctl --user is-active steward-broker.socket";
    assert!(device.as_user(socket).await.success);
    assert!(device.as_user("steward whoami").await.text.contains("No user is signed in"));
    device.must(&rpm("--upgrade", CURRENT)).await;
    device.other_agent(first).await;
    let refused = device.run(&rpm("--upgrade", OLDER)).await;
    assert!(!refused.success && refused.errors.contains("newer than"), "{refused:?}");
    // As `dnf downgrade` asks for it.
    let refused = device.run(&rpm("--upgrade --oldpackage", OLDER)).await;
    assert!(!refused.success && refused.errors.contains("is older. Nothing was changed."), "{refused:?}");
    assert_eq!(device.must("rpm --query --queryformat '%{VERSION}' steward").await, CURRENT);
    device.must("systemctl stop steward-agent").await;
    device.must(&rpm("--upgrade", NEWER)).await;
    assert_eq!(device.agent().await, 0);
    device.must("systemctl start steward-agent").await;
    device.must("rpm --verify --nodeps steward").await;
    device.must("rpm --erase steward").await;
    assert!(!device.as_user(socket).await.success, "the socket of the user is left");
    assert!(!device.run("pgrep --exact steward").await.success, "the agent still runs");
    assert_eq!(device.must("find /etc/systemd -name 'steward*'").await, "");
    device.must("test -e /var/lib/steward/status.json").await;
}
