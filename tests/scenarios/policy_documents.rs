//! What an administrator is told about a document before it is rolled out: `policy check` and `export`, with files of each
//! kind, folders and standard input. Each case was found by trial with files from the field.

use e2e::device::Device;

/// The exit code of `steward policy check` and what it prints.
async fn check(device: &Device, files: &[&str]) -> (Option<i32>, String) {
    let output = device.steward(&[&["policy", "check"], files].concat()).await;
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A file with this content.
fn file(device: &Device, name: &str, content: &[u8]) -> String {
    let path = device.path(name);
    fs_err::write(&path, content).expect("the folder is there");
    path.display().to_string()
}

const PROFILE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict><key>PayloadContent</key><array>\
    <dict><key>PayloadType</key><string>dev.steward.agent</string><key>UpdateMode</key><string>off</string></dict></array>\
    <key>PayloadType</key><string>Configuration</string></dict></plist>";

#[tokio::test]
async fn kind_of_document_is_found_from_its_content_and_not_from_its_name() {
    let device = Device::new();
    for name in ["a.plist", "a.mobileconfig", "a.toml", "a"] {
        let (code, text) = check(&device, &[&file(&device, name, PROFILE.as_bytes())]).await;
        assert_eq!((code, text.as_str()), (Some(0), "1 setting, no problems.\n"), "{name}");
        let foreign = PROFILE.replace("dev.steward.agent", "com.example.other");
        let (code, text) = check(&device, &[&file(&device, name, foreign.as_bytes())]).await;
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains("policy.foreign") && text.contains("com.example.other"), "{name}: {text}");
        let (code, text) = check(&device, &[&file(&device, name, b"\x30\x82\x04\x00")]).await;
        assert!(code == Some(1) && text.contains("signed profile"), "{name}: {text}");
    }
}

#[tokio::test]
async fn line_with_mistake_is_shown_with_a_mark_and_corrected_and_secrets_are_not() {
    let device = Device::new();
    let text = "UpdateMode = \"off\"\nIdentityProvider = entra\n";
    let (code, printed) = check(&device, &[&file(&device, "a.toml", text.as_bytes())]).await;
    assert_eq!(code, Some(1));
    assert!(printed.contains("2 | IdentityProvider = entra\n      |                    ^\n"), "{printed}");
    assert!(printed.contains("hint: write: IdentityProvider = \"entra\""), "{printed}");
    assert!(!printed.contains("policy check FILE"), "{printed}");
    for text in [
        "ClientSecret = canary",
        "ClientSecrt = \u{201c}canary\u{201d}",
        "ReportEnrollmentToken = \"canary \"",
    ] {
        let (code, printed) = check(&device, &[&file(&device, "a.toml", text.as_bytes())]).await;
        assert!(code == Some(1) && !printed.contains("canary"), "{printed}");
    }
    let invisible = "ClientId = \"3c1f\u{200b}\"\nIssuer = \"https://a.example\"\n";
    let (_, printed) = check(&device, &[&file(&device, "a.toml", invisible.as_bytes())]).await;
    assert!(
        printed.contains("U+200B ZERO WIDTH SPACE at position 5") && !printed.contains('\u{200b}'),
        "{printed}"
    );
}

#[tokio::test]
async fn folder_is_checked_as_a_folder_and_standard_input_as_a_file() {
    let device = Device::new();
    let folder = device.path("checkout");
    fs_err::create_dir(&folder).unwrap();
    file(&device, "checkout/10.toml", b"UpdateMode = \"notify\"\n");
    file(&device, "checkout/20.toml", b"UpdateMode = \"off\"\n");
    file(&device, "checkout/30.conf", b"UpdateMode = \"automatic\"\n");
    let (code, text) = check(&device, &[&folder.display().to_string()]).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("policy.conflict") && text.contains("30.conf"), "{text}");
    let empty = device.path("empty");
    fs_err::create_dir(&empty).unwrap();
    let (code, text) = check(&device, &[&empty.display().to_string()]).await;
    assert!(code == Some(1) && text.contains("no policy file"), "{text}");
    let steward = e2e::process::program("steward");
    let script = format!("printf 'UpdateMode = \"of\"\\n' | '{}' policy check -", steward.display());
    let output = tokio::process::Command::new("sh").args(["-c", &script]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("in standard input, line 1"), "{text}");
}

