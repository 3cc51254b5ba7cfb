//! `steward self-update`: for a program that nobody's package installed, such as the one on a developer's machine. Devices of a fleet
//! update by themselves ([`crate::service`]).
//!
//! The release comes from the same signed repository and is verified in the same way. The new program has to say which version it is
//! before it takes the place of this one, and once more in that place: else the old one is put back.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use net::http::Http;
use platform::paths::Paths;
use policy_schema::roots::TrustedRoots;
use semver::Version;
use serde_json::json;
use updates::Release;
use url::Url;

use super::policy::preview;
use crate::app::descriptor;
use crate::{update, version};

#[derive(Args)]
pub(super) struct Arguments {
    /// The repository, in place of `AgentUpdateFeed` of policy.
    #[arg(long, value_name = "URL", requires = "trusted_roots")]
    feed: Option<Url>,
    /// Its first roots, in place of `AgentUpdateTrustedRoots` of policy.
    #[arg(long, value_name = "ROOTS")]
    trusted_roots: Option<TrustedRoots>,
    /// A version, in place of the newest. It has to be newer than this one.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// Only say which version would be installed.
    #[arg(long)]
    check: bool,
}

pub(super) async fn self_update(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let own = fs_err::canonicalize(std::env::current_exe()?)?;
    let beside = own.with_file_name(format!(".{}.new", file_name(&own)));
    if !arguments.check {
        ensure_replaceable(paths, &own, &beside)?;
    }
    let policy = preview(paths).resolved.policy;
    let of_policy = policy.agent_update_feed.as_ref().and_then(|feed| feed.parse().ok());
    let feed = arguments.feed.or(of_policy);
    let feed =
        feed.context("no repository is known: policy has no `AgentUpdateFeed`; give one with --feed")?;
    let roots = arguments.trusted_roots.or_else(|| policy.agent_roots().cloned());
    let roots = roots.context("nobody knows who may sign there; give --trusted-roots")?;
    let http = Http::new(&(&policy).into())?;
    let releases = releases(paths, &http, &feed, &roots, &policy.update_allowed_hosts).await?;
    let wanted = match &arguments.version {
        Some(version) => {
            let found = releases.iter().find(|release| release.version == *version);
            Some(found.with_context(|| format!("the repository has no version {version} for this system"))?)
        }
        None => releases.first(),
    };
    let Some(release) = wanted.filter(|release| release.version > *version::own()) else {
        ensure!(arguments.version.is_none(), "this is version {}, which is newer", version::own());
        report(json, "unchanged", version::own())?;
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.check {
        report(json, "available", &release.version)?;
        return Ok(ExitCode::SUCCESS);
    }
    let installed = install(&http, &feed, &policy.update_allowed_hosts, release, (&own, &beside)).await;
    platform::file::remove(&beside)?;
    installed?;
    report(json, "installed", &release.version)?;
    Ok(ExitCode::SUCCESS)
}

fn report(json: bool, outcome: &str, version: &Version) -> anyhow::Result<()> {
    if json {
        out!("{}", serde_json::to_string_pretty(&json!({ "outcome": outcome, "version": version }))?);
        return Ok(());
    }
    match outcome {
        "unchanged" => out!("{version} is the newest version."),
        "available" => out!("Version {version} is available."),
        _ => out!("Version {version} is installed."),
    }
    Ok(())
}

/// Before anything is downloaded: whether this program is one that may be replaced, and can be.
fn ensure_replaceable(paths: &Paths, own: &Path, beside: &Path) -> anyhow::Result<()> {
    if watchdog::is_of_service(paths) {
        bail!("a package installed this program; the agent updates itself with `AgentUpdateFeed`");
    }
    platform::file::remove(beside)?;
    let tried = platform::file::create_program(beside, true);
    tried.with_context(|| format!("{} cannot be replaced; nothing was downloaded", own.display()))?;
    Ok(platform::file::remove(beside)?)
}

/// What the repository has for this system, the newest first.
async fn releases(
    paths: &Paths,
    http: &Http,
    feed: &Url,
    roots: &TrustedRoots,
    hosts: &[String],
) -> anyhow::Result<Vec<Release>> {
    let system = descriptor::agent().system().context("this system is not known")?;
    let source = update::Source {
        feeds: std::slice::from_ref(feed),
        roots: Some(roots),
        folder: Some(paths.session_folder().join("repositories")),
        hosts,
        channel: None,
        app: update::AGENT,
        system,
    };
    Ok(update::fetch(http, &source).await?.feed.releases)
}

async fn install(
    http: &Http,
    feed: &Url,
    hosts: &[String],
    release: &Release,
    (own, beside): (&Path, &PathBuf),
) -> anyhow::Result<()> {
    let file = platform::file::create_program(beside, true)?;
    super::repo::download(http, feed, hosts, release, file, beside).await?;
    let wrong = || format!("version {} is not installed", release.version);
    update::try_version(beside, &release.version).await.with_context(wrong)?;
    let old = own.with_file_name(format!(".{}.old", file_name(own)));
    platform::file::remove(&old)?;
    // A new file, whoever may have put a link there.
    let mut kept = platform::file::create_program(&old, true)?;
    io::copy(&mut fs_err::File::open(own)?, &mut kept)?;
    kept.sync_all()?;
    drop(kept);
    let replaced = match self_replace::self_replace(beside) {
        Ok(()) => update::try_version(own, &release.version).await.with_context(wrong),
        Err(error) => Err(error).with_context(wrong),
    };
    if replaced.is_err() {
        self_replace::self_replace(&old).context("the old version cannot be put back")?;
    }
    platform::file::remove(&old)?;
    replaced
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
