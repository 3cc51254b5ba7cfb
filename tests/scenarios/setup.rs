//! `steward setup`: from what an administrator pastes to everything that has to be entered elsewhere.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::{Path, PathBuf};

use e2e::device::Device;
use e2e::interactive::Interactive;
use e2e::process::program;
use e2e::provider::{CLIENT_ID, Provider, ProviderFault, Vendor};
use serde_json::Value;
use tokio::process::Command;

use super::external_provider::{python, script};
use super::fixture::{FILE_VAULT, free_port, start_app};

const INSTANCE: &str = "arn:aws:sso:::instance/ssoins-1234567890abcdef";

/// The result of a setup.
struct Outcome {
    code: Option<i32>,
    printed: String,
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
    let printed = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    Outcome { code: done.status.code(), printed, folder, device }
}

/// Every vendor's provider, found by an address that administrators paste; its own document agrees.
#[tokio::test]
async fn setup_accepts_pasted_addresses_of_each_identity_provider() {
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
        assert_eq!(done.code, Some(0), "{vendor:?}: {}", done.printed);
        // The lab's client ID is none that Entra ID could have, so there it is refused, which is shown.
        let refused = vendor == Vendor::Entra;
        let verdict = if refused {
            "it refuses this client"
        } else {
            "The values match the identity provider's discovery document."
        };
        assert!(done.printed.contains(verdict), "{vendor:?}: {}", done.printed);
        assert!(done.text("1-identity-provider.md").contains(click), "{vendor:?}");
        let access = done.text("3-extension-access.md");
        for value in [provider.issuer(), client_id, "The extension\n", "compared with the identity provider"]
        {
            assert!(access.contains(value), "{vendor:?}: {value} is not in {access}");
        }
        assert!(!done.folder.join("2-trusted-token-issuer.json").exists(), "it was not asked for");
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
            let (of_setup, of_export) =
                (done.folder.join("profiles").join(file), Path::new(&again).join(file));
            assert_eq!(fs_err::read(of_setup).unwrap(), fs_err::read(of_export).unwrap(), "{file}");
        }
    }
}

/// What was entered differs from what the provider says: both are shown, and nothing is written.
#[tokio::test]
async fn contradiction_with_provider_is_shown_and_nothing_is_written() {
    let plain = Provider::start().await;
    // Its endpoints are not where PingFederate has them.
    let done = set_up(&["pingfederate", "--host", plain.issuer(), "--client-id", "c"]).await;
    assert_eq!(done.code, Some(2), "{}", done.printed);
    let theirs = format!("{}/token", plain.issuer());
    let ours = format!("{}/as/token.oauth2", plain.issuer());
    assert!(done.printed.contains(&theirs) && done.printed.contains(&ours), "{}", done.printed);
    assert!(done.printed.contains("Nothing was written") && !done.folder.exists(), "{}", done.printed);
    // Okta without API Access Management: the message says what to do.
    let okta = Provider::start_as(Vendor::Okta).await;
    okta.behave(|behaviour| behaviour.fault = Some(ProviderFault::DiscoveryRefused));
    let domain = okta.issuer().split("/oauth2").next().unwrap().to_owned();
    let done = set_up(&["okta", "--domain", &domain, "--client-id", "c"]).await;
    assert!(done.printed.contains("--authorization-server org") && done.code == Some(2), "{}", done.printed);
    // Mistakes that are found without the provider.
    for (arguments, reason) in [
        (vec!["entra", "--tenant", "common", "--client-id", "c"], "shared endpoint"),
        (
            vec!["entra", "--tenant", "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10", "--client-id", "my app"],
            "a client ID without spaces",
        ),
        (vec!["pingone", "--environment", "production"], "not an environment ID"),
        (vec!["google", "--client-id", "1.apps.googleusercontent.com"], "--client-secret"),
        (vec!["okta"], "`--domain` is missing"),
        (vec![], "which identity provider"),
    ] {
        let done = set_up(&arguments).await;
        assert!(done.code == Some(1) && done.printed.contains(reason), "{arguments:?}: {}", done.printed);
        assert!(!done.folder.exists());
    }
}

