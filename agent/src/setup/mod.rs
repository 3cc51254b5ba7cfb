//! Sets up sign-in: from the answers of an administrator to a policy and instructions.
//!
//! In: answers; [`policy_schema::preset`] reads what the administrator pastes. Out: the policy, and files with instructions for the
//! identity provider, AWS, the Amazon Quick console and the MDM ([`documents`]). Called by `steward setup`. Free of IO,
//! except for [`discover`], which fetches the identity provider's discovery document.

pub(crate) mod documents;
pub(crate) mod loosening;
mod registration;

use std::fmt::Write as _;
use std::sync::LazyLock;

use policy_schema::preset::{self, Endpoints, Preset};
use policy_schema::raw::RawValue;
use policy_schema::settings::IdentityProvider;
use policy_schema::value::{Format, Kind};
use protocol::diagnosis::Diagnosis;
use regex_lite::Regex;
use serde_json::Value;

use crate::doctor::{self, Subject};

/// The answers of an administrator, and what follows from them.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) preset: Preset,
    /// Known from the preset, or from the discovery document.
    pub(crate) endpoints: Option<Endpoints>,
    /// `None` before the app is registered.
    pub(crate) client_id: Option<String>,
    /// Only for Google.
    pub(crate) client_secret: Option<String>,
    pub(crate) identity_center: Option<IdentityCenter>,
    pub(crate) organization: Option<String>,
    pub(crate) support_contact: Option<String>,
    pub(crate) email_domains: Vec<String>,
    pub(crate) app: String,
    pub(crate) redirect_uri: String,
    /// The addresses of report receiver and update feed, if policy sets them.
    pub(crate) addresses: Vec<String>,
    /// Certificate authorities of the organization, in PEM.
    pub(crate) certificates: Vec<String>,
    /// The identity provider's documents match the values.
    pub(crate) checked: bool,
    /// The identity provider refuses the sign-in request of this client.
    pub(crate) refused: bool,
}

/// An Amazon Quick account that uses IAM Identity Center.
#[derive(Clone, Debug)]
pub(crate) struct IdentityCenter {
    /// The ARN of the instance.
    pub(crate) instance: String,
    /// The claim of the token that identifies the user.
    pub(crate) claim: String,
    /// The attribute of the identity store that must be identical to the claim.
    pub(crate) attribute: String,
    /// The ARN of the trusted token issuer, once it is created.
    pub(crate) trusted_token_issuer: Option<String>,
    /// The home Region of the instance.
    pub(crate) region: Option<String>,
}

impl Answers {
    /// The policy of these answers, as a drop-in.
    pub(crate) fn policy(&self) -> String {
        let mut text = String::new();
        let mut set = |key: &str, value: toml::Value| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        let one = |text: &str| toml::Value::from(text);
        set("IdentityProvider", one(self.preset.provider.as_str()));
        set("Issuer", one(&self.preset.issuer));
        if let Some(client_id) = &self.client_id {
            set("ClientId", one(client_id));
        }
        if let Some(secret) = &self.client_secret {
            set("ClientSecret", one(secret));
        }
        if let Some(endpoints) = &self.endpoints {
            set("AuthorizationEndpoint", one(&endpoints.authorization_endpoint));
            set("TokenEndpoint", one(&endpoints.token_endpoint));
            set("JwksUri", one(&endpoints.jwks_uri));
        }
        if !self.email_domains.is_empty() {
            set("AllowedEmailDomains", self.email_domains.clone().into());
        }
        if !self.certificates.is_empty() {
            set("AdditionalTrustedCertificates", self.certificates.clone().into());
        }
        if let Some(organization) = &self.organization {
            set("OrganizationName", one(organization));
        }
        if let Some(contact) = &self.support_contact {
            set("SupportContact", one(contact));
        }
        text
    }

