//! The answers of an administrator: from the command line, or asked for at a terminal. Called by `steward setup`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{bail, ensure};
use inquire::ui::RenderConfig;
use inquire::validator::Validation;
use inquire::{Confirm, InquireError, Select, Text};
use policy_schema::preset::{self, Preset, PresetError};
use policy_schema::settings::IdentityProvider;

use super::{Arguments, Provider};
use crate::cli::terminal;
use crate::setup::{self, Answers, IdentityCenter};

/// The answers, given or asked for. At a terminal they are shown at the end, and can be corrected.
pub(super) fn ask(arguments: &Arguments, interactive: bool) -> anyhow::Result<Answers> {
    if !terminal::is_colored() {
        inquire::set_global_render_config(RenderConfig::empty());
    }
    let asker = Asker { interactive, before: RefCell::default() };
    let certificates = certificates(&arguments.ca_file)?;
    loop {
        let answers = ask_once(&asker, arguments, certificates.clone())?;
        if !interactive || confirm(&answers)? {
            return Ok(answers);
        }
    }
}

fn ask_once(asker: &Asker, arguments: &Arguments, certificates: Vec<String>) -> anyhow::Result<Answers> {
    let provider = match &arguments.provider {
        Some(provider) => provider.clone(),
        None => asker.provider()?,
    };
    let preset = match provider {
        Provider::Entra { tenant } => {
            asker.preset("--tenant", "Directory (tenant) ID", tenant, preset::entra)?
        }
        Provider::Okta { domain, authorization_server } => {
            let typed = domain.is_none();
            let preset = asker.preset("--domain", "Okta domain", domain, |text| {
                preset::okta(text, authorization_server.as_deref())
            })?;
            // An address may name the server already.
            match authorization_server {
                None if typed && preset.issuer.ends_with("/oauth2/default") => {
                    let host = preset.issuer.trim_end_matches("/oauth2/default").to_owned();
                    let server =
                        asker.or_default("Authorization server (default, org or its ID)", "default")?;
                    preset::okta(&host, server.as_deref())?
                }
                _ => preset,
            }
        }
        Provider::Pingfederate { host } => {
            asker.preset("--host", "PingFederate host", host, preset::pingfederate)?
        }
        Provider::Pingone { custom_domain: Some(domain), .. } => preset::pingone(None, None, Some(&domain))?,
        Provider::Pingone { environment, region, custom_domain: None } => {
            let typed = environment.is_none();
            let prompt = "Environment ID, or an address that contains it";
            let text = asker.text("--environment", prompt, environment, |text| {
                preset::pingone(Some(text), region.as_deref(), None)
                    .map(drop)
                    .map_err(|error| error.to_string())
            })?;
            // An address says the region.
            let region = match region {
                None if typed && !text.contains("pingone.") => asker.region()?,
                given => given,
            };
            preset::pingone(Some(&text), region.as_deref(), None)?
        }
        Provider::Google => preset::google(),
        Provider::Custom { issuer } => asker.preset("--issuer", "Issuer", issuer, preset::custom)?,
    };
    let client_id = match &arguments.client_id {
        Some(client_id) => Some(setup::clean(client_id)),
        None => asker.optional("Client ID (empty if the app is not registered yet)", |text| {
            match setup::check_client_id(&preset, text) {
                mistakes if text.is_empty() || mistakes.is_empty() => Ok(()),
                mistakes => Err(mistakes.join("; ")),
            }
        })?,
    };
    // Administrators may copy it with braces or without hyphens.
    let entra = preset.provider == IdentityProvider::Entra;
    let client_id = client_id.map(|text| preset::identifier(&text).filter(|_| entra).unwrap_or(text));
    let google = preset.provider == IdentityProvider::Google;
    let client_secret = match &arguments.client_secret {
        Some(secret) => Some(setup::clean(secret)),
        None if google && client_id.is_some() => asker.optional("Client secret", |_| Ok(()))?,
        None => None,
    };
    ensure!(
        !google || client_id.is_none() || client_secret.is_some(),
        "`--client-secret` is missing: Google's desktop clients have one"
    );
    let instance = match &arguments.identity_center {
        Some(instance) => Some(setup::clean(instance)),
        None => asker.identity_center()?,
    };
    let region = match (&arguments.aws_region, &instance) {
        (None, Some(_)) => {
            asker.optional("Home Region of IAM Identity Center (us-east-1 on older pages)", |_| Ok(()))?
        }
        (given, _) => given.clone(),
    };
    let identity_center = instance.map(|instance| IdentityCenter {
        instance,
        claim: arguments.claim.clone(),
        attribute: arguments.identity_store_attribute.clone(),
        trusted_token_issuer: arguments.trusted_token_issuer.as_deref().map(setup::clean),
        region,
    });
    Ok(Answers {
        endpoints: preset.endpoints.clone(),
        preset,
        client_id,
        client_secret,
        identity_center,
        organization: arguments.organization.clone(),
        support_contact: arguments.support_contact.clone(),
        email_domains: arguments.email_domain.clone(),
        certificates,
        // The resolved policy fills these in.
        app: String::new(),
        redirect_uri: String::new(),
        addresses: Vec::new(),
        checked: false,
        refused: false,
    })
}

