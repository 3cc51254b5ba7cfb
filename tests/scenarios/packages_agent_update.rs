//! The agent that updates itself, on a device with a real systemd: under its sandbox, in its own control group.

use e2e::container::Container;
use e2e::device::Device;
use e2e::publisher::Publisher;
use e2e::wait::until;

use super::agent_update::{next_version, script};
use super::packages::CURRENT;

/// Waits until a version of the agent runs.
async fn runs(device: &Container, version: &str) {
    until("a version of the agent", async || {
        let overview = device.status().await.map_err(|ran| format!("{ran:?}"))?;
        let status = overview.status.as_ref().filter(|_| overview.agent_running);
        let running = status.map(|status| status.agent_version.clone());
        if running.as_deref() == Some(version) { Ok(()) } else { Err(format!("{overview:?}")) }
    })
    .await;
}

#[tokio::test]
async fn agent_updates_itself_under_systemd_and_every_reinstallation_repairs_it() {
    let Some(device) = Container::boot().await else { return };
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    let web = device.shared().join("web").display().to_string();
    let publish = async |version: &str, program: &[u8]| {
        let file = publisher.device.path(&format!("steward-{version}"));
        fs_err::write(&file, program).unwrap();
        let file = file.display().to_string();
        publisher.repo(&["add", &file, "--app", "steward", "--version", version]).await;
        assert!(publisher.repo(&["publish", &web]).await.contains("Copied"));
    };
    publish("2.0.0", &next_version().await).await;
    let _server = device.serve_shared(8000);
    device.install(CURRENT).await;
    let roots = printed.lines().find_map(|line| line.strip_prefix("UpdateTrustedRoots = ")).unwrap();
    let policy = |more: &str| {
        format!(
            "ProxyMode = \"direct\"\nUpdateMode = \"off\"\nAgentUpdateMode = \"automatic\"\n\
             AgentUpdateFeed = \"http://127.0.0.1:8000/web/\"\nAgentUpdateTrustedRoots = {roots}\n{more}"
        )
    };
    device.push(&policy("")).await;
    runs(&device, "2.0.0").await;
    assert_eq!(device.as_user("steward version").await.text, "steward 2.0.0\n");
    // For systemd, nothing has happened.
    let service = "systemctl show --property NRestarts,ActiveState,SubState steward-agent";
    let shown = device.must(service).await;
    assert!(shown.contains("NRestarts=0") && shown.contains("SubState=running"), "{shown}");
    // The broker that systemd starts for a user is of the new version, too, and takes its own command line for what it is.
    let token = device.as_user("steward token").await;
    assert!(!token.errors.contains("may not have tokens"), "{token:?}");

    // One that crashes gives way without systemd.
    publish("3.0.0", &script("3.0.0", "exit 7")).await;
    device.push(&policy("OrganizationName = \"again\"\n")).await;
    until("a version that was rolled back", async || {
        let status = device.run("steward status").await;
        if status.text.contains("3.0.0 is quarantined") { Ok(()) } else { Err(status) }
    })
    .await;
    runs(&device, "2.0.0").await;
    let shown = device.must(service).await;
    assert!(shown.contains("NRestarts=0"), "{shown}");
    let log = device.must("journalctl --no-pager --unit steward-agent").await;
    assert!(log.contains("version 3.0.0 of the agent ended"), "{log}");

    // What runs is ended, then the whole service.
    let watchdog = device.agent().await;
    device.must(&format!("kill -KILL $(cat /proc/{watchdog}/task/{watchdog}/children)")).await;
    runs(&device, "2.0.0").await;
    assert_eq!(device.agent().await, watchdog);
    device.must("systemctl restart steward-agent").await;
    runs(&device, "2.0.0").await;
    device.must("systemctl stop steward-agent").await;
    let left = device.run("pgrep -a steward").await;
    assert!(!left.text.contains(" agent"), "{left:?}");

    // Whatever is damaged, the package repairs it, and the way to the new version is open.
    device
        .must("rm /var/lib/steward/versions/2.0.0/steward; head -c 100 /dev/zero > /var/lib/steward/versions.json")
        .await;
    device.push(&policy("AgentPinnedVersion = \"0.0.1\"\n")).await;
    device.install(CURRENT).await;
    device.must("systemctl start steward-agent").await;
    runs(&device, CURRENT).await;
    device.push(&policy("AgentPinnedVersion = \"2.0.0\"\n")).await;
    runs(&device, "2.0.0").await;
    device.must("dpkg --purge steward").await;
    assert!(!device.run("ls /var/lib/steward").await.success);
}