    /// What is wrong with the answers, as far as that is known without the identity provider.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let google = self.preset.provider == IdentityProvider::Google;
        if let Some(client_id) = &self.client_id {
            mistakes.extend(check_client_id(&self.preset, client_id));
        }
        if self.client_secret.is_some() && !google {
            mistakes.push(
                "a client secret is for Google's desktop clients only; register a public client".to_owned(),
            );
        }
        if self.client_secret.is_some() && self.client_secret == self.client_id {
            mistakes
                .push("the client secret is the same as the client ID; copy the secret itself".to_owned());
        }
        for domain in &self.email_domains {
            // The same rule as for the policy; the whole list has no message of its own here.
            if let Err(invalid) =
                (Kind::Text { format: Format::Domain }).parse(&RawValue::Str(domain.clone()))
            {
                let hint = invalid.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
                mistakes.push(format!("--email-domain: {}{hint}", invalid.message));
            }
        }
        if let Some(center) = &self.identity_center {
            mistakes.extend(center.mistakes(&self.preset.issuer));
        }
        mistakes
    }
}

/// A text that was pasted, without the blanks, quotes and brackets that were copied with it.
pub(crate) fn clean(text: &str) -> String {
    let around = |letter: char| {
        letter.is_whitespace() || "\"'`<>\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}".contains(letter)
    };
    let text = text.trim_matches(around);
    let in_braces = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    in_braces.filter(|inner| preset::identifier(inner).is_some()).unwrap_or(text).to_owned()
}

/// What is wrong with a client ID.
pub(crate) fn check_client_id(preset: &Preset, client_id: &str) -> Vec<String> {
    let provider = preset.provider;
    let mut mistakes = Vec::new();
    // The same rule as for the policy, so that what is accepted here is not refused there.
    if let Err(invalid) =
        (Kind::Text { format: Format::ClientId }).parse(&RawValue::Str(client_id.to_owned()))
    {
        mistakes.push(invalid.message);
    } else if let Some((message, _)) = preset::doubt_about_client_id(provider, client_id) {
        mistakes.push(format!("`{client_id}`: {message}"));
    }
    // With braces or without hyphens it is the same ID.
    let bare = preset::identifier(client_id).unwrap_or_else(|| client_id.to_owned());
    if preset.issuer.split('/').any(|part| part.eq_ignore_ascii_case(&bare)) {
        mistakes.push(format!(
            "`{client_id}` is the ID of the tenant or environment; the client ID is shown beside it on the page of the app"
        ));
    }
    mistakes
}

/// Checks that a text is the ARN of an instance of IAM Identity Center.
pub(crate) fn check_instance(text: &str) -> Result<(), String> {
    if INSTANCE.is_match(text.trim()) { Ok(()) } else { Err(format!("expected {INSTANCE_FORM}")) }
}

/// Fills in what only the discovery document has: the endpoints of a custom provider, the tenant ID of a domain, and
/// the exact issuer if a slash at its end is missing or too many.
pub(crate) async fn discover(subject: &Subject, preset: &Preset) -> Result<Preset, Diagnosis> {
    let document = doctor::discovery(subject, &preset.issuer).await?;
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let issuer = text("issuer");
    let mut found = preset.clone();
    if issuer.trim_end_matches('/') == preset.issuer.trim_end_matches('/') && issuer != preset.issuer {
        found.notes.push(format!("the issuer is exactly {issuer}"));
        found.issuer.clone_from(&issuer);
    }
    let domain = preset.issuer.split('/').nth(3).filter(|tenant| tenant.contains('.'));
    if let (IdentityProvider::Entra, Some(domain)) = (preset.provider, domain)
        && let Ok(by_id) = preset::entra(&issuer)
    {
        found = Preset { notes: found.notes, ..by_id };
        found.notes.push(format!("the tenant of {domain} has the issuer {}", found.issuer));
    }
    if found.endpoints.is_none() {
        found.endpoints = Some(Endpoints {
            issuer: found.issuer.clone(),
            authorization_endpoint: text("authorization_endpoint"),
            token_endpoint: text("token_endpoint"),
            jwks_uri: text("jwks_uri"),
        });
    }
    Ok(found)
}

/// The partition of an ARN, such as `aws-us-gov`.
fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or_default()
}

/// The form of such an ARN.
const INSTANCE_FORM: &str = "arn:aws:sso:::instance/ssoins-...";

