//! From a file that an administrator drops to what the app finds, and everything that can happen in between.

use std::os::unix::fs::PermissionsExt as _;

use e2e::device::{Device, problem};
use e2e::wait::until;
use serde_json::{Value, json};

const POLICY: &str = "App = \"lab-notes\"\nIssuer = \"https://login.example.com\"\nClientId = \"one\"\n";

async fn client_id_becomes(device: &Device, expected: &Value) {
    until("the app's configuration", async || match device.managed_configuration() {
        found if found.as_ref().map_or(&Value::Null, |found| &found["clientId"]) == expected => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn a_policy_reaches_the_app_and_the_status_while_the_agent_runs() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    assert_eq!(device.managed_configuration(), None);
    device.push("50-acme.toml", POLICY);
    client_id_becomes(&device, &json!("one")).await;
    let status =
        device.status_where("three settings", |status| status["status"]["policy"]["settings"] == 3).await;
    assert_eq!(status["health"]["state"], "pass");
    assert_eq!(status["status"]["app"]["title"], "Lab Notes");

    device.push("60-acme.toml", "ClientId = \"two\"\n");
    client_id_becomes(&device, &json!("two")).await;
    let explained = device.printed(&["policy", "explain", "clientid"]).await;
    assert!(explained.contains("60-acme.toml") && explained.contains("lost      `one`"), "{explained}");

    device.withdraw("60-acme.toml");
    client_id_becomes(&device, &json!("one")).await;
    device.withdraw("50-acme.toml");
    client_id_becomes(&device, &Value::Null).await;
    let status = device.problem("policy.missing").await;
    assert_eq!(status["severity"], "note");
}

#[tokio::test]
async fn a_typing_mistake_keeps_the_last_good_value_until_it_is_repaired() {
    let device = Device::new();
    device.push("50.toml", &format!("{POLICY}UpdateMode = \"automatic\"\n"));
    let agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", &format!("{POLICY}UpdateMode = \"Automatik\"\n"));
    let found = device.problem("policy.invalid-value").await;
    assert_eq!(found["hint"], "did you mean `automatic`?");
    assert!(found["using"].as_str().unwrap().starts_with("`automatic`, the last good value (since 20"));

    // The memory outlives the process.
    agent.kill().await;
    let _agent = device.start_agent().await;
    let found = device.problem("policy.invalid-value").await;
    assert!(found["using"].as_str().unwrap().contains("last good value"));

    device.push("50.toml", &format!("{POLICY}UpdateMode = \"notify\"\n"));
    device.status_where("no problem", |status| problem(status, "policy.invalid-value").is_none()).await;
}

#[tokio::test]
async fn a_broken_file_withdraws_nothing() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", "Issuer = \"https://login.example.com\nClientId = ");
    let found = device.problem("policy.syntax").await;
    assert!(found["message"].as_str().unwrap().starts_with("line 1, column"));
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", &POLICY.replace("one", "three"));
    client_id_becomes(&device, &json!("three")).await;
}

/// Policy comes from administrators only: a file that others may write is not believed, and what it had said before
/// stays, because nobody knows what it would say now.
#[tokio::test]
async fn a_file_that_anybody_may_write_is_not_believed() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let path = device.policy_folder().join("50.toml");
    let mode = |mode| fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    fs_err::write(&path, POLICY.replace("one", "evil")).unwrap();
    let found = device.problem("policy.insecure-place").await;
    assert!(found["hint"].as_str().unwrap().starts_with("chmod go-w"));
    client_id_becomes(&device, &json!("one")).await;
    mode(0o644);
    fs_err::write(&path, POLICY.replace("one", "good")).unwrap();
    client_id_becomes(&device, &json!("good")).await;
}

