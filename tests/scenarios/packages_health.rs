//! What the installed service tells of the device: entries of a real journal, and what it may see of it.

use e2e::container::Container;
use e2e::wait::until;
use protocol::health::{ComponentName, State};
use protocol::report::Report;
use serde_json::Value;

use super::packages::{CURRENT, POLICY};

/// What a collector of the journal gets, and what the service itself sees of the device.
#[tokio::test]
async fn change_of_a_state_is_an_entry_of_the_journal_with_its_code() {
    let Some(device) = Container::boot().await else { return };
    device.install(CURRENT).await;
    device.other_agent(0).await;
    device.push(POLICY).await;
    let entries = async |state: &str| {
        let fields = format!("STEWARD_COMPONENT=policy STEWARD_STATE={state}");
        until("an entry of the journal", async || {
            let ran = device.run(&format!("journalctl --unit steward-agent --output json {fields}")).await;
            let line = ran.text.lines().last().unwrap_or_default().to_owned();
            serde_json::from_str::<Value>(&line).map_err(|_| format!("{ran:?}"))
        })
        .await
    };
    device.push(&format!("{POLICY}LogLevel = \"loud\"\n")).await;
    let failed = entries("fail").await;
    assert_eq!((&failed["STEWARD_CODE"], &failed["PRIORITY"]), (&"policy.invalid-value".into(), &"4".into()));
    assert_eq!(
        (&failed["STEWARD_BEFORE"], &failed["SYSLOG_IDENTIFIER"]),
        (&"pass".into(), &"steward".into())
    );
    assert!(failed["MESSAGE"].as_str().unwrap().starts_with("policy is fail: `LogLevel`"), "{failed}");
    device.push(POLICY).await;
    let passed = entries("pass").await;
    assert_eq!((&passed["STEWARD_BEFORE"], &passed["PRIORITY"]), (&"fail".into(), &"5".into()));

    // The service has no right to see the rules of the kernel, and says so; an administrator can give it that right.
    let firewall = async || {
        let report = device.must("steward report --format json").await;
        let report: Report = serde_json::from_str(&report).unwrap();
        let posture = report.health.components.into_iter().find(|part| part.name == ComponentName::Posture);
        posture.unwrap().components.into_iter().find(|part| part.name == ComponentName::Firewall).unwrap()
    };
    let hidden = firewall().await;
    assert!(hidden.state == State::Unknown && hidden.reason.contains("CAP_NET_ADMIN"), "{hidden:?}");
    // A firewall whose service is active, as the bus of the system says.
    device.must("mkdir -p /etc/ufw && echo ENABLED=yes > /etc/ufw/ufw.conf").await;
    let ufw = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n";
    device.must(&format!("printf '{ufw}' > /etc/systemd/system/ufw.service && systemctl start ufw")).await;
    until("ufw", async || {
        let firewall = firewall().await;
        if firewall.state == State::Pass { Ok(()) } else { Err(firewall) }
    })
    .await;
    let unit = "/etc/systemd/system/steward-agent.service.d";
    let rights = "[Service]\\nCapabilityBoundingSet=CAP_NET_ADMIN\\nRestrictAddressFamilies=AF_NETLINK\\n";
    device.must(&format!("mkdir -p {unit} && printf '{rights}' > {unit}/firewall.conf")).await;
    device.must("systemctl daemon-reload && systemctl restart steward-agent").await;
    assert_eq!(firewall().await.state, State::Fail, "there are no rules");
    device.must("nft 'table inet t { chain in { type filter hook input priority 0; policy drop; }; }'").await;
    until("the rules of the kernel", async || {
        let firewall = firewall().await;
        if firewall.state == State::Pass { Ok(()) } else { Err(firewall) }
    })
    .await;
}
