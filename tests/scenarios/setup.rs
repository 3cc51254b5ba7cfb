//! `steward setup`: from what an administrator pastes to everything that has to be filled in elsewhere.
#![expect(clippy::unwrap_used, reason = "everything here is a test, or what it is made of")]

use std::path::{Path, PathBuf};

use e2e::device::{Device, Talk, program};
use e2e::provider::{CLIENT_ID, Misbehaviour, Provider, Vendor};
use serde_json::Value;
use tokio::process::Command;

use super::office::FILE_VAULT;
use super::providers::{python, script};
use super::start_app;

const INSTANCE: &str = "arn:aws:sso:::instance/ssoins-1234567890abcdef";

struct Outcome {
    code: Option<i32>,
    said: String,
    folder: PathBuf,
    device: Device,
}

impl Outcome {
    fn text(&self, name: &str) -> String {
        fs_err::read_to_string(self.folder.join(name)).unwrap()
    }
}

async fn set_up(arguments: &[&str]) -> Outcome {
    let device = Device::new();
    let folder = device.path("setup");
    let output = folder.display().to_string();
    let done = device.steward(&[&["setup"], arguments, &["--output", &output]].concat()).await;
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    Outcome { code: done.status.code(), said, folder, device }
}

/// Every vendor's provider, reached by what people paste of it; its own document says the same.
#[tokio::test]
async fn each_identity_provider_is_set_up_from_what_people_paste() {
    let cases = [
        (
            Vendor::Entra,
            "entra",
            "--tenant",
            "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77",
            "Mobile and desktop applications",
        ),
        (Vendor::Okta, "okta", "--domain", CLIENT_ID, "Sign-in redirect URIs"),
        (Vendor::PingFederate, "pingfederate", "--host", CLIENT_ID, "Return ID Token On Refresh Grant"),
        (Vendor::PingOne, "pingone", "--environment", CLIENT_ID, "toggle"),
        (Vendor::Plain, "custom", "--issuer", CLIENT_ID, "redirect URI: exactly `http://localhost:18080`"),
    ];
    for (vendor, name, flag, client_id, click) in cases {
        let provider = Provider::start_as(vendor).await;
        let pasted = format!("{}/.well-known/openid-configuration", provider.issuer());
        let done = set_up(&[name, flag, &pasted, "--client-id", client_id]).await;
        assert_eq!(done.code, Some(0), "{vendor:?}: {}", done.said);
        // The lab's client has another name than Entra's have, so there it is refused, which is said.
        let refused = vendor == Vendor::Entra;
        let verdict = if refused { "it refuses this client" } else { "The identity provider says the same." };
        assert!(done.said.contains(verdict), "{vendor:?}: {}", done.said);
        assert!(done.text("1-identity-provider.md").contains(click), "{vendor:?}");
        let access = done.text("3-extension-access.md");
        for value in [provider.issuer(), client_id, "The extension\n", "compared with the identity provider"]
        {
            assert!(access.contains(value), "{vendor:?}: {value} is not in {access}");
        }
        assert!(!done.folder.join("2-trusted-token-issuer.json").exists(), "nobody asked for it");
        let policy = done.folder.join("policy.toml").display().to_string();
        let checked = done.device.steward(&["policy", "check", &policy]).await;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        // The profiles are those of `steward export`.
        let again = done.device.path("again").display().to_string();
        let exported = done.device.steward(&["export", "--policy", &policy, "--output", &again]).await;
        assert!(exported.status.success());
        for file in
            ["admx/Steward.admx", "macos/steward.mobileconfig", "intune/oma-uri.csv", "registry/Registry.pol"]
        {
            let (ours, theirs) = (done.folder.join("profiles").join(file), Path::new(&again).join(file));
            assert_eq!(fs_err::read(ours).unwrap(), fs_err::read(theirs).unwrap(), "{file}");
        }
    }
}

