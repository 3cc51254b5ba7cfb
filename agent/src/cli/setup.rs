//! `steward setup`: from the values of an administrator to a folder with policy, profiles and instructions.

mod ask;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use platform::file::{self, Access};
use platform::paths::{Paths, folder_of};
use platform::quoted;
use policy_schema::export::{Artefact, policy_of, toml as drop_in_of};
use policy_schema::raw::Source;
use policy_schema::read::drop_in;
use policy_schema::{Code, LastGood, Resolved, resolve};
use serde_json::json;

use super::doctor::{of_policy, print, progress};
use super::documents::Documents;
use super::{export, hanging, policy};
use crate::doctor::{self, Finding, Outcome, Subject};
use crate::setup::{self, Answers, documents, loosening};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    provider: Option<Provider>,
    /// The client ID of the registration. Without it, the folder says only how to register.
    #[arg(long, global = true)]
    client_id: Option<String>,
    /// The client secret; only Google's desktop clients have one.
    #[arg(long, global = true)]
    client_secret: Option<String>,
    /// The ARN of the IAM Identity Center instance, if the Amazon Quick account uses one.
    #[arg(long, global = true, value_name = "ARN")]
    identity_center: Option<String>,
    /// The ARN of the trusted token issuer, once it is created.
    #[arg(long, global = true, value_name = "ARN", requires = "identity_center")]
    trusted_token_issuer: Option<String>,
    /// The claim of the token that identifies the user in IAM Identity Center.
    #[arg(long, global = true, default_value = "email")]
    claim: String,
    /// The attribute of the identity store that must be identical to the claim.
    #[arg(long, global = true, default_value = "emails.value")]
    identity_store_attribute: String,
    /// The name of the organisation, as users see it.
    #[arg(long, global = true)]
    organization: Option<String>,
    /// Where users get help.
    #[arg(long, global = true)]
    support_contact: Option<String>,
    /// Only users with an address in this domain may sign in; may be given more than once.
    #[arg(long, global = true, value_name = "DOMAIN")]
    email_domain: Vec<String>,
    /// A policy file whose other settings are kept. The values of this command are stronger.
    #[arg(long, global = true, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The home Region of the IAM Identity Center instance. Older pages of the vendor allow only us-east-1.
    #[arg(long, global = true, value_name = "REGION", requires = "identity_center")]
    aws_region: Option<String>,
    /// Certificates of your own authority, in PEM: trusted for the identity provider, and written into the policy.
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Write a policy also if it allows more than the one in the folder.
    #[arg(long, global = true)]
    allow_loosening: bool,
    /// The folder to write into. The policy in it is where this run starts from.
    #[arg(short, long, global = true, value_name = "DIR", default_value = "steward-setup")]
    output: PathBuf,
    /// Do not contact the identity provider.
    #[arg(long, global = true)]
    offline: bool,
}

