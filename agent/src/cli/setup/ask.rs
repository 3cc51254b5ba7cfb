//! The answers of an administrator: from the command line, or asked for at a terminal. Called by `steward setup`.

use anyhow::{bail, ensure};
use dialoguer::{Confirm, Input, Select};
use policy_schema::preset::{self, Preset, PresetError};
use policy_schema::settings::IdentityProvider;

use super::{Arguments, Provider};
use crate::setup::{self, Answers, IdentityCenter};

/// The answers, given or asked for.
pub(super) fn ask(arguments: Arguments, interactive: bool) -> anyhow::Result<Answers> {
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
            let authorization_server = match authorization_server {
                None if domain.is_none() => {
                    asker.or_default("Authorization server (default, org or its ID)", "default")?
                }
                given => given,
            };
            asker.preset("--domain", "Okta domain", domain, |text| {
                preset::okta(text, authorization_server.as_deref())
            })?
        }
        Provider::Pingfederate { host } => {
            asker.preset("--host", "PingFederate host", host, preset::pingfederate)?
        }
        Provider::Pingone { custom_domain: Some(domain), .. } => preset::pingone(None, None, Some(&domain))?,
        Provider::Pingone { environment, region, custom_domain: None } => {
            let region = match region {
                None if environment.is_none() => asker.region()?,
                given => given,
            };
            asker.preset(
                "--environment",
                "Environment ID, or an address that contains it",
                environment,
                |text| preset::pingone(Some(text), region.as_deref(), None),
            )?
        }
        Provider::Google => preset::google(),
        Provider::Custom { issuer } => asker.preset("--issuer", "Issuer", issuer, preset::custom)?,
    };
    let client_id = match arguments.client_id {
        Some(client_id) => Some(client_id.trim().to_owned()),
        None => asker.optional("Client ID (empty if the app is not registered yet)", |text| {
            match setup::check_client_id(preset.provider, text.trim()) {
                mistakes if text.trim().is_empty() || mistakes.is_empty() => Ok(()),
                mistakes => Err(mistakes.join("; ")),
            }
        })?,
    };
    // Administrators may copy it with braces or without hyphens.
    let entra = preset.provider == IdentityProvider::Entra;
    let client_id = client_id.map(|text| preset::identifier(&text).filter(|_| entra).unwrap_or(text));
    let google = preset.provider == IdentityProvider::Google;
    let client_secret = match arguments.client_secret {
        Some(secret) => Some(secret),
        None if google && client_id.is_some() => asker.optional("Client secret", |_| Ok(()))?,
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
        // The resolved policy fills these in.
        app: String::new(),
        redirect_uri: String::new(),
        addresses: Vec::new(),
        checked: false,
        refused: false,
    })
}

/// Asks the administrator, if there is a terminal.
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

    /// The value that was given, or one that the administrator types. It asks again until the value is understood.
    fn preset(
        &self,
        flag: &str,
        prompt: &str,
        given: Option<String>,
        understand: impl Fn(&str) -> Result<Preset, PresetError>,
    ) -> anyhow::Result<Preset> {
        let text = match given {
            Some(text) => text,
            None if self.interactive => Input::<String>::new()
                .with_prompt(prompt)
                .validate_with(|text: &String| understand(text).map(drop))
                .interact_text()?,
            None => bail!("`{flag}` is missing; in a terminal, the command asks for it"),
        };
        Ok(understand(&text)?)
    }

    fn optional(
        &self,
        prompt: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        let input = Input::<String>::new().with_prompt(prompt).allow_empty(true);
        let text = input.validate_with(|text: &String| check(text)).interact_text()?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    fn or_default(&self, prompt: &str, usual: &str) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        let input = Input::<String>::new().with_prompt(prompt).default(usual.to_owned());
        Ok(Some(input.interact_text()?))
    }

    fn region(&self) -> anyhow::Result<Option<String>> {
        if !self.interactive {
            return Ok(None);
        }
        let chosen = Select::new()
            .with_prompt("Region (the end of PingOne's domain)")
            .items(preset::REGIONS)
            .default(0);
        Ok(preset::REGIONS.get(chosen.interact()?).map(|region| (*region).to_owned()))
    }

    fn identity_center(&self) -> anyhow::Result<Option<String>> {
        let prompt = "Does the Amazon Quick account use IAM Identity Center";
        if !self.interactive || !Confirm::new().with_prompt(prompt).default(false).interact()? {
            return Ok(None);
        }
        let instance = Input::<String>::new()
            .with_prompt("ARN of the Identity Center instance")
            .validate_with(|text: &String| setup::check_instance(text))
            .interact_text()?;
        Ok(Some(instance))
    }
}
