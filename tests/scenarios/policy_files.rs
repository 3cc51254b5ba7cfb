//! Policy files and folders: broken, insecure, half written, many, huge, and changing all the time.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use e2e::device::Device;
use policy_schema::Code;
use serde_json::{Value, json};

use super::policy::{POLICY, client_id_becomes};

#[tokio::test]
async fn policy_file_with_syntax_error_withdraws_nothing() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", "Issuer = \"https://login.example.com\nClientId = ");
    let problem = device.problem(Code::PolicySyntax).await;
    assert!(problem.place.as_deref().is_some_and(|place| place.ends_with("50.toml, line 1")), "{problem}");
    assert!(problem.message.contains("not closed"), "{problem}");
    client_id_becomes(&device, &json!("one")).await;
    device.push("50.toml", &POLICY.replace("one", "three"));
    client_id_becomes(&device, &json!("three")).await;
}

/// Policy comes from administrators only: a file that others may write is not read, and the values that it set before
/// stay, because its content is not known any more.
#[tokio::test]
async fn world_writable_policy_file_is_refused_and_last_good_values_stay() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let path = device.policy_folder().join("50.toml");
    let mode = |mode| fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o666);
    fs_err::write(&path, POLICY.replace("one", "evil")).unwrap();
    let problem = device.problem(Code::PolicyInsecureSource).await;
    assert!(problem.hint.unwrap().starts_with("chmod go-w"));
    client_id_becomes(&device, &json!("one")).await;
    mode(0o644);
    fs_err::write(&path, POLICY.replace("one", "good")).unwrap();
    client_id_becomes(&device, &json!("good")).await;
}

#[tokio::test]
async fn policy_folder_that_comes_goes_or_is_a_link_is_followed() {
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

/// Found by trial: a drop-in of which a full disk, a power loss or `truncate` had left nothing withdrew its settings, and
/// the device's health was fine.
#[tokio::test]
async fn drop_in_that_becomes_empty_keeps_its_settings_and_removing_it_withdraws_them() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    device.push("60.toml", "UpdateMode = \"off\"\n");
    let mut agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    for nothing in ["", "\n", "# nothing\n"] {
        fs_err::write(device.policy_folder().join("50.toml"), nothing).unwrap();
        let problem = device.problem(Code::PolicyEmpty).await;
        assert!(
            problem.using.as_deref().is_some_and(|using| using.contains("last valid values")),
            "{problem}"
        );
        assert_eq!(device.managed_configuration().unwrap()["clientId"], "one", "{nothing:?}");
        assert!(problem.severity.is_error(), "{nothing:?}");
        fs_err::write(device.policy_folder().join("50.toml"), POLICY).unwrap();
        device
            .machine_status_where("the policy again", |status| {
                status.problems.iter().all(|problem| problem.code != Code::PolicyEmpty)
            })
            .await;
    }
    // The same while no agent runs.
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.wait_for_exit().await;
    fs_err::write(device.policy_folder().join("50.toml"), "").unwrap();
    let _agent = device.start_agent().await;
    device.problem(Code::PolicyEmpty).await;
    assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
    device.withdraw("50.toml");
    client_id_becomes(&device, &Value::Null).await;
}

/// Found by trial: a folder that was away for two seconds lost its settings.
#[tokio::test]
async fn policy_folder_that_is_away_for_two_seconds_withdraws_nothing() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let vendor = device.path("usr/lib/steward/policy.d");
    fs_err::create_dir_all(&vendor).unwrap();
    fs_err::write(vendor.join("10.toml"), "LogLevel = \"debug\"\n").unwrap();
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let away = device.path("etc/steward/away");
    fs_err::rename(device.policy_folder(), &away).unwrap();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
    }
    fs_err::rename(&away, device.policy_folder()).unwrap();
    device.push("50.toml", &POLICY.replace("one", "two"));
    client_id_becomes(&device, &json!("two")).await;
}

/// Found by trial: on a new device, a list of allowed domains without its last bracket let everybody sign in.
#[tokio::test]
async fn unreadable_restrictions_on_new_device_are_strict() {
    for (restrictions, mode, code) in [
        ("AllowedEmailDomains = [\"example.com\"\n", 0o644, Code::PolicySyntax),
        ("AllowedEmailDomains = [\"example.com\"]\n", 0o664, Code::PolicyInsecureSource),
        ("", 0o644, Code::PolicyEmpty),
    ] {
        let device = Device::new();
        device.push("40-idp.toml", POLICY);
        device.push("30-restrict.toml", restrictions);
        let path = device.policy_folder().join("30-restrict.toml");
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let _agent = device.start_agent().await;
        device.problem(code).await;
        client_id_becomes(&device, &json!("one")).await;
        for _ in 0..2 {
            let configuration: Value = serde_json::from_str(
                &fs_err::read_to_string(device.path("var/lib/steward/sign-in.json")).unwrap(),
            )
            .unwrap();
            assert_eq!(configuration["allowed_email_domains"], json!([]), "{restrictions:?}");
            device.printed(&["policy", "reload"]).await;
        }
    }
}