/// A slash too many, a provider that does not run, and one that is not contacted.
#[tokio::test]
async fn setup_corrects_slash_and_says_what_it_could_not_compare() {
    let provider = Provider::start().await;
    let slash = format!("{}/", provider.issuer());
    let done = set_up(&["custom", "--issuer", &slash, "--client-id", CLIENT_ID, "--json"]).await;
    let document: Value = serde_json::from_str(&done.printed).unwrap_or_else(|_| panic!("{}", done.printed));
    assert_eq!((&document["issuer"], &document["checked"]), (&provider.issuer().into(), &true.into()));
    assert_eq!(document["extension_access"]["JWKS URI"], format!("{}/jwks", provider.issuer()));
    assert!(document["files"].as_array().unwrap().contains(&"3-extension-access.md".into()), "{document:#}");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let done = set_up(&["pingfederate", "--host", &nowhere, "--client-id", "c"]).await;
    assert!(done.code == Some(0) && done.printed.contains("could not be reached"), "{}", done.printed);
    assert!(done.text("3-extension-access.md").contains("NOT compared"), "{}", done.printed);
    let done = set_up(&["custom", "--issuer", &nowhere, "--client-id", "c"]).await;
    assert!(done.code == Some(2) && done.printed.contains("endpoints are not known"), "{}", done.printed);
    // Without a client ID there is only the first document.
    let done = set_up(&["entra", "--tenant", "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10", "--offline"]).await;
    assert!(
        done.code == Some(0) && done.printed.contains("run this again with --client-id"),
        "{}",
        done.printed
    );
    assert!(
        done.text("identity-provider/app.json").contains("isFallbackPublicClient")
            && !done.folder.join("policy.toml").exists()
    );
}

