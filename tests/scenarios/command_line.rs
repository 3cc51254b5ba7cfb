//! Habits of the tools that administrators use every day: JSON from every command, colours, completions, manual pages,
//! Ctrl-C, and no announcement of what did not happen.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::process::program;
use e2e::wait::until;
use nix::sys::signal::Signal;
use policy_schema::SETTINGS;
use serde_json::Value;

use super::fixture::{FILE_VAULT, sign_in_device};

/// Scripts read standard output, whatever happens.
#[tokio::test]
async fn every_command_prints_json_when_asked_errors_included() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let output = fixture.device.path("out").display().to_string();
    let setup = fixture.device.path("setup").display().to_string();
    let bundle = fixture.device.path("bundle.tar.gz").display().to_string();
    let manual = fixture.device.path("man").display().to_string();
    let with_services: &[&[&str]] = &[
        &["status"],
        &["policy", "show"],
        &["policy", "show", "--diff"],
        &["policy", "explain", "Issuer"],
        &["policy", "list"],
        &["policy", "reload"],
        &["policy", "check", "/dev/null"],
        &["doctor"],
        &["export", "--output", &output],
        &["setup", "google", "--offline", "--output", &setup],
        &["update"],
        &["report"],
        &["support-bundle", "--output", &bundle],
        &["whoami"],
        &["token"],
        &["logout"],
        &["broker", "callers"],
        &["broker", "openapi"],
        &["version"],
        &["completions", "bash"],
        &["man", "--output", &manual],
        &["doctor", "--causes"],
        &["no-such-command"],
    ];
    let without = Device::new();
    let without_services: &[&[&str]] = &[
        &["status"],
        &["policy", "explain", "NoSuchSetting"],
        &["token"],
        &["whoami"],
        &["login"],
        &["update"],
    ];
    let all = with_services.iter().map(|one| (&fixture.device, one));
    for (device, arguments) in all.chain(without_services.iter().map(|one| (&without, one))) {
        let output = device.steward(&[arguments, &["--json"][..]].concat()).await;
        let text = String::from_utf8_lossy(&output.stdout);
        let parsed = serde_json::from_str::<Value>(&text);
        let errors = String::from_utf8_lossy(&output.stderr);
        let value = parsed.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text} {errors}"));
        if output.status.code() == Some(2) && arguments[0] != "doctor" {
            assert!(value["error"]["message"].is_string(), "{arguments:?}: {value}");
        }
    }
    let refused = without.steward(&["token", "--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test]
async fn colours_are_for_terminals_and_can_be_chosen() {
    let device = Device::new();
    let path = device.path("a.toml");
    fs_err::write(&path, "UpdateMode = \"of\"\n").unwrap();
    let file = path.display().to_string();
    let check = async |more: &[&str]| {
        let output = device.steward(&[&["policy", "check", &file], more].concat()).await;
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!check(&[]).await.contains('\u{1b}'), "a pipe is no terminal");
    assert!(!check(&["--color", "never"]).await.contains('\u{1b}'));
    let colored = check(&["--color", "always"]).await;
    assert!(colored.contains("\u{1b}[1m\u{1b}[31merror\u{1b}[0m [policy.invalid-value]"), "{colored:?}");
}

#[tokio::test]
async fn completions_and_manual_pages_are_written() {
    let device = Device::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = device.printed(&["completions", shell]).await;
        assert!(script.contains("support-bundle"), "{shell}");
    }
    let script = device.path("steward.bash");
    fs_err::write(&script, device.printed(&["completions", "bash"]).await).unwrap();
    let checked = device.run("bash".as_ref(), &["-n", &script.display().to_string()]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    device.printed(&["man", "--output", &device.path("man").display().to_string()]).await;
    for page in ["steward.1", "steward-policy-check.1", "steward-doctor.1"] {
        let text = fs_err::read_to_string(device.path("man").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    assert_eq!(device.printed(&["version"]).await, format!("steward {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn all_settings_are_listed_with_what_they_are_for() {
    let device = Device::new();
    let all = device.printed(&["policy", "list"]).await;
    for setting in SETTINGS {
        assert!(all.contains(&format!("  {} ", setting.key)), "{}", setting.key);
    }
    let some = device.printed(&["policy", "list", "PROXY"]).await;
    assert!(some.contains("ProxyUrl") && !some.contains("UpdateMode"), "{some}");
}

/// The port stayed taken for five minutes, and the doctor blamed another program.
#[tokio::test]
async fn ctrl_c_ends_the_sign_in_and_frees_its_port() {
    let fixture = sign_in_device(FILE_VAULT).await;
    let device = &fixture.device;
    let root = device.root_text();
    let mut login = device.start(&program("steward"), &["--root", &root, "login", "--no-browser"]);
    until("the port of the sign-in", async || std::net::TcpStream::connect(("127.0.0.1", fixture.port)))
        .await;
    until("the wait", async || login.log().contains("Ctrl-C").then_some(()).ok_or("not yet")).await;
    assert!(login.log().contains("up to 5 minutes"), "{}", login.log());
    login.signal(Signal::SIGINT);
    login.wait_for_exit().await;
    assert!(login.log().contains("the sign-in was cancelled"), "{}", login.log());
    std::net::TcpListener::bind(("127.0.0.1", fixture.port)).expect("the port is free at once");
    let again = fixture.login().await;
    assert!(again.contains("Signed in as"), "{again}");
}

#[tokio::test]
async fn nothing_is_announced_that_did_not_happen() {
    let device = Device::new();
    let refused = device.steward(&["login"]).await;
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!text.contains("through the browser") && text.contains("no broker listens"), "{text}");
    let fixture = sign_in_device(FILE_VAULT).await;
    assert_eq!(fixture.device.printed(&["logout"]).await, "No user was signed in.\n");
    fixture.login().await;
    let printed = fixture.device.printed(&["logout"]).await;
    assert!(
        printed.starts_with("Signed out on this device.\nnote: the browser may still be signed in"),
        "{printed}"
    );
}

#[tokio::test]
async fn status_is_shown_again_until_it_is_ended() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let mut watch = Interactive::steward(&device, &["status", "--watch", "--json"]);
    for _ in 0..2 {
        let line = watch.next_line().await;
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
    watch.signal(Signal::SIGINT);
    tokio::time::timeout(Duration::from_secs(5), watch.remaining_output()).await.unwrap();
}

/// Everybody could read them. Found by review: with characters that a format escapes, they were still readable.
#[tokio::test]
async fn files_with_secrets_are_for_their_writer_alone_and_named() {
    for secret in ["canary-4711", "canary&<'4711", "canary\\\"4711"] {
        let device = Device::new();
        let policy = device.path("a.toml");
        let text = toml::Value::from(secret).to_string();
        fs_err::write(&policy, format!("UpdateMode = \"off\"\nReportEnrollmentToken = {text}\n")).unwrap();
        let output = device.path("out");
        let (from, to) = (policy.display().to_string(), output.display().to_string());
        let printed = device.printed(&["export", "--policy", &from, "--output", &to]).await;
        assert!(printed.contains("hold secrets of the policy"), "{printed}");
        let mode = |name: &str| fs_err::metadata(output.join(name)).unwrap().permissions().mode() & 0o777;
        for name in [
            "ansible/steward.yml",
            "intune/custom-profile.json",
            "intune/install.ps1",
            "intune/install.sh",
            "intune/macos-preferences.xml",
            "intune/oma-uri.csv",
            "linux/50-steward.toml",
            "macos/steward.mobileconfig",
            "registry/Registry.pol",
            "registry/Steward.reg",
        ] {
            assert_eq!(mode(name), 0o600, "{name}");
            assert!(
                printed.split_whitespace().any(|word| word.trim_end_matches(',') == name),
                "{name}: {printed}"
            );
        }
        assert_eq!(mode("admx/Steward.admx") & 0o044, 0o044);
        // An error is JSON by itself.
        let done = device.steward(&["--json", "export", "--policy", "missing.toml", "--output", &to]).await;
        assert_eq!(done.status.code(), Some(1));
        let document: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(document["problems"][0]["code"], "policy.unreadable");
    }
}

/// Found by review: the message hid a password in an address, and the line of the file that it showed did not.
#[tokio::test]
async fn policy_check_shows_no_line_with_credentials() {
    let device = Device::new();
    let policy = device.path("a.toml");
    for line in [
        "ProxyUrl = \"http://user:canary@proxy.example.com:99999\"",
        "ReportUrl = \"https://u:canary@r.example.com/\"",
        "Issuer = \"https://user:canary@a.example\"",
        "ReportUrl = \"https://r.example.com/?token=canary&x= 1\"",
        "ReportUrl = \"https://u:canary@r.example.com/",
    ] {
        fs_err::write(&policy, format!("{line}\n")).unwrap();
        let done = device.steward(&["policy", "check", &policy.display().to_string()]).await;
        let printed = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.code() == Some(1) && !printed.contains("canary"), "{line}: {printed}");
    }
}