/// The identity provider. Addresses may be copied from the browser.
#[derive(Clone, Subcommand)]
enum Provider {
    /// Microsoft Entra ID.
    Entra {
        /// The Directory (tenant) ID, a domain of the tenant, or an address that contains one of them.
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
        /// The environment ID, or an address that contains it.
        #[arg(long)]
        environment: Option<String>,
        /// The region, as the end of PingOne's domain.
        #[arg(long, value_name = "com|ca|eu|asia|com.au|sg")]
        region: Option<String>,
        /// A custom domain, which replaces domain and environment.
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

/// The policy file in the folder.
const POLICY: &str = "policy.toml";
/// The files and folders that this command writes.
const WRITTEN: [&str; 8] = [
    "1-identity-provider.md",
    "identity-provider",
    "2-trusted-token-issuer.md",
    "2-trusted-token-issuer.json",
    "3-extension-access.md",
    "4-distribution.md",
    POLICY,
    "profiles",
];

/// The exit code is 0 if everything was written. It is 2, and nothing was written, if the identity provider contradicts
/// the values.
pub(super) async fn setup(paths: &Paths, arguments: Arguments, json: bool) -> anyhow::Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !json;
    let Arguments { offline, allow_loosening, .. } = arguments;
    let output = arguments.output.clone();
    let given = Documents::read(paths, &arguments.policy).opened()?.sources;
    let earlier = Earlier::read(paths, &output)?;
    let mut answers = ask::ask(&arguments, interactive)?;
    if answers.client_id.is_none() {
        answers.client_id = earlier.as_ref().and_then(|earlier| earlier.client_id(&answers));
    }
    let base = Base { earlier: earlier.as_ref(), given: &given };
    let mistakes = answers.mistakes();
    ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    // The registration of the client uses the other settings of policy too.
    let merged = resolved(base, &answers)?;
    answers.redirect_uri.clone_from(&merged.policy.redirect_uri);
    answers.app.clone_from(&merged.policy.app);
    answers.addresses =
        [&merged.policy.report_url, &merged.policy.update_feed].into_iter().flatten().cloned().collect();

    let mut findings = Vec::new();
    if !offline {
        let subject = subject(paths, base, &answers)?;
        match setup::discover(&subject, &answers.preset).await {
            Ok(found) => {
                answers.endpoints.clone_from(&found.endpoints);
                answers.preset = found;
                let subject = self::subject(paths, base, &answers)?;
                findings = doctor::examine_provider(subject, progress(json, false)).await;
            }
            Err(diagnosis) => findings.push(Finding::unavailable("discovery", diagnosis)),
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
        let reason = if contradiction {
            "the values that you entered and the identity provider's discovery document differ"
        } else {
            "the endpoints are not known without the identity provider"
        };
        if json {
            let document = json!({ "findings": findings, "files": [], "reason": reason });
            out!("{}", serde_json::to_string_pretty(&document)?);
        } else {
            print(&findings, false);
            out!("\nNothing was written: {reason}.");
        }
        return Ok(ExitCode::from(2));
    }
    if answers.client_id.is_some() {
        let after = acceptable(base, &answers, &output, allow_loosening)?;
        if let Some(earlier) = earlier.as_ref().filter(|_| !json) {
            earlier.show_difference(&after);
        }
    }
    let files = write(&answers, base, &output)?;
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
        print_result(&answers, &findings, offline, &output);
    }
    Ok(ExitCode::SUCCESS)
}

/// The policy that would be written: without a doubt about sign-in, and not weaker than the one of an earlier run.
fn acceptable(
    base: Base<'_>,
    answers: &Answers,
    output: &Path,
    allow_loosening: bool,
) -> anyhow::Result<Resolved> {
    let after = resolved(base, answers)?;
    // What only the provider could have corrected is in a sheet that cannot be edited afterwards.
    let doubtful = after.problems.iter().filter(|problem| {
        problem.code == Code::PolicyContradiction
            && matches!(
                problem.key.as_deref(),
                Some("Issuer" | "ClientId" | "JwksUri" | "TokenEndpoint" | "AuthorizationEndpoint")
            )
    });
    let doubtful: Vec<String> = doubtful.map(ToString::to_string).collect();
    ensure!(doubtful.is_empty(), "{}", doubtful.join("\n"));
    if let Some(earlier) = base.earlier {
        let loosenings = loosening::loosenings(&earlier.resolved, &after);
        ensure!(
            loosenings.is_empty() || allow_loosening,
            "the new policy allows more than {}:\n  {}\n  hint: `--allow-loosening` writes it all the same",
            output.join(POLICY).display(),
            loosenings.join("\n  ")
        );
    }
    Ok(after)
}

/// Whether the identity provider's documents contradict the values. A provider that cannot be reached contradicts
/// nothing.
fn contradicts(finding: &Finding) -> bool {
    let checks = ["discovery", "issuer", "endpoints", "keys", "offers"];
    finding.outcome == Outcome::Failure
        && checks.contains(&finding.check.as_str())
        && finding.diagnoses.iter().any(|diagnosis| !diagnosis.is_of_network())
}

/// The policy that an earlier run left in the folder.
struct Earlier {
    source: Source,
    resolved: Resolved,
}

/// What this command always answers anew.
const ANSWERED: [&str; 7] = [
    "IdentityProvider",
    "Issuer",
    "ClientId",
    "ClientSecret",
    "AuthorizationEndpoint",
    "TokenEndpoint",
    "JwksUri",
];

impl Earlier {
    /// Nothing, if there is none.
    fn read(paths: &Paths, output: &Path) -> anyhow::Result<Option<Self>> {
        let path = output.join(POLICY);
        // A link is none of ours.
        if !fs_err::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        let documents = Documents::read(paths, std::slice::from_ref(&path));
        let resolved = documents.resolve();
        let broken = resolved.problems.iter().find(|problem| problem.severity.is_error());
        if let Some(problem) = broken {
            bail!(
                "the policy of an earlier run cannot be used, so its restrictions would be lost\n{problem}\n  \
                 hint: repair it, or choose another folder with --output"
            );
        }
        let source = documents.sources.into_iter().next().context("one file is one source")?;
        Ok(Some(Self { source, resolved }))
    }

