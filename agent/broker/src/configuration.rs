//! What a broker needs to know of policy. The machine service resolves policy and leaves this for every user's
//! broker to read, so that a sign-in needs neither the right to read policy nor a service that answers.
//!
//! The client secret is in it: the only ones that exist here are those of Google's desktop clients, which reach every
//! device and protect nothing (RFC 8252, section 8.5).

use std::io;
use std::path::PathBuf;

use platform::file::Access;
use platform::paths::Paths;
use platform::preferences;
use platform::state::StateFile;
use policy_schema::settings::{DeviceFlow, IdentityProvider, LogLevel, VaultFallback};
use policy_schema::{Code, LastGood, Policy, Problem, Resolved, resolve};
use protocol::diagnosis::Context;
use serde::{Deserialize, Serialize};

use net::chain;
use net::http::Network;

const SIGN_IN_AT_LOGON: &str = "SignInAtLogon";
const LOG_LEVEL: &str = "LogLevel";
/// The settings of sign-in that a user may override.
const OVERRIDABLE: [&str; 2] = [SIGN_IN_AT_LOGON, LOG_LEVEL];

/// Why nobody can sign in under this policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The machine service has left nothing that can be read.
    #[error("{reason}")]
    Missing {
        /// Where it belongs.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A setting is not set.
    #[error("`{key}` is not set, so nobody can sign in")]
    NotSet {
        /// The setting.
        key: &'static str,
    },
}

impl ConfigurationError {
    /// The problem to show.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Missing { path, reason } => Problem::new(Code::SignInNotConfigured, reason.clone())
                .at(path.display().to_string())
                .hint("check that the machine service runs: `steward status`".to_owned()),
            Self::NotSet { key } => Problem::new(Code::SignInNotConfigured, "not set, so nobody can sign in")
                .key(*key)
                .hint("set `Issuer` and `ClientId` in policy".to_owned()),
        }
    }
}

/// Everything that sign-in depends on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Counts what was read since the start, from 1.
    #[serde(skip)]
    pub number: u64,
    /// `IdentityProvider`.
    pub identity_provider: IdentityProvider,
    /// `Issuer`.
    pub issuer: Option<String>,
    /// `ClientId`.
    pub client_id: Option<String>,
    /// `ClientSecret`.
    pub client_secret: Option<String>,
    /// `AuthorizationEndpoint`.
    pub authorization_endpoint: Option<String>,
    /// `TokenEndpoint`.
    pub token_endpoint: Option<String>,
    /// `JwksUri`.
    pub jwks_uri: Option<String>,
    /// `AdditionalAudiences`.
    #[serde(default)]
    pub additional_audiences: Vec<String>,
    /// `Scopes`.
    pub scopes: Vec<String>,
    /// `RedirectUri`.
    pub redirect_uri: String,
    /// `EmailClaim`.
    pub email_claim: String,
    /// `AllowedEmailDomains`.
    pub allowed_email_domains: Option<Vec<String>>,
    /// `DomainHint`.
    pub domain_hint: Option<String>,
    /// `SessionMaximumHours`.
    pub session_maximum_hours: Option<u32>,
    /// `VaultFallback`.
    pub vault_fallback: VaultFallback,
    /// `DeviceFlow`.
    pub device_flow: DeviceFlow,
    /// Folders of apps whose programs may have tokens.
    pub app_folders: Vec<String>,
    /// `AllowedApplications`: more programs, and names of apps.
    pub applications: Vec<String>,
    /// Programs, and names of apps, of `AllowedApplications` that the user has to confirm first.
    #[serde(default)]
    pub applications_to_confirm: Vec<String>,
    /// Folders of apps whose programs the user has to confirm first.
    #[serde(default)]
    pub folders_to_confirm: Vec<String>,
    /// `OrganizationName`.
    pub organization: Option<String>,
    /// `SupportContact`.
    pub support_contact: Option<String>,
    /// `LogLevel`.
    pub log_level: LogLevel,
    /// `SignInAtLogon`.
    #[serde(default)]
    pub sign_in_at_logon: bool,
    /// The settings that are left to the user's own preferences.
    #[serde(default)]
    pub left_to_user: Vec<String>,
    /// How to reach the network.
    pub network: Network,
}