#[tokio::test]
async fn the_folder_may_come_go_and_be_replaced_by_a_link() {
    let device = Device::new();
    fs_err::remove_dir_all(device.path("etc")).unwrap();
    let _agent = device.start_agent().await;
    fs_err::create_dir_all(device.policy_folder()).unwrap();
    device.push("50.toml", POLICY);
    client_id_becomes(&device, &json!("one")).await;

    fs_err::remove_dir_all(device.path("etc/steward")).unwrap();
    client_id_becomes(&device, &Value::Null).await;

    fs_err::create_dir_all(device.path("srv/policy")).unwrap();
    fs_err::write(device.path("srv/policy/50.toml"), POLICY.replace("one", "linked")).unwrap();
    fs_err::create_dir_all(device.path("etc/steward")).unwrap();
    fs_err::os::unix::fs::symlink(device.path("srv/policy"), device.policy_folder()).unwrap();
    client_id_becomes(&device, &json!("linked")).await;
    fs_err::write(device.path("srv/policy/50.toml"), POLICY.replace("one", "through")).unwrap();
    client_id_becomes(&device, &json!("through")).await;
}

/// A file that is still open is not read half: its first lines alone are a policy too, but not the one that is meant.
#[tokio::test]
async fn a_file_that_is_still_being_written_is_not_read_half() {
    use std::io::Write as _;
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let before = device.status().await["status"]["policy"]["read_at"].clone();
    let mut file = fs_err::File::create(device.policy_folder().join("50.toml")).unwrap();
    file.write_all(b"App = \"lab-notes\"\n").unwrap();
    file.sync_all().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(device.status().await["status"]["policy"]["read_at"], before);
    assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
    file.write_all(POLICY.replace("App = \"lab-notes\"\n", "").replace("one", "whole").as_bytes()).unwrap();
    drop(file);
    client_id_becomes(&device, &json!("whole")).await;
}

/// Found by review: an editor keeps a copy of the old file and writes a new one with a mistake in it. In the moment
/// between, the policy was taken for withdrawn, and the last good values were gone.
#[tokio::test]
async fn an_editor_that_keeps_a_copy_withdraws_nothing() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let path = device.policy_folder().join("50.toml");
    fs_err::rename(&path, device.policy_folder().join("50.toml~")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    fs_err::write(&path, "= a mistake").unwrap();
    device.problem("policy.syntax").await;
    assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
}

#[tokio::test]
async fn ten_thousand_files_and_a_huge_one_are_survived() {
    let device = Device::new();
    for number in 0..10_000 {
        let name = device.policy_folder().join(format!("{number:05}.toml"));
        fs_err::write(name, format!("ReportIntervalMinutes = {}\n", 5 + number % 1000)).unwrap();
    }
    let _agent = device.start_agent().await;
    let status = device.status().await;
    assert!(status["status"]["problem_count"].as_u64().unwrap() > 9000, "overruled values are conflicts");
    assert!(status["status"]["problems"].as_array().unwrap().len() <= 100);
    let huge = fs_err::File::create(device.policy_folder().join("99998.toml")).unwrap();
    huge.set_len(100_000_000).unwrap();
    drop(huge);
    let found = device.problem("policy.too-large").await;
    assert!(found["place"].as_str().unwrap().ends_with("99998.toml"));
    device.push("99999.toml", POLICY);
    client_id_becomes(&device, &json!("one")).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_an_apply_it_finishes_at_the_next_start() {
    let device = Device::new();
    for round in 0..5_u64 {
        let agent = device.start_agent().await;
        let name = format!("round-{round}");
        device.push("50.toml", &POLICY.replace("one", &name));
        // Somewhere between the nudge and the last rename, a little later each round.
        tokio::time::sleep(std::time::Duration::from_micros(400 * round)).await;
        agent.kill().await;
        if device.path("etc/opt/lab-notes/managed.json").exists() {
            assert!(device.managed_configuration().is_some(), "it is the old one or the new one, never half");
        }
        let agent = device.start_agent().await;
        client_id_becomes(&device, &json!(name)).await;
        agent.stop().await;
    }
    let left = fs_err::read_dir(device.path("etc/opt/lab-notes")).unwrap().count();
    assert_eq!(left, 1, "nothing lies beside the configuration");
}

#[tokio::test]
async fn without_the_agent_the_last_facts_are_shown_and_called_stale() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    agent.stop().await;
    let status = device.status().await;
    assert_eq!(status["agent_running"], false);
    assert_eq!(status["health"]["state"], "fail");
    let screen = device.printed(&["status"]).await;
    assert!(screen.contains("systemctl start steward"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 120), "{screen}");
}

