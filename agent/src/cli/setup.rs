//! `steward setup`: questions to an administrator, and what comes of the answers.

mod ask;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_platform::file::{self, Access};
use agent_platform::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use policy_schema::export::{Artefact, policy_of, toml as drop_in_of};
use policy_schema::raw::Place;
use policy_schema::read::drop_in;
use policy_schema::{LastGood, Resolved, resolve};
use serde_json::json;

use super::doctor::{of_policy, print, progress};
use super::{export, hanging, policy};
use crate::doctor::{self, Finding, Outcome, Subject};
use crate::setup::{self, Answers, documents};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    provider: Option<Provider>,
    /// The client ID of the registration. Left out, the folder says how to register.
    #[arg(long, global = true)]
    client_id: Option<String>,
    /// The client secret, which only Google's desktop clients have.
    #[arg(long, global = true)]
    client_secret: Option<String>,
    /// The Amazon Quick account uses IAM Identity Center: the ARN of its instance.
    #[arg(long, global = true, value_name = "ARN")]
    identity_center: Option<String>,
    /// The ARN of the trusted token issuer, once it was made.
    #[arg(long, global = true, value_name = "ARN", requires = "identity_center")]
    trusted_token_issuer: Option<String>,
    /// The claim of the token by which IAM Identity Center finds a person.
    #[arg(long, global = true, default_value = "email")]
    claim: String,
    /// The attribute of the identity store that the claim has to be equal to.
    #[arg(long, global = true, default_value = "emails.value")]
    identity_store_attribute: String,
    /// The organisation's name, for people.
    #[arg(long, global = true)]
    organization: Option<String>,
    /// Whom people ask for help.
    #[arg(long, global = true)]
    support_contact: Option<String>,
    /// Only people with an address in this domain may sign in; may be given more than once.
    #[arg(long, global = true, value_name = "DOMAIN")]
    email_domain: Vec<String>,
    /// A policy whose other settings are kept; what is found out here is stronger.
    #[arg(long, global = true, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The folder to write into.
    #[arg(short, long, global = true, value_name = "DIR", default_value = "steward-setup")]
    output: PathBuf,
    /// Do not ask the identity provider.
    #[arg(long, global = true)]
    offline: bool,
    /// Print everything as JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// Whoever people sign in with. Addresses may be given as they stand in a browser.
