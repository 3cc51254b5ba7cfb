//! New versions of the agent itself: one that works takes over, one that does not gives way.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::PathBuf;

use e2e::device::{Device, problem};
use e2e::process::{Process, program};
use e2e::publisher::Publisher;
use e2e::wait::until;
use nix::sys::signal::Signal;
use policy_schema::Code;
use tokio::process::Command;
use updates::versions::Versions;

pub(super) const PACKAGED: &str = env!("CARGO_PKG_VERSION");

/// A device whose agent follows a signed repository, and who publishes there.
pub(super) struct Fleet {
    publisher: Publisher,
    pub(super) policy: String,
}

impl Fleet {
    pub(super) async fn new(more: &str) -> Self {
        let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
        let roots = printed.lines().find_map(|line| line.strip_prefix("UpdateTrustedRoots = ")).unwrap();
        let base = publisher.server.base();
        let policy = format!(
            "ProxyMode = \"direct\"\nUpdateMode = \"off\"\nAgentUpdateMode = \"automatic\"\nAgentUpdateFeed = \"{base}\"\n\
             AgentUpdateTrustedRoots = {roots}\n{more}\n"
        );
        publisher.device.push("50.toml", &policy);
        Self { publisher, policy }
    }

    pub(super) fn device(&self) -> &Device {
        &self.publisher.device
    }

    /// Publishes a program as a version of the agent.
    async fn publish(&self, version: &str, program: &[u8]) {
        self.publish_quietly(version, program).await;
        self.look_again();
    }

    /// The same, while no agent looks.
    pub(super) async fn publish_quietly(&self, version: &str, program: &[u8]) {
        let file = self.device().path(&format!("steward-{version}"));
        fs_err::write(&file, program).unwrap();
        let file = file.display().to_string();
        let system = ["--system", "linux", "--architecture", std::env::consts::ARCH];
        let arguments = ["add", &file, "--app", "steward", "--version", version];
        let printed = self.publisher.repo(&[&arguments[..], &system].concat()).await;
        assert!(printed.contains("Added"), "{printed}");
        self.publisher.serve();
    }

    /// Lets the agent check for updates now: whatever policy says differently is a reason.
    pub(super) fn look_again(&self) {
        let number = fs_err::read_dir(self.device().path("home")).unwrap().count();
        fs_err::write(self.device().path(&format!("home/{number}")), "").unwrap();
        self.device().push("50.toml", &format!("{}OrganizationName = \"{number}\"\n", self.policy));
    }

    pub(super) async fn runs(&self, version: &str) {
        let what = format!("version {version} runs");
        self.device().machine_status_where(&what, |status| status.agent_version == version).await;
    }