/// Found by review: a second run left files of the provider before, and replaced an edited policy without a message.
#[tokio::test]
async fn second_setup_removes_files_of_the_first_and_keeps_edited_policy() {
    let device = Device::new();
    let folder = device.path("setup");
    let output = folder.display().to_string();
    let run = async |arguments: &[&str]| {
        let done =
            device.steward(&[&["setup"], arguments, &["--offline", "--output", &output]].concat()).await;
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let tenant = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
    let client = "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77";
    let first = ["entra", "--tenant", tenant, "--client-id", client, "--identity-center", INSTANCE];
    assert_eq!(run(&first).await.0, Some(0));
    let policy = folder.join("policy.toml");
    let edited = format!("{}UpdateMode = \"off\"\n", fs_err::read_to_string(&policy).unwrap());
    fs_err::write(&policy, &edited).unwrap();
    let (code, printed) = run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await;
    assert!(code == Some(0) && printed.contains("policy.toml.before"), "{printed}");
    assert_eq!(fs_err::read_to_string(folder.join("policy.toml.before")).unwrap(), edited);
    assert!(!folder.join("2-trusted-token-issuer.json").exists(), "it belonged to the first setup");
    assert!(!fs_err::read_to_string(&policy).unwrap().contains("microsoft"));
    // Files of others are not touched, and a link is not followed.
    let victim = device.path("victim");
    fs_err::write(&victim, "untouched").unwrap();
    fs_err::remove_file(&policy).unwrap();
    std::os::unix::fs::symlink(&victim, &policy).unwrap();
    assert_eq!(run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await.0, Some(0));
    assert_eq!(fs_err::read_to_string(&victim).unwrap(), "untouched");
    fs_err::write(folder.join("notes.txt"), "mine").unwrap();
    let (code, printed) = run(&["okta", "--domain", "example.okta.com", "--client-id", "c"]).await;
    assert!(code == Some(1) && printed.contains("contains `notes.txt`"), "{printed}");
}

/// Found by trial: a second run with fewer options dropped the allowed domains and the report settings.
#[tokio::test]
async fn second_setup_keeps_restrictions_and_loosens_only_if_that_is_said() {
    let device = Device::new();
    let folder = device.path("setup");
    let output = folder.display().to_string();
    let run = async |arguments: &[&str]| {
        let okta = ["setup", "okta", "--domain", "example.okta.com", "--offline", "--output", &output];
        let done = device.steward(&[&okta[..], arguments].concat()).await;
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let (code, printed) = run(&["--client-id", "0oa1", "--email-domain", "example.com"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let policy = folder.join("policy.toml");
    let more = "SocialSignIn = \"blocked\"\nReportUrl = \"https://reports.example.com/v1\"\n";
    fs_err::write(&policy, format!("{}{more}", fs_err::read_to_string(&policy).unwrap())).unwrap();
    // Without its options, and without the client ID.
    let (code, printed) = run(&["--organization", "Example Corp"]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("+ OrganizationName"), "{printed}");
    let text = fs_err::read_to_string(&policy).unwrap();
    for kept in ["example.com\"]", "blocked", "reports.example.com", "0oa1", "Example Corp"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    let wider = ["--email-domain", "example.com", "--email-domain", "example.org"];
    let (code, printed) = run(&wider).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("`AllowedEmailDomains`") && printed.contains("--allow-loosening"), "{printed}");
    assert_eq!(fs_err::read_to_string(&policy).unwrap(), text, "nothing was written");
    assert_eq!(run(&[&wider[..], &["--allow-loosening"]].concat()).await.0, Some(0));
    assert!(fs_err::read_to_string(&policy).unwrap().contains("example.org"));
    // No copy of an earlier policy is ever replaced.
    for number in 2..4 {
        fs_err::write(&policy, format!("{}# edited {number}\n", fs_err::read_to_string(&policy).unwrap()))
            .unwrap();
        assert_eq!(run(&["--support-contact", &format!("help-{number}@example.com")]).await.0, Some(0));
    }
    let copies = fs_err::read_dir(&folder).unwrap().flatten();
    let copies: Vec<_> =
        copies.filter(|entry| entry.file_name().to_string_lossy().contains(".before")).collect();
    assert_eq!(copies.len(), 4, "{copies:?}");
    fs_err::write(&policy, "AllowedEmailDomains = [\n").unwrap();
    let (code, printed) = run(&["--client-id", "0oa1"]).await;
    assert!(code == Some(1) && printed.contains("its restrictions would be lost"), "{printed}");
}

/// Found by trial: such values got into the sheet that cannot be edited afterwards.
#[tokio::test]
async fn values_that_nobody_could_verify_are_refused_or_marked() {
    const TENANT: &str = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
    const CLIENT: &str = "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77";
    let entra = ["entra", "--offline", "--tenant"];
    for (more, reason) in [
        (vec!["contoso.onmicrosoft.com", "--client-id", CLIENT], "has the domain of the tenant"),
        (vec![TENANT, "--client-id", TENANT], "the client ID is shown beside it"),
        (vec![TENANT, "--client-id", "https://portal.azure.com/x"], "an address, not a client ID"),
        (
            vec![TENANT, "--client-id", CLIENT, "--identity-center", "arn:aws:sso:::instance/x"],
            "--identity-center",
        ),
        (
            vec![
                TENANT,
                "--client-id",
                CLIENT,
                "--identity-center",
                INSTANCE,
                "--trusted-token-issuer",
                "arn:aws:x",
            ],
            "--trusted-token-issuer: expected",
        ),
    ] {
        let done = set_up(&[&entra[..], &more].concat()).await;
        assert!(done.code == Some(1) && done.printed.contains(reason), "{more:?}: {}", done.printed);
        assert!(!done.folder.exists(), "{more:?}");
    }
    let pasted = format!(" {{{CLIENT}}} ");
    let center = ["--identity-center", "arn:aws-us-gov:sso:::instance/ssoins-1234567890abcdef"];
    let done = set_up(&[&entra[..], &[TENANT, "--client-id", &pasted], &center].concat()).await;
    assert!(done.code == Some(0) && done.printed.contains("GovCloud"), "{}", done.printed);
    let access = done.text("3-extension-access.md");
    assert!(access.contains(&format!("\n{CLIENT}\n")) && access.contains("UNVERIFIED"), "{access}");
    assert!(done.text("2-trusted-token-issuer.md").contains("--region \"${AWS_REGION:?"));
    let region = ["--identity-center", INSTANCE, "--aws-region", "eu-west-1"];
    let done = set_up(&[&entra[..], &[TENANT, "--client-id", CLIENT], &region].concat()).await;
    let sheet = done.text("2-trusted-token-issuer.md");
    assert!(sheet.contains("--region eu-west-1") && sheet.contains("older pages"), "{sheet}");
    let us = format!("https://login.microsoftonline.us/{TENANT}/v2.0");
    let done = set_up(&["entra", "--offline", "--tenant", &us, "--client-id", CLIENT]).await;
    let sheet = done.text("1-identity-provider.md");
    assert!(
        sheet.contains("https://portal.azure.us") && sheet.contains("https://graph.microsoft.us/v1.0"),
        "{sheet}"
    );
    // The sheet about distribution names only files that are there.
    let sheet = done.text("4-distribution.md");
    assert!(
        !sheet.contains("amazon-quick.mobileconfig") && sheet.contains("`steward-VERSION.pkg`"),
        "{sheet}"
    );
    for name in sheet.split('`').filter(|word| word.starts_with("profiles/")) {
        assert!(done.folder.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn certificates_of_own_authority_are_trusted_and_get_into_the_policy() {
    let device = Device::new();
    let certificate = rcgen::generate_simple_self_signed(["ca.example.com".to_owned()]).unwrap().cert.pem();
    let file = device.path("ca.pem");
    fs_err::write(&file, format!("subject=CN\n{certificate}\n{certificate}")).unwrap();
    let file = file.display().to_string();
    let arguments =
        ["okta", "--domain", "example.okta.com", "--client-id", "c", "--offline", "--ca-file", &file];
    let done = set_up(&arguments).await;
    assert_eq!(done.code, Some(0), "{}", done.printed);
    assert_eq!(done.text("policy.toml").matches("BEGIN CERTIFICATE").count(), 2);
    fs_err::write(device.path("ca.pem"), "nothing").unwrap();
    let done = set_up(&arguments).await;
    assert!(done.code == Some(1) && done.printed.contains("no certificate in PEM"), "{}", done.printed);
}

/// Found by review: the registration named another redirect URI than the policy.
#[tokio::test]
async fn setup_uses_redirect_uri_and_hosts_of_base_policy() {
    let device = Device::new();
    let base = device.path("base.toml");
    fs_err::write(&base, "RedirectUri = \"http://localhost:9000\"\nReportUrl = \"https://reports.example.com/v1\"\nUpdateMode = \"off\"\n").unwrap();
    let base = base.display().to_string();
    let google = ["google", "--client-id", "1.apps.googleusercontent.com", "--client-secret", "GOCSPX-x"];
    let done = set_up(&[&google[..], &["--offline", "--policy", &base]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.printed);
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
    assert!(done.code == Some(1) && done.printed.contains("`UpdateMode`"), "{}", done.printed);
}

/// Amazon's own model of the call accepts the document, and the command line has the same values.
#[tokio::test]
async fn trusted_token_issuer_call_is_valid_for_botocore() {
    let more = ["--identity-center", INSTANCE, "--client-id", "c", "--offline"];
    let done = set_up(&[&["okta", "--domain", "example.okta.com"], &more[..]].concat()).await;
    assert_eq!(done.code, Some(0), "{}", done.printed);
    let file = done.folder.join("2-trusted-token-issuer.json");
    let checked = Command::new(python())
        .arg(script("trusted_token_issuer.py"))
        .arg(&file)
        .arg(done.folder.join("2-trusted-token-issuer.md"))
        .output()
        .await
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    // A wrong document is refused, so the check can fail.
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
    assert!(done.code == Some(1) && done.printed.contains("--identity-center: expected"), "{}", done.printed);
}

/// `steward setup` at a real terminal: script(1) makes one.
fn at_terminal(device: &Device, arguments: &str) -> (Interactive, PathBuf) {
    let folder = device.path("setup");
    let command = format!("{} setup {arguments} --output {}", program("steward").display(), folder.display());
    (Interactive::start(device, Path::new("/usr/bin/script"), &["-qefc", &command, "/dev/null"]), folder)
}

fn backspaces(count: usize) -> String {
    "\u{7f}".repeat(count)
}

/// A user at a terminal is asked for each missing value, again until it is valid, and can change an answer at the end.
#[tokio::test]
async fn setup_at_terminal_asks_until_values_are_valid_and_right() {
    let provider = Provider::start().await;
    let device = Device::new();
    let (mut terminal, folder) = at_terminal(&device, "custom");
    terminal.shows("Issuer").await;
    terminal.press("what is this\r").await;
    terminal.shows("is neither a host name").await;
    terminal.press(&format!("{}\r", backspaces(12))).await;
    terminal.shows("an answer is needed").await;
    terminal.press(&format!("\"{}\" \r", provider.issuer())).await;
    terminal.shows("Client ID").await;
    terminal.press("mistyped\r").await;
    terminal.shows("IAM Identity Center?").await;
    terminal.press("n\r").await;
    terminal.shows("Is this correct?").await;
    terminal.press("n\r").await;
    // The answers of before are there; only the wrong one is typed again.
    terminal.shows("Issuer").await;
    terminal.press("\r").await;
    terminal.shows("Client ID").await;
    terminal.press(&format!("{}{CLIENT_ID}\r", backspaces(8))).await;
    terminal.shows("IAM Identity Center?").await;
    terminal.press("n\r").await;
    terminal.shows("Is this correct?").await;
    terminal.press("y\r").await;
    let printed = terminal.remaining_output().await;
    assert!(printed.contains("The values match the identity provider's discovery document."), "{printed}");
    let policy = fs_err::read_to_string(folder.join("policy.toml")).unwrap();
    assert!(policy.contains(CLIENT_ID) && !policy.contains("mistyped"), "{policy}");
}

/// Found by trial: Ctrl-C left the terminal without a cursor, and Esc did nothing in most questions.
#[tokio::test]
async fn escape_and_ctrl_c_end_each_question_of_setup_and_bring_the_cursor_back() {
    for (answered, question) in [
        ("", "Identity provider"),
        ("\r", "(tenant) ID"),
        ("\r6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10\r", "Client ID"),
    ] {
        for key in ["\u{1b}", "\u{3}"] {
            let device = Device::new();
            let (mut terminal, folder) = at_terminal(&device, "--offline");
            if !answered.is_empty() {
                terminal.shows("Identity provider").await;
                terminal.press(answered).await;
            }
            terminal.shows(question).await;
            terminal.press(key).await;
            let printed = terminal.remaining_output().await;
            assert!(printed.contains("nothing was written"), "{key:?} at {question}: {printed}");
            assert!(
                printed.rfind("\u{1b}[?25h") >= printed.rfind("\u{1b}[?25l"),
                "{key:?} at {question}: {printed:?}"
            );
            assert!(!folder.exists(), "{key:?} at {question}");
        }
    }
}

/// Found by review: while the identity provider was asked, Ctrl-C did nothing.
#[tokio::test]
async fn ctrl_c_ends_setup_while_it_waits_for_the_identity_provider() {
    let device = Device::new();
    // It accepts connections and never responds.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", silent.local_addr().unwrap());
    let (mut terminal, folder) =
        at_terminal(&device, &format!("custom --issuer {issuer} --client-id {CLIENT_ID}"));
    terminal.shows("IAM Identity Center?").await;
    terminal.press("n\r").await;
    terminal.shows("Is this correct?").await;
    terminal.press("y\r").await;
    let _connection = silent.accept().await.unwrap();
    terminal.press("\u{3}").await;
    let printed = terminal.remaining_output().await;
    assert!(!printed.contains("othing was written:"), "it went on: {printed}");
    assert!(!folder.exists(), "{printed}");
}

/// The policy that setup writes is pushed, and a user signs in with it.
#[tokio::test]
async fn port_18080_policy_of_setup_signs_in() {
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
    assert_eq!(done.code, Some(0), "{}", done.printed);
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
    let (succeeded, printed) = start_app(&device).await;
    assert!(succeeded && printed.contains("ada@example.com"), "{printed}");
}
