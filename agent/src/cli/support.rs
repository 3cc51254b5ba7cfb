//! `steward support-bundle`: one file for support, without secrets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use broker::configuration::Configuration;
use flate2::Compression;
use flate2::write::GzEncoder;
use net::client::call;
use platform::paths::Paths;
use platform::{clock, file, service};
use policy_schema::Value;
use protocol::broker::CALLERS;
use protocol::endpoint::Nothing;
use serde_json::json;

use super::doctor::{installed, progress};
use super::policy::{effective_or_preview, preview};
use super::status::overview;
use crate::doctor;
use crate::support::{Redaction, end_of, newest};

/// The end of each log goes in, up to this many bytes.
const LOG_BYTES: u64 = 512 * 1024;
/// This many of the app's logs go in, the newest.
const LOGS: usize = 5;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file to write; by default a file in this folder with the date in its name.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Another log to include; may be given more than once.
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
}

pub(super) async fn support_bundle(
    paths: &Paths,
    arguments: Arguments,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let now = clock::now();
    let name = format!("steward-support-{}.tar.gz", now.strftime("%Y%m%d-%H%M%S"));
    let output = arguments.output.unwrap_or_else(|| PathBuf::from(name));
    let redaction = Redaction::new(secrets(paths));
    let mut parts = documents(paths, &redaction).await;
    let mut logs: Vec<(String, String)> =
        service::logs(paths, LOG_BYTES).into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let failed = end_of(&watchdog::log_of_failed(paths), LOG_BYTES);
    logs.extend(failed.map(|text| ("failed-version.log".to_owned(), text)));
    let subject = installed(paths).await;
    let folders = subject.app.and_then(|app| app.system()).into_iter().flat_map(|system| &system.logs);
    let of_app = folders.flat_map(|folder| newest(&paths.of_user(folder), LOGS));
    let given = arguments.log.into_iter().map(|path| ("more", path));
    for (number, (folder, path)) in of_app.map(|path| ("app", path)).chain(given).enumerate() {
        let name = path.file_name().map_or_else(|| "log".into(), |name| name.to_string_lossy().into_owned());
        // Names come from others, so control characters must not reach a terminal. The number keeps them apart.
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' }
        };
        let name: String = redaction.text(&name).chars().map(plain).take(80).collect();
        let name = format!("{:02}-{name}", number + 1);
        let text = end_of(&path, LOG_BYTES).unwrap_or_else(|| format!("{} cannot be read\n", path.display()));
        logs.push((format!("{folder}/{name}"), text));
    }
    parts.extend(logs.into_iter().map(|(name, text)| (format!("logs/{name}"), redaction.text(&text))));
    parts.sort();
    let list: Vec<String> =
        parts.iter().map(|(name, text)| format!("{name} ({} bytes)", text.len())).collect();
    let list = list.join("\n");
    let head = format!(
        "Steward {}, {now}\n\nKnown secrets were replaced by (removed): secrets of policy, tokens, codes, passwords, keys.\n\
         Names of users and of this organisation's servers are still there: check it before you share it.\n\n{list}\n",
        crate::version::own()
    );
    parts.insert(0, ("README.txt".to_owned(), head));
    pack(&output, &parts)?;
    if as_json {
        let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        out!("{}", serde_json::to_string_pretty(&json!({ "file": output, "parts": names }))?);
        return Ok(ExitCode::SUCCESS);
    }
    out!("Written to {}:", output.display());
    for (name, _) in &parts {
        out!("  {name}");
    }
    out!("Names of users and servers are still in it: check it before you share it.");
    Ok(ExitCode::SUCCESS)
}

/// Status, policy, callers and findings as documents. One that is not available says why, and the others are complete.
async fn documents(paths: &Paths, redaction: &Redaction) -> Vec<(String, String)> {
    let status = async { Ok(serde_json::to_value(overview(paths).await?)?) };
    let policy = async { Ok(serde_json::to_value(effective_or_preview(paths).await)?) };
    let callers =
        async { Ok(serde_json::to_value(call(&paths.broker_socket(), &CALLERS, &Nothing {}).await?)?) };
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

/// The secrets of policy that the current user may read.
fn secrets(paths: &Paths) -> Vec<String> {
    let settings = preview(paths).resolved.settings;
    let of_policy = settings.iter().filter_map(|setting| match &setting.value {
        Some(Value::Secret(secret)) => Some(secret.expose().to_owned()),
        Some(Value::Boolean(_) | Value::Integer(_) | Value::Text(_) | Value::List(_)) | None => None,
    });
    let of_broker = Configuration::load(paths).ok().and_then(|configuration| configuration.client_secret);
    of_policy.chain(of_broker).collect()
}

fn pack(output: &Path, parts: &[(String, String)]) -> anyhow::Result<()> {
    // Other users of this device may not read it.
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
