//! Whether an ID token is trusted: OpenID Connect Core 1.0, section 3.1.3.7 (at sign-in) and 12.2 (after a renewal). Pure.
//!
//! In: a token in the compact form (RFC 7515, section 3.1), keys, and what is expected. Out: its claims. The library
//! verifies the signature. It is not asked for the claims: it reads all that the specification names, and refuses a token
//! for a form of a claim that nobody needs (`updated_at` as a text, `amr` that is no list).

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use openidconnect::core::CoreJwsSigningAlgorithm;
use openidconnect::{AccessToken, AccessTokenHash, JsonWebKey as _};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::documents::KeySet;
use super::error::{Check, ProviderError, one_line};
use super::key::{Key, algorithm};

/// Clocks may differ by this much, in seconds.
pub const LEEWAY: i64 = 60;
/// The longest subject, in bytes (Core 1.0, section 2).
const LONGEST_SUBJECT: usize = 255;

/// What a token must say.
pub(super) struct Expected<'e> {
    pub(super) issuer: &'e str,
    pub(super) client_id: &'e str,
    /// Audiences that may stand beside the client.
    pub(super) other_audiences: &'e [String],
    /// What the sign-in sent.
    pub(super) nonce: Option<&'e str>,
    /// The token ends a sign-in, so that the nonce has to be there.
    pub(super) first: bool,
    pub(super) now: Timestamp,
}

/// A token whose signature was verified.
pub(super) struct Signed<'k> {
    key: &'k Key,
    algorithm: CoreJwsSigningAlgorithm,
    pub(super) claims: Claims,
}

/// Why a token is not trusted.
pub(super) type Distrust = (Check, String);

/// The claims of a token, by name.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Those of a document that is not a token.
    pub(super) fn of(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Seconds since 1970, with or without a fraction; some write them as a text.
    fn time(&self, name: &str) -> Result<Option<i64>, Distrust> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it saturates, which is far enough in the future"
        )]
        number
            .map(|number| Some(number as i64))
            .ok_or_else(|| (Check::Claims, format!("its claim {name} is not a time")))
    }

    fn needed_time(&self, name: &str) -> Result<i64, Distrust> {
        self.time(name)?.ok_or_else(|| (Check::Claims, format!("it has no claim {name}")))
    }
}

/// What the header says of the signature (RFC 7515, section 4.1).
struct Header {
    algorithm: CoreJwsSigningAlgorithm,
    key_id: Option<String>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, Distrust> {
        let header = object(bytes).map_err(|reason| (Check::Token, format!("its header: {reason}")))?;
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        // Section 4.1.11: an extension that is not understood. Section 4.1.1: there is always an algorithm.
        if header.contains_key("crit") {
            return Err((Check::Token, "its header demands an extension (crit)".to_owned()));
        }
        let name = text("alg").ok_or((Check::Algorithm, "its header names no algorithm".to_owned()))?;
        let algorithm = algorithm(name)
            .ok_or_else(|| (Check::Algorithm, format!("the algorithm {} is not accepted", one_line(name))))?;
        let key_id = match header.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err((Check::Token, "its header names a key that is not a text".to_owned())),
        };
        Ok(Self { algorithm, key_id })
    }

    /// The keys that may have signed. Without a name there is either one, or those that have no name are tried.
    fn candidates<'k>(&self, keys: &'k KeySet) -> Result<Vec<&'k Key>, Distrust> {
        let fitting: Vec<&Key> = keys.keys.iter().filter(|key| key.fits(&self.algorithm)).collect();
        let name = |key: &Key| key.key_id().map(|id| id.as_str().to_owned());
        let Some(wanted) = &self.key_id else {
            return match fitting.as_slice() {
                [_] => Ok(fitting),
                several if !several.is_empty() && several.iter().all(|key| name(key).is_none()) => {
                    Ok(fitting)
                }
                [] => Err((Check::Key, no_key(keys))),
                _ => Err((Check::Key, "it does not name its key, and there are several".to_owned())),
            };
        };
        let named = fitting.into_iter().filter(|key| name(key).is_none_or(|own| own == *wanted));
        let named: Vec<&Key> = named.collect();
        if named.is_empty() { Err((Check::Key, no_key(keys))) } else { Ok(named) }
    }
}

fn no_key(keys: &KeySet) -> String {
    let reason = keys.passed_over.first().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("none of the identity provider's keys can verify it{}", one_line(&reason))
}

impl<'k> Signed<'k> {
    /// Verifies the signature of a token.
    pub(super) fn verify(token: &str, keys: &'k KeySet) -> Result<Self, Distrust> {
        let malformed = || (Check::Token, "it is not a signed token (RFC 7515)".to_owned());
        let parts: Vec<&str> = token.split('.').collect();
        let &[header, payload, signature] = parts.as_slice() else { return Err(malformed()) };
        let [Some(head), Some(body), Some(proof)] = [header, payload, signature].map(super::base64) else {
            return Err(malformed());
        };
        let header = Header::read(&head)?;
        let candidates = header.candidates(keys)?;
        let message = &token[..parts[0].len() + 1 + parts[1].len()];
        let verifies =
            |key: &&&Key| key.verify_signature(&header.algorithm, message.as_bytes(), &proof).is_ok();
        let key = candidates.iter().find(verifies).copied();
        let key = key.ok_or_else(|| (Check::Signature, "its signature is wrong".to_owned()))?;
        let claims = object(&body).map_err(|reason| (Check::Claims, format!("its claims: {reason}")))?;
        Ok(Self { key, algorithm: header.algorithm, claims: Claims(claims) })
    }