#[derive(Subcommand)]
enum Provider {
    /// Microsoft Entra ID.
    Entra {
        /// The Directory (tenant) ID, a domain of the tenant, or an address with one of them in it.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Okta.
    Okta {
        /// The Okta domain, such as example.okta.com.
        #[arg(long)]
        domain: Option<String>,
        /// `default`, `org`, or the ID of an authorization server.
        #[arg(long, value_name = "default|org|ID")]
        authorization_server: Option<String>,
    },
    /// PingFederate.
    Pingfederate {
        /// Its host, with the port if it is not 443.
        #[arg(long)]
        host: Option<String>,
    },
    /// PingOne.
    Pingone {
        /// The environment ID, or an address with it.
        #[arg(long)]
        environment: Option<String>,
        /// The region, as the end of the domain.
        #[arg(long, value_name = "com|ca|eu|asia|com.au|sg")]
        region: Option<String>,
        /// A custom domain, which stands for domain and environment.
        #[arg(long)]
        custom_domain: Option<String>,
    },
    /// Google Workspace.
    Google,
    /// Any other OpenID Connect provider.
    Custom {
        /// Its issuer, or the address of its discovery document.
        #[arg(long)]
        issuer: Option<String>,
    },
}

/// What a run writes, by the names at the top of the folder.
const POLICY: &str = "policy.toml";
const OURS: [&str; 8] = [
    "1-identity-provider.md",
    "identity-provider",
    "2-trusted-token-issuer.md",
    "2-trusted-token-issuer.json",
    "3-extension-access.md",
    "4-distribution.md",
    POLICY,
    "profiles",
];

/// Ends with 0 if everything was written, with 2 if the identity provider contradicts: then nothing is.
pub(super) async fn setup(paths: &Paths, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !arguments.json;
    let Arguments { offline, json, .. } = arguments;
    let (output, base) = (arguments.output.clone(), arguments.policy.clone());
    let mut answers = ask::ask(arguments, interactive)?;
    let complaints = answers.complaints();
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    // What the other settings say about the client holds for its registration as well.
    let merged = resolved(&base, &answers)?;
    answers.redirect_uri.clone_from(&merged.policy.redirect_uri);
    answers.app.clone_from(&merged.policy.app);
    answers.addresses =
        [&merged.policy.report_url, &merged.policy.update_feed].into_iter().flatten().cloned().collect();

    let mut findings = Vec::new();
    if !offline {
        let subject = subject(paths, &base, &answers)?;
        match setup::discover(&subject, &answers.preset).await {
            Ok(found) => {
                answers.endpoints.clone_from(&found.endpoints);
                answers.preset = found;
                let subject = self::subject(paths, &base, &answers)?;
                findings = doctor::examine_provider(subject, progress(json, false)).await;
            }
            Err(diagnosis) => findings.push(doctor::unseen("discovery", diagnosis)),
        }
    }
    let contradiction = findings.iter().any(contradicts);
    let passed = |check: &str| {
        findings.iter().any(|finding| finding.check == check && finding.outcome == Outcome::Pass)
    };
    answers.checked = ["discovery", "issuer", "endpoints", "keys"].into_iter().all(passed);
    answers.refused =
        findings.iter().any(|finding| finding.check == "redirect" && finding.outcome == Outcome::Failure);
    if contradiction || (answers.endpoints.is_none() && !answers.checked) {
        if json {
            out!("{}", serde_json::to_string_pretty(&json!({ "findings": findings, "files": [] }))?);
        } else {
            print(&findings, false);
            let why = if contradiction {
                "what was entered and what the identity provider says differ"
            } else {
                "the endpoints are not known without the identity provider"
            };
            out!("\nNothing was written: {why}.");
        }
        return Ok(ExitCode::from(2));
    }
    let files = write(&answers, &base, &output)?;
    if json {
        let console: serde_json::Map<String, serde_json::Value> = documents::console_values(&answers)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let document = json!({
            "identity_provider": answers.preset.provider.as_str(),
            "issuer": answers.preset.issuer,
            "endpoints": answers.endpoints,
            "client_id": answers.client_id,
            "notes": answers.preset.notes,
            "checked": answers.checked,
            "extension_access": console,
            "findings": findings,
            "files": files,
        });
        out!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        tell(&answers, &findings, offline, &output);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the identity provider says something else than was entered, rather than nothing at all.
fn contradicts(finding: &Finding) -> bool {
    let checks = ["discovery", "issuer", "endpoints", "keys", "offers"];
    finding.outcome == Outcome::Failure
        && checks.contains(&finding.check.as_str())
        && finding.diagnoses.iter().any(|diagnosis| !diagnosis.is_of_network())
}

/// The policy as one place above others.
fn places(base: &[PathBuf], answers: &Answers) -> Vec<Place> {
    let mut places = policy::places(base);
    let contents = drop_in::read(answers.policy().as_bytes());
    places.push(Place { rank: u32::MAX, name: "setup".to_owned(), contents });
    places
}

/// What all of it means; a policy with an error is none to go on with.
fn resolved(base: &[PathBuf], answers: &Answers) -> anyhow::Result<Resolved> {
    let places = places(base, answers);
    if let Err(problems) = policy_of(&places) {
        let serious = problems.iter().filter(|problem| problem.severity.is_error());
        let text = serious.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        bail!("the policy would have errors\n{text}");
    }
    Ok(resolve(&places, &LastGood::default()))
}

fn subject(paths: &Paths, base: &[PathBuf], answers: &Answers) -> anyhow::Result<Subject> {
    Ok(of_policy(paths, &resolved(base, answers)?.policy, 0, Vec::new()))
}

/// Writes every file; gives their names in the folder.
fn write(answers: &Answers, base: &[PathBuf], output: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = documents::identity_provider(answers)?;
    let mut policy_file = None;
    if answers.client_id.is_some() {
        let places = places(base, answers);
        let (policy, problems) =
            policy_of(&places).map_err(|_| anyhow::anyhow!("the policy would have errors"))?;
        // Contradictions are worth a word; nothing else is left.
        policy::print_problems(&problems);
        files.extend(documents::rest(answers)?);
        let head = "# Written by `steward setup`. `steward policy check` tries it, `steward doctor --policy` as well.\n";
        let bytes = format!("{head}{}", drop_in_of::bare(&policy)).into_bytes();
        files.push(Artefact { path: POLICY.to_owned(), bytes: bytes.clone() });
        policy_file = Some((bytes, policy, places));
    }
    clear(output, policy_file.as_ref().map(|(bytes, ..)| bytes.as_slice()))?;
    // Google's secret is in some of it, which is none, but nobody has to see it.
    let access = if answers.client_secret.is_some() { Access::Private } else { Access::Public };
    if !output.exists() {
        file::create_folder(output, access)?;
    }
    let mut written = Vec::new();
    if let Some((_, policy, places)) = &policy_file {
        let profiles = export::write(policy, places, &output.join("profiles"))?.into_iter();
        written.extend(profiles.map(|path| format!("profiles/{path}")));
    }
    for file in &files {
        let path = output.join(&file.path);
        fs_err::create_dir_all(path.parent().context("it lies in a folder")?)?;
        fs_err::write(&path, &file.bytes)?;
    }
    written.extend(files.into_iter().map(|file| file.path));
    written.sort();
    Ok(written)
}

/// Takes away what an earlier run wrote, so that nothing of another provider stays. A policy that somebody has changed
/// since is kept beside. A folder with anything else in it is left alone.
fn clear(output: &Path, policy: Option<&[u8]>) -> anyhow::Result<()> {
    let Ok(entries) = fs_err::read_dir(output) else { return Ok(()) };
    let names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let kept = format!("{POLICY}.before");
    let foreign: Vec<&String> =
        names.iter().filter(|name| !OURS.contains(&name.as_str()) && **name != kept).collect();
    if let Some(foreign) = foreign.first() {
        bail!(
            "{} holds `{foreign}`, which is not from here; give an empty folder with --output",
            output.display()
        );
    }
    for name in names.iter().filter(|name| **name != kept) {
        let path = output.join(name);
        let facts = fs_err::symlink_metadata(&path)?;
        if name == POLICY
            && facts.is_file()
            && policy.is_none_or(|new| fs_err::read(&path).is_ok_and(|old| old != new))
        {
            fs_err::rename(&path, output.join(&kept))?;
            complain!("note: the policy of before is kept as {}", output.join(&kept).display());
        } else if facts.is_dir() {
            fs_err::remove_dir_all(&path)?;
        } else {
            fs_err::remove_file(&path)?;
        }
    }
    Ok(())
}

fn tell(answers: &Answers, findings: &[Finding], offline: bool, output: &Path) {
    for note in &answers.preset.notes {
        out!("{}", hanging("note: ", note));
    }
    out!("For the Amazon Quick console, Permissions > Extension access:");
    for (name, value) in documents::console_values(answers) {
        out!("  {name:<25} {value}");
    }
    let worrying: Vec<Finding> =
        findings.iter().filter(|finding| finding.outcome >= Outcome::Warning).cloned().collect();
    if !worrying.is_empty() {
        out!("");
        print(&worrying, false);
    }
    out!("");
    out!(
        "{}",
        match (answers.checked, offline) {
            (true, _) if answers.refused =>
                "The addresses are the identity provider's, but it refuses this client; see above.",
            (true, _) => "The identity provider says the same.",
            (false, true) => "The identity provider was not asked.",
            (false, false) => "The identity provider could not be asked, so nothing was compared.",
        }
    );
    let folder = output.display();
    out!("Written to {folder}:");
    out!("  1-identity-provider.md     what to click or run at the identity provider");
    if answers.client_id.is_none() {
        out!(
            "\nNext: register the app as 1-identity-provider.md says, then run this again with --client-id."
        );
        return;
    }
    if answers.identity_center.is_some() {
        out!("  2-trusted-token-issuer.md  what to run in AWS");
    }
    out!("  3-extension-access.md      what to enter in the Amazon Quick console");
    out!("  4-distribution.md          how policy and app get to devices");
    out!("  policy.toml, profiles/     the policy, in every form");
    out!("\nNext: steward doctor --policy {}", output.join("policy.toml").display());
}
