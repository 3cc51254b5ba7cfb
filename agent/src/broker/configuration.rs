//! What a broker needs to know of policy. The machine service resolves policy and leaves this for every person's
//! broker to read, so that a sign-in needs neither the right to read policy nor a service that answers.
//!
//! The client secret is in it: the only ones that exist here are those of Google's desktop clients, which reach every
//! device and protect nothing (RFC 8252, section 8.5).

use std::io;
use std::path::PathBuf;

use agent_platform::file;
use agent_platform::paths::Paths;
use policy_schema::settings::{DeviceFlow, IdentityProvider, LogLevel, VaultFallback};
use policy_schema::{Code, Policy, Problem};
use serde::{Deserialize, Serialize};

use crate::app::descriptor;
use crate::http::Network;

/// Everything that sign-in depends on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Configuration {
    /// Counts what was read since the start, from 1.
    #[serde(skip)]
    pub(crate) number: u64,
    pub(crate) identity_provider: IdentityProvider,
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<String>,
    pub(crate) authorization_endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) redirect_uri: String,
    pub(crate) email_claim: String,
    pub(crate) allowed_email_domains: Option<Vec<String>>,
    pub(crate) domain_hint: Option<String>,
    pub(crate) session_maximum_hours: Option<u32>,
    pub(crate) vault_fallback: VaultFallback,
    pub(crate) device_flow: DeviceFlow,
    /// Folders of apps whose programs may have tokens.
    pub(crate) app_folders: Vec<String>,
    /// `AllowedApplications`: more programs, and names of apps.
    pub(crate) applications: Vec<String>,
    pub(crate) organization: Option<String>,
    pub(crate) support_contact: Option<String>,
    pub(crate) log_level: LogLevel,
    pub(crate) network: Network,
}

impl From<&Policy> for Configuration {
    fn from(policy: &Policy) -> Self {
        Self {
            number: 0,
            identity_provider: policy.identity_provider,
            issuer: policy.issuer.clone(),
            client_id: policy.client_id.clone(),
            client_secret: policy.client_secret.as_ref().map(|secret| secret.expose().to_owned()),
            authorization_endpoint: policy.authorization_endpoint.clone(),
            token_endpoint: policy.token_endpoint.clone(),
            jwks_uri: policy.jwks_uri.clone(),
            scopes: policy.scopes.clone(),
            redirect_uri: policy.redirect_uri.clone(),
            email_claim: policy.email_claim.clone(),
            allowed_email_domains: policy.allowed_email_domains.clone(),
            domain_hint: policy.domain_hint.clone(),
            session_maximum_hours: policy.session_maximum_hours,
            vault_fallback: policy.vault_fallback,
            device_flow: policy.device_flow,
            app_folders: app_folders(policy),
            applications: policy.allowed_applications.clone(),
            organization: policy.organization_name.clone(),
            support_contact: policy.support_contact.clone(),
            log_level: policy.log_level,
            network: Network::from(policy),
        }
    }
}

impl Configuration {
    /// Where it lies.
    pub(crate) fn path(paths: &Paths) -> PathBuf {
        paths.state().join("sign-in.json")
    }

    /// Leaves it for the brokers, if it has changed.
    pub(crate) fn save(&self, paths: &Paths) -> io::Result<()> {
        let path = Self::path(paths);
        let bytes = serde_json::to_vec_pretty(self)?;
        if fs_err::read(&path).is_ok_and(|before| before == bytes) {
            return Ok(());
        }
        file::create_folder(&paths.state(), file::Access::Public)?;
        file::replace(&path, &bytes, file::Access::Public)
    }

    /// Reads what the machine service left.
    ///
    /// # Errors
    /// It left nothing, or nothing that can be read.
    pub(crate) fn load(paths: &Paths) -> Result<Self, Problem> {
        let path = Self::path(paths);
        let unusable = |reason: String| {
            Problem::new(Code::SignInNotConfigured, reason)
                .at(path.display().to_string())
                .hint("check that the machine service runs: `steward status`".to_owned())
        };
        let bytes = fs_err::read(&path).map_err(|error| unusable(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))
    }

    /// Issuer and client ID.
    ///
    /// # Errors
    /// One of them is not set.
    pub(crate) fn client(&self) -> Result<(&str, &str), Problem> {
        match (&self.issuer, &self.client_id) {
            (Some(issuer), Some(client_id)) => Ok((issuer, client_id)),
            (issuer, _) => {
                let missing = if issuer.is_none() { "Issuer" } else { "ClientId" };
                Err(Problem::new(Code::SignInNotConfigured, "not set, so nobody can sign in")
                    .key(missing)
                    .hint("set `Issuer` and `ClientId` in policy".to_owned()))
            }
        }
    }

    /// The scopes to ask for: Google has no `offline_access`.
    pub(crate) fn requested_scopes(&self) -> impl Iterator<Item = &str> {
        let google = self.identity_provider == IdentityProvider::Google;
        self.scopes
            .iter()
            .map(String::as_str)
            // The library asks for it in any case.
            .filter(|scope| *scope != "openid")
            .filter(move |scope| !google || *scope != "offline_access")
    }

    /// Parameters of the authorization request beyond OpenID Connect's basic ones. `lasting` says whether this device
    /// has a refresh token already, which Google gives only together with consent.
    pub(crate) fn authorization_parameters(&self, lasting: bool) -> Vec<(&'static str, &str)> {
        let mut parameters = Vec::new();
        let offline = self.scopes.iter().any(|scope| scope == "offline_access");
        match self.identity_provider {
            IdentityProvider::Google => {
                parameters.push(("access_type", "offline"));
                parameters.extend((!lasting).then_some(("prompt", "consent")));
                parameters.extend(self.domain_hint.as_deref().map(|domain| ("hd", domain)));
            }
            IdentityProvider::Entra => {
                parameters.extend(self.domain_hint.as_deref().map(|domain| ("domain_hint", domain)));
            }
            // OpenID Connect Core 1.0, section 11: offline access needs consent to be asked for.
            IdentityProvider::Custom if offline => parameters.push(("prompt", "consent")),
            IdentityProvider::Custom
            | IdentityProvider::Okta
            | IdentityProvider::PingFederate
            | IdentityProvider::PingOne => {}
        }
        parameters
    }

    /// Whom to ask for help, as the end of a sentence.
    pub(crate) fn help(&self) -> String {
        match &self.support_contact {
            Some(contact) => format!("ask {contact}"),
            None => "ask your IT support".to_owned(),
        }
    }
}

/// The folders of the managed app and of those that `AllowedApplications` names.
fn app_folders(policy: &Policy) -> Vec<String> {
    let named = std::iter::once(&policy.app).chain(&policy.allowed_applications);
    let systems = named.filter_map(|name| descriptor::find(name)?.system());
    systems.flat_map(|system| system.programs.clone()).collect()
}