impl Configuration {
    /// What a policy says of sign-in. `app_folders` are the folders of the managed app and of those that
    /// `AllowedApplications` names; `folders_to_confirm` those that it names for confirmation.
    #[must_use]
    pub fn new(policy: &Policy, app_folders: Vec<String>, folders_to_confirm: Vec<String>) -> Self {
        let applications = |confirm: bool| policy.applications(confirm).map(ToOwned::to_owned);
        Self {
            number: 0,
            identity_provider: policy.identity_provider,
            issuer: policy.issuer.clone(),
            client_id: policy.client_id.clone(),
            client_secret: policy.usable_client_secret().map(|secret| secret.expose().to_owned()),
            authorization_endpoint: policy.authorization_endpoint.clone(),
            token_endpoint: policy.token_endpoint.clone(),
            jwks_uri: policy.jwks_uri.clone(),
            additional_audiences: policy.additional_audiences.clone(),
            scopes: policy.scopes.clone(),
            redirect_uri: policy.redirect_uri.clone(),
            email_claim: policy.email_claim.clone(),
            allowed_email_domains: policy.allowed_email_domains.clone(),
            domain_hint: policy.domain_hint.clone(),
            session_maximum_hours: policy.session_maximum_hours,
            vault_fallback: policy.vault_fallback,
            device_flow: policy.device_flow,
            app_folders,
            applications: applications(false).collect(),
            applications_to_confirm: applications(true).collect(),
            folders_to_confirm,
            organization: policy.organization_name.clone(),
            support_contact: policy.support_contact.clone(),
            log_level: policy.log_level,
            sign_in_at_logon: policy.sign_in_at_logon,
            left_to_user: Vec::new(),
            network: Network::from(policy),
        }
    }

    /// The same, and which of its settings are left to the user.
    #[must_use]
    pub fn leaving_to_user(self, resolved: &Resolved) -> Self {
        let left = OVERRIDABLE.into_iter().filter(|key| resolved.leaves_to_user(key));
        Self { left_to_user: left.map(ToOwned::to_owned).collect(), ..self }
    }

    /// The same with the preferences of the user who runs this process, for what is left to them. A preference that cannot be
    /// understood is none.
    #[must_use]
    fn with_preferences(mut self, paths: &Paths) -> Self {
        if self.left_to_user.is_empty() {
            return self;
        }
        let Some(source) = preferences::read(paths) else { return self };
        let user = resolve(&[source], &LastGood::default());
        let chosen = |key: &str| self.left_to_user.iter().any(|left| left == key) && user.sets(key);
        let (at_logon, log_level) = (chosen(SIGN_IN_AT_LOGON), chosen(LOG_LEVEL));
        if at_logon {
            self.sign_in_at_logon = user.policy.sign_in_at_logon;
        }
        if log_level {
            self.log_level = user.policy.log_level;
        }
        self
    }

    /// Where it lies: a state file that every user may read.
    #[must_use]
    pub fn file(paths: &Paths) -> StateFile<Self> {
        StateFile::new(paths.state().join("sign-in.json"), Access::Public)
    }

    /// Leaves it for the brokers, if it has changed.
    ///
    /// # Errors
    /// The system refused.
    pub fn save(&self, paths: &Paths) -> io::Result<()> {
        Self::file(paths).save_if_changed(self).map(drop)
    }

    /// Reads what the machine service left, with the user's own preferences where it leaves the choice.
    ///
    /// # Errors
    /// It left nothing, or nothing that can be read.
    pub fn load(paths: &Paths) -> Result<Self, ConfigurationError> {
        let file = Self::file(paths);
        let missing = |reason: String| ConfigurationError::Missing { path: file.path().to_owned(), reason };
        match file.peek() {
            Ok(Some(configuration)) => Ok(configuration.with_preferences(paths)),
            Ok(None) => Err(missing("the machine service has left no policy for sign-in".to_owned())),
            Err(error) => Err(missing(chain(&error))),
        }
    }

    /// Issuer and client ID.
    ///
    /// # Errors
    /// One of them is not set.
    pub fn client(&self) -> Result<(&str, &str), ConfigurationError> {
        match (&self.issuer, &self.client_id) {
            (Some(issuer), Some(client_id)) => Ok((issuer, client_id)),
            (None, _) => Err(ConfigurationError::NotSet { key: "Issuer" }),
            (Some(_), None) => Err(ConfigurationError::NotSet { key: "ClientId" }),
        }
    }

    /// The scopes to ask for: Google has no `offline_access`.
    pub fn requested_scopes(&self) -> impl Iterator<Item = &str> {
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
    #[must_use]
    pub fn authorization_parameters(&self, lasting: bool) -> Vec<(&'static str, &str)> {
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

    /// What diagnoses are filled with.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            identity_provider: self.identity_provider,
            issuer: self.issuer.as_deref(),
            client_id: self.client_id.as_deref(),
            redirect_uri: &self.redirect_uri,
            email_claim: &self.email_claim,
            scopes: &self.scopes,
        }
    }

    /// Whom to ask for help, as the end of a sentence.
    #[must_use]
    pub fn help(&self) -> String {
        match &self.support_contact {
            Some(contact) => format!("ask {contact}"),
            None => "ask your IT support".to_owned(),
        }
    }
}
