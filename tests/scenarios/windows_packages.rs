//! The package for Windows, installed by Windows Installer under Wine, with a service manager and a registry: what an administrator
//! does with it, and what a device goes through.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::device::Device;
use e2e::publisher::Publisher;
use e2e::receiver::Receiver;
use e2e::wait::until;
use e2e::windows::Windows;
use policy_schema::export::registry;
use policy_schema::read::drop_in;

use super::fixture::{SIGN_IN_SETTINGS, free_port, sign_in_policy};

/// The version under test, and what lies before and after it.
const CURRENT: &str = env!("CARGO_PKG_VERSION");
const OLDER: &str = "0.0.9";
const NEWER: &str = "99.0.0";

/// The low bytes of Windows Installer's codes: an installation that was refused or failed (1603), and one whose service did not
/// start (1627).
const FAILED: [i32; 2] = [1603 % 256, 1627 % 256];

const RUN: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Run";
const QUICK: &str = r"SOFTWARE\Policies\Amazon\Quick";

async fn push(windows: &Windows, text: &str) {
    let policy = drop_in::read(text.as_bytes()).unwrap();
    windows.import(&registry::reg_at(&policy, &windows.policy_key())).await;
}

async fn install(windows: &Windows, version: &str, properties: &[&str]) {
    let code = windows.msiexec("/i", version, properties).await;
    assert_eq!(code, Some(0), "{}", windows.installer_log(version));
}

