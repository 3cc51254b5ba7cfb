//! `steward repo`: makes a signed repository, for whoever decides what a fleet installs.

mod add;
mod mirror;

pub(super) use mirror::download;

use add::{AddArguments, add};

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use inquire::{Password, PasswordDisplayMode};
use platform::paths::Paths;
use platform::{clock, environment, quoted};
use policy_schema::counted;
use policy_schema::version::Downgrade;
use semver::Version;
use serde_json::{Map, Value, json};
use updates::signed::compose::{DOWNGRADES, MINIMUM};

use super::hanging;
use crate::repo::{self, Part, Repository};

/// The variable with the passphrase of the keys, for scripts.
const PASSPHRASE: &str = "STEWARD_REPO_PASSPHRASE";
/// What is valid for fewer days than this is to be signed again.
const SOON: i64 = 7;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Make a repository with new keys, and say what policy has to trust.
    ///
    /// The keys are in DIR/keys, each encrypted with the passphrase (variable `STEWARD_REPO_PASSPHRASE`, or asked for). Move those of the
    /// roots to a safe place; `add` needs `image`, `director` and `online`, `target` needs `director` and `online`, `renew` needs `online`.
    Init {
        /// The folder to work in. Its folder `public` is what a web server serves.
        folder: PathBuf,
        /// How many keys there are for the roots, each for one person.
        #[arg(long, value_name = "N", default_value = "1")]
        root_keys: u32,
        /// How many of them have to sign a change of keys.
        #[arg(long, value_name = "N", default_value = "1")]
        threshold: u32,
        /// A command signs in place of a file with a key, for a hardware security module or a service for keys: `image=FILE`; may be given more
        /// than once. FILE is TOML: `public`, the public key of Ed25519 in hexadecimal digits, and `command`, a list: it gets the message
        /// at its standard input and prints the signature, as it is or in base64.
        #[arg(long, value_name = "KEY=FILE")]
        signer: Vec<String>,
    },
    /// Add a version of an app: to what is authentic, and to what devices may have.
    Add(AddArguments),
    /// Say which devices may have a version that was added, from which version devices go back, or which is the oldest that may be installed.
    Target(TargetArguments),
    /// Take a version from the vendor's feed: its hash and its publisher are verified, then it is added.
    ///
    /// Run it again for each new version, every night for example: what is there already is not taken again.
    Mirror(mirror::MirrorArguments),
    /// Copy what a web server serves into its folder, each file before what names it.
    Publish {
        /// The folder of the repository.
        folder: PathBuf,
        /// The folder of the web server.
        to: PathBuf,
    },
    /// Put what a web server serves into one archive, for a network without the other: unpack it there (`tar -xf`).
    Bundle {
        /// The folder of the repository.
        folder: PathBuf,
        /// The archive.
        file: PathBuf,
    },
    /// Replace a key that was lost or stolen: `image`, `director`, `online`, or one of the roots, as `root-1`.
    ///
    /// Needs as many keys of the roots as have to sign, and `online` for `image` and `director`; the old key is not needed. Devices follow
    /// by themselves; policy stays as it is.
    ReplaceKey {
        /// The folder of the repository.
        folder: PathBuf,
        /// The name of the key.
        name: String,
        /// A command signs in place of a file with a key: a TOML file with `public` and `command`.
        #[arg(long, value_name = "FILE")]
        signer: Option<PathBuf>,
    },
    /// Sign snapshots and timestamps again. Once a day is right: a timestamp is valid for 14 days.
    Renew {
        /// The folder of the repository.
        folder: PathBuf,
        /// Sign everything again, the roots as well, which are valid for a year. Needs all keys.
        #[arg(long, conflicts_with = "units")]
        all: bool,
        /// Print units for systemd that do it every day, and do nothing.
        #[arg(long)]
        units: bool,
        /// In these units, also copy what is new into this folder of a web server.
        #[arg(long, value_name = "DIR", requires = "units")]
        publish_to: Option<PathBuf>,
    },
    /// Show what expires when, what devices may have, and what policy has to trust. Needs no key.
    Status {
        /// The folder of the repository.
        folder: PathBuf,
    },
    /// Verify the repository as a device does, and all its files. Needs no key.
    Verify {
        /// The folder of the repository.
        folder: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct TargetArguments {
    /// The folder of the repository.
    folder: PathBuf,
    /// The name of the app.
    #[arg(long)]
    app: String,
    /// The version that the conditions are for.
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    #[command(flatten)]
    conditions: Conditions,
    /// Keep it from every device that does not have it yet.
    #[arg(long, requires = "version", conflicts_with = "offer")]
    withdraw: bool,
    /// Take a withdrawal back.
    #[arg(long, requires = "version")]
    offer: bool,
    /// A way back to an older version, as `2.2.0 to 2.1.0`; may be given more than once, and replaces those of before. An empty text removes all.
    #[arg(long, value_name = "FROM to TO")]
    downgrade: Vec<String>,
    /// The oldest version that may be installed, whatever the director says (needs the key `image`).
    #[arg(long, value_name = "VERSION")]
    minimum: Option<Version>,
}

/// Which devices may have a version.
#[derive(Args)]
pub(super) struct Conditions {
    /// The channel that it is in.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// The share of devices that may have it, in percent, as 5 or 0.5.
    #[arg(long, value_name = "PERCENT")]
    rollout: Option<f64>,
    /// What orders the devices in the rollout, in place of the version.
    #[arg(long, value_name = "TEXT")]
    salt: Option<String>,
}

impl Conditions {
    fn is_empty(&self) -> bool {
        self.channel.is_none() && self.rollout.is_none() && self.salt.is_none()
    }

    /// Writes them into what the director says of a version.
    fn apply(&self, said: &mut Map<String, Value>) -> anyhow::Result<()> {
        if let Some(channel) = &self.channel {
            said.insert("channel".to_owned(), channel.as_str().into());
        }
        if let Some(percent) = self.rollout {
            ensure!((0.0..=100.0).contains(&percent), "--rollout: {percent} is not from 0 to 100");
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is from 0 to 10,000"
            )]
            said.insert("rolloutPermyriad".to_owned(), ((percent * 100.0).round() as u32).into());
        }
        if let Some(salt) = &self.salt {
            said.insert("salt".to_owned(), salt.as_str().into());
        }
        Ok(())
    }
}

