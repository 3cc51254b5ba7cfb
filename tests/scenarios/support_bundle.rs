//! The support bundle: what helps, and nothing secret.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::device::Device;
use e2e::provider::Provider;

use super::fixture::{FILE_VAULT, free_port, sign_in_device, sign_in_policy};

/// The whole content of a bundle, unpacked by tar.
async fn bundle(device: &Device, more: &[&str]) -> String {
    let file = device.path("bundle.tar.gz").display().to_string();
    drop(fs_err::remove_file(&file));
    let made = device.steward(&[&["support-bundle", "--output", &file], more].concat()).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let unpacked = device.run(Path::new("/usr/bin/tar"), &["xzf", &file, "-O"]).await;
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    String::from_utf8_lossy(&unpacked.stdout).into_owned()
}

/// Writes secrets into the app's log and into another one, whose path it gives.
fn write_logs_with_secrets(device: &Device) -> String {
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
async fn support_bundle_has_what_helps_and_no_secrets() {
    let secrets = "ReportUrl = \"http://127.0.0.1:9/?key=canary-key\"\nReportEnrollmentToken = \"canary-enrollment-token\"\n\
                   ProxyUrl = \"http://ada:canary-proxy@127.0.0.1:9\"\n";
    let fixture = sign_in_device(&format!("{FILE_VAULT}{secrets}")).await;
    fixture.login().await;
    let token = fixture.token().await.unwrap();
    let log = write_logs_with_secrets(&fixture.device);
    let text = bundle(&fixture.device, &["--log", &log]).await;
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
    // No other user may read it.
    let mode = fs_err::metadata(fixture.device.path("bundle.tar.gz")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Nothing runs, the policy is broken, state files are damaged: a bundle is made all the same.
#[tokio::test]
async fn support_bundle_is_made_of_broken_policy_and_damaged_state() {
    let device = Device::new();
    let log = write_logs_with_secrets(&device);
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
