//! The support bundle: everything that helps, and nothing secret.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::device::Device;
use e2e::provider::Provider;

use super::office::{FILE_VAULT, office_at};
use super::{free_port, sign_in_policy};

/// The whole content of a bundle, unpacked by tar.
async fn bundle(device: &Device, more: &[&str]) -> String {
    let file = device.path("bundle.tar.gz").display().to_string();
    drop(fs_err::remove_file(&file));
    let done = device.steward(&[&["support-bundle", "--output", &file], more].concat()).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let listed = device.run(Path::new("/usr/bin/tar"), &["xzf", &file, "-O"]).await;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// Secrets in every place that a bundle is made of.
fn poison(device: &Device) -> String {
    let logs = device.path("home/.local/state/lab-notes");
    fs_err::create_dir_all(&logs).unwrap();
    let lines = [
        "request: Authorization: Bearer canary-bearer",
        "{\"access_token\":\"canary-access\",\"refresh_token\":\"canary-refresh\",\"id_token\":\"eyJjYW5hcnkiOjF9.eyJjYW5hcnkiOjF9.canary\"}",
        "GET /?code=canary-code&state=canary-state HTTP/1.1",
        "proxy http://ada:canary-proxy@proxy.example:3128",
        "client secret is canary-enrollment-token",
        "an ordinary line",
    ];
    fs_err::write(logs.join("main.log"), lines.join("\n")).unwrap();
    let more = device.path("more.log");
    fs_err::write(&more, "password=canary-password\n").unwrap();
    more.display().to_string()
}

#[tokio::test]
async fn a_bundle_helps_and_holds_nothing_secret() {
    let secrets = "ReportUrl = \"http://127.0.0.1:9/?key=canary-key\"\nReportEnrollmentToken = \"canary-enrollment-token\"\n\
                   ProxyUrl = \"http://ada:canary-proxy@127.0.0.1:9\"\n";
    let office = office_at(Device::new(), Provider::start().await, &format!("{FILE_VAULT}{secrets}")).await;
    office.device.printed(&["login"]).await;
    let token = office.token().await.unwrap();
    let log = poison(&office.device);
    let text = bundle(&office.device, &["--log", &log]).await;
    for useful in [
        "ada@example.com",
        "\"check\": \"discovery\"",
        "ReportEnrollmentToken",
        "an ordinary line",
        "(removed)",
        "lab-notes",
    ] {
        assert!(text.contains(useful), "{useful} is not in {text}");
    }
    assert!(!text.contains("canary") && !text.contains(&token), "{text}");
    // Nobody else may read it.
    let mode = fs_err::metadata(office.device.path("bundle.tar.gz")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Nothing runs, the policy is broken, files of the agent are no longer what they were: a bundle is made all the same.
#[tokio::test]
async fn a_bundle_is_made_when_set_up_has_failed_half_way() {
    let device = Device::new();
    let log = poison(&device);
    let provider = Provider::start().await;
    let policy = sign_in_policy(&provider, free_port());
    for broken in [
        "ReportEnrollmentToken = canary-enrollment-token".to_owned(),
        format!(
            "{policy}ReportEnrollmentToken = \"canary-enrollment-token\"\nClientSecret = [\"canary-secret\"]\nUpdateMode = 7\n"
        ),
        String::new(),
    ] {
        device.push("50.toml", &broken);
        let state = device.path("var/lib/steward");
        fs_err::create_dir_all(&state).unwrap();
        fs_err::write(state.join("status.json"), "{ \"client_secret\": \"canary-status\"").unwrap();
        fs_err::write(state.join("sign-in.json"), "{ \"client_secret\": \"canary-sign-in\"").unwrap();
        let text = bundle(&device, &["--log", &log, "--log", "/nowhere/at/all.log"]).await;
        assert!(
            text.contains("policy") && text.contains("cannot be read") && text.contains("\"check\""),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
    }
}
