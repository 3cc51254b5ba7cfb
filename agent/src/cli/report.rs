//! `steward report`: the health report, for a collector on this device or for a user who wants to see what is sent.

use std::process::ExitCode;

use jiff::Timestamp;
use net::client::{CallError, call};
use platform::clock;
use platform::paths::Paths;
use policy_schema::export::compliance::FACTS;
use policy_schema::settings::ReportIdentity;
use protocol::agent::REPORT;
use protocol::endpoint::Nothing;
use protocol::report::{Destination, Preview, Report};

use super::hanging;
use super::status::{duration, overview};
use crate::health::encode::{Encoding, encode, encode_fact};
use crate::health::identity::{Identity, Origin};
use crate::health::report::{self, PostureInput, ReportInputs};

/// The names of facts.
pub(super) const FACT_NAMES: [&str; FACTS.len()] = {
    let mut names = [""; FACTS.len()];
    let mut number = 0;
    while number < FACTS.len() {
        names[number] = FACTS[number].name;
        number += 1;
    }
    names
};

/// Prints the report for a collector, or one fact of it.
pub(super) async fn report(paths: &Paths, encoding: Encoding, key: Option<&str>) -> anyhow::Result<ExitCode> {
    // Without an agent, or with one of another version, this process knows what its last status says.
    let report = match call(&paths.agent_socket(), &REPORT, &Nothing {}).await {
        Ok(Preview { report, .. }) => report,
        Err(_) => made_here(paths).await,
    };
    let text = key.and_then(|name| encode_fact(&report, name)).unwrap_or_else(|| encode(&report, encoding));
    out!("{}", text.trim_end());
    // A collector takes a failing exit code for a failed collection, so a device that fails is a success here.
    Ok(ExitCode::SUCCESS)
}

/// A report without the agent's part. It has no user, no device identity and no sequence: nothing else has sent it or is going to.
async fn made_here(paths: &Paths) -> Report {
    // Before the agent has run, nothing is known. That is a report too: a collector takes silence for a failed collection.
    let (agent_running, status) = match overview(paths).await {
        Ok(overview) => (overview.agent_running, overview.status),
        Err(error) => {
            err!("steward: {}", net::chain(error.as_ref()));
            (false, None)
        }
    };
    let unsent = || "not-sent".to_owned();
    let identity =
        Identity { device_id: unsent(), epoch: unsent(), ..Identity::new(&[0; 24], Origin::default()) };
    let inputs = ReportInputs {
        paths: paths.clone(),
        status,
        agent_running,
        identity: ReportIdentity::None,
        posture: PostureInput::NoAgent,
        updates: Vec::new(),
        interval: 3600,
    };
    report::make(&inputs, &identity).await.0
}

/// Prints what is sent to whom, when, and what is left out.
pub(super) async fn show(paths: &Paths, json: bool) -> anyhow::Result<ExitCode> {
    let preview = match call(&paths.agent_socket(), &REPORT, &Nothing {}).await {
        Ok(preview) => preview,
        Err(CallError::Absent { .. }) => {
            anyhow::bail!(
                "the agent does not run, so nothing is sent\n  hint: start it: {}",
                platform::service::START
            )
        }
        Err(error) => return Err(error.into()),
    };
    if json {
        out!("{}", serde_json::to_string_pretty(&preview)?);
        return Ok(ExitCode::SUCCESS);
    }
    let now = clock::now();
    if preview.destinations.is_empty() {
        out!(
            "{}",
            hanging(
                "",
                "Nobody gets reports from this device: policy sets no `ReportUrl`, `OpampUrl`, `OtlpUrl` or `ReportTextfile`. \
                 A report would be the one below."
            )
        );
    }
    for destination in &preview.destinations {
        out!("{}", hanging("Sent to    ", &format!("{} (`{}`)", destination.url, destination.setting)));
        out!("{}", hanging("When       ", &when(destination, now)));
        out!("{}", hanging("As         ", &form(destination, &preview.report)));
    }
    for (number, item) in preview.left_out.iter().enumerate() {
        let label = if number == 0 { "Left out   " } else { "           " };
        out!("{}", hanging(label, &format!("{}: {}", item.what, item.why)));
    }
    out!("\n{}", encode(&preview.report, Encoding::Json).trim_end());
    Ok(ExitCode::SUCCESS)
}

fn when(destination: &Destination, now: Timestamp) -> String {
    let next = match destination.next {
        Some(next) if next <= now => "now".to_owned(),
        Some(next) => format!("in {}", duration(now, next)),
        None => "now: one is under way".to_owned(),
    };
    let waiting = match destination.queued {
        0 => String::new(),
        queued => format!("; {queued} waiting on disk"),
    };
    format!("{next}; at once after a change, else every {} min{waiting}", destination.interval / 60)
}

fn form(destination: &Destination, report: &Report) -> String {
    let setting = match destination.setting.as_str() {
        "OpampUrl" => "OpampToken",
        "OtlpUrl" => "OtlpToken",
        _ => "ReportEnrollmentToken",
    };
    let token = match (destination.certificate, destination.token) {
        (true, _) => ", with the certificate of this device".to_owned(),
        (false, true) => format!(", with the token of `{setting}`"),
        (false, false) => String::new(),
    };
    if destination.form != "report" {
        return format!("{}, made of the report below{token}", destination.form);
    }
    let size = serde_json::to_string(report).map_or(0, |text| text.len());
    if destination.heartbeat {
        let size = serde_json::to_string(&report.heartbeat()).map_or(0, |text| text.len());
        return format!(
            "a heartbeat of {size} bytes, because the receiver has a report that says the same{token}"
        );
    }
    format!("the report below, {size} bytes of JSON without spaces{token}")
}
