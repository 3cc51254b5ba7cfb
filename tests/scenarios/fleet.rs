//! The simulation of a fleet, small. `cargo xtask fleet` runs a large one.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::collections::BTreeSet;

use e2e::process::program;
use e2e::receiver::Receiver;
use tokio::process::Command;

async fn fleet(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program("fleet")).args(arguments).output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn fleet_comes_back_from_an_outage_without_a_herd_and_is_known_to_its_last_device() {
    let (success, text) = fleet(&["--devices", "2000", "--lost", "5", "--clones", "40"]).await;
    assert!(success, "{text}");
    assert!(text.contains("the fleet spread itself") && text.contains("20 copies said so"), "{text}");
    // The same seed gives the same fleet.
    let sums = |text: &str| {
        text.lines()
            .filter(|line| line.contains("arrived") || line.contains("heartbeats"))
            .collect::<String>()
    };
    let (_, again) = fleet(&["--devices", "2000", "--lost", "5", "--clones", "40"]).await;
    assert_eq!(sums(&again), sums(&text));
}

#[tokio::test]
async fn fleet_speaks_to_a_receiver_elsewhere() {
    let receiver = Receiver::start().await;
    receiver.offer_heartbeats_and_gzip();
    let url = receiver.url();
    let arguments = [
        "--devices",
        "30",
        "--hours",
        "3",
        "--outage",
        "9",
        "--clones",
        "0",
        "--asleep",
        "0",
        "--receiver",
        &url,
    ];
    let (success, text) = fleet(&arguments).await;
    assert!(success, "{text}");
    let devices: BTreeSet<String> = receiver.reports().into_iter().map(|report| report.device_id).collect();
    assert_eq!(devices.len(), 30);
    assert!(receiver.heartbeats().len() >= 30, "{text}");
}