/// The agent would ignore it, so the check must not call it fine.
#[tokio::test]
async fn file_in_policy_folder_that_the_agent_ignores_is_an_error() {
    use std::os::unix::fs::PermissionsExt as _;
    let device = Device::new();
    device.push("50.toml", "UpdateMode = \"off\"\n");
    let path = device.policy_folder().join("50.toml");
    let text = path.display().to_string();
    assert_eq!(check(&device, &[&text]).await.0, Some(0));
    fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let (code, printed) = check(&device, &[&text]).await;
    assert!(
        code == Some(1) && printed.contains("other users can write to this file (mode 0666)"),
        "{printed}"
    );
    let other = device.policy_folder().join("50.conf");
    fs_err::write(&other, "UpdateMode = \"off\"\n").unwrap();
    let (code, printed) = check(&device, &[&other.display().to_string()]).await;
    assert!(code == Some(1) && printed.contains("the agent does not read this file"), "{printed}");
}

/// Such an export wiped the policy of devices.
#[tokio::test]
async fn policy_without_settings_is_exported_only_if_that_is_said() {
    let device = Device::new();
    let foreign = PROFILE.replace("dev.steward.agent", "com.example.other");
    let output = device.path("out").display().to_string();
    for (name, content) in [
        ("a.plist", foreign.as_bytes()),
        ("b.toml", b""),
        ("c.toml", b"# nothing\n"),
        ("d.pol", b"PReg\x01\0\0\0"),
    ] {
        let policy = file(&device, name, content);
        let arguments = ["export", "--policy", &policy, "--output", &output];
        let refused = device.steward(&arguments).await;
        assert!(!refused.status.success(), "{name}");
        assert!(!device.path("out").exists(), "{name}");
        let said = device.steward(&[&arguments[..], &["--allow-empty"]].concat()).await;
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
        let script = fs_err::read_to_string(device.path("out/intune/install.sh")).unwrap();
        assert!(script.contains("rm -f ") && !script.contains("cat >"), "{script}");
        fs_err::remove_dir_all(device.path("out")).unwrap();
    }
}

#[tokio::test]
async fn name_of_an_app_that_nobody_knows_is_an_error() {
    let device = Device::new();
    let (code, text) =
        check(&device, &[&file(&device, "a.toml", b"App = \"quick\"\nAllowedApplications = [\"curl\"]\n")])
            .await;
    assert!(code == Some(1) && text.contains("knows no app `quick`") && text.contains("`curl`"), "{text}");
}

/// Found by trial: `steward doctor` checked the strict choices in place of a file that was not there, and an export or a
/// set-up without one of its files would lose the restrictions in it.
#[tokio::test]
async fn document_that_cannot_be_opened_ends_the_command() {
    let device = Device::new();
    let good = file(&device, "a.toml", b"UpdateMode = \"off\"\n");
    let missing = device.path("missing.toml").display().to_string();
    let output = device.path("out").display().to_string();
    for arguments in [
        vec!["policy", "check", &good, &missing],
        vec!["doctor", "--policy", &missing],
        vec!["export", "--policy", &good, "--policy", &missing, "--output", &output],
        vec!["export", "--policy", &missing, "--allow-empty", "--output", &output],
        vec![
            "setup",
            "okta",
            "--domain",
            "acme.okta.com",
            "--client-id",
            "0oa1b2",
            "--offline",
            "--policy",
            &missing,
            "--output",
            &output,
        ],
    ] {
        let done = device.steward(&arguments).await;
        let printed = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {printed}");
        assert!(printed.contains("file not found") && printed.contains("missing.toml"), "{printed}");
        assert!(!printed.contains("strict choice"), "{printed}");
        assert!(!std::path::Path::new(&output).exists(), "{arguments:?}: {printed}");
    }
}

/// Found by review: a check of a folder named every file beside it.
#[tokio::test]
async fn files_beside_a_checked_folder_are_not_looked_at() {
    let device = Device::new();
    let folder = device.path("work/mine");
    fs_err::create_dir_all(&folder).unwrap();
    fs_err::write(folder.join("a.toml"), "UpdateMode = \"off\"\n").unwrap();
    fs_err::write(device.path("work/beside.toml"), "x = 1\n").unwrap();
    let (code, text) = check(&device, &[&folder.display().to_string()]).await;
    assert!(code == Some(0) && text.contains("no problems"), "{text}");
}
