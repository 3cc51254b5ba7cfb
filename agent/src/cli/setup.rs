//! `steward setup`: questions to an administrator, and what comes of the answers.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_platform::paths::Paths;
use anyhow::{Context as _, bail, ensure};
use clap::Subcommand;
use dialoguer::{Confirm, Input, Select};
use policy_schema::export::{policy_of, toml as drop_in_of};
use policy_schema::raw::Place;
use policy_schema::read::drop_in;
use policy_schema::settings::IdentityProvider;
use policy_schema::{LastGood, resolve};
use serde_json::json;

use super::doctor::{of_policy, print, progress};
use super::{export, hanging, policy};
use crate::doctor::{self, Finding, Outcome, Subject};
use crate::setup::preset::{self, Preset};
use crate::setup::{self, Answers, IdentityCenter, documents};

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

/// Ends with 0 if everything was written, with 2 if the identity provider contradicts: then nothing is.
pub(super) async fn setup(paths: &Paths, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !arguments.json;
    let Arguments { offline, json, .. } = arguments;
    let (output, base) = (arguments.output.clone(), arguments.policy.clone());
    let mut answers = ask(arguments, interactive)?;
    let complaints = answers.complaints();
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));

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
    answers.checked = !offline
        && !contradiction
        && findings.iter().all(|finding| finding.check != "discovery" || finding.outcome == Outcome::Pass);
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
    let network = [
        "name-not-found",
        "connection-refused",
        "connection-timed-out",
        "tls-intercepted",
        "certificate-unusable",
        "tls-failed",
        "proxy-authentication",
        "proxy-unreachable",
        "trust-unusable",
        "network-settings-unusable",
        "captive-portal",
        "server-fault",
    ];
    let checks = ["discovery", "issuer", "endpoints", "keys", "offers"];
    finding.outcome == Outcome::Failure
        && checks.contains(&finding.check.as_str())
        && finding.diagnoses.iter().any(|diagnosis| !network.contains(&diagnosis.id.as_str()))
}

fn ask(arguments: Arguments, interactive: bool) -> anyhow::Result<Answers> {
    let asker = Asker { interactive };
    let provider = match arguments.provider {
        Some(provider) => provider,
        None => asker.provider()?,
    };
    let preset = match provider {
        Provider::Entra { tenant } => {
            asker.preset("--tenant", "Directory (tenant) ID", tenant, preset::entra)?
        }
        Provider::Okta { domain, authorization_server } => {
            asker.preset("--domain", "Okta domain", domain, |text| {
                preset::okta(text, authorization_server.as_deref())
            })?
        }
        Provider::Pingfederate { host } => {
            asker.preset("--host", "PingFederate host", host, preset::pingfederate)?
        }
        Provider::Pingone { custom_domain: Some(domain), .. } => {
            preset::pingone(None, None, Some(&domain)).map_err(anyhow::Error::msg)?
        }
        Provider::Pingone { environment, region, custom_domain: None } => {
            asker.preset("--environment", "Environment ID, or an address with it", environment, |text| {
                preset::pingone(Some(text), region.as_deref(), None)
            })?
        }
        Provider::Google => preset::google(),
        Provider::Custom { issuer } => asker.preset("--issuer", "Issuer", issuer, preset::custom)?,
    };
    let client_id = match arguments.client_id {
        Some(client_id) => Some(client_id.trim().to_owned()),
        None => asker.optional("Client ID (empty if the app is not registered yet)")?,
    };
    let google = preset.provider == IdentityProvider::Google;
    let client_secret = match arguments.client_secret {
        Some(secret) => Some(secret),
        None if google && client_id.is_some() => asker.optional("Client secret")?,
        None => None,
    };
    ensure!(
        !google || client_id.is_none() || client_secret.is_some(),
        "`--client-secret` is missing: Google's desktop clients have one"
    );
    let instance = match arguments.identity_center {
        Some(instance) => Some(instance),
        None => asker.identity_center()?,
    };
    let identity_center = instance.map(|instance| IdentityCenter {
        instance: instance.trim().to_owned(),
        claim: arguments.claim,
        attribute: arguments.identity_store_attribute,
        trusted_token_issuer: arguments.trusted_token_issuer,
    });
    Ok(Answers {
        endpoints: preset.endpoints.clone(),
        preset,
        client_id,
        client_secret,
        identity_center,
        organization: arguments.organization,
        support_contact: arguments.support_contact,
        email_domains: arguments.email_domain,
        app: "amazon-quick".to_owned(),
        redirect_uri: "http://localhost:18080".to_owned(),
        checked: false,
    })
}

