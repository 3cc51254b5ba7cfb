//! THE list: every setting once, with its key, type, default, constraints and the administrator's text.
//!
//! The doc comment of a setting is what an administrator reads everywhere (reference, templates, profiles): a title
//! line, then the explanation. Keys are API from the first release: never renamed, positive names, the same
//! spelling and polarity on every operating system.

use std::collections::BTreeMap;

pub use choices::{
    AppSelfUpdate, DeviceFlow, IdentityProvider, LogLevel, ProxyMode, ReportIdentity, SocialSignIn,
    UpdateMode, VaultFallback,
};

use crate::value::{Choice, Format, FromValue, Kind, Literal, Secret, Value};

mod choices;

/// One setting, as parsing and every exporter see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key, as written in policy.
    pub key: &'static str,
    /// Old keys that still work.
    pub aliases: &'static [&'static str],
    /// The heading it stands under.
    pub category: &'static str,
    /// Title line, then the explanation, line by line.
    pub documentation: &'static [&'static str],
    /// What it may hold.
    pub kind: Kind,
    /// What holds where policy says nothing.
    pub default: Option<Literal>,
    /// What holds, in place of the default, where policy says something that cannot be understood and no last good
    /// value is known. For settings whose default is weaker than what the administrator can have meant.
    pub strict: Option<Literal>,
    /// A value worth copying.
    pub example: Literal,
    /// Whether this version acts on it.
    pub effective: bool,
    /// Whether a person may choose otherwise where the value is only recommended.
    pub user_may_override: bool,
}

impl Setting {
    /// The first line of the documentation.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.documentation.first().map_or("", |line| line.trim())
    }

    const fn new(kind: Kind, example: Literal) -> Self {
        Self {
            key: "",
            aliases: &[],
            category: "",
            documentation: &[],
            kind,
            default: None,
            strict: None,
            example,
            effective: true,
            user_may_override: false,
        }
    }

    const fn boolean(default: bool) -> Self {
        Self::new(Kind::Boolean, Literal::Boolean(!default)).default(Literal::Boolean(default))
    }

    const fn integer(minimum: i64, maximum: i64, unit: &'static str, example: i64) -> Self {
        Self::new(Kind::Integer { minimum, maximum, unit }, Literal::Integer(example))
    }

    const fn text(format: Format, example: &'static str) -> Self {
        Self::new(Kind::Text { format }, Literal::Text(example))
    }

    const fn secret(example: &'static str) -> Self {
        Self::new(Kind::Secret, Literal::Text(example))
    }

    const fn choice(choices: &'static [Choice], example: &'static str) -> Self {
        Self::new(Kind::Choice(choices), Literal::Text(example))
    }

    const fn list(format: Format, maximum_items: usize, example: &'static [&'static str]) -> Self {
        Self::new(Kind::List { format, maximum_items }, Literal::List(example))
    }

    const fn default(mut self, default: Literal) -> Self {
        self.default = Some(default);
        self
    }

    const fn strict(mut self, strict: Literal) -> Self {
        self.strict = Some(strict);
        self
    }

    const fn not_yet_effective(mut self) -> Self {
        self.effective = false;
        self
    }

    const fn user_may_override(mut self) -> Self {
        self.user_may_override = true;
        self
    }
}

