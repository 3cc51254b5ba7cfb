//! What administrators see of policy: `policy check`, `explain`, `show` and `diff`, and nothing secret in any of it.

use e2e::device::Device;
use policy_schema::Code;

#[tokio::test]
async fn policy_check_finds_errors_and_installs_nothing() {
    let device = Device::new();
    let path = device.path("candidate.toml");
    fs_err::write(&path, "UpdatMode = \"off\"\nIssuer = \"http://login.example.com\"\n").unwrap();
    let file = path.display().to_string();
    let output = device.steward(&["policy", "check", &file]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("did you mean `UpdateMode`?") && text.contains("hint: use https"), "{text}");
    fs_err::write(&path, "UpdateMode = \"off\"\n").unwrap();
    let output = device.steward(&["policy", "check", &file]).await;
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), &b"1 setting, no problems.\n"[..])
    );
    assert!(!device.path("var").exists());
}

/// An administrator at a terminal of 80 columns reads why a setting has its value.
#[tokio::test]
async fn policy_explain_shows_sources_last_good_value_and_overridden_values() {
    let device = Device::new();
    device.push("10-weak.toml", "UpdateMode = \"notify\"\n[Recommended]\nUpdateMode = \"automatic\"\n");
    device.push("50-strong.toml", "UpdateMode = \"off\"\nClientSecret = \"canary\"\n");
    let _agent = device.start_agent().await;
    let explained = device.printed(&["policy", "explain", "updatemode"]).await;
    let lines: Vec<&str> = explained.lines().collect();
    assert_eq!(lines[0], "UpdateMode = `off`");
    assert_eq!(lines[1], "  level      enforced");
    assert!(
        lines[2].starts_with("  source     ") && lines[2].ends_with("50-strong.toml, line 1"),
        "{explained}"
    );
    assert!(lines[3].starts_with("  since      20"), "{explained}");
    assert!(lines[4].starts_with("  last good  `off`, since 20"), "{explained}");
    assert_eq!(explained.matches("  overridden ").count(), 2, "{explained}");
    assert!(explained.contains("because ") && explained.contains("policy.conflict"), "{explained}");

    // The value is not valid any more: the last good value is shown with its date.
    device.push("50-strong.toml", "UpdateMode = \"of\"\nClientSecret = \"canary\"\n");
    device.problem(Code::PolicyInvalidValue).await;
    let explained = device.printed(&["policy", "explain", "UpdateMode"]).await;
    assert!(
        explained.contains("from       the last good value") && explained.contains("did you mean `off`?")
    );

    for arguments in [&["policy", "explain", "UpdateMode"][..], &["policy", "show", "--all"], &["status"]] {
        let printed = device.printed(arguments).await;
        assert!(!printed.contains('\u{1b}') && !printed.contains("canary"), "{printed}");
        // Only a long word may be wider: a path, an address.
        let wide = |line: &&str| {
            line.chars().count() > 80 && !line.split_whitespace().any(|word| word.chars().count() > 40)
        };
        assert_eq!(printed.lines().find(wide), None, "{arguments:?}");
    }
    let secret = device.printed(&["policy", "explain", "ClientSecret"]).await;
    assert!(secret.starts_with("ClientSecret = (set)") && secret.contains("last good  (set)"), "{secret}");
}

#[tokio::test]
async fn policy_diff_shows_settings_that_are_not_applied() {
    let device = Device::new();
    device.push("50.toml", "UpdateMode = \"off\"\nClientSecret = \"canary\"\nUpdateDeferDays = 3\n");
    let agent = device.start_agent().await;
    let same = device.steward(&["policy", "show", "--diff"]).await;
    assert_eq!(same.status.code(), Some(0));
    agent.stop().await;
    device.push("50.toml", "UpdateMode = \"automatic\"\nLogLevel = \"debug\"\nUpdateDeferDays = 3\n");
    let differs = device.steward(&["policy", "show", "--diff"]).await;
    assert_eq!(differs.status.code(), Some(1));
    let text = String::from_utf8_lossy(&differs.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            vec!["-", "ClientSecret", "(set)"],
            vec!["-", "UpdateMode", "`off`"],
            vec!["+", "UpdateMode", "`automatic`"],
            vec!["+", "LogLevel", "`debug`"],
        ]
    );
}

/// Found by review: the key in the query of an address was in reports, the log, and the status that every user can read.
#[tokio::test]
async fn query_of_policy_url_is_never_shown() {
    let device = Device::new();
    device.push(
        "50.toml",
        "ReportUrl = \"https://127.0.0.1:9/?sig=canary-one\"\nProxyMode = \"direct\"\nApp = \"lab-notes\"\n\
         UpdateFeed = \"https://127.0.0.1:9/latest.yml?sig=canary-three\"\nUpdateMode = \"notify\"\n",
    );
    device.push("60.toml", "ReportUrl = \"https://127.0.0.1:9/?sig=canary-two\"\n");
    let _agent = device.start_agent().await;
    device.problem(Code::PolicyConflict).await;
    // Found by review: the feed's query was in the status and in every report while the feed was down.
    device.problem(Code::UpdateFeedUnreachable).await;
    for arguments in [
        &["status", "--json"][..],
        &["policy", "show"],
        &["policy", "show", "--json"],
        &["policy", "explain", "ReportUrl"],
        &["policy", "explain", "UpdateFeed"],
        &["status"],
        &["update"],
        &["report", "--format", "json"],
    ] {
        let printed = device.printed(arguments).await;
        assert!(!printed.contains("canary"), "{arguments:?}: {printed}");
    }
    let log = fs_err::read_to_string(device.path("agent.log")).unwrap();
    assert!(!log.contains("canary"), "{log}");
}
