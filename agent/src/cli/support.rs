//! `steward support-bundle`: one file for whoever helps, with nothing secret in it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_platform::paths::Paths;
use agent_platform::{file, service};
use flate2::Compression;
use flate2::write::GzEncoder;
use policy_schema::Value;
use serde_json::json;

use super::doctor::{installed, progress};
use super::status::overview;
use crate::api::{self, Explained};
use crate::broker::callers::Asked;
use crate::broker::configuration::Configuration;
use crate::support::{Redaction, end_of, newest};
use crate::{clock, doctor};

/// How much of the end of each log goes in, in bytes, and of how many of the app's.
const LOG_BYTES: u64 = 512 * 1024;
const LOGS: usize = 5;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file to write; by default, one with the date in its name in this folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Another log to put in; may be given more than once.
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
}

pub(super) async fn support_bundle(paths: &Paths, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let now = clock::now();
    let name = format!("steward-support-{}.tar.gz", now.strftime("%Y%m%d-%H%M%S"));
    let output = arguments.output.unwrap_or_else(|| PathBuf::from(name));
    let redaction = Redaction::new(secrets(paths));
    let mut parts = documents(paths, &redaction).await;
    let mut logs: Vec<(String, String)> =
        service::logs(LOG_BYTES).into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let subject = installed(paths).await;
    let folders = subject.app.and_then(|app| app.system()).into_iter().flat_map(|system| &system.logs);
    let of_app = folders.flat_map(|folder| newest(&paths.of_person(folder), LOGS));
    let given = arguments.log.into_iter().map(|path| ("more", path));
    for (number, (place, path)) in of_app.map(|path| ("app", path)).chain(given).enumerate() {
        let name = path.file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy().into_owned());
        // Names come from others: nothing in them reaches a terminal as a command, and no two are the same.
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' }
        };
        let name: String = redaction.text(&name).chars().map(plain).take(80).collect();
        let name = format!("{:02}-{name}", number + 1);
        let text = end_of(&path, LOG_BYTES).unwrap_or_else(|| format!("{} cannot be read\n", path.display()));
        logs.push((format!("{place}/{name}"), text));
    }
    parts.extend(logs.into_iter().map(|(name, text)| (format!("logs/{name}"), redaction.text(&text))));
    parts.sort();
    let list: Vec<String> =
        parts.iter().map(|(name, text)| format!("{name} ({} bytes)", text.len())).collect();
    let list = list.join("\n");
    let head = format!(
        "Steward {}, {now}\n\nWhat is known to be secret was replaced by (removed): secrets of policy, tokens, codes, passwords, \
         keys.\nNames of people and of this organisation's servers are still there: look before you hand it on.\n\n{list}\n",
        env!("CARGO_PKG_VERSION")
    );
    parts.insert(0, ("README.txt".to_owned(), head));
    pack(&output, &parts)?;
    out!("Written to {}:", output.display());
    for (name, _) in &parts {
        out!("  {name}");
    }
    out!("Names of people and servers are still in it: look before you hand it on.");
    Ok(ExitCode::SUCCESS)
}

/// What this device tells as documents. What cannot be had says why, and keeps nothing else out.
async fn documents(paths: &Paths, redaction: &Redaction) -> Vec<(String, String)> {
    let status = async { Ok(serde_json::to_value(overview(paths).await?)?) };
    let policy = async {
        if let Ok(explained) =
            api::request::<Explained>(&paths.agent_socket(), "GET", "/v1/policy", None).await
        {
            Ok(serde_json::to_value(explained)?)
        } else {
            let snapshot = crate::policy::Store::look(paths.clone()).preview(clock::now());
            let problems = snapshot.problems.clone();
            Ok(serde_json::to_value(Explained::new(&snapshot, problems))?)
        }
    };
    let callers = async {
        let asked: Vec<Asked> = api::request(&paths.broker_socket(), "GET", "/v1/callers", None).await?;
        Ok(serde_json::to_value(asked)?)
    };
    let findings = async {
        let findings = doctor::examine(installed(paths).await, progress(false, false)).await;
        Ok(serde_json::to_value(findings)?)
    };
    let (status, policy, callers, findings): (Part, Part, Part, Part) =
        tokio::join!(status, policy, callers, findings);
    [("status", status), ("policy", policy), ("callers", callers), ("doctor", findings)]
        .into_iter()
        .map(|(name, part)| {
            let document = part.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
            let text = serde_json::to_string_pretty(&redaction.document(document)).unwrap_or_default();
            (format!("{name}.json"), format!("{text}\n"))
        })
        .collect()
}

type Part = anyhow::Result<serde_json::Value>;

/// The secrets that policy holds, as far as whoever runs this may read them.
fn secrets(paths: &Paths) -> Vec<String> {
    let snapshot = crate::policy::Store::look(paths.clone()).preview(clock::now());
    let of_policy = snapshot.resolved.settings.iter().filter_map(|setting| match &setting.value {
        Some(Value::Secret(secret)) => Some(secret.expose().to_owned()),
        Some(Value::Boolean(_) | Value::Integer(_) | Value::Text(_) | Value::List(_)) | None => None,
    });
    let left = Configuration::load(paths).ok().and_then(|configuration| configuration.client_secret);
    of_policy.chain(left).collect()
}

fn pack(output: &Path, parts: &[(String, String)]) -> anyhow::Result<()> {
    // Nobody else on this device may read it.
    let file = file::create_private(output)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, format!("steward-support/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}