/// Asks a person, if there is one.
struct Asker {
    interactive: bool,
}

impl Asker {
    fn provider(&self) -> anyhow::Result<Provider> {
        ensure!(
            self.interactive,
            "which identity provider: entra, okta, pingfederate, pingone, google or custom? For example `steward setup entra --tenant ...`"
        );
        let names = [
            "Microsoft Entra ID",
            "Okta",
            "PingFederate",
            "PingOne",
            "Google Workspace",
            "another (OpenID Connect)",
        ];
        let chosen = Select::new().with_prompt("Identity provider").items(names).default(0).interact()?;
        Ok(match chosen {
            0 => Provider::Entra { tenant: None },
            1 => Provider::Okta { domain: None, authorization_server: None },
            2 => Provider::Pingfederate { host: None },
            3 => Provider::Pingone { environment: None, region: None, custom_domain: None },
            4 => Provider::Google,
            _ => Provider::Custom { issuer: None },
        })
    }

    /// What was given, or what a person types until it can be understood.
    fn preset(
        &self,
        flag: &str,
        prompt: &str,
        given: Option<String>,
        understand: impl Fn(&str) -> Result<Preset, String>,
    ) -> anyhow::Result<Preset> {
        let text = match given {
            Some(text) => text,
            None if self.interactive => Input::<String>::new()
                .with_prompt(prompt)
                .validate_with(|text: &String| understand(text).map(drop))
                .interact_text()?,
            None => bail!("`{flag}` is missing; in a terminal it would be asked for"),
        };
        understand(&text).map_err(anyhow::Error::msg)
    }

    fn optional(&self, prompt: &str) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        let text = Input::<String>::new().with_prompt(prompt).allow_empty(true).interact_text()?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    fn identity_center(&self) -> anyhow::Result<Option<String>> {
        let prompt = "Does the Amazon Quick account use IAM Identity Center";
        if !self.interactive || !Confirm::new().with_prompt(prompt).default(false).interact()? {
            return Ok(None);
        }
        self.optional("ARN of the Identity Center instance")
    }
}

/// The policy as one place above others.
fn places(base: &[PathBuf], answers: &Answers) -> Vec<Place> {
    let mut places = policy::places(base);
    let contents = drop_in::read(answers.policy().as_bytes());
    places.push(Place { rank: u32::MAX, name: "setup".to_owned(), contents });
    places
}

fn subject(paths: &Paths, base: &[PathBuf], answers: &Answers) -> anyhow::Result<Subject> {
    let places = places(base, answers);
    if let Some(error) = places.iter().find_map(|place| place.contents.as_ref().err()) {
        bail!("{}", error.message);
    }
    let resolved = resolve(&places, &LastGood::default());
    Ok(of_policy(paths, &resolved.policy, 0, Vec::new()))
}

/// Writes every file; gives their names in the folder.
fn write(answers: &Answers, base: &[PathBuf], output: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = documents::identity_provider(answers)?;
    let mut written = Vec::new();
    if answers.client_id.is_some() {
        let places = places(base, answers);
        let (policy, problems) = match policy_of(&places) {
            Ok(checked) => checked,
            Err(problems) => {
                policy::print_problems(&problems);
                bail!("the policy would have errors");
            }
        };
        // Contradictions are worth a word; nothing else is left.
        policy::print_problems(&problems);
        let head = "# Written by `steward setup`. `steward policy check` tries it, `steward doctor --policy` as well.\n";
        let text = format!("{head}{}", drop_in_of::bare(&policy));
        files.extend(documents::rest(answers)?);
        files.push(policy_schema::export::Artefact {
            path: "policy.toml".to_owned(),
            bytes: text.into_bytes(),
        });
        written = export::write(&policy, &places, &output.join("profiles"))?
            .into_iter()
            .map(|path| format!("profiles/{path}"))
            .collect();
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