pub(super) async fn repo(paths: &Paths, verb: Verb, json: bool) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Init { folder, root_keys, threshold, signer } => {
            let pair = |text: &String| {
                let (name, file) = text.split_once('=')?;
                Some((name.to_owned(), PathBuf::from(file)))
            };
            let signers: Option<Vec<_>> = signer.iter().map(pair).collect();
            let signers = signers.context("--signer: write it as `image=FILE`")?;
            let numbers = (root_keys, threshold);
            let repository = Repository::init(&folder, numbers, &signers, new_passphrase()?)?;
            made(&repository, &folder, json)?;
        }
        Verb::Add(arguments) => {
            let added = add(&alone(&arguments.folder)?, &arguments)?;
            done(json, &added.document(), &added.to_string())?;
        }
        Verb::Target(arguments) => {
            target(&arguments)?;
            done(json, &json!({ "changed": arguments.app }), "Changed and signed.")?;
        }
        Verb::Mirror(arguments) => match Box::pin(mirror::mirror(paths, arguments)).await? {
            Some(added) => done(json, &added.document(), &added.to_string())?,
            None => {
                done(json, &json!({ "added": null, "patches": [], "notes": [] }), "It is there already.")?;
            }
        },
        Verb::Publish { folder, to } => {
            let count = alone(&folder)?.copy_to(&to)?;
            let text = format!("Copied {} to {}.", counted(count, "file"), to.display());
            done(json, &json!({ "copied": count }), &text)?;
        }
        Verb::Bundle { folder, file } => {
            let count = alone(&folder)?.bundle(&file)?;
            let text = format!("{} has {}.", file.display(), counted(count, "file"));
            done(json, &json!({ "files": count }), &text)?;
        }
        Verb::ReplaceKey { folder, name, signer } => {
            alone(&folder)?.replace_key(&name, signer.as_deref(), &passphrase()?)?;
            let text = "Replaced and signed again. Publish it now: until a device has seen it, it accepts the old key.";
            done(json, &json!({ "replaced": name }), text)?;
        }
        Verb::Renew { folder, all: true, .. } => {
            alone(&folder)?.renew_all(&passphrase()?)?;
            done(
                json,
                &json!({ "renewed": ["root", "targets", "snapshot", "timestamp"] }),
                "Signed everything again.",
            )?;
        }
        Verb::Renew { folder, units: true, publish_to, .. } => {
            let units = units(&fs_err::canonicalize(folder)?, publish_to.as_deref())?;
            done(json, &json!({ "units": units }), &units)?;
        }
        Verb::Renew { folder, units: false, .. } => {
            alone(&folder)?.renew(&passphrase()?)?;
            done(json, &json!({ "renewed": ["snapshot", "timestamp"] }), "Signed again.")?;
        }
        Verb::Status { folder } => return status(&Repository::open(&folder)?, json),
        Verb::Verify { folder } => {
            let wrong = repo::verify(&Repository::open(&folder)?).await?;
            if json {
                out!("{}", serde_json::to_string_pretty(&json!({ "faults": wrong }))?);
            } else if wrong.is_empty() {
                out!("All of it is as a device expects it.");
            }
            for fault in wrong.iter().filter(|_| !json) {
                out!("{fault}");
            }
            return Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a repository, to change or to copy it.
fn alone(folder: &Path) -> anyhow::Result<Repository> {
    let waits = || err!("steward: waiting for another `steward repo` in {}", folder.display());
    Repository::open_alone(folder, waits)
}

/// Prints what was done.
fn done(json: bool, document: &Value, text: &str) -> anyhow::Result<()> {
    if json {
        out!("{}", serde_json::to_string_pretty(document)?);
    } else {
        out!("{text}");
    }
    Ok(())
}

/// Prints what follows from a new repository.
fn made(repository: &Repository, folder: &Path, json: bool) -> anyhow::Result<()> {
    let (public, keys, roots) = (repository.public(), folder.join("keys"), repository.roots()?);
    if json {
        let document = json!({ "public": public, "keys": keys, "roots": roots.to_string() });
        out!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    out!("Serve {} with any web server, and push this policy:\n", quoted(&public));
    out!("UpdateFeed = \"https://(the address of that folder)/\"");
    out!("UpdateTrustedRoots = \"{roots}\"");
    let advice = format!(
        "The keys are in {}. Move those of the roots to a safe place, and keep copies of all: `steward \
         repo replace-key` replaces one that is lost, as long as enough keys of the roots are there.",
        quoted(&keys)
    );
    out!("\n{}", hanging("", &advice));
    Ok(())
}

fn target(arguments: &TargetArguments) -> anyhow::Result<()> {
    let TargetArguments { folder, app, version, conditions, withdraw, offer, downgrade, minimum } = arguments;
    let changes = !conditions.is_empty() || *withdraw || *offer;
    ensure!(
        changes || !downgrade.is_empty() || minimum.is_some(),
        "nothing is to be changed; see `steward repo target --help`"
    );
    ensure!(!changes || version.is_some(), "say which version with --version");
    let repository = alone(folder)?;
    let items = downgrade.iter().filter(|item| !item.is_empty());
    let downgrades = items.map(|item| item.parse()).collect::<Result<Vec<Downgrade>, _>>()?;
    let is_of_app = |path: &String| path.split_once('/').is_some_and(|(first, _)| first == app);
    ensure!(
        repository.list(Part::Director)?.targets.keys().any(is_of_app),
        "no version of `{app}` was added; `steward repo status` shows what was"
    );
    let passphrase = passphrase()?;
    if let Some(minimum) = minimum {
        repository
            .change(Part::Image, &passphrase, |list| set(&mut list.members, MINIMUM, app, json!(minimum)))?;
    }
    if !changes && downgrade.is_empty() {
        return Ok(());
    }
    repository.change(Part::Director, &passphrase, |list| {
        if !downgrade.is_empty() {
            set(&mut list.members, DOWNGRADES, app, json!(downgrades))?;
        }
        let Some(version) = version.as_ref().filter(|_| changes) else { return Ok(()) };
        let prefix = format!("{app}/{version}/");
        let mut found = false;
        for (_, target) in list.targets.iter_mut().filter(|(path, _)| path.starts_with(&prefix)) {
            let said = target.get_mut("custom").and_then(|custom| custom.get_mut("steward")?.as_object_mut());
            let said = said.with_context(|| format!("{prefix}: the director says nothing of it"))?;
            conditions.apply(said)?;
            if *withdraw || *offer {
                said.insert("withdrawn".to_owned(), (*withdraw).into());
            }
            found = true;
        }
        ensure!(found, "{app} {version} was not added; `steward repo status` shows what was");
        Ok(())
    })
}

/// Sets what a list says of an app besides its targets.
fn set(members: &mut Map<String, Value>, name: &str, app: &str, value: Value) -> anyhow::Result<()> {
    let apps = members.entry(name).or_insert_with(|| json!({})).as_object_mut();
    apps.with_context(|| format!("{name} is no object"))?.insert(app.to_owned(), value);
    Ok(())
}

fn status(repository: &Repository, json: bool) -> anyhow::Result<ExitCode> {
    let now = clock::now();
    let roots = repository.roots()?;
    let mut soon = false;
    let mut roles = Vec::new();
    for part in Part::ALL {
        for role in repository.roles(part)? {
            let days = role.expires.duration_since(now).as_hours() / 24;
            soon |= days < SOON && role.expires.duration_since(now).as_hours() < SOON * 24;
            roles.push((part, role.name, role.version, role.expires, days));
        }
    }
    let directed = repository.list(Part::Director)?;
    let image_members = repository.list(Part::Image)?.members;
    if json {
        let roles: Vec<Value> = roles
            .iter()
            .map(|(part, role, version, expires, _)| {
                json!({ "repository": part.name(), "role": role, "version": version, "expires": expires })
            })
            .collect();
        let document = json!({ "roots": roots.to_string(), "roles": roles, "director": directed.targets, "members": directed.members,
            "image_members": image_members });
        out!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        out!("UpdateTrustedRoots = \"{roots}\"\n");
        for (part, role, version, expires, days) in &roles {
            let left = if *expires < now {
                "expired".to_owned()
            } else {
                format!("for {}", counted(usize::try_from(*days).unwrap_or(0), "day"))
            };
            out!("{:<9} {role:<10} {version:>4}  valid until {expires}, {left}", part.name());
        }
        out!("");
        for (path, target) in &directed.targets {
            let said = target.get("custom").and_then(|custom| custom.get("steward"));
            out!("{}", hanging(&format!("{path}  "), &said.map(Value::to_string).unwrap_or_default()));
        }
        for (name, value) in directed.members.iter().chain(&image_members) {
            out!("{}", hanging(&format!("{name}  "), &value.to_string()));
        }
        if soon {
            out!(
                "\nSign again what expires soon: `steward repo renew`; `steward repo target` or `add` signs a list."
            );
        }
    }
    Ok(if soon { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn units(folder: &Path, publish_to: Option<&Path>) -> anyhow::Result<String> {
    let program = of_unit(&std::env::current_exe()?);
    let folder = of_unit(folder);
    let publish = match publish_to {
        Some(to) => {
            format!("ExecStart={program} repo publish {folder} {}\n", of_unit(&std::path::absolute(to)?))
        }
        None => String::new(),
    };
    Ok(format!(
        "# /etc/systemd/system/steward-repo-renew.service\n[Unit]\nDescription=Sign the repository of Steward again\n\n[Service]\n\
         Type=oneshot\n# {PASSPHRASE}=...\nEnvironmentFile=/etc/steward/repo-passphrase\nExecStart={program} repo renew {folder}\n{publish}\n\
         # /etc/systemd/system/steward-repo-renew.timer\n[Timer]\nOnCalendar=daily\nRandomizedDelaySec=1h\nPersistent=true\n\n\
         [Install]\nWantedBy=timers.target"
    ))
}

/// A path as one word of a unit (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers").
fn of_unit(path: &Path) -> String {
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

fn passphrase() -> anyhow::Result<String> {
    environment::variable(PASSPHRASE).map_or_else(|| ask(false), Ok)
}

fn new_passphrase() -> anyhow::Result<String> {
    environment::variable(PASSPHRASE).map_or_else(|| ask(true), Ok)
}

fn ask(confirm: bool) -> anyhow::Result<String> {
    ensure!(std::io::stdin().is_terminal(), "there is nobody to ask for the passphrase: set {PASSPHRASE}");
    let question = Password::new("Passphrase of the keys:").with_display_mode(PasswordDisplayMode::Masked);
    Ok(if confirm { question.prompt()? } else { question.without_confirmation().prompt()? })
}