#[tokio::test]
async fn check_tells_what_is_wrong_without_installing_anything() {
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
        (Some(0), &b"1 settings, no problems.\n"[..])
    );
    assert!(!device.path("var").exists());
}

/// Every local user may read the status; only an administrator may make the agent do something.
#[tokio::test]
async fn another_user_may_read_the_status_and_change_nothing() {
    assert!(nix::unistd::geteuid().is_root(), "this scenario becomes another user, which only root can");
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    // The build folder may be closed to others; a copy on the device is not.
    let copy = device.path("steward");
    fs_err::copy(e2e::device::program("steward"), &copy).unwrap();
    let as_nobody = async |arguments: &str| {
        let command = format!("{} --root {} {arguments}", copy.display(), device.root_text());
        let arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", "/bin/sh", "-c", &command];
        device.run(std::path::Path::new("/usr/bin/setpriv"), &arguments).await
    };
    let status = as_nobody("status --json").await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["agent_running"], true);
    let reload = as_nobody("policy reload").await;
    assert_eq!(reload.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&reload.stderr).contains("only an administrator"));
    let files = as_nobody("--version; cat var/lib/steward/private/*").await;
    assert!(!String::from_utf8_lossy(&files.stdout).contains("login.example.com"));
}

/// A person at a terminal of 80 columns reads why a setting has its value.
#[tokio::test]
async fn explain_tells_the_whole_story_of_a_value() {
    let device = Device::new();
    device.push("10-weak.toml", "UpdateMode = \"notify\"\n[Recommended]\nUpdateMode = \"automatic\"\n");
    device.push("50-strong.toml", "UpdateMode = \"off\"\nClientSecret = \"canary\"\n");
    let _agent = device.start_agent().await;
    let explained = device.printed(&["policy", "explain", "updatemode"]).await;
    let lines: Vec<&str> = explained.lines().collect();
    assert_eq!(lines[0], "UpdateMode = `off`");
    assert_eq!(lines[1], "  level     enforced");
    assert!(
        lines[2].starts_with("  place     ") && lines[2].ends_with("50-strong.toml, line 1"),
        "{explained}"
    );
    assert!(lines[3].starts_with("  since     20"), "{explained}");
    assert!(lines[4].starts_with("  last good `off`, since 20"), "{explained}");
    assert_eq!(explained.matches("  lost      ").count(), 2, "{explained}");
    assert!(explained.contains("because ") && explained.contains("policy.conflict"), "{explained}");

    // What was said cannot be understood any more: the last good value is named with its date.
    device.push("50-strong.toml", "UpdateMode = \"of\"\nClientSecret = \"canary\"\n");
    device.problem("policy.invalid-value").await;
    let explained = device.printed(&["policy", "explain", "UpdateMode"]).await;
    assert!(explained.contains("from      the last good value") && explained.contains("did you mean `off`?"));

    for arguments in [&["policy", "explain", "UpdateMode"][..], &["policy", "show", "--all"], &["status"]] {
        let printed = device.printed(arguments).await;
        assert!(!printed.contains('\u{1b}') && !printed.contains("canary"), "{printed}");
        // Only what has no place to be broken may be wider: a path, an address.
        let wide = |line: &&str| {
            line.chars().count() > 80 && !line.split_whitespace().any(|word| word.chars().count() > 40)
        };
        assert_eq!(printed.lines().find(wide), None, "{arguments:?}");
    }
    let secret = device.printed(&["policy", "explain", "ClientSecret"]).await;
    assert!(secret.starts_with("ClientSecret = (set)") && secret.contains("last good (set)"), "{secret}");
}

#[tokio::test]
async fn a_difference_between_what_is_said_and_what_was_applied_is_shown() {
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

/// The app reads its configuration only when it starts, so a change counts for nothing before.
#[tokio::test]
async fn an_app_that_runs_on_with_its_old_configuration_is_told() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let program = device.path("opt/lab-notes/versions/1.0.0/bin/lab-notes");
    fs_err::create_dir_all(program.parent().unwrap()).unwrap();
    fs_err::copy("/bin/sleep", &program).unwrap();
    let app = device.start(&program, &["60"]);
    device.push("50-acme.toml", POLICY);
    let pending = device.problem("app.restart-pending").await;
    assert_eq!(pending["severity"], "warning");
    assert!(pending["hint"].as_str().unwrap().starts_with("quit Lab Notes"), "{pending}");
    drop(app);
    // A start after the change: the next look finds everything in order.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let _app = device.start(&program, &["60"]);
    assert!(device.steward(&["policy", "reload"]).await.status.success());
    device
        .status_where("no restart that is due", |status| problem(status, "app.restart-pending").is_none())
        .await;
}