    /// The client ID, if it belongs to the same issuer.
    fn client_id(&self, answers: &Answers) -> Option<String> {
        let policy = &self.resolved.policy;
        policy.client_id.clone().filter(|_| policy.issuer.as_ref() == Some(&answers.preset.issuer))
    }

    /// Its settings without those that are answered anew.
    fn settings(&self) -> Source {
        let mut source = self.source.clone();
        source.rank = 0;
        if let Ok(policy) = &mut source.contents {
            policy
                .enforced
                .retain(|key, _| !ANSWERED.iter().any(|answered| answered.eq_ignore_ascii_case(key)));
        }
        source
    }

    fn show_difference(&self, after: &Resolved) {
        let mut first = true;
        for (before, after) in self.resolved.settings.iter().zip(&after.settings) {
            if before.value == after.value {
                continue;
            }
            if std::mem::take(&mut first) {
                out!("Changes of the policy:");
            }
            for (sign, value) in [('-', &before.value), ('+', &after.value)] {
                if let Some(value) = value {
                    out!("{}", hanging(&format!("{sign} {:<30}", before.key), &value.to_string()));
                }
            }
        }
        if !first {
            out!("");
        }
    }
}

/// What the answers are added to.
#[derive(Clone, Copy)]
struct Base<'a> {
    earlier: Option<&'a Earlier>,
    given: &'a [Source],
}

/// The policy of the answers as a source, stronger than the policy files.
fn sources(base: Base<'_>, answers: &Answers) -> Vec<Source> {
    let mut sources: Vec<Source> = base.earlier.map(Earlier::settings).into_iter().collect();
    sources.extend_from_slice(base.given);
    let contents = drop_in::read(answers.policy().as_bytes());
    sources.push(Source { rank: u32::MAX, name: "setup".to_owned(), contents });
    sources
}

/// Resolves the policy of all sources. A policy with an error is not accepted.
fn resolved(base: Base<'_>, answers: &Answers) -> anyhow::Result<Resolved> {
    let sources = sources(base, answers);
    if let Err(problems) = policy_of(&sources) {
        let serious = problems.iter().filter(|problem| problem.severity.is_error());
        let text = serious.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        bail!("the policy would have errors\n{text}");
    }
    Ok(resolve(&sources, &LastGood::default()))
}

fn subject(paths: &Paths, base: Base<'_>, answers: &Answers) -> anyhow::Result<Subject> {
    Ok(of_policy(paths, &resolved(base, answers)?.policy, 0, Vec::new()))
}