/// The certificates of these files, each by itself as policy has them.
fn certificates(files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut all = Vec::new();
    for file in files {
        let text = fs_err::read_to_string(file)?;
        let found: Vec<String> = text
            .split_inclusive(END)
            .filter_map(|part| part.find("-----BEGIN CERTIFICATE-----").map(|at| part[at..].to_owned()))
            .collect();
        ensure!(!found.is_empty(), "{}: the file has no certificate in PEM", file.display());
        all.extend(found);
    }
    Ok(all)
}

/// Asks the administrator, if there is a terminal.
struct Asker {
    interactive: bool,
    /// What was typed before, to begin with when an answer is corrected.
    before: RefCell<BTreeMap<String, String>>,
}

/// The administrator ended the questions.
#[derive(Debug, thiserror::Error)]
#[error("nothing was written: you ended the questions")]
struct Ended;

/// Ctrl-C and Esc end the questions; the library leaves the terminal as it was.
fn ended<T>(answer: Result<T, InquireError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => Ended.into(),
        InquireError::NotTTY
        | InquireError::InvalidConfiguration(_)
        | InquireError::IO(_)
        | InquireError::Custom(_) => error.into(),
    })
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
        let asked = Select::new("Identity provider", names.to_vec()).raw_prompt();
        Ok(match ended(asked)?.index {
            0 => Provider::Entra { tenant: None },
            1 => Provider::Okta { domain: None, authorization_server: None },
            2 => Provider::Pingfederate { host: None },
            3 => Provider::Pingone { environment: None, region: None, custom_domain: None },
            4 => Provider::Google,
            _ => Provider::Custom { issuer: None },
        })
    }

    /// The value that was given, or one that the administrator types. It asks again until the value is understood.
    fn text(
        &self,
        flag: &str,
        prompt: &str,
        given: Option<String>,
        understand: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<String> {
        match given {
            Some(text) => Ok(setup::clean(&text)),
            None if self.interactive => self.typed(prompt, false, understand),
            None => bail!("`{flag}` is missing; in a terminal, the command asks for it"),
        }
    }

    fn preset(
        &self,
        flag: &str,
        prompt: &str,
        given: Option<String>,
        understand: impl Fn(&str) -> Result<Preset, PresetError>,
    ) -> anyhow::Result<Preset> {
        let check = |text: &str| understand(text).map(drop).map_err(|error| error.to_string());
        Ok(understand(&self.text(flag, prompt, given, check)?)?)
    }

    fn optional(
        &self,
        prompt: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        Ok(Some(self.typed(prompt, true, check)?).filter(|text| !text.is_empty()))
    }

    /// What the administrator types, without what was pasted around it.
    fn typed(
        &self,
        prompt: &str,
        may_be_empty: bool,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<String> {
        let before = self.before.borrow().get(prompt).cloned().unwrap_or_default();
        let check = |text: &str| {
            let text = setup::clean(text);
            let checked = if text.is_empty() && !may_be_empty {
                Err("an answer is needed; Esc ends the questions".to_owned())
            } else {
                check(&text)
            };
            Ok(checked.map_or_else(|mistake| Validation::Invalid(mistake.into()), |()| Validation::Valid))
        };
        let text = ended(Text::new(prompt).with_initial_value(&before).with_validator(check).prompt())?;
        let text = setup::clean(&text);
        self.before.borrow_mut().insert(prompt.to_owned(), text.clone());
        Ok(text)
    }

    fn or_default(&self, prompt: &str, usual: &str) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        ended(Text::new(prompt).with_default(usual).prompt()).map(|text| Some(setup::clean(&text)))
    }

    fn region(&self) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        let chosen = Select::new("Region (the end of PingOne's domain)", preset::REGIONS.to_vec()).prompt();
        ended(chosen).map(|region| Some(region.to_owned()))
    }

    fn identity_center(&self) -> anyhow::Result<Option<String>> {
        let prompt = "Does the Amazon Quick account use IAM Identity Center?";
        if !self.interactive || !ended(Confirm::new(prompt).with_default(false).prompt())? {
            return Ok(None);
        }
        self.typed("ARN of the Identity Center instance", false, setup::check_instance).map(Some)
    }
}

/// Shows the answers. `false` if one is to be corrected: then all are asked again, with what was typed before.
fn confirm(answers: &Answers) -> anyhow::Result<bool> {
    err!("\nIssuer     {}", answers.preset.issuer);
    err!("Client ID  {}", answers.client_id.as_deref().unwrap_or("not registered yet"));
    if let Some(center) = &answers.identity_center {
        err!("Instance   {}", center.instance);
    }
    ended(Confirm::new("Is this correct? (n: change an answer)").with_default(true).prompt())
}