impl IdentityCenter {
    /// The values that AWS would refuse (`sso-admin`, the patterns of its model).
    fn mistakes(&self, issuer: &str) -> Vec<String> {
        let checks = [
            ("--identity-center", self.instance.as_str(), &*INSTANCE, INSTANCE_FORM),
            (
                "--claim",
                self.claim.as_str(),
                &*CLAIM,
                "up to three words of letters with `.` or `_` between them, such as email",
            ),
            (
                "--identity-store-attribute",
                self.attribute.as_str(),
                &*ATTRIBUTE,
                "up to three words of letters with `.` between them, such as emails.value",
            ),
            ("the issuer of a trusted token issuer", issuer, &*ISSUER, "an address without `?` and `#`"),
        ];
        let wrong = checks.iter().filter(|(_, value, pattern, _)| !pattern.is_match(value));
        let mut mistakes: Vec<String> = wrong
            .map(|(name, value, _, expected)| format!("{name}: expected {expected}, got `{value}`"))
            .collect();
        if let Some(arn) = self.trusted_token_issuer.as_ref().filter(|arn| !TTI.is_match(arn)) {
            mistakes.push(format!("--trusted-token-issuer: expected {TTI_FORM}, got `{arn}`"));
        } else if let Some(arn) = &self.trusted_token_issuer
            && !arn.contains(self.instance.rsplit('/').next().unwrap_or_default())
        {
            mistakes.push(
                "--trusted-token-issuer: it belongs to a different instance than --identity-center"
                    .to_owned(),
            );
        } else if let Some(arn) = &self.trusted_token_issuer
            && partition(arn) != partition(&self.instance)
        {
            mistakes.push(format!(
                "--trusted-token-issuer: it is in the partition `{}`, but --identity-center in `{}`",
                partition(arn),
                partition(&self.instance)
            ));
        }
        if self.attribute.eq_ignore_ascii_case("email") || self.attribute.eq_ignore_ascii_case("emails") {
            mistakes.push(
                "--identity-store-attribute: the attribute with the address is `emails.value`".to_owned(),
            );
        }
        if let Some(region) = self.region.as_ref().filter(|region| !REGION.is_match(region)) {
            let lower = region.to_ascii_lowercase().replace([' ', '_'], "-");
            // An availability zone ends in a letter.
            let meant = lower.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
            let meant = [lower.as_str(), meant].into_iter().find(|meant| REGION.is_match(meant));
            let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            mistakes.push(format!("--aws-region: expected a Region such as us-east-1, got `{region}`{hint}"));
        }
        mistakes
    }

    /// What the administrator should know about the place of the instance.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.instance.starts_with("arn:aws:") {
            notes.push(
                "the ARN is in a partition other than commercial AWS (GovCloud or China); ask AWS whether Amazon Quick on desktop is offered there".to_owned(),
            );
        }
        match &self.region {
            None => notes.push(
                "`--aws-region` was not given: run the AWS commands in the home Region of IAM Identity Center. Older pages of \
                 the vendor allow only us-east-1".to_owned(),
            ),
            Some(region) if region != "us-east-1" => notes.push(format!(
                "older pages of the vendor allow only us-east-1 as home Region; newer pages allow {region} if Amazon Quick is available there"
            )),
            Some(_) => {}
        }
        notes
    }
}

