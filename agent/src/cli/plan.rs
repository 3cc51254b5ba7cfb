//! `steward update plan`: which release a device would install and when, or how a release reaches a fleet. Changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use net::http::Http;
use platform::paths::Paths;
use platform::{SYSTEM, clock, zone};
use policy_schema::Policy;
use policy_schema::settings::AppSelfUpdate;
use semver::Version;
use serde_json::json;
use updates::feed::Feed;
use updates::rollout::{Fleet, Rollout, simulate};
use updates::{Decision, Device, OwnUpdater, Rules, Situation, Verdict, decide};
use url::Url;

use super::documents::Documents;
use super::policy::preview;
use super::{counted, hanging, moment};
use crate::app::descriptor::{self, Descriptor, System};
use crate::health::identity::Identity;
use crate::health::sources::posture;
use crate::state::private_folder;
use crate::update;

/// The arguments of `steward update plan`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The time to plan for: 2026-11-27T22:30, or with a zone 2026-11-27T21:30:00Z. By default now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The device to plan for, by the ID in its reports, which decides its place in a rollout. By default this one.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// A policy that is not installed yet, in place of that of this device. May be given more than once; the last file is the
    /// strongest.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// A feed, in place of the one that policy names.
    #[arg(long, value_name = "FILE")]
    feed: Option<PathBuf>,
    /// The version that is installed. By default that of this device.
    #[arg(long, value_name = "VERSION")]
    installed: Option<Version>,
    /// The operating system to plan for. By default this one.
    #[arg(long, value_name = "SYSTEM", value_parser = ["linux", "macos", "windows"])]
    system: Option<String>,
    /// Show how a release reaches so many devices over time.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: Option<u32>,
}

/// How many rows the table of a rollout has at most.
const ROWS: i32 = 12;
/// How wide its chart is, in characters.
const CHART: u32 = 40;