/// Writes every file, and returns their names in the folder.
fn write(answers: &Answers, base: Base<'_>, output: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = documents::identity_provider(answers)?;
    let mut policy_file = None;
    if answers.client_id.is_some() {
        let sources = sources(base, answers);
        let (policy, problems) =
            policy_of(&sources).map_err(|_| anyhow::anyhow!("the policy would have errors"))?;
        // Only contradictions are left here.
        policy::print_problems(&problems);
        let app_profile = export::has_app_profile(&sources);
        files.extend(documents::after_registration(answers, app_profile)?);
        let head = "# Written by `steward setup`. Check it with `steward policy check` and `steward doctor --policy`.\n";
        let bytes = format!("{head}{}", drop_in_of::bare(&policy)).into_bytes();
        files.push(Artefact { path: POLICY.to_owned(), bytes: bytes.clone() });
        policy_file = Some((bytes, policy, sources));
    }
    clear(output, policy_file.as_ref().map(|(bytes, ..)| bytes.as_slice()))?;
    // Some files have Google's client secret in them. It protects nothing, but other users need not read it.
    let access = if answers.client_secret.is_some() { Access::Private } else { Access::Public };
    if !output.exists() {
        file::create_folder(output, access)?;
    }
    let mut written = Vec::new();
    if let Some((_, policy, sources)) = &policy_file {
        let profiles = export::write(policy, sources, &output.join("profiles"))?.into_iter();
        written.extend(profiles.map(|file| format!("profiles/{}", file.path)));
    }
    for file in &files {
        let path = output.join(&file.path);
        fs_err::create_dir_all(folder_of(&path))?;
        fs_err::write(&path, &file.bytes)?;
    }
    written.extend(files.into_iter().map(|file| file.path));
    written.sort();
    Ok(written)
}

/// Removes what an earlier run wrote, so that nothing of another provider stays. A policy that was changed since is
/// kept as a copy. A folder with any other file in it is an error.
fn clear(output: &Path, policy: Option<&[u8]>) -> anyhow::Result<()> {
    let Ok(entries) = fs_err::read_dir(output) else { return Ok(()) };
    let names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    let is_kept = |name: &str| name.starts_with(&format!("{POLICY}.before"));
    let foreign: Vec<&String> =
        names.iter().filter(|name| !WRITTEN.contains(&name.as_str()) && !is_kept(name)).collect();
    if let Some(foreign) = foreign.first() {
        bail!(
            "{} contains `{foreign}`, which `steward setup` did not write; choose an empty folder with --output",
            output.display()
        );
    }
    for name in names.iter().filter(|name| !is_kept(name)) {
        let path = output.join(name);
        let metadata = fs_err::symlink_metadata(&path)?;
        if name == POLICY
            && metadata.is_file()
            && policy.is_none_or(|new| fs_err::read(&path).is_ok_and(|old| old != new))
        {
            let kept = unused(output, &format!("{POLICY}.before"));
            fs_err::rename(&path, &kept)?;
            err!("note: the previous policy was kept as {}", kept.display());
        } else if metadata.is_dir() {
            fs_err::remove_dir_all(&path)?;
        } else {
            fs_err::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A name that no file in the folder has yet.
fn unused(folder: &Path, name: &str) -> PathBuf {
    let numbered = (2..).map(|number| folder.join(format!("{name}-{number}")));
    let mut all = std::iter::once(folder.join(name)).chain(numbered);
    all.find(|path| fs_err::symlink_metadata(path).is_err()).unwrap_or_else(|| folder.join(name))
}

fn print_result(answers: &Answers, findings: &[Finding], offline: bool, output: &Path) {
    let of_center = answers.identity_center.iter().flat_map(setup::IdentityCenter::notes);
    for note in answers.preset.notes.iter().cloned().chain(of_center) {
        out!("{}", hanging("note: ", &note));
    }
    out!("For the Amazon Quick console, Permissions > Extension access:");
    for (name, value) in documents::console_values(answers) {
        out!("  {name:<25} {value}");
    }
    let serious: Vec<Finding> =
        findings.iter().filter(|finding| finding.outcome >= Outcome::Warning).cloned().collect();
    if !serious.is_empty() {
        out!("");
        print(&serious, false);
    }
    out!("");
    out!(
        "{}",
        match (answers.checked, offline) {
            (true, _) if answers.refused =>
                "The addresses match the identity provider's discovery document, but it refuses this client; see above.",
            (true, _) => "The values match the identity provider's discovery document.",
            (false, true) => "The values were not compared with the identity provider.",
            (false, false) => "The identity provider could not be reached, so the values were not compared.",
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
    out!("\nNext: steward doctor --policy {}", quoted(&output.join("policy.toml")));
}