static INSTANCE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^arn:aws(-[a-z]{1,5}){0,3}:sso:::instance/(sso)?ins-[a-zA-Z0-9.-]{16}$"));
/// The form of the ARN of a trusted token issuer.
const TTI_FORM: &str = "arn:aws:sso::ACCOUNT:trustedTokenIssuer/ssoins-.../tti-...";
/// IAM Identity Center API Reference, `AuthorizedTokenIssuer`.
static TTI: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^arn:aws(-[a-z]{1,5}){0,3}:sso::[0-9]{12}:trustedTokenIssuer/(sso)?ins-[a-zA-Z0-9.-]{16}/tti-[a-f0-9]{8}(-[a-f0-9]{4}){3}-[a-f0-9]{12}$",
    )
});
static REGION: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[a-z]{2,3}(-[a-z]{3,}){1,3}-[0-9]{1,2}$"));
static CLAIM: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[A-Za-z]+([._][A-Za-z]+){0,2}$"));
static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[A-Za-z]+(\.[A-Za-z]+){0,2}$"));
static ISSUER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^https?://[-a-zA-Z0-9+&@/%=~_|!:,.;]*[-a-zA-Z0-9+&@/%=~_|]$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("tests use every pattern")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let preset = preset::okta("example.okta.com", None).unwrap();
        Answers {
            endpoints: preset.endpoints.clone(),
            preset,
            client_id: Some("0oa1".to_owned()),
            client_secret: None,
            identity_center: Some(IdentityCenter {
                instance: "arn:aws:sso:::instance/ssoins-1234567890abcdef".to_owned(),
                claim: "email".to_owned(),
                attribute: "emails.value".to_owned(),
                trusted_token_issuer: None,
                region: None,
            }),
            organization: Some("A \"quoted\" company".to_owned()),
            support_contact: None,
            email_domains: vec!["example.com".to_owned()],
            app: "amazon-quick".to_owned(),
            redirect_uri: "http://localhost:18080".to_owned(),
            addresses: Vec::new(),
            certificates: Vec::new(),
            checked: true,
            refused: false,
        }
    }

    #[test]
    fn policy_of_the_answers_is_valid_and_has_their_values() {
        use policy_schema::raw::Source;
        use policy_schema::read::drop_in;
        use policy_schema::{LastGood, resolve};
        let text = answers().policy();
        let source = Source { rank: 1, name: "setup".to_owned(), contents: drop_in::read(text.as_bytes()) };
        let resolved = resolve(&[source], &LastGood::default());
        assert_eq!(resolved.problems, [], "{text}");
        assert_eq!(resolved.policy.organization_name.as_deref(), Some("A \"quoted\" company"));
        assert_eq!(
            resolved.policy.jwks_uri.as_deref(),
            Some("https://example.okta.com/oauth2/default/v1/keys")
        );
    }

    #[test]
    fn values_that_aws_or_a_provider_would_refuse_are_mistakes() {
        assert_eq!(answers().mistakes(), Vec::<String>::new());
        let center = |change: fn(&mut IdentityCenter)| {
            let mut answers = answers();
            change(answers.identity_center.as_mut().unwrap());
            answers.mistakes().join(" ")
        };
        assert!(center(|one| one.instance = "ssoins-1".to_owned()).contains("--identity-center"));
        assert!(center(|one| one.claim = "custom:email".to_owned()).contains("--claim"));
        assert!(
            center(|one| one.attribute = "emails[0].value".to_owned()).contains("--identity-store-attribute")
        );
        assert!(center(|one| one.attribute = "email".to_owned()).contains("`emails.value`"));
        for (region, hint) in [
            ("us-east-1a", "us-east-1?"),
            ("US-EAST-1", "us-east-1?"),
            ("US East", "got `US East`"),
            ("useast1", "got"),
        ] {
            let mut answers = answers();
            answers.identity_center.as_mut().unwrap().region = Some(region.to_owned());
            let mistakes = answers.mistakes().join(" ");
            assert!(mistakes.contains("--aws-region") && mistakes.contains(hint), "{mistakes}");
        }
        for region in
            ["us-east-1", "eu-central-2", "us-gov-west-1", "us-isob-east-1", "cn-north-1", "ap-southeast-3"]
        {
            let mut answers = answers();
            answers.identity_center.as_mut().unwrap().region = Some(region.to_owned());
            assert_eq!(answers.mistakes(), Vec::<String>::new());
        }
        assert!(
            center(|one| {
                one.trusted_token_issuer = Some("arn:aws-us-gov:sso::123456789012:trustedTokenIssuer/ssoins-1234567890abcdef/tti-01234567-89ab-cdef-0123-456789abcdef".to_owned());
            })
            .contains("in the partition `aws-us-gov`, but --identity-center in `aws`")
        );
        let domain = Answers { email_domains: vec!["example".to_owned()], ..answers() };
        assert!(domain.mistakes().join(" ").contains("write the whole domain, such as example.com"));
        let of = |preset: Preset, client_id: &str| {
            Answers { preset, client_id: Some(client_id.to_owned()), ..answers() }.mistakes().join(" ")
        };
        let tenant = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
        assert!(
            of(preset::entra(tenant).unwrap(), "my app").contains("without spaces and special characters")
        );
        assert!(of(preset::google(), "abc").contains(".apps.googleusercontent.com"));
        assert!(
            of(preset::okta("example.okta.com", None).unwrap(), tenant)
                .contains("those of Okta begin with 0oa")
        );
        assert!(of(preset::okta("example.okta.com", None).unwrap(), "CLIENT-ID").contains("placeholder"));
        let secret = Answers { client_secret: Some("x".to_owned()), ..answers() };
        assert!(secret.mistakes().join(" ").contains("Google's desktop clients only"));
    }

    #[test]
    fn console_values_are_those_of_the_form_and_have_the_secret_of_google_in_the_token_endpoint() {
        let values = documents::console_values(&answers());
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "Trusted Token Issuer ARN",
                "Aud claim",
                "Name",
                "Issuer URL",
                "Authorization Endpoint",
                "Token Endpoint",
                "JWKS URI",
                "Client ID"
            ]
        );
        let google = preset::google();
        let google = Answers {
            endpoints: google.endpoints.clone(),
            preset: google,
            client_secret: Some("GOCSPX-a&b".to_owned()),
            identity_center: None,
            ..answers()
        };
        let values = documents::console_values(&google);
        assert_eq!(values[3].1, "https://oauth2.googleapis.com/token?client_secret=GOCSPX-a%26b");
        assert!(!google.policy().contains("?client_secret"));
    }

    #[test]
    fn registration_of_each_vendor_is_a_public_native_client_with_refresh_tokens() {
        let bodies = |preset: Preset| {
            let answers = Answers { endpoints: preset.endpoints.clone(), preset, ..answers() };
            let files = documents::identity_provider(&answers).unwrap();
            let text =
                |file: &policy_schema::export::Artefact| String::from_utf8(file.bytes.clone()).unwrap();
            files
                .iter()
                .map(|file| (file.path.clone(), text(file)))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let tenant = "6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10";
        let entra = bodies(preset::entra(tenant).unwrap());
        let app: Value = serde_json::from_str(&entra["identity-provider/app.json"]).unwrap();
        assert_eq!(app["publicClient"]["redirectUris"], serde_json::json!(["http://localhost:18080"]));
        assert_eq!(
            (&app["isFallbackPublicClient"], app.get("web"), app.get("spa")),
            (&true.into(), None, None)
        );
        assert_eq!(app["requiredResourceAccess"][0]["resourceAccess"].as_array().unwrap().len(), 4);
        let okta = bodies(preset::okta("example.okta.com", None).unwrap());
        let app: Value = serde_json::from_str(&okta["identity-provider/app.json"]).unwrap();
        let client = &app["settings"]["oauthClient"];
        assert_eq!(
            (&client["application_type"], &client["grant_types"][1]),
            (&"native".into(), &"refresh_token".into())
        );
        assert_eq!(app["credentials"]["oauthClient"]["token_endpoint_auth_method"], "none");
        assert!(okta["identity-provider/policy.json"].contains("0oa1"));
        assert!(
            !bodies(preset::okta("example.okta.com", Some("org")).unwrap())
                .contains_key("identity-provider/rule.json")
        );
        let ping = bodies(preset::pingfederate("sso.example.com").unwrap());
        assert!(
            ping["identity-provider/client.json"].contains("\"NONE\"")
                && ping["1-identity-provider.md"].contains("Return ID Token On Refresh Grant")
        );
        let one = bodies(preset::pingone(Some(tenant), Some("eu"), None).unwrap());
        assert!(one["identity-provider/application.json"].contains("S256_REQUIRED"));
        assert!(
            one["1-identity-provider.md"]
                .contains(&format!("https://api.pingone.eu/v1/environments/{tenant}"))
        );
        let google = bodies(preset::google());
        assert_eq!(google.len(), 1, "Google has no API for it");
        assert!(google["1-identity-provider.md"].contains("Internal"));
    }
}