/// What the service manager says of the service.
async fn service(windows: &Windows) -> String {
    let output = windows.wine(&["sc", "query", "Steward"]).await;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn service_of_installed_msi_applies_policy_and_reports() {
    let windows = Windows::for_package().await;
    let receiver = Receiver::start().await;
    install(&windows, CURRENT, &[]).await;
    assert!(service(&windows).await.contains("RUNNING"));
    let policy =
        format!("SocialSignIn = \"blocked\"\nProxyMode = \"direct\"\nReportUrl = \"{}\"\n", receiver.url());
    push(&windows, &policy).await;
    windows.settings_become(3).await;
    let written = windows.registry(QUICK).await;
    assert!(written.contains("DisableSocialLogin    REG_DWORD    0x1"), "{written}");
    let report = until("a report", async || match receiver.reports().pop() {
        Some(report) => Ok(report),
        None => Err(String::from_utf8_lossy(&windows.steward(&["status"]).await.stdout).into_owned()),
    })
    .await;
    assert_eq!(report.status.agent_version, CURRENT);

    // What detection rules and the event log find.
    let own = windows.registry(r"SOFTWARE\Steward").await;
    assert!(own.contains(&format!("Version    REG_SZ    {CURRENT}")), "{own}");
    let events = windows.registry(r"SYSTEM\CurrentControlSet\Services\EventLog\Application\Steward").await;
    assert!(events.contains("EventMessageFile    REG_EXPAND_SZ"), "{events}");

    // A service that is stopped and started by an administrator.
    windows.wine(&["net", "stop", "Steward"]).await;
    // With both cores busy, `net` does not wait long enough.
    until("the service has stopped", async || {
        let state = service(&windows).await;
        if state.contains("STOPPED") { Ok(()) } else { Err(state) }
    })
    .await;
    windows.wine(&["net", "start", "Steward"]).await;
    windows.settings_become(3).await;
}

#[tokio::test]
async fn msi_upgrade_keeps_choices_and_msi_removal_keeps_state() {
    let windows = Windows::for_package().await;
    install(&windows, OLDER, &["BROKERATLOGON=0", r"INSTALLFOLDER=C:\Steward"]).await;
    push(&windows, "SocialSignIn = \"blocked\"\n").await;
    let program = windows.registry(r"SYSTEM\CurrentControlSet\Services\Steward").await;
    assert!(program.contains(r"C:\Steward\steward.exe"), "{program}");
    assert!(!windows.registry(RUN).await.contains("steward-session.exe"));
    until("the app's value", async || {
        let written = windows.registry(QUICK).await;
        if written.contains("DisableSocialLogin") { Ok(()) } else { Err(written) }
    })
    .await;

    // With the service running.
    install(&windows, CURRENT, &[]).await;
    assert!(service(&windows).await.contains("RUNNING"));
    let own = windows.registry(r"SOFTWARE\Steward").await;
    assert!(own.contains(&format!("Version    REG_SZ    {CURRENT}")) && own.contains(r"C:\Steward"), "{own}");
    assert!(!windows.registry(RUN).await.contains("steward-session.exe"), "the choice was forgotten");

    let refused = windows.msiexec("/i", OLDER, &[]).await;
    assert!(refused.is_some_and(|code| FAILED.contains(&code)), "{refused:?}");
    let own = windows.registry(r"SOFTWARE\Steward").await;
    assert!(own.contains(&format!("Version    REG_SZ    {CURRENT}")), "{own}");
    assert!(service(&windows).await.contains("RUNNING"));

    // Another choice at an upgrade.
    install(&windows, NEWER, &["BROKERATLOGON=1"]).await;
    assert!(windows.registry(RUN).await.contains("steward-session.exe"));

    assert_eq!(windows.msiexec("/x", NEWER, &[]).await, Some(0));
    assert!(!service(&windows).await.contains("SERVICE_NAME"), "the service is still there");
    assert!(!windows.registry(RUN).await.contains("steward-session.exe"));
    let left = windows.wine(&["cmd", "/c", "dir", "/b", r"C:\Steward"]).await;
    assert!(!String::from_utf8_lossy(&left.stdout).contains("steward"), "{left:?}");
    // The state, and the administrator's policy.
    let state = windows.wine(&["cmd", "/c", "dir", "/b", r"%ProgramData%\Steward"]).await;
    assert!(String::from_utf8_lossy(&state.stdout).contains("status.json"), "{state:?}");
    assert!(windows.registry(&windows.policy_key()).await.contains("SocialSignIn"));
}

/// Whoever keeps the service from starting gets the version before back, whole.
#[tokio::test]
async fn msi_whose_service_does_not_start_is_rolled_back() {
    let windows = Windows::for_package().await;
    install(&windows, CURRENT, &[]).await;
    assert_eq!(windows.msiexec("/x", CURRENT, &[]).await, Some(0));
    // A file where the state belongs.
    windows.wine(&["cmd", "/c", "rmdir", "/s", "/q", r"%ProgramData%\Steward"]).await;
    windows.wine(&["cmd", "/c", "echo", "x", ">", r"%ProgramData%\Steward"]).await;
    let code = windows.msiexec("/i", CURRENT, &[]).await;
    assert!(code.is_some_and(|code| FAILED.contains(&code)), "{code:?}");
    assert!(!service(&windows).await.contains("SERVICE_NAME"));
    assert!(!windows.registry(r"SOFTWARE\Steward").await.contains("Version"));
    windows.wine(&["cmd", "/c", "del", r"%ProgramData%\Steward"]).await;
    install(&windows, CURRENT, &[]).await;
    assert!(service(&windows).await.contains("RUNNING"));
}

async fn broker_besides(windows: &Windows, service: &[u32]) -> Option<u32> {
    windows.processes("steward.exe").await.into_iter().find(|process| !service.contains(process))
}

/// A user signs in through the broker that Windows starts at logon; it is started again when it dies.
#[tokio::test]
async fn msi_gives_users_a_broker_that_comes_back() {
    let windows = Windows::for_package().await;
    let provider = e2e::provider::Provider::start().await;
    install(&windows, CURRENT, &[]).await;
    push(&windows, &sign_in_policy(&provider, free_port())).await;
    windows.settings_become(SIGN_IN_SETTINGS).await;
    let service = windows.processes("steward.exe").await;
    let session = windows.start_session().await;
    let mut login = windows.interactive(&["login", "--no-browser"]);
    let address = login.next_address().await;
    let page = e2e::browser::submit_login(&e2e::browser::client(), &address).await.unwrap();
    assert!(page.text().await.unwrap().contains("You are signed in"));
    login.remaining_output().await;

    let broker = broker_besides(&windows, &service).await.expect("a broker runs");
    windows.wine(&["taskkill", "/F", "/PID", &broker.to_string()]).await;
    until("another broker", async || {
        let now = broker_besides(&windows, &service).await;
        if now.is_some() && now != Some(broker) { Ok(()) } else { Err(now) }
    })
    .await;
    until("a token from it", async || {
        let token = windows.steward(&["token"]).await;
        if token.status.success() { Ok(()) } else { Err(token) }
    })
    .await;
    assert!(windows.steward(&["logout"]).await.status.success());
    drop(session);
}

/// Under the service manager, a later version runs as the child of the service's own process.
#[tokio::test]
async fn service_updates_itself_and_stops_and_starts_in_the_later_version() {
    let windows = Windows::for_package().await;
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    let file = publisher.device.path("steward.exe");
    fs_err::write(&file, Windows::next_version()).unwrap();
    let file = file.display().to_string();
    publisher.repo(&["add", &file, "--app", "steward", "--version", "2.0.0", "--system", "windows"]).await;
    publisher.serve();
    install(&windows, CURRENT, &[]).await;
    let roots = printed.lines().find_map(|line| line.strip_prefix("UpdateTrustedRoots = ")).unwrap();
    let base = publisher.server.base();
    let policy = format!(
        "ProxyMode = \"direct\"\nUpdateMode = \"off\"\nAgentUpdateMode = \"automatic\"\nAgentUpdateFeed = \"{base}\"\n\
         AgentUpdateTrustedRoots = {roots}\n"
    );
    push(&windows, &policy).await;
    let newer = |status: &protocol::status::Status| status.agent_version == "2.0.0";
    windows.machine_status_where("the newer version", newer).await;
    assert!(service(&windows).await.contains("RUNNING"));
    // Programs of users are of that version once it has proved itself.
    until("a version that has proved itself", async || {
        let version = String::from_utf8_lossy(&windows.steward(&["version"]).await.stdout).into_owned();
        if version.trim() == "steward 2.0.0" { Ok(()) } else { Err(version) }
    })
    .await;
    for (verb, state) in [("stop", "STOPPED"), ("start", "RUNNING")] {
        windows.wine(&["net", verb, "Steward"]).await;
        until(state, async || {
            let found = service(&windows).await;
            if found.contains(state) { Ok(()) } else { Err(found) }
        })
        .await;
    }
    windows.machine_status_where("the newer version again", newer).await;
    // Removing the package stops it as well.
    assert_eq!(windows.msiexec("/x", CURRENT, &[]).await, Some(0), "{}", windows.installer_log(CURRENT));
    until("no process of the service", async || {
        let left = windows.processes("steward.exe").await;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    windows.wine(&["cmd", "/c", "rmdir", "/s", "/q", r"C:\Program Files\Steward\versions"]).await;
}