/// Declares [`SETTINGS`] and the typed [`Policy`] from one list.
macro_rules! settings {
    ($($category:literal { $($(#[doc = $doc:literal])+ $key:ident => $field:ident: $type:ty = $setting:expr;)+ })+) => {
        /// Every setting, in the order of the reference.
        pub static SETTINGS: &[Setting] = &[$($(Setting {
            key: stringify!($key),
            category: $category,
            documentation: &[$($doc),+],
            ..$setting
        },)+)+];

        /// What policy means, typed: values that passed, defaults where it is silent.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Policy {
            $($($(#[doc = $doc])+ pub $field: $type,)+)+
        }

        impl Policy {
            pub(crate) fn from_values(values: &BTreeMap<&'static str, Value>) -> Self {
                Self { $($($field: FromValue::from_value(values.get(stringify!($key))).unwrap_or_default(),)+)+ }
            }
        }
    };
}

settings! {
    "Sign-in" {
        /// Identity provider
        ///
        /// The product that people sign in with. It supplies what differs between products, such as the extra
        /// parameters that Google needs for a lasting session. `custom` follows OpenID Connect alone.
        IdentityProvider => identity_provider: IdentityProvider =
            Setting::choice(IdentityProvider::CHOICES, "entra").default(Literal::Text("custom"));
        /// Issuer
        ///
        /// The issuer identifier of the identity provider, exactly as its discovery document says it: a trailing slash
        /// or a missing `/v2.0` makes another issuer. Sign-in needs this and the client ID.
        Issuer => issuer: Option<String> =
            Setting::text(Format::Issuer, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0");
        /// Client ID
        ///
        /// The identifier of the public (native) client that is registered at the identity provider.
        ClientId => client_id: Option<String> = Setting::text(Format::Line, "3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77");
        /// Authorization endpoint
        ///
        /// Where the browser is sent. Needed only where discovery is not possible; it otherwise wins over discovery.
        AuthorizationEndpoint => authorization_endpoint: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/authorize");
        /// Token endpoint
        ///
        /// Where codes and refresh tokens are exchanged. Needed only where discovery is not possible.
        TokenEndpoint => token_endpoint: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/oauth2/v2.0/token");
        /// JWKS URI
        ///
        /// Where the identity provider publishes its signing keys. Needed only where discovery is not possible.
        JwksUri => jwks_uri: Option<String> =
            Setting::text(Format::Url, "https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/discovery/v2.0/keys");
        /// Client secret
        ///
        /// Only Google's desktop clients need one. It reaches every device, so it protects nothing (RFC 8252, section
        /// 8.5); leave it out everywhere else.
        ClientSecret => client_secret: Option<Secret> = Setting::secret("GOCSPX-example");
        /// Scopes
        ///
        /// The scopes to ask for. Without `offline_access` there is no lasting session (Google is the exception).
        Scopes => scopes: Vec<String> = Setting::list(Format::Scope, 32, &["openid", "email", "profile", "offline_access"])
            .default(Literal::List(&["openid", "email", "profile", "offline_access"]));
        /// Redirect URI
        ///
        /// Where the browser comes back to. Register exactly this at the identity provider, as a native (desktop)
        /// redirect.
        RedirectUri => redirect_uri: String = Setting::text(Format::RedirectUri, "http://localhost:18080")
            .default(Literal::Text("http://localhost:18080"));
        /// E-mail claim
        ///
        /// The claim of the ID token that holds the person's address.
        EmailClaim => email_claim: String = Setting::text(Format::Line, "email").default(Literal::Text("email"));
        /// Allowed e-mail domains
        ///
        /// Only people with an address in one of these domains may sign in. Unset, anybody whom the identity provider
        /// lets in; an empty list, nobody.
        AllowedEmailDomains => allowed_email_domains: Option<Vec<String>> =
            Setting::list(Format::Domain, 100, &["example.com"]).strict(Literal::List(&[]));
        /// Domain hint
        ///
        /// Sent to the identity provider so that people skip the question which organisation they belong to.
        DomainHint => domain_hint: Option<String> = Setting::text(Format::Domain, "example.com");
        /// Sign in at logon
        ///
        /// Opens the sign-in when a person logs on to the device, rather than when an app first asks.
        SignInAtLogon => sign_in_at_logon: bool = Setting::boolean(false).user_may_override().not_yet_effective();
        /// Longest session
        ///
        /// After so many hours a person must sign in again, whatever the identity provider allows.
        SessionMaximumHours => session_maximum_hours: Option<u32> =
            Setting::integer(1, 8760, "hours", 720).strict(Literal::Integer(1));
        /// Allowed applications
        ///
        /// Programs besides the managed app and Steward itself that may ask for tokens: absolute paths, or names of
        /// managed apps. A script cannot be named: whoever allows its interpreter allows every script. Name only programs
        /// that people cannot write to.
        AllowedApplications => allowed_applications: Vec<String> =
            Setting::list(Format::Application, 100, &["/opt/example/bin/example"]).default(Literal::List(&[]));
        /// Session store without a keyring
        ///
        /// What to do where the operating system offers no secret store.
        VaultFallback => vault_fallback: VaultFallback =
            Setting::choice(VaultFallback::CHOICES, "encrypted-file").default(Literal::Text("refuse"));
        /// Device flow
        ///
        /// Whether people may sign in on another device (RFC 8628) when no browser can be used here.
        DeviceFlow => device_flow: DeviceFlow =
            Setting::choice(DeviceFlow::CHOICES, "fallback").default(Literal::Text("never"));
    }
    "App" {
        /// App
        ///
        /// The name of the app to manage.
        App => app: String = Setting::text(Format::Name, "amazon-quick").default(Literal::Text("amazon-quick"));
        /// Social sign-in
        ///
        /// Whether the app offers sign-in with personal accounts. Unset, the app decides.
        SocialSignIn => social_sign_in: Option<SocialSignIn> =
            Setting::choice(SocialSignIn::CHOICES, "blocked").strict(Literal::Text("blocked"));
        /// The app's own updater
        ///
        /// Which updates the app may install by itself. Unset, the app decides.
        AppSelfUpdate => app_self_update: Option<AppSelfUpdate> =
            Setting::choice(AppSelfUpdate::CHOICES, "none").strict(Literal::Text("none"));
    }
    "Updates" {
        /// Update mode
        ///
        /// What happens when the feed has a new version of the app.
        UpdateMode => update_mode: UpdateMode =
            Setting::choice(UpdateMode::CHOICES, "automatic").default(Literal::Text("notify"));
        /// Update feed
        ///
        /// The address of the release feed. Unset, the app vendor's.
        UpdateFeed => update_feed: Option<String> =
            Setting::text(Format::Url, "https://updates.example.com/quick/latest.yml");
        /// Update channel
        ///
        /// The channel of the feed to follow.
        UpdateChannel => update_channel: Option<String> = Setting::text(Format::Name, "stable").not_yet_effective();
        /// Pinned version
        ///
        /// Only this version is installed. Set the app's own updater to `none` as well, else the two work against each
        /// other. A pin that cannot be understood matches no version, so nothing is installed.
        UpdatePinnedVersion => update_pinned_version: Option<semver::Version> =
            Setting::text(Format::Version, "2.1.0").strict(Literal::Text("0.0.0"));
        /// Minimum version
        ///
        /// An older version is updated at once: deferral and rollout do not delay it.
        UpdateMinimumVersion => update_minimum_version: Option<semver::Version> = Setting::text(Format::Version, "2.0.0");
        /// Deferral
        ///
        /// A release is installed only when it has been out for so many days.
        UpdateDeferDays => update_defer_days: u32 =
            Setting::integer(0, 90, "days", 7).default(Literal::Integer(0)).strict(Literal::Integer(90));
        /// Rollout
        ///
        /// The share of devices that install a release. Each device keeps its place in the order for one release.
        UpdateRolloutPercent => update_rollout_percent: u32 =
            Setting::integer(0, 100, "percent", 10).default(Literal::Integer(100)).strict(Literal::Integer(0));
        /// Update window
        ///
        /// The local times at which updates may be installed.
        UpdateWindow => update_window: Option<String> =
            Setting::text(Format::Window, "Mon-Fri 22:00-05:00").not_yet_effective();
        /// Update deadline
        ///
        /// After so many hours an update is installed even outside the window.
        UpdateDeadlineHours => update_deadline_hours: Option<u32> =
            Setting::integer(1, 2160, "hours", 72).not_yet_effective();
        /// Download bandwidth
        ///
        /// The most that a download may take.
        UpdateBandwidthKilobytes => update_bandwidth_kilobytes: Option<u32> =
            Setting::integer(16, 1_000_000, "kilobytes a second", 512).not_yet_effective();
        /// Agent update mode
        ///
        /// What happens when there is a new version of the agent itself.
        AgentUpdateMode => agent_update_mode: UpdateMode =
            Setting::choice(UpdateMode::CHOICES, "automatic").default(Literal::Text("notify")).not_yet_effective();
        /// Agent update feed
        ///
        /// The address of the agent's own release repository.
        AgentUpdateFeed => agent_update_feed: Option<String> =
            Setting::text(Format::Url, "https://updates.example.com/steward/").not_yet_effective();
        /// Pinned agent version
        ///
        /// Only this version of the agent is installed.
        AgentPinnedVersion => agent_pinned_version: Option<semver::Version> =
            Setting::text(Format::Version, "1.4.0").strict(Literal::Text("0.0.0")).not_yet_effective();
    }
    "Reporting" {
        /// Report address
        ///
        /// Where health reports are sent as JSON. Unset, none are sent.
        ReportUrl => report_url: Option<String> = Setting::text(Format::Url, "https://steward.example.com/v1/reports");
        /// OpAMP address
        ///
        /// An OpAMP server that health is reported to.
        OpampUrl => opamp_url: Option<String> =
            Setting::text(Format::Url, "https://opamp.example.com/v1/opamp").not_yet_effective();
        /// OTLP address
        ///
        /// An OpenTelemetry collector that metrics and logs are sent to.
        OtlpUrl => otlp_url: Option<String> =
            Setting::text(Format::Url, "https://otel.example.com:4318").not_yet_effective();
        /// Report interval
        ///
        /// How often a report is sent while nothing changes. A change is reported at once.
        ReportIntervalMinutes => report_interval_minutes: u32 =
            Setting::integer(5, 1440, "minutes", 60).default(Literal::Integer(60));
        /// Report enrolment token
        ///
        /// Sent with each report as a bearer token (RFC 6750), so that the receiver knows its own devices.
        ReportEnrollmentToken => report_enrollment_token: Option<Secret> = Setting::secret("enrol-example");
        /// Person in reports
        ///
        /// How reports name the person who is signed in.
        ReportIdentity => report_identity: ReportIdentity =
            Setting::choice(ReportIdentity::CHOICES, "pseudonym").default(Literal::Text("none"));
        /// Device posture in reports
        ///
        /// Whether reports say what the device is like: operating system, memory, free disk space, uptime.
        ReportPosture => report_posture: bool = Setting::boolean(true).strict(Literal::Boolean(false));
    }
    "Network" {
        /// Proxy mode
        ///
        /// Which proxy the agent uses.
        ProxyMode => proxy_mode: ProxyMode =
            Setting::choice(ProxyMode::CHOICES, "fixed").default(Literal::Text("system"));
        /// Proxy address
        ///
        /// The proxy to use when the proxy mode is `fixed`.
        ProxyUrl => proxy_url: Option<String> = Setting::text(Format::ProxyUrl, "http://proxy.example.com:3128");
        /// Proxy exceptions
        ///
        /// Hosts that are reached without the fixed proxy. This device itself always is.
        ProxyBypass => proxy_bypass: Vec<String> =
            Setting::list(Format::Host, 200, &[".corp.example.com", "10.0.0.1"]).default(Literal::List(&[]));
        /// Additional trusted certificates
        ///
        /// Certificate authorities to trust besides those of the operating system, in PEM. Where a form takes one line for
        /// each, the line breaks may be left out.
        AdditionalTrustedCertificates => additional_trusted_certificates: Vec<String> =
            Setting::list(Format::Certificate, 50, &[EXAMPLE_CERTIFICATE])
                .default(Literal::List(&[]));
    }
    "General" {
        /// Organisation
        ///
        /// The organisation's name, shown to people at sign-in.
        OrganizationName => organization_name: Option<String> = Setting::text(Format::Line, "Example Corp");
        /// Support contact
        ///
        /// Whom people can ask for help: an address, a number or a page. Shown wherever something fails.
        SupportContact => support_contact: Option<String> = Setting::text(Format::Line, "it-help@example.com");
        /// Log level
        ///
        /// How much the agent writes into the system log.
        LogLevel => log_level: LogLevel = Setting::choice(LogLevel::CHOICES, "debug")
            .default(Literal::Text("info")).user_may_override();
    }
}

/// A certificate of a certificate authority that does not exist.
const EXAMPLE_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBfzCCASWgAwIBAgIUaqmKEKZr/9UqAAHpyzSgik4wkZYwCgYIKoZIzj0EAwIw\nFTETMBEGA1UEAwwKRXhhbXBsZSBDQTAeFw0yNjExMjMwMTIzMDhaFw00NjExMTgw\nMTIzMDhaMBUxEzARBgNVBAMMCkV4YW1wbGUgQ0EwWTATBgcqhkjOPQIBBggqhkjO\nPQMBBwNCAAQthPUS16KClIGjMtBYiehJHFwHyzAukC8VzlqZrLhojPyEPv2pMsK1\nVs1knzNWvJnCfGEKgiBooEsVS46XVoL1o1MwUTAdBgNVHQ4EFgQUjE4FSWCHhWkq\ni2Vg77Gd+m5YZXIwHwYDVR0jBBgwFoAUjE4FSWCHhWkqi2Vg77Gd+m5YZXIwDwYD\nVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAgSceVwgpVYvcnHw6G6vi+\ndLpRyXBKE9yTr26BlntQvgIhALoostTONdaAry/aookaltUmCnOldk5lmaigfyLa\nkMc7\n-----END CERTIFICATE-----";

/// The setting that a key of policy names, in any capitals, and whether by an old name.
#[must_use]
pub fn find(settings: &'static [Setting], key: &str) -> Option<(&'static Setting, bool)> {
    settings.iter().find_map(|setting| {
        if setting.key.eq_ignore_ascii_case(key) {
            Some((setting, false))
        } else {
            setting.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(key)).then_some((setting, true))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_aliases_are_unique_without_regard_to_case() {
        let mut keys: Vec<_> = SETTINGS
            .iter()
            .flat_map(|setting| std::iter::once(&setting.key).chain(setting.aliases))
            .map(|key| key.to_ascii_lowercase())
            .collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn defaults_strict_choices_and_examples_obey_the_constraints() {
        for setting in SETTINGS {
            let literals = [setting.default, setting.strict, Some(setting.example)];
            for literal in literals.into_iter().flatten() {
                if let Err(invalid) = setting.kind.parse(&literal.to_raw()) {
                    panic!("{}: {}", setting.key, invalid.message);
                }
            }
        }
    }

    #[test]
    fn every_example_reaches_the_typed_policy() {
        for setting in SETTINGS {
            let with = |literal: Literal| {
                let value = setting.kind.parse(&literal.to_raw()).unwrap();
                Policy::from_values(&BTreeMap::from([(setting.key, value)]))
            };
            let choices: Vec<Literal> = match setting.kind {
                Kind::Choice(choices) => choices.iter().map(|choice| Literal::Text(choice.name)).collect(),
                Kind::Boolean => vec![Literal::Boolean(true)],
                Kind::Integer { .. } | Kind::Text { .. } | Kind::Secret | Kind::List { .. } => {
                    vec![setting.example]
                }
            };
            let empty = Policy::from_values(&BTreeMap::new());
            let reached = choices.iter().filter(|literal| with(**literal) != empty).count();
            assert!(reached + 1 >= choices.len() && reached > 0, "{} does not reach its field", setting.key);
        }
    }

    #[test]
    fn every_setting_explains_itself() {
        for setting in SETTINGS {
            assert!(setting.documentation.len() >= 3, "{}", setting.key);
            assert!(!setting.title().is_empty() && !setting.title().ends_with('.'), "{}", setting.key);
        }
    }
}
