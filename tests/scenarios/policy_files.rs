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
    assert!(problem.message.starts_with("line 1, column"), "{problem}");
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
