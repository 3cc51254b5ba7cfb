//! Sign-in when a user logs on to the device: what policy asks for, and what a user may choose instead.

use e2e::device::{Device, settings};
use protocol::session::SessionState;

use super::fixture::{SIGN_IN_SETTINGS, SignInDevice, sign_in_device};

/// What the system runs at logon; gives what it printed.
async fn log_on(fixture: &SignInDevice) -> String {
    let output = fixture.device.steward(&["login", "--at-logon"]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn choose(device: &Device, preferences: &str) {
    let folder = device.path(&format!("home/{}/.config/steward", nix::unistd::geteuid()));
    fs_err::create_dir_all(&folder).expect("the disk has room");
    fs_err::write(folder.join("preferences.toml"), preferences).expect("the disk has room");
}

async fn explained(device: &Device, key: &str) -> String {
    let text = device.printed(&["policy", "explain", key]).await;
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn logon_signs_in_if_policy_asks_for_it_and_nobody_is_signed_in() {
    let mut fixture = sign_in_device("").await;
    assert_eq!(log_on(&fixture).await, "");
    assert_eq!(fixture.session().await.state, SessionState::SignedOut);
    // Without a broker nothing is said either, and nothing waits for one.
    fixture.kill_broker().await;
    assert_eq!(log_on(&fixture).await, "");
    fixture.start_broker_again().await;

    fixture.device.push("60.toml", "SignInAtLogon = true\n");
    fixture.device.settings_become(SIGN_IN_SETTINGS + 1).await;
    let printed = log_on(&fixture).await;
    assert!(printed.contains("Signed in as"), "{printed}");
    assert_eq!(fixture.provider.logins(), 1);
    assert_eq!(log_on(&fixture).await, "");
    assert_eq!(fixture.provider.logins(), 1);
}

/// The broker and this start at the same time.
#[tokio::test]
async fn logon_waits_for_a_broker_that_starts_with_it() {
    let mut fixture = sign_in_device("SignInAtLogon = true\n").await;
    fixture.kill_broker().await;
    let late = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        fixture.device.start_broker().await
    };
    let (output, broker) = tokio::join!(fixture.device.steward(&["login", "--at-logon"]), late);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Signed in as"), "{output:?}");
    drop(broker);
}

#[tokio::test]
async fn preference_of_the_user_counts_unless_policy_enforces_a_value() {
    let fixture = sign_in_device("[Recommended]\nSignInAtLogon = true\n").await;
    let device = &fixture.device;
    device.settings_become(SIGN_IN_SETTINGS + 1).await;
    assert!(explained(device, "SignInAtLogon").await.contains("your own no choice; it would be in"));

    choose(device, "SignInAtLogon = false\nLogLevel = \"debug\"\n");
    assert_eq!(log_on(&fixture).await, "");
    assert_eq!(fixture.session().await.state, SessionState::SignedOut);
    let text = explained(device, "SignInAtLogon").await;
    assert!(text.contains("your own false in") && text.contains("used instead of the value above"), "{text}");

    // An enforced value is stronger, and what no user may choose is not chosen.
    device.push("60.toml", "SignInAtLogon = true\n");
    device.settings_become(SIGN_IN_SETTINGS + 1).await;
    choose(device, "SignInAtLogon = false\nAllowedEmailDomains = []\nClientId = \"other\"\n");
    let text = explained(device, "SignInAtLogon").await;
    assert!(text.contains("not used, because policy enforces a value"), "{text}");
    assert!(!explained(device, "ClientId").await.contains("your own"));
    let printed = log_on(&fixture).await;
    assert!(printed.contains("Signed in as"), "{printed}");
}

/// A preference that cannot be understood is none, and is said where the user looks.
#[tokio::test]
async fn preference_that_is_wrong_changes_nothing_and_is_explained() {
    let fixture = sign_in_device("").await;
    let device = &fixture.device;
    for (preferences, expected) in [
        ("SignInAtLogon = \"maybe\"\n", "not used: "),
        ("SignInAtLogon = true = false\n", "not used: "),
        ("LogLevel = \"loud\"\n", "no choice in"),
    ] {
        choose(device, preferences);
        assert_eq!(log_on(&fixture).await, "", "{preferences}");
        let text = explained(device, "SignInAtLogon").await;
        assert!(text.contains(expected), "{preferences}: {text}");
    }
    // Policy alone is what the agent reports.
    assert_eq!(device.machine_status().await.policy.settings, settings(SIGN_IN_SETTINGS));
}