/// Files that come and go without end once postponed the look at policy for as long as they did.
#[tokio::test]
async fn changes_that_never_stop_coming_are_not_waited_for() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let restless = async {
        for number in 0..400 {
            device.push("10-restless.toml", &format!("# {number}\n"));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            device.withdraw("10-restless.toml");
        }
        panic!("the agent waited for all of it");
    };
    tokio::select! {
        () = restless => {}
        () = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            device.push("50-acme.toml", POLICY);
            client_id_becomes(&device, &json!("one")).await;
        } => {}
    }
}

/// Found by review: whoever could write the agent's note could have it remove any file.
#[tokio::test]
async fn only_what_an_app_reads_is_ever_removed() {
    let device = Device::new();
    let victim = device.path("victim");
    fs_err::write(&victim, "untouched").unwrap();
    fs_err::create_dir_all(device.path("var/lib/steward")).unwrap();
    let note = json!({ "place": victim }).to_string();
    fs_err::write(device.path("var/lib/steward/managed-configuration.json"), note).unwrap();
    let _agent = device.start_agent().await;
    assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
}

/// Found by review: one certificate that is none stopped every use of the network, and nothing named it.
#[tokio::test]
async fn a_certificate_that_is_none_is_named_and_stops_nothing_else() {
    let device = Device::new();
    let certificate = "-----BEGIN CERTIFICATE-----MAMCAQE=-----END CERTIFICATE-----";
    let receiver = e2e::receiver::Receiver::start().await;
    device.push(
        "50.toml",
        &format!(
            "AdditionalTrustedCertificates = [\"{certificate}\"]\nReportUrl = \"{}\"\nProxyMode = \"direct\"\n",
            receiver.url()
        ),
    );
    let _agent = device.start_agent().await;
    let problem = device.problem("policy.invalid-value").await;
    assert_eq!(problem["key"], "AdditionalTrustedCertificates");
    assert!(problem["message"].as_str().unwrap().starts_with("certificate 1 cannot be used"), "{problem}");
    device.status_where("a report", |status| !status["status"]["report"]["delivered_at"].is_null()).await;
}

/// Found by review: an address in a report, a log or the status of everybody told the key in its query.
#[tokio::test]
async fn a_key_in_the_query_of_an_address_is_nowhere_to_be_seen() {
    let device = Device::new();
    device.push("50.toml", "ReportUrl = \"https://127.0.0.1:9/?sig=canary-one\"\nProxyMode = \"direct\"\n");
    device.push("60.toml", "ReportUrl = \"https://127.0.0.1:9/?sig=canary-two\"\n");
    let _agent = device.start_agent().await;
    device.problem("policy.conflict").await;
    for arguments in [
        &["status", "--json"][..],
        &["policy", "show"],
        &["policy", "show", "--json"],
        &["policy", "explain", "ReportUrl"],
        &["report", "--format", "json"],
    ] {
        let printed = device.printed(arguments).await;
        assert!(!printed.contains("canary"), "{arguments:?}: {printed}");
    }
    let log = fs_err::read_to_string(device.path("agent.log")).unwrap();
    assert!(!log.contains("canary"), "{log}");
}

/// Found by review: a file of many names that mean nothing kept the agent busy for minutes.
#[tokio::test]
async fn a_file_of_many_unknown_names_is_read_at_once() {
    let device = Device::new();
    let many: String = (0..20_000).fold(String::new(), |text, number| text + &format!("k{number}=1\n"));
    device.push("50.toml", &many);
    let output = device.steward(&["policy", "show", "--json"]).await;
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = shown["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50]["message"], "19950 more names that no setting has");
}