    pub(super) fn kept(&self) -> Versions {
        let bytes = fs_err::read(self.device().path("var/lib/steward/versions.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn folder(&self, version: &str) -> PathBuf {
        self.device().path(&format!("var/lib/steward/versions/{version}"))
    }

    /// Waits until the journal has closed the update.
    async fn says(&self, words: &str) {
        let what = format!("the agent says {words:?}");
        self.device()
            .machine_status_where(&what, |status| {
                let update = status.agent_update.as_ref();
                update.is_some_and(|update| update.message.as_ref().is_some_and(|said| said.contains(words)))
            })
            .await;
    }
}

/// The newer version, without what only a debugger needs.
pub(super) async fn next_version() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("steward");
    let done =
        Command::new("strip").arg("-o").arg(&stripped).arg(program("examples/next-version")).status().await;
    assert!(done.unwrap().success());
    fs_err::read(&stripped).unwrap()
}

/// A program that says it is a version of the agent, and does something else.
pub(super) fn script(version: &str, rest: &str) -> Vec<u8> {
    format!("#!/bin/sh\nif [ \"$1\" = version ]; then echo steward {version}; exit 0; fi\n{rest}\n")
        .into_bytes()
}

async fn ended(mut agent: Process) {
    agent.wait_for_exit().await;
}

#[tokio::test]
async fn new_version_takes_over_once_it_works_and_stays_after_a_restart() {
    let fleet = Fleet::new("ReportUrl = \"http://127.0.0.1:9/\"").await;
    let agent = fleet.device().start_agent().await;
    fleet.runs(PACKAGED).await;
    let before = fleet.device().report().await.device_id;
    fleet.publish("2.0.0", &next_version().await).await;
    fleet.runs("2.0.0").await;
    // A receiver that does not answer is no fault of the version: the attempt counts.
    fleet.says("2.0.0 is up to date").await;
    assert_eq!(fleet.kept().current, Some("2.0.0".parse().unwrap()));
    assert_eq!(fleet.device().report().await.device_id, before);
    assert_eq!(fleet.device().printed(&["version"]).await, "steward 2.0.0\n");
    let printed = fleet.device().printed(&["status"]).await;
    assert!(printed.contains("updates of the agent: automatic: 2.0.0 is up to date"), "{printed}");

    agent.stop().await;
    let agent = fleet.device().start_agent().await;
    fleet.runs("2.0.0").await;
    // What runs is the child of a watchdog: the whole service ends with either.
    let child = child_of(agent.id());
    agent.kill().await;
    until("the version has ended with its watchdog", async || {
        let there = std::path::Path::new("/proc").join(child.to_string()).exists();
        (!there).then_some(()).ok_or(child)
    })
    .await;
}

#[tokio::test]
async fn version_that_crashes_gives_way_and_is_not_tried_again() {
    let fleet = Fleet::new("").await;
    let agent = fleet.device().start_agent().await;
    fleet.runs(PACKAGED).await;
    fleet.publish("3.0.0", &script("3.0.0", "echo 'no luck today' >&2; exit 7")).await;
    let found = fleet.device().problem(Code::UpdateRolledBack).await;
    assert_eq!(found.key.as_deref(), Some("AgentUpdateFeed"));
    assert!(found.message.contains("ended 3 times in a row soon after its start"), "{found}");
    fleet.runs(PACKAGED).await;
    let log = agent.log();
    assert_eq!(log.matches("no luck today").count(), 3, "{log}");
    fleet.look_again();
    fleet.says("3.0.0 is quarantined: rolled back").await;
    assert_eq!(agent.log().matches("no luck today").count(), 3);
    let kept =
        fs_err::read_to_string(fleet.device().path("var/lib/steward/private/failed-version.log")).unwrap();
    assert!(kept.contains("version 3.0.0: it ended") && kept.contains("no luck today"), "{kept}");

    // Another one that works replaces it.
    fleet.publish("2.0.0", &next_version().await).await;
    fleet.runs("2.0.0").await;
    assert_eq!(agent.log().matches("no luck today").count(), 3);
}

#[tokio::test]
async fn program_of_another_version_or_system_is_not_installed() {
    let fleet = Fleet::new("").await;
    let _agent = fleet.device().start_agent().await;
    fleet.publish("2.0.0", &script("1.9.0", "exit 7")).await;
    let found = fleet.device().problem(Code::UpdateInstallFailed).await;
    assert!(found.message.contains("says that it is \"steward 1.9.0\""), "{found}");
    fleet.publish("2.1.0", b"MZ no program of this system").await;
    until("the other fault is reported", async || {
        let overview = fleet.device().status().await;
        let found = problem(&overview, Code::UpdateInstallFailed).map(|found| found.message.clone());
        found.filter(|text| text.contains("does not run on this device")).ok_or("not yet")
    })
    .await;
    fleet.runs(PACKAGED).await;
    assert!(!fleet.folder("2.0.0").exists() && !fleet.folder("2.1.0").exists());
}

#[tokio::test]
async fn stopped_service_on_probation_has_not_failed_and_a_killed_one_has() {
    let fleet = Fleet::new("").await;
    let mut agent = fleet.device().start_agent().await;
    fleet.publish("3.0.0", &script("3.0.0", "cat > /dev/null")).await;
    until("the version is on probation", async || {
        let kept = fleet.kept();
        kept.probation.clone().filter(|_| kept.starts == 1).ok_or(kept)
    })
    .await;
    for _ in 0..4 {
        agent.signal(Signal::SIGTERM);
        ended(agent).await;
        assert_eq!((fleet.kept().starts, fleet.kept().failed.len()), (0, 0));
        agent = fleet.device().start(&program("steward"), &["--root", &fleet.device().root_text(), "agent"]);
        until("it is on probation again", async || {
            let kept = fleet.kept();
            (kept.starts == 1).then_some(()).ok_or(kept)
        })
        .await;
    }
    for starts in 2..=3 {
        agent.kill().await;
        agent = fleet.device().start(&program("steward"), &["--root", &fleet.device().root_text(), "agent"]);
        until("another start is counted", async || {
            let kept = fleet.kept();
            (kept.starts == starts).then_some(()).ok_or(kept)
        })
        .await;
    }
    agent.kill().await;
    let _agent = fleet.device().start_agent().await;
    fleet.runs(PACKAGED).await;
    fleet.device().problem(Code::UpdateRolledBack).await;
}

#[tokio::test]
async fn unsigned_or_switched_off_updates_of_the_agent_do_nothing() {
    let fleet = Fleet::new("").await;
    let device = fleet.device();
    device.push("50.toml", &format!("{}AgentPinnedVersion = \"1.0.0\"\n", fleet.policy));
    let _agent = device.start_agent().await;
    fleet.publisher.serve();
    let file = device.path("steward-2");
    fs_err::write(&file, script("2.0.0", "exit 7")).unwrap();
    let file = file.display().to_string();
    fleet.publisher.repo(&["add", &file, "--app", "steward", "--version", "2.0.0"]).await;
    fleet.publisher.serve();
    device.push("50.toml", &format!("{}AgentPinnedVersion = \"1.0.1\"\n", fleet.policy));
    fleet.says("1.0.1").await;
    let notify = fleet.policy.replace("automatic", "notify");
    device.push("50.toml", &notify);
    let found = device.problem(Code::UpdateAvailable).await;
    assert!(found.hint.as_ref().is_some_and(|hint| hint.contains("AgentUpdateMode")), "{found}");
    let trust = async || {
        let printed = device.printed(&["policy", "explain", "AgentUpdateFeed"]).await;
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let printed = trust().await;
    assert!(printed.contains("signed from `AgentUpdateTrustedRoots` is installed"), "{printed}");
    let unsigned = fleet.policy.lines().filter(|line| !line.starts_with("AgentUpdateTrusted"));
    device.push("50.toml", &unsigned.collect::<Vec<_>>().join("\n"));
    device.problem(Code::PolicyContradiction).await;
    let printed = trust().await;
    assert!(printed.contains("without roots to trust, no version of the agent is installed"), "{printed}");
    assert!(!fleet.folder("2.0.0").exists());
    fleet.runs(PACKAGED).await;
}

/// Found by trial: a version that proved itself within milliseconds and crashed after that was started for ever.
#[tokio::test]
async fn version_that_works_at_first_and_then_crashes_gives_way_as_well() {
    let fleet = Fleet::new("").await;
    let agent = fleet.device().start_agent().await;
    fleet
        .publish("3.0.0", &script("3.0.0", "echo ready; echo proved; sleep 0.3; echo later >&2; exit 9"))
        .await;
    until("the version has given way", async || {
        let kept = fleet.kept();
        if kept.failed.is_empty() { Err(kept) } else { Ok(()) }
    })
    .await;
    fleet.runs(PACKAGED).await;
    fleet.says("3.0.0 is quarantined").await;
    assert_eq!(agent.log().matches("later").count(), 3, "{}", agent.log());
}

/// Found by trial: a version whose predecessor did not end was called a failure.
#[tokio::test]
async fn version_that_finds_its_predecessor_still_running_has_not_failed() {
    let fleet = Fleet::new("").await;
    let agent = fleet.device().start_agent().await;
    fleet.publish("2.0.0", &next_version().await).await;
    fleet.says("2.0.0 is up to date").await;
    let child = i32::try_from(child_of(agent.id())).unwrap();
    let child = nix::unistd::Pid::from_raw(child);
    nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
    agent.kill().await;
    let agent = fleet.device().start(&program("steward"), &["--root", &fleet.device().root_text(), "agent"]);
    until("the new one waits", async || {
        let log = agent.log();
        if log.matches("waits for another machine service").count() >= 2 { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(fleet.kept().current, Some("2.0.0".parse().unwrap()));
    assert!(fleet.kept().failed.is_empty());
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
    fleet.runs("2.0.0").await;
}

/// A program that somebody copied to a machine.
#[tokio::test]
async fn copied_program_updates_itself_and_stays_as_it_is_where_that_fails() {
    let fleet = Fleet::new("").await;
    let device = fleet.device();
    let copied = device.path("tools/steward");
    fs_err::create_dir_all(copied.parent().unwrap()).unwrap();
    fs_err::copy(program("steward"), &copied).unwrap();
    let before = fs_err::read(&copied).unwrap();
    let run = async |more: &[&str]| {
        let output = device.run(&copied, &[&["--root", &device.root_text()], more].concat()).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    assert_eq!(run(&["self-update"]).await, format!("{PACKAGED} is the newest version.\n"));
    fleet.publish_quietly("3.0.0", &script("2.9.0", "exit 0")).await;
    let printed = run(&["self-update"]).await;
    assert!(printed.contains("says that it is \"steward 2.9.0\""), "{printed}");
    assert_eq!(fs_err::read(&copied).unwrap(), before);
    fleet.publish_quietly("2.0.0", &next_version().await).await;
    let printed = run(&["self-update", "--version", "2.0.0", "--check"]).await;
    assert_eq!(printed, "Version 2.0.0 is available.\n");
    assert_eq!(run(&["self-update", "--version", "2.0.0"]).await, "Version 2.0.0 is installed.\n");
    assert_eq!(run(&["version"]).await, "steward 2.0.0\n");
    assert_eq!(fs_err::read_dir(copied.parent().unwrap()).unwrap().count(), 1);
    // What a package installed is the agent's to update.
    let packaged = device.path("usr/bin/steward");
    fs_err::create_dir_all(packaged.parent().unwrap()).unwrap();
    fs_err::copy(program("steward"), &packaged).unwrap();
    let arguments = ["--root", &device.root_text(), "self-update"];
    let refused = device.run(&packaged, &arguments).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a package installed this program"));
}

/// A newer version that wrote state fails for good later. What it wrote is there for the version of the package.
#[tokio::test]
async fn state_of_a_newer_version_survives_its_end() {
    let fleet = Fleet::new("ReportUrl = \"http://127.0.0.1:9/\"").await;
    let device = fleet.device();
    let agent = device.start_agent().await;
    fleet.publish("2.0.0", &next_version().await).await;
    fleet.runs("2.0.0").await;
    fleet.says("2.0.0 is up to date").await;
    let queued =
        device.machine_status_where("reports wait", |status| status.report.queued > 0).await.report.queued;
    let id = device.report().await.device_id;
    agent.stop().await;
    fs_err::write(fleet.folder("2.0.0").join("steward"), script("2.0.0", "exit 7")).unwrap();
    let agent = device.start(&program("steward"), &["--root", &device.root_text(), "agent"]);
    until("the version has given way", async || {
        let kept = fleet.kept();
        if kept.failed.is_empty() { Err(kept) } else { Ok(()) }
    })
    .await;
    fleet.runs(PACKAGED).await;
    assert_eq!(device.report().await.device_id, id);
    let status = device.machine_status().await;
    assert!(status.report.queued >= queued, "{status:#?}");
    assert!(!agent.log().contains("quarantined"), "{}", agent.log());
}

/// The first process that a process has started.
fn child_of(id: u32) -> u32 {
    let children = fs_err::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}
