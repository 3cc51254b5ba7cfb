//! The causes of problems and their fixes: the catalogue `causes.toml`, and which cause a text or a problem has. Pure.
//!
//! In: a text, a problem or a cause, and the sign-in settings of policy. Out: a [`Diagnosis`]. Called by the doctor,
//! the broker and reports. A report has the names of causes, so that its receiver can print the fixes.

use policy_schema::settings::IdentityProvider;
use policy_schema::{Code, Component, Extra, Open, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

include!(concat!(env!("OUT_DIR"), "/causes.rs"));

/// The entry of a cause in the catalogue.
#[derive(Debug)]
struct Description {
    symptom: &'static str,
    origin: &'static str,
    /// By identity provider; `any` for all others.
    fixes: &'static [(&'static str, &'static str)],
    texts: &'static [&'static str],
    codes: &'static [&'static str],
    network: bool,
    links: &'static [(&'static str, &'static str)],
    row: Option<&'static str>,
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The cause, by a stable name.
    pub id: Open<Cause>,
    /// What a user or an administrator sees.
    pub symptom: String,
    /// What the diagnosis is based on.
    pub evidence: Vec<String>,
    /// The cause, in one sentence.
    pub cause: String,
    /// How certain the diagnosis is.
    pub confidence: Open<Confidence>,
    /// What to do.
    pub fix: String,
    /// Where the vendor explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// The cause of a problem. `steward doctor` on the device says more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedDiagnosis {
    /// The cause, by a stable name.
    pub id: Open<Cause>,
    /// How certain the diagnosis is.
    pub confidence: Open<Confidence>,
    /// What a newer version writes besides.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How certain a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// A usual cause of such a problem.
    Heuristic,
    /// The problem usually has this cause.
    Likely,
    /// The cause was observed.
    Certain,
}

/// The sign-in settings of policy, which fill the placeholders in the texts of a cause.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// `IdentityProvider`.
    pub identity_provider: IdentityProvider,
    /// `Issuer`.
    pub issuer: Option<&'a str>,
    /// `ClientId`.
    pub client_id: Option<&'a str>,
    /// `RedirectUri`.
    pub redirect_uri: &'a str,
    /// `EmailClaim`.
    pub email_claim: &'a str,
    /// `Scopes`.
    pub scopes: &'a [String],
}

impl Cause {
    /// What a user or an administrator sees.
    #[must_use]
    pub fn symptom(self) -> &'static str {
        self.description().symptom
    }

    /// The cause, in one sentence.
    #[must_use]
    pub fn origin(self) -> &'static str {
        self.description().origin
    }

    /// What to do, by identity provider; `any` for all others.
    #[must_use]
    pub fn fixes(self) -> &'static [(&'static str, &'static str)] {
        self.description().fixes
    }

    /// Where the vendors explain it, by identity provider.
    #[must_use]
    pub fn links(self) -> &'static [(&'static str, &'static str)] {
        self.description().links
    }

    /// The codes of problems that usually have this cause.
    #[must_use]
    pub fn codes(self) -> &'static [&'static str] {
        self.description().codes
    }

    /// The row of the app vendor's troubleshooting tables that this cause belongs to.
    #[must_use]
    pub fn row(self) -> Option<&'static str> {
        self.description().row
    }

    /// Whether requests do not reach the server, so that the cause says nothing about the policy.
    #[must_use]
    pub fn is_of_network(self) -> bool {
        self.description().network
    }

    /// Makes a diagnosis of this cause, with the fix for the identity provider.
    #[must_use]
    pub fn diagnosis(
        self,
        context: &Context<'_>,
        confidence: Confidence,
        evidence: Vec<String>,
    ) -> Diagnosis {
        let Description { symptom, origin, fixes, links, .. } = self.description();
        let provider = context.provider().map(IdentityProvider::as_str);
        let pick = |texts: &[(&'static str, &'static str)]| {
            let of = |wanted: &str| texts.iter().find(|(name, _)| *name == wanted).map(|(_, text)| *text);
            provider.and_then(of).or_else(|| of("any"))
        };
        Diagnosis {
            id: self.into(),
            symptom: context.fill(symptom),
            evidence,
            cause: context.fill(origin),
            confidence: confidence.into(),
            fix: pick(fixes).map_or_else(String::new, |text| context.fill(text)),
            link: pick(links).map(ToOwned::to_owned),
        }
    }
}

impl From<Diagnosis> for ReportedDiagnosis {
    /// Only the name: the words may name a user.
    fn from(diagnosis: Diagnosis) -> Self {
        Self { id: diagnosis.id, confidence: diagnosis.confidence, extra: Extra::default() }
    }
}

impl Diagnosis {
    /// Whether the request did not reach the server, so that the diagnosis says nothing about the policy.
    #[must_use]
    pub fn is_of_network(&self) -> bool {
        self.id.known().is_some_and(Cause::is_of_network)
    }
}