/// What is entered and what the provider says differ: both are shown, and nothing is written.
#[tokio::test]
async fn a_contradiction_is_shown_and_nothing_is_written() {
    let plain = Provider::start().await;
    // Its endpoints are not where PingFederate has them.
    let done = set_up(&["pingfederate", "--host", plain.issuer(), "--client-id", "c"]).await;
    assert_eq!(done.code, Some(2), "{}", done.said);
    let theirs = format!("{}/token", plain.issuer());
    let ours = format!("{}/as/token.oauth2", plain.issuer());
    assert!(done.said.contains(&theirs) && done.said.contains(&ours), "{}", done.said);
    assert!(done.said.contains("Nothing was written") && !done.folder.exists(), "{}", done.said);
    // Okta without API Access Management: what to do is said.
    let okta = Provider::start_as(Vendor::Okta).await;
    okta.behave(|behaviour| behaviour.misbehaviour = Some(Misbehaviour::DiscoveryRefused));
    let domain = okta.issuer().split("/oauth2").next().unwrap().to_owned();
    let done = set_up(&["okta", "--domain", &domain, "--client-id", "c"]).await;
    assert!(done.said.contains("--authorization-server org") && done.code == Some(2), "{}", done.said);
    // Mistakes that need nobody to be asked.
    for (arguments, reason) in [
        (vec!["entra", "--tenant", "common", "--client-id", "c"], "every tenant"),
        (
            vec!["entra", "--tenant", "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10", "--client-id", "my app"],
            "no client ID",
        ),
        (vec!["pingone", "--environment", "production"], "no environment ID"),
        (vec!["google", "--client-id", "1.apps.googleusercontent.com"], "--client-secret"),
        (vec!["okta"], "`--domain` is missing"),
        (vec![], "which identity provider"),
    ] {
        let done = set_up(&arguments).await;
        assert!(done.code == Some(1) && done.said.contains(reason), "{arguments:?}: {}", done.said);
        assert!(!done.folder.exists());
    }
}

/// A slash too many, a provider that is away, and one that is not to be asked.
#[tokio::test]
async fn what_can_be_forgiven_is_and_what_could_not_be_compared_is_said() {
    let provider = Provider::start().await;
    let slash = format!("{}/", provider.issuer());
    let done = set_up(&["custom", "--issuer", &slash, "--client-id", CLIENT_ID, "--json"]).await;
    let document: Value = serde_json::from_str(&done.said).unwrap_or_else(|_| panic!("{}", done.said));
    assert_eq!((&document["issuer"], &document["checked"]), (&provider.issuer().into(), &true.into()));
    assert_eq!(document["extension_access"]["JWKS URI"], format!("{}/jwks", provider.issuer()));
    assert!(document["files"].as_array().unwrap().contains(&"3-extension-access.md".into()), "{document:#}");
    let nowhere = format!("http://127.0.0.1:{}", super::free_port());
    let done = set_up(&["pingfederate", "--host", &nowhere, "--client-id", "c"]).await;
    assert!(done.code == Some(0) && done.said.contains("could not be asked"), "{}", done.said);
    assert!(done.text("3-extension-access.md").contains("NOT compared"), "{}", done.said);
    let done = set_up(&["custom", "--issuer", &nowhere, "--client-id", "c"]).await;
    assert!(done.code == Some(2) && done.said.contains("endpoints are not known"), "{}", done.said);
    // Before the registration there is only the first sheet.
    let done = set_up(&["entra", "--tenant", "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10", "--offline"]).await;
    assert!(done.code == Some(0) && done.said.contains("run this again with --client-id"), "{}", done.said);
    assert!(
        done.text("identity-provider/app.json").contains("isFallbackPublicClient")
            && !done.folder.join("policy.toml").exists()
    );
}

