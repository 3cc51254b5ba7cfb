//! State files of earlier runs that the agent cannot use.

use e2e::device::Device;
use nix::sys::signal::Signal;
use policy_schema::Code;

use super::fixture::{FILE_VAULT, sign_in_device};

/// Found by trial: that the record of updates or of the app's configuration was lost was told in one report, or in none.
#[tokio::test]
async fn state_that_is_lost_is_reported_until_the_agent_ends() {
    let device = Device::new();
    device.push(
        "50.toml",
        "App = \"lab-notes\"\nClientId = \"c\"\nIssuer = \"https://login.example.com\"\nProxyMode = \"direct\"\n",
    );
    let mut agent = device.start_agent().await;
    agent.signal(Signal::SIGTERM);
    agent.wait_for_exit().await;
    let lost = [
        ("private/managed-configuration.json", "{", "damaged"),
        ("private/last-good.json", "", "damaged"),
        ("private/identity.json", "{\"version\": 99}", "v99"),
        ("private/update.json", "{\"version\": 99}", "v99"),
    ];
    for (name, content, _) in lost {
        fs_err::write(device.path("var/lib/steward").join(name), content).unwrap();
    }
    let _agent = device.start_agent().await;
    for _ in 0..3 {
        device.printed(&["policy", "reload"]).await;
        let problems = device.machine_status().await.problems;
        for (name, _, aside) in lost {
            let path = device.path("var/lib/steward").join(name);
            let place = path.display().to_string();
            let of_file = problems.iter().filter(|problem| problem.place.as_ref() == Some(&place));
            let codes: Vec<_> = of_file.map(|problem| problem.code.as_str()).collect();
            assert_eq!(codes, [Code::AgentStateUnreadable.as_str()], "{name}: {problems:?}");
            assert!(path.with_extension(aside).exists(), "{name}");
        }
    }
}

/// Before an uninstallation: the app's configuration goes with the agent's state, and the user's sessions with their keys.
#[tokio::test]
async fn cleanup_removes_everything_and_refuses_while_services_run() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let refused = async |arguments: &[&str], expected: &str| {
        let output = fixture.device.steward(arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(expected), "{errors}");
    };
    refused(&["cleanup"], "the agent runs; stop it first").await;
    refused(&["cleanup", "--sessions"], "your broker runs; stop it first").await;
    let configuration = fixture.device.configuration_file();
    assert!(configuration.exists() && !fixture.vault().is_empty());
    fixture.kill_broker().await;
    fixture.agent.signal(Signal::SIGTERM);
    fixture.agent.wait_for_exit().await;
    let printed = fixture.device.printed(&["cleanup"]).await;
    assert!(printed.contains(&format!("Removed {}.", configuration.display())), "{printed}");
    assert!(!configuration.exists() && !fixture.device.path("var/lib/steward").exists());
    fixture.device.printed(&["cleanup", "--sessions"]).await;
    assert!(!fixture.device.session_folder().exists());
    let printed = fixture.device.printed(&["cleanup"]).await;
    assert!(printed.contains("nothing to remove"), "{printed}");
}