impl Context<'_> {
    /// The identity provider: as policy says, else as the issuer's host suggests.
    #[must_use]
    pub fn provider(&self) -> Option<IdentityProvider> {
        if self.identity_provider != IdentityProvider::Custom {
            return Some(self.identity_provider);
        }
        let issuer = self.issuer?.to_ascii_lowercase();
        let host = issuer.split("://").nth(1)?.split(['/', ':']).next()?;
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| host.ends_with(suffix));
        match () {
            () if ends(&["login.microsoftonline.com", "login.microsoftonline.us", "sts.windows.net"]) => {
                Some(IdentityProvider::Entra)
            }
            () if ends(&[".okta.com", ".oktapreview.com", ".okta-emea.com"]) => Some(IdentityProvider::Okta),
            () if host.starts_with("auth.pingone.") => Some(IdentityProvider::PingOne),
            () if host == "accounts.google.com" => Some(IdentityProvider::Google),
            () => None,
        }
    }

    fn fill(&self, text: &str) -> String {
        let unset = "(not set)";
        text.replace("{redirect_uri}", self.redirect_uri)
            .replace("{issuer}", self.issuer.unwrap_or(unset))
            .replace("{client_id}", self.client_id.unwrap_or(unset))
            .replace("{email_claim}", self.email_claim)
            .replace("{scopes}", &self.scopes.join(" "))
    }
}

/// The causes that a text of an identity provider, a browser or the app matches.
#[must_use]
pub fn match_causes(text: &str) -> Vec<Cause> {
    let text = normalize(text);
    let matched = |wanted: fn(&str) -> bool| {
        let has = |cause: &&Cause| {
            let mut texts = cause.description().texts.iter().filter(|part| wanted(part));
            texts.any(|part| contains_words(&text, &normalize(part)))
        };
        Cause::ALL.iter().filter(has).copied().collect::<Vec<_>>()
    };
    // The provider's own words say more than the code of the protocol that they come with.
    let by_words = matched(|part| !ERRORS.contains(&part));
    if by_words.is_empty() { matched(|part| ERRORS.contains(&part)) } else { by_words }
}

/// Codes of the protocol, which stand beside a text of the provider's own (RFC 6749, section 5.2; OpenID Connect Core 1.0,
/// section 3.1.2.6).
const ERRORS: [&str; 6] = [
    "invalid_client",
    "invalid_grant",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "consent_required",
];

/// The causes that the words of a user match: texts of errors, and the headings and symptoms of the vendor's tables and of this
/// catalogue.
#[must_use]
pub fn match_words(text: &str) -> Vec<Cause> {
    let by_text = match_causes(text);
    let plain = |text: &str| {
        // What stands in brackets names a product, and an error is called so or not.
        let text = normalize(text.split(" (").next().unwrap_or_default());
        text.trim_end_matches(['.', ':']).trim_end_matches(" error").trim().to_owned()
    };
    let text = plain(text);
    let is_meant = |cause: &&Cause| {
        let headings = [Some(cause.symptom()), cause.row(), Some(cause.as_str())];
        let mut headings = headings.into_iter().flatten().map(plain);
        // Beside texts of errors, which say more, only a whole heading counts.
        by_text.contains(cause)
            || headings
                .any(|heading| text == heading || (by_text.is_empty() && contains_words(&text, &heading)))
    };
    Cause::ALL.iter().filter(is_meant).copied().collect()
}

/// Diagnoses a problem by its message, else by the usual cause of its code.
#[must_use]
pub fn of_problem(problem: &Problem, context: &Context<'_>) -> Option<Diagnosis> {
    // The message of a policy problem has values of an administrator in it, not texts of a provider.
    let component = problem.code.known().map(Code::component);
    let has_foreign_text = component != Some(Component::Policy);
    let matched = if has_foreign_text { match_causes(&problem.message) } else { Vec::new() };
    let (cause, confidence) = if problem.code == Code::PolicyPinAgainstAppUpdater {
        (Cause::UpdateHazard, Confidence::Certain)
    } else if let Some(cause) = matched.first() {
        (*cause, Confidence::Certain)
    } else {
        let code = problem.code.as_str();
        (*Cause::ALL.iter().find(|cause| cause.codes().contains(&code))?, Confidence::Likely)
    };
    let evidence = std::iter::once(problem.message.clone()).chain(problem.place.clone()).collect();
    Some(cause.diagnosis(context, confidence, evidence))
}

/// Diagnoses known problems for a report, without any request. Each cause is named once.
#[must_use]
pub fn of_problems<'p>(context: &Context<'_>, problems: impl Iterator<Item = &'p Problem>) -> Vec<Diagnosis> {
    let mut found: Vec<Diagnosis> = Vec::new();
    for problem in problems.filter(|problem| problem.severity.is_at_least_warning()) {
        let Some(diagnosis) = of_problem(problem, context) else { continue };
        if !found.iter().any(|known| known.id == diagnosis.id) {
            found.push(diagnosis);
        }
    }
    found
}

/// The fix for a refusal by an identity provider, if a cause matches its message.
#[must_use]
pub fn fix_for(context: &Context<'_>, message: &str) -> Option<String> {
    let known = of_problem(&Problem::new(Code::SignInDenied, message), context)?;
    (known.confidence == Confidence::Certain).then_some(known.fix)
}

/// Whether a text contains whole words. The code AADSTS50011, for example, is not in AADSTS500119.
fn contains_words(text: &str, words: &str) -> bool {
    let is_in_word =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    // The name of a cause, which has hyphens itself.
    let is_name = words.contains('-') && !words.contains(' ');
    let is_in_word = |letter: Option<char>| is_in_word(letter) || is_name && letter == Some('-');
    text.match_indices(words).any(|(start, found)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + found.len()..].chars().next());
        !is_in_word(before) && !is_in_word(after)
    })
}

/// A text in the form that is compared: lower case, with plain quotes instead of typographic or escaped ones.
fn normalize(text: &str) -> String {
    let unescaped = quick_xml::escape::unescape(text).unwrap_or(text.into());
    unescaped.replace("&#39;", "'").replace('\u{2019}', "'").to_lowercase()
}

#[cfg(test)]
mod tests;
