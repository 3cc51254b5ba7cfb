//! `steward cleanup`: removes what Steward wrote, before it is uninstalled.

use platform::paths::Paths;
use serde_json::json;

use crate::cleanup;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Remove the sessions and the keys of the user who runs this instead. The broker must not run.
    #[arg(long)]
    sessions: bool,
}

pub(super) async fn cleanup(paths: &Paths, arguments: &Arguments, json: bool) -> anyhow::Result<()> {
    let removed =
        if arguments.sessions { broker::forget_sessions(paths).await? } else { cleanup::of_machine(paths)? };
    if json {
        out!("{}", serde_json::to_string_pretty(&json!({ "removed": removed }))?);
        return Ok(());
    }
    for what in &removed {
        out!("Removed {what}.");
    }
    if removed.is_empty() {
        out!("There was nothing to remove.");
    }
    Ok(())
}