/// Found by trial: the files that Kubernetes, NixOS and links in general lead to were read again only after 15 minutes.
#[tokio::test]
async fn file_that_a_link_leads_to_is_followed_as_fast_as_a_plain_one() {
    use fs_err::os::unix::fs::symlink;
    let device = Device::new();
    let folder = device.policy_folder();
    for (version, name) in [("..v1", "one"), ("..v2", "two")] {
        fs_err::create_dir(folder.join(version)).unwrap();
        fs_err::write(folder.join(version).join("50.toml"), POLICY.replace("one", name)).unwrap();
    }
    symlink("..v1", folder.join("..data")).unwrap();
    symlink("..data/50.toml", folder.join("50.toml")).unwrap();
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    // As Kubernetes exchanges a volume.
    symlink("..v2", folder.join("..data_tmp")).unwrap();
    fs_err::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    client_id_becomes(&device, &json!("two")).await;
    // What it leads to is written in place.
    fs_err::write(folder.join("..v2/50.toml"), POLICY.replace("one", "three")).unwrap();
    client_id_becomes(&device, &json!("three")).await;
    // Out of the folder, and then by another name of the same file.
    let elsewhere = device.path("elsewhere.toml");
    fs_err::write(&elsewhere, POLICY.replace("one", "four")).unwrap();
    fs_err::remove_file(folder.join("50.toml")).unwrap();
    symlink(&elsewhere, folder.join("50.toml")).unwrap();
    client_id_becomes(&device, &json!("four")).await;
    fs_err::write(&elsewhere, POLICY.replace("one", "five")).unwrap();
    client_id_becomes(&device, &json!("five")).await;
    fs_err::remove_file(folder.join("50.toml")).unwrap();
    fs_err::hard_link(&elsewhere, folder.join("50.toml")).unwrap();
    fs_err::write(&elsewhere, POLICY.replace("one", "six")).unwrap();
    client_id_becomes(&device, &json!("six")).await;
    fs_err::write(&elsewhere, POLICY.replace("one", "seven")).unwrap();
    client_id_becomes(&device, &json!("seven")).await;
}

/// Found by trial: such a device had no policy, and nobody was told why.
#[tokio::test]
async fn file_that_looks_like_policy_and_is_not_read_is_in_the_status() {
    let device = Device::new();
    fs_err::write(device.policy_folder().join("50-acme.conf"), POLICY).unwrap();
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::PolicyPassedOver).await;
    assert!(problem.place.is_some_and(|place| place.ends_with("50-acme.conf")));
}

/// A file that is still open is not read: its first lines alone are a policy too, but not the intended one.
#[tokio::test]
async fn policy_file_that_is_still_open_for_writing_is_not_read() {
    use std::io::Write as _;
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let before = device.machine_status().await.policy.read_at;
    let mut file = fs_err::File::create(device.policy_folder().join("50.toml")).unwrap();
    file.write_all(b"App = \"lab-notes\"\n").unwrap();
    file.sync_all().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(device.machine_status().await.policy.read_at, before);
    assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
    file.write_all(POLICY.replace("App = \"lab-notes\"\n", "").replace("one", "whole").as_bytes()).unwrap();
    drop(file);
    client_id_becomes(&device, &json!("whole")).await;
}

/// Found by review: an editor renamed the old file and wrote a new one with a mistake in it. In the moment between, the
/// policy was taken for withdrawn, and the last good values were gone.
#[tokio::test]
async fn editor_that_renames_the_old_file_withdraws_nothing() {
    let device = Device::new();
    device.push("50.toml", POLICY);
    let _agent = device.start_agent().await;
    client_id_becomes(&device, &json!("one")).await;
    let path = device.policy_folder().join("50.toml");
    fs_err::rename(&path, device.policy_folder().join("50.toml~")).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    fs_err::write(&path, "= a mistake").unwrap();
    device.problem(Code::PolicySyntax).await;
    assert_eq!(device.managed_configuration().unwrap()["clientId"], "one");
}

#[tokio::test]
async fn ten_thousand_files_and_a_huge_file_do_not_stop_policy() {
    let device = Device::new();
    for number in 0..10_000 {
        let name = device.policy_folder().join(format!("{number:05}.toml"));
        fs_err::write(name, format!("ReportIntervalMinutes = {}\n", 5 + number % 1000)).unwrap();
    }
    let _agent = device.start_agent().await;
    let status = device.machine_status().await;
    assert!(status.problem_count > 9000, "overridden values are conflicts");
    assert!(status.problems.len() <= protocol::status::MAXIMUM_PROBLEMS);
    let huge = fs_err::File::create(device.policy_folder().join("99998.toml")).unwrap();
    huge.set_len(100_000_000).unwrap();
    drop(huge);
    let problem = device.problem(Code::PolicyTooLarge).await;
    assert!(problem.place.unwrap().ends_with("99998.toml"));
    device.push("99999.toml", POLICY);
    client_id_becomes(&device, &json!("one")).await;
}

/// Files that came and went without end once postponed the reading of policy for as long as they did.
#[tokio::test]
async fn endless_policy_changes_do_not_delay_reading() {
    let device = Device::new();
    let _agent = device.start_agent().await;
    let endless_changes = async {
        for number in 0..400 {
            device.push("10-restless.toml", &format!("# {number}\n"));
            tokio::time::sleep(Duration::from_millis(50)).await;
            device.withdraw("10-restless.toml");
        }
        panic!("the agent waited for all of them");
    };
    tokio::select! {
        () = endless_changes => {}
        () = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            device.push("50-acme.toml", POLICY);
            client_id_becomes(&device, &json!("one")).await;
        } => {}
    }
}

/// Found by review: a file of many unknown keys kept the agent busy for minutes.
#[tokio::test]
async fn file_of_twenty_thousand_unknown_keys_gives_fifty_problems_and_a_count() {
    let device = Device::new();
    let many: String = (0..20_000).fold(String::new(), |text, number| text + &format!("k{number}=1\n"));
    device.push("50.toml", &many);
    let problems = device.policy().await.problems;
    assert_eq!(problems.len(), 51);
    assert_eq!(problems[50].message, "19950 more keys that no setting has");
}