/// Found by review: a second run left files of the provider before, and a changed policy was gone without a word.
#[tokio::test]
async fn a_second_run_leaves_nothing_of_the_first_and_loses_no_edit() {
    let device = Device::new();
    let folder = device.path("setup");
    let output = folder.display().to_string();
    let run = async |arguments: &[&str]| {
        let done =
            device.steward(&[&["setup"], arguments, &["--offline", "--output", &output]].concat()).await;
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let tenant = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
    let first = ["entra", "--tenant", tenant, "--client-id", tenant, "--identity-center", INSTANCE];
    assert_eq!(run(&first).await.0, Some(0));
    let policy = folder.join("policy.toml");
    let edited = format!("{}UpdateMode = \"off\"\n", fs_err::read_to_string(&policy).unwrap());
    fs_err::write(&policy, &edited).unwrap();
    let (code, said) = run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await;
    assert!(code == Some(0) && said.contains("policy.toml.before"), "{said}");
    assert_eq!(fs_err::read_to_string(folder.join("policy.toml.before")).unwrap(), edited);
    assert!(!folder.join("2-trusted-token-issuer.json").exists(), "it was the first one's");
    assert!(!fs_err::read_to_string(&policy).unwrap().contains("microsoft"));
    // What others put there is not touched, and a link is not followed.
    let victim = device.path("victim");
    fs_err::write(&victim, "untouched").unwrap();
    fs_err::remove_file(&policy).unwrap();
    std::os::unix::fs::symlink(&victim, &policy).unwrap();
    assert_eq!(run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await.0, Some(0));
    assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
    fs_err::write(folder.join("notes.txt"), "mine").unwrap();
    let (code, said) = run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await;
    assert!(code == Some(1) && said.contains("holds `notes.txt`"), "{said}");
}

/// Found by review: the registration named another redirect URI than the policy.
#[tokio::test]
async fn what_the_rest_of_the_policy_says_holds_for_the_registration_too() {
    let device = Device::new();
    let base = device.path("base.toml");
    fs_err::write(&base, "RedirectUri = \"http://localhost:9000\"\nReportUrl = \"https://reports.example.com/v1\"\nUpdateMode = \"off\"\n").unwrap();
    let base = base.display().to_string();
    let google = ["google", "--client-id", "1.apps.googleusercontent.com", "--client-secret", "GOCSPX-x"];
    let done = set_up(&[&google[..], &["--offline", "--policy", &base]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.said);
    let policy = done.text("policy.toml");
    assert!(policy.contains("localhost:9000") && policy.contains("UpdateMode = \"off\""), "{policy}");
    let hosts = done.text("4-distribution.md");
    for host in [
        "accounts.google.com",
        "oauth2.googleapis.com",
        "www.googleapis.com",
        "reports.example.com",
        "desktop.downloads.quick.aws.com",
    ] {
        assert!(hosts.contains(&format!("- `{host}`")), "{host} is not in {hosts}");
    }
    let done =
        set_up(&["okta", "--domain", "a.okta.com", "--client-id", "c", "--offline", "--policy", &base]).await;
    assert!(done.text("identity-provider/app.json").contains("http://localhost:9000"));
    assert!(!done.text("1-identity-provider.md").contains("18080"));
    fs_err::write(device.path("base.toml"), "UpdateMode = 7\n").unwrap();
    let done = set_up(&["okta", "--domain", "a.okta.com", "--offline", "--policy", &base]).await;
    assert!(done.code == Some(1) && done.said.contains("`UpdateMode`"), "{}", done.said);
}

/// Amazon's own model of the call takes what was written, and the command line says the same.
#[tokio::test]
async fn the_aws_call_is_what_aws_takes() {
    let more = ["--identity-center", INSTANCE, "--client-id", "c", "--offline"];
    let done = set_up(&[&["okta", "--domain", "example.okta.com"], &more[..]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.said);
    let file = done.folder.join("2-trusted-token-issuer.json");
    let checked = Command::new(python())
        .arg(script("trusted_token_issuer.py"))
        .arg(&file)
        .arg(done.folder.join("2-trusted-token-issuer.md"))
        .output()
        .await
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // And a document that is wrong is refused, so the check can fail.
    fs_err::write(&file, "{\"InstanceArn\": 1}").unwrap();
    let checked = Command::new(python())
        .arg(script("trusted_token_issuer.py"))
        .arg(&file)
        .arg(&file)
        .output()
        .await
        .unwrap();
    assert!(!checked.status.success());
    let done =
        set_up(&["okta", "--domain", "example.okta.com", "--identity-center", "ssoins-1", "--offline"]).await;
    assert!(done.code == Some(1) && done.said.contains("--identity-center: expected"), "{}", done.said);
}

/// A person at a terminal is asked for what is missing, and asked again until it can be understood.
#[tokio::test]
async fn a_person_is_asked_for_what_is_missing() {
    let provider = Provider::start().await;
    let device = Device::new();
    let folder = device.path("setup").display().to_string();
    let command = format!("{} setup custom --output {folder}", program("steward").display());
    // A real terminal: script(1) makes one.
    let mut talk = Talk::run(&device, Path::new("/usr/bin/script"), &["-qefc", &command, "/dev/null"]);
    for line in ["what is this", ""] {
        talk.say(line).await;
    }
    talk.say(provider.issuer()).await;
    talk.say(CLIENT_ID).await;
    talk.say("n").await;
    let said = talk.rest().await;
    assert!(said.contains("Issuer") && said.contains("is no host name"), "{said}");
    assert!(said.contains("The identity provider says the same."), "{said}");
    assert!(Path::new(&folder).join("policy.toml").exists(), "{said}");
}

/// What setup writes is put in place, and people sign in with it.
#[tokio::test]
async fn port_18080_what_setup_writes_signs_people_in() {
    let provider = Provider::start().await;
    let done = set_up(&[
        "custom",
        "--issuer",
        provider.issuer(),
        "--client-id",
        CLIENT_ID,
        "--email-domain",
        "example.com",
    ])
    .await;
    assert_eq!(done.code, Some(0), "{}", done.said);
    let Outcome { device, folder, .. } = done;
    device.push("50-steward.toml", &fs_err::read_to_string(folder.join("policy.toml")).unwrap());
    let app = program("lab-notes").display().to_string();
    device.push(
        "60-lab.toml",
        &format!(
            "App = \"lab-notes\"\nProxyMode = \"direct\"\nAllowedApplications = [{app:?}]\n{FILE_VAULT}"
        ),
    );
    let _agent = device.start_agent().await;
    let _broker = device.start_broker().await;
    let (content, said) = start_app(&device).await;
    assert!(content && said.contains("ada@example.com"), "{said}");
}