pub(super) async fn plan(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let policy = policy(paths, &arguments.policy)?;
    let app = descriptor::find(&policy.app)
        .with_context(|| format!("Steward knows no app `{}`, which `App` names", policy.app))?;
    let name = arguments.system.as_deref().unwrap_or(SYSTEM);
    let system = app.on(name).with_context(|| {
        format!("{} is not updated on {name}; name another system with --system", app.title)
    })?;
    let mut rules = Rules::from(&policy);
    let feed = feed(&policy, &mut rules, &app.name, arguments.feed.as_ref(), (name, system)).await?;
    let zone = zone::local(paths);
    let now = arguments.at.as_deref().map_or_else(|| Ok(clock::now()), |at| time(at, &zone))?;
    let installed = arguments.installed.clone().or_else(|| update::installed(paths, app));
    let kernel = (name == SYSTEM).then(posture::kernel).flatten();
    if let Some(devices) = arguments.devices {
        let fleet = Fleet {
            rules: &rules,
            releases: &feed.releases,
            app: &app.name,
            installed: installed.as_ref(),
            system: kernel.as_deref(),
            start: now,
            zone: &zone,
            devices,
        };
        let rollout = simulate(&fleet);
        if json {
            out!("{}", serde_json::to_string_pretty(&document(&rollout, &fleet))?);
        } else {
            print_rollout(&rollout, &fleet, app);
            print_installer(app, (name, system));
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Both are private: whoever may not read them plans without them.
    let journal = update::journal(paths, &app.name).ok();
    let id = arguments.device.or_else(|| Identity::device_id(&private_folder(paths)));
    let unread = journal.is_none() || id.is_none();
    let (journal, id) = (journal.unwrap_or_default(), id.unwrap_or_default());
    let device = Device { id: &id, app: &app.name, system: kernel.as_deref() };
    // As it is once the device follows this policy, and the app has been started again.
    let off = system.own_updater.is_none() || policy.app_self_update == Some(AppSelfUpdate::None);
    let own_updater = if off { OwnUpdater::Off } else { OwnUpdater::Active };
    // What the journal says is of this device; another time may be after a restart.
    let boot = platform::posture::boot_id();
    let situation = Situation {
        installed: installed.as_ref(),
        own_updater,
        boot: boot.as_deref(),
        journal: &journal,
        now,
        zone: &zone,
    };
    let decision = decide(&rules, &feed.releases, &device, &situation);
    if json {
        let document = json!({
            "app": app.name,
            "installed": installed,
            "at": now,
            "decision": {
                "verdict": verdict(decision.verdict),
                "version": decision.release.map(|release| &release.version),
                "message": decision.reason.to_string(),
                "until": decision.reason.until(),
                "reason": decision.reason,
            },
        });
        out!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print(&decision, app, installed.as_ref(), now, &zone);
        print_installer(app, (name, system));
        if unread {
            out!(
                "\nThis plan knows neither the place of this device in a rollout nor what was tried on it (a hold, a quarantine, \
                 a deadline that runs): only an administrator can read that, once the agent has run."
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn policy(paths: &Paths, files: &[PathBuf]) -> anyhow::Result<Policy> {
    if files.is_empty() {
        return Ok(preview(paths).resolved.policy);
    }
    let resolved = Documents::read(paths, files).opened()?.resolve();
    // A plan of another policy than the one that the administrator means is of no use.
    let wrong = resolved.problems.iter().find(|problem| problem.severity.is_error());
    match wrong {
        Some(problem) => {
            anyhow::bail!("the policy has errors; `steward policy check` shows all of them\n{problem}")
        }
        None => Ok(resolved.policy),
    }
}

async fn feed(
    policy: &Policy,
    rules: &mut Rules,
    app: &str,
    file: Option<&PathBuf>,
    system: (&str, &System),
) -> anyhow::Result<Feed> {
    let feeds = update::feeds(policy, system.1);
    if let Some(file) = file {
        let bytes = fs_err::read(file)?;
        // Its files are where policy says that the feed is.
        let base = match feeds.into_iter().next() {
            Some(base) => base,
            None => Url::parse("https://feed.invalid/")?,
        };
        return Ok(update::releases(&bytes, &base, &policy.update_allowed_hosts, system)?);
    }
    anyhow::ensure!(!feeds.is_empty(), "policy names no feed (`UpdateFeed`); give one with --feed");
    let http = Http::new(&policy.into())?;
    let source = update::Source {
        feeds: &feeds,
        roots: policy.update_trusted_roots.as_ref(),
        folder: None,
        hosts: &policy.update_allowed_hosts,
        channel: policy.update_channel.as_deref(),
        app,
        system: system.1,
    };
    let offering = update::fetch(&http, &source).await?;
    let mut refused = offering.refused;
    refused.extend(rules.lead_back(offering.downgrades));
    for refused in refused {
        err!("steward: the signed repository: {refused}");
    }
    Ok(offering.feed)
}

/// A time with its zone, or of this device's clock.
fn time(text: &str, zone: &TimeZone) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let local: DateTime = text.parse().with_context(|| {
        format!("`{text}` is no time; write it as 2026-11-27T22:30 or 2026-11-27T21:30:00Z")
    })?;
    Ok(zone.to_ambiguous_timestamp(local).compatible()?)
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stay => "stay",
        Verdict::Announce => "announce",
        Verdict::Prepare => "download",
        Verdict::Install => "install",
    }
}

fn print(
    decision: &Decision<'_>,
    app: &Descriptor,
    installed: Option<&Version>,
    now: Timestamp,
    zone: &TimeZone,
) {
    let line = |label: &str, text: &str| out!("{}", hanging(&format!("{label:<10}"), text));
    let installed = installed.map_or_else(|| "not installed".to_owned(), ToString::to_string);
    line("App", &format!("{}, {installed}", app.title));
    line("Time", &moment(now, zone));
    let does = match decision.verdict {
        Verdict::Stay => "installs nothing",
        Verdict::Announce => "announces it",
        Verdict::Prepare => "downloads it now, installs it later",
        Verdict::Install => "installs it now",
    };
    line("Decision", does);
    line("Reason", &decision.reason.to_string());
    if let Some(until) = decision.reason.until() {
        line("Until", &moment(until, zone));
    }
}

/// A plan can be of use before the agent does what is planned.
fn print_installer(app: &Descriptor, (name, system): (&str, &System)) {
    if system.installation.is_none() {
        out!(
            "\nThis version of Steward decides about {}, and does not install it on {name}: your MDM does.",
            app.title
        );
    }
}

fn document(rollout: &Rollout, fleet: &Fleet<'_>) -> serde_json::Value {
    let mut total = 0;
    let steps = rollout.installed.iter().map(|(at, devices)| {
        total += devices;
        json!({ "at": at, "devices": devices, "total": total })
    });
    let steps: Vec<_> = steps.collect();
    let others =
        rollout.others.iter().map(|(reason, devices)| json!({ "reason": reason, "devices": devices }));
    json!({
        "app": fleet.app,
        "installed": fleet.installed,
        "from": fleet.start,
        "devices": fleet.devices,
        "steps": steps,
        "others": others.collect::<Vec<_>>(),
    })
}

fn print_rollout(rollout: &Rollout, fleet: &Fleet<'_>, app: &Descriptor) {
    let has =
        fleet.installed.map_or_else(|| "without it".to_owned(), |installed| format!("that have {installed}"));
    let from = moment(fleet.start, fleet.zone);
    out!("{} on {} devices {has}, from {from} on", app.title, fleet.devices);
    if let Some((last, _)) = rollout.installed.last_key_value() {
        out!("\n{:<16}  {:>9}  {:>5}", "time", "updated", "share");
        for time in times(fleet.start, *last) {
            let updated = rollout.by(time);
            let share = u64::from(updated) * 100 / u64::from(fleet.devices.max(1));
            let length = u64::from(updated) * u64::from(CHART) / u64::from(fleet.devices.max(1));
            let bar = "\u{2588}".repeat(usize::try_from(length).unwrap_or_default());
            let row = format!("{:<16}  {updated:>9}  {share:>3} %  {bar}", moment(time, fleet.zone));
            out!("{}", row.trim_end());
        }
    }
    if !rollout.others.is_empty() {
        out!("\nNot updated:");
    }
    for (reason, devices) in &rollout.others {
        let devices = counted(usize::try_from(*devices).unwrap_or(usize::MAX), "device");
        out!("{}", hanging(&format!("{devices:>15}  "), reason));
    }
}

/// Some times from the first to the last one, evenly spread.
fn times(first: Timestamp, last: Timestamp) -> Vec<Timestamp> {
    let step = last.duration_since(first) / ROWS;
    let step = SignedDuration::from_mins((step.as_mins() + 1).max(1));
    let mut times = vec![first];
    while let Some(next) =
        times.last().and_then(|time| time.checked_add(step).ok()).filter(|next| *next < last)
    {
        times.push(next);
    }
    times.push(last);
    times
}