    /// Checks every claim that says for whom, by whom and when the token was issued.
    pub(super) fn check(&self, expected: &Expected<'_>) -> Result<(), Distrust> {
        let claims = &self.claims;
        let missing = |name: &str| (Check::Claims, format!("it has no claim {name}"));
        match claims.text("iss") {
            Some(issuer) if issuer == expected.issuer => {}
            Some(issuer) => {
                let reason = format!("its issuer is {}, not {}", one_line(issuer), expected.issuer);
                return Err((Check::Issuer, reason));
            }
            None => return Err(missing("iss")),
        }
        let subject = claims.get("sub").ok_or_else(|| missing("sub"))?;
        let subject = subject.as_str().ok_or((Check::Claims, "its claim sub is not a text".to_owned()))?;
        if subject.trim().is_empty()
            || subject.len() > LONGEST_SUBJECT
            || subject.chars().any(char::is_control)
        {
            return Err((
                Check::Claims,
                "its claim sub is empty, too long, or has control characters".to_owned(),
            ));
        }
        self.check_audience(expected)?;
        let (now, latest) = (expected.now.as_second(), expected.now.as_second() + LEEWAY);
        if claims.needed_time("exp")? <= now - LEEWAY {
            return Err((Check::Expiry, "it has expired; is this device's clock right?".to_owned()));
        }
        if claims.needed_time("iat")? > latest {
            let reason = "it was issued in the future; is this device's clock right?";
            return Err((Check::Start, reason.to_owned()));
        }
        if claims.time("nbf")?.is_some_and(|start| start > latest) {
            return Err((
                Check::Start,
                "it is not valid yet (nbf); is this device's clock right?".to_owned(),
            ));
        }
        match (claims.get("nonce").map(Value::as_str), expected.nonce) {
            (Some(found), Some(sent)) if found == Some(sent) => Ok(()),
            (Some(_), _) => Err((Check::Nonce, "it belongs to another sign-in (nonce)".to_owned())),
            // After a renewal it need not be there (Core 1.0, section 12.2).
            (None, Some(_)) if expected.first => Err((Check::Nonce, "its nonce is missing".to_owned())),
            (None, _) => Ok(()),
        }
    }

    fn check_audience(&self, expected: &Expected<'_>) -> Result<(), Distrust> {
        let audiences: Vec<&str> = match self.claims.get("aud") {
            Some(Value::String(audience)) => vec![audience],
            Some(Value::Array(listed)) => listed.iter().map(|one| one.as_str().unwrap_or_default()).collect(),
            Some(_) | None => return Err((Check::Audience, "it names no audience (aud)".to_owned())),
        };
        if !audiences.contains(&expected.client_id) {
            let named: Vec<String> = audiences.iter().take(3).map(|one| one_line(one)).collect();
            let reason = format!("its audience is {}, not the client of policy (aud)", named.join(", "));
            return Err((Check::Audience, reason));
        }
        let is_known = |audience: &str| {
            audience == expected.client_id || expected.other_audiences.iter().any(|known| known == audience)
        };
        if let Some(other) = audiences.iter().find(|audience| !is_known(audience)) {
            let reason = format!(
                "it is for another audience as well, {} (aud); if that is right, name it in `AdditionalAudiences`",
                one_line(other)
            );
            return Err((Check::Audience, reason));
        }
        match self.claims.get("azp") {
            Some(party) if party.as_str() != Some(expected.client_id) => {
                Err((Check::AuthorizedParty, "it was issued to another client (azp)".to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that an access token belongs to it, if it says so (Core 1.0, section 3.1.3.8).
    pub(super) fn check_access_token(&self, access_token: &str) -> Result<(), Distrust> {
        let Some(expected) = self.claims.get("at_hash") else { return Ok(()) };
        let access_token = AccessToken::new(access_token.to_owned());
        let actual = AccessTokenHash::from_token(&access_token, &self.algorithm, self.key).ok();
        if actual.as_ref().map(|hash| hash.as_str()) == expected.as_str() {
            return Ok(());
        }
        let reason = "the access token does not belong to the ID token (at_hash)";
        Err((Check::AccessTokenHash, reason.to_owned()))
    }

    /// When it ends.
    pub(super) fn expires_at(&self) -> Timestamp {
        let expires = self.claims.time("exp").ok().flatten();
        expires.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
    }
}

/// The error for a token that is not trusted.
pub(super) fn untrusted_token((check, reason): Distrust) -> ProviderError {
    // This one is about two tokens.
    let of_both = check == Check::AccessTokenHash;
    let reason = if of_both { reason } else { format!("the ID token is not trusted: {reason}") };
    ProviderError::Untrusted { check, reason }
}

/// A JSON object in which no name stands twice: which of them counts, would be up to the reader (RFC 7519, section 4).
fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    struct Unique(Map<String, Value>);

    impl<'de> Deserialize<'de> for Unique {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Members;
            impl<'de> Visitor<'de> for Members {
                type Value = Unique;

                fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                    formatter.write_str("a JSON object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                    let (mut members, mut names) = (Map::new(), HashSet::new());
                    while let Some((name, value)) = access.next_entry::<String, Value>()? {
                        if !names.insert(name.clone()) {
                            return Err(serde::de::Error::custom(format_args!(
                                "`{name}` stands in it twice"
                            )));
                        }
                        members.insert(name, value);
                    }
                    Ok(Unique(members))
                }
            }
            deserializer.deserialize_map(Members)
        }
    }

    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    serde_json::from_str::<Unique>(text).map(|unique| unique.0).map_err(|error| one_line(&error.to_string()))
}

#[cfg(test)]
mod tests;
