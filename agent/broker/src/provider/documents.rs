//! PURE: what a provider publishes about itself. The doctor reads the same types, so that it passes nothing that a sign-in
//! would refuse.
//!
//! Only what is used is read. What nobody needs may be missing or of any form; what is needed must be right.

use policy_schema::is_loopback;
use serde_json::{Map, Value};
use url::Url;

pub use super::key::Key;

/// More keys than this are not looked at.
const MAXIMUM_KEYS: usize = 200;

/// A JSON object.
pub type Object = Map<String, Value>;

/// Reads a JSON object, with or without a byte order mark.
///
/// # Errors
/// It is none; the reason says where it ceases to be one.
pub fn object(bytes: &[u8]) -> Result<Object, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// An endpoint as a document names it: nothing, an address that may be used, or what is wrong with it.
type Named = Option<Result<Url, String>>;

/// A discovery document (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// `issuer`.
    pub issuer: Option<String>,
    /// `authorization_endpoint`.
    pub authorization_endpoint: Named,
    /// `token_endpoint`.
    pub token_endpoint: Named,
    /// `jwks_uri`.
    pub jwks_uri: Named,
    /// `userinfo_endpoint`.
    pub userinfo_endpoint: Named,
    /// `revocation_endpoint` (RFC 8414, for RFC 7009).
    pub revocation_endpoint: Named,
    /// `device_authorization_endpoint` (RFC 8628).
    pub device_authorization_endpoint: Named,
    /// `pushed_authorization_request_endpoint` (RFC 9126).
    pub pushed_authorization_request_endpoint: Named,
    /// `require_pushed_authorization_requests` (RFC 9126).
    pub requires_pushed_requests: bool,
    /// `end_session_endpoint` (RP-Initiated Logout 1.0).
    pub end_session_endpoint: Named,
    /// `authorization_response_iss_parameter_supported` (RFC 9207).
    pub names_issuer: bool,
}

impl Discovery {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self::of(&object(bytes)?))
    }

    /// What a document says.
    #[must_use]
    pub fn of(document: &Object) -> Self {
        let named = |name| endpoint(document, name);
        // Some write booleans as texts.
        let flag = |name: &str| match document.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        };
        Self {
            issuer: document.get("issuer").and_then(Value::as_str).map(ToOwned::to_owned),
            authorization_endpoint: named("authorization_endpoint"),
            token_endpoint: named("token_endpoint"),
            jwks_uri: named("jwks_uri"),
            userinfo_endpoint: named("userinfo_endpoint"),
            revocation_endpoint: named("revocation_endpoint"),
            device_authorization_endpoint: named("device_authorization_endpoint"),
            pushed_authorization_request_endpoint: named("pushed_authorization_request_endpoint"),
            requires_pushed_requests: flag("require_pushed_authorization_requests"),
            end_session_endpoint: named("end_session_endpoint"),
            names_issuer: flag("authorization_response_iss_parameter_supported"),
        }
    }

    /// Checks that the document is the issuer's own (section 4.3).
    ///
    /// # Errors
    /// It is not, or it does not say whose it is.
    pub fn check_issuer(&self, expected: &str) -> Result<(), String> {
        match &self.issuer {
            Some(issuer) if issuer == expected => Ok(()),
            Some(issuer) => Err(format!("the issuer in the discovery document is {issuer}, not {expected}")),
            None => Err("the discovery document does not name its issuer".to_owned()),
        }
    }

    /// What is wrong with endpoints that a sign-in can do without. They are not used.
    pub fn unusable(&self) -> impl Iterator<Item = &str> {
        let optional = [
            &self.userinfo_endpoint,
            &self.revocation_endpoint,
            &self.device_authorization_endpoint,
            &self.pushed_authorization_request_endpoint,
            &self.end_session_endpoint,
        ];
        optional.into_iter().filter_map(|named| named.as_ref()?.as_ref().err().map(String::as_str))
    }
}

/// The address of an endpoint that a sign-in needs: the one of policy, else the document's.
///
/// # Errors
/// There is none, or it may not be used.
pub fn needed(policy: Option<&str>, named: Option<&Named>, name: &str) -> Result<Url, String> {
    if let Some(text) = policy {
        return protected(text).map_err(|reason| format!("{name}: {text} {reason}"));
    }
    match named {
        Some(Some(found)) => found.clone(),
        Some(None) => Err(format!("the discovery document has no {name}")),
        None => Err(format!("there is no discovery document, and policy names no {name}")),
    }
}

fn endpoint(document: &Object, name: &str) -> Named {
    match document.get(name)? {
        Value::Null => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(protected(text).map_err(|reason| format!("{name}: {text} {reason}"))),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(Err(format!("{name}: it is not a text")))
        }
    }
}

/// An address to which codes and tokens may go, by the same rule as those of policy: encrypted, or this device itself.
///
/// # Errors
/// The reason, as the end of a sentence about the address.
pub fn protected(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("is not an address: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name in it".to_owned());
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("is not encrypted (http), so no code or token is sent there".to_owned()),
        _ => Err("is not an https address".to_owned()),
    }
}

/// A set of keys (RFC 7517, section 5).
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    /// Those that can verify a signature, each once.
    pub keys: Vec<Key>,
    /// Why the others are not used.
    pub passed_over: Vec<String>,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// It is no set of keys.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let document = object(bytes)?;
        let listed = document.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        let mut set = Self::default();
        for (value, number) in listed.iter().take(MAXIMUM_KEYS).zip(1..) {
            match Key::read(value) {
                Ok(key) if set.keys.contains(&key) => {}
                Ok(key) => set.keys.push(key),
                Err(reason) => {
                    let name = value.get("kid").and_then(Value::as_str).map_or_else(
                        || format!("key {number}"),
                        |id| format!("key `{}`", super::error::one_line(id)),
                    );
                    set.passed_over.push(format!("{name}: {reason}"));
                }
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn discovery(change: &Value) -> Discovery {
        let mut document = json!({
            "issuer": "https://a.example",
            "authorization_endpoint": "https://a.example/authorize",
            "token_endpoint": "https://a.example/token",
            "jwks_uri": "https://a.example/keys",
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        Discovery::read(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_nobody_needs_may_have_any_form() {
        for change in [
            json!({}),
            json!({ "userinfo_endpoint": "", "end_session_endpoint": null, "revocation_endpoint": 5 }),
            json!({ "response_types_supported": "code", "subject_types_supported": null, "scopes_supported": {} }),
            json!({ "op_policy_uri": "not an address", "service_documentation": "", "ui_locales_supported": "en" }),
            json!({ "id_token_signing_alg_values_supported": [1, null] }),
        ] {
            let found = discovery(&change);
            found.check_issuer("https://a.example").unwrap();
            let token = needed(None, Some(&found.token_endpoint), "token_endpoint").unwrap();
            assert_eq!(token.as_str(), "https://a.example/token", "{change}");
            assert!(found.userinfo_endpoint.as_ref().is_none_or(Result::is_err));
        }
        let with_mark = [b"\xef\xbb\xbf".as_slice(), b"{\"issuer\": \"x\"}"].concat();
        assert_eq!(Discovery::read(&with_mark).unwrap().issuer.as_deref(), Some("x"));
        assert!(discovery(&json!({ "authorization_response_iss_parameter_supported": "true" })).names_issuer);
    }

    /// Found by trial: code, verifier and refresh token went in clear text to where a document sent them.
    #[test]
    fn endpoint_that_is_not_encrypted_is_refused_and_one_that_is_not_needed_is_left_out() {
        let found = discovery(&json!({
            "token_endpoint": "http://b.example/token", "userinfo_endpoint": "http://b.example/me",
        }));
        let error = needed(None, Some(&found.token_endpoint), "token_endpoint").unwrap_err();
        assert!(error.contains("http://b.example/token is not encrypted"), "{error}");
        assert!(found.userinfo_endpoint.as_ref().unwrap().is_err());
        assert_eq!(found.unusable().count(), 1);
        // Policy's own address wins, under the same rule.
        assert!(needed(Some("https://c.example/t"), Some(&found.token_endpoint), "token_endpoint").is_ok());
        assert!(needed(Some("http://c.example/t"), None, "token_endpoint").is_err());
        for (text, usable) in [
            ("https://a.example/x?y=z", true),
            ("http://127.0.0.1:8080/x", true),
            ("http://localhost:8080/x", true),
            ("http://a.example/x", false),
            ("ftp://a.example/x", false),
            ("https://me:pw@a.example/x", false),
            ("/token", false),
        ] {
            assert_eq!(protected(text).is_ok(), usable, "{text}");
        }
    }

    #[test]
    fn issuer_is_compared_exactly() {
        let found = discovery(&json!({}));
        assert!(found.check_issuer("https://a.example/").unwrap_err().contains("https://a.example, not"));
        assert!(found.check_issuer("https://A.example").is_err());
        assert!(
            discovery(&json!({ "issuer": null })).check_issuer("x").unwrap_err().contains("does not name")
        );
    }

    #[test]
    fn keys_that_cannot_verify_are_passed_over_with_a_reason_and_others_count_once() {
        let rsa = |bytes: usize| {
            use base64::Engine as _;
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode([&[0xc1][..], &vec![7; bytes - 1]].concat())
        };
        let good =
            json!({ "kty": "RSA", "n": rsa(256), "e": "AQAB", "kid": "a", "x5c": [5], "alg": "RS256" });
        let set = json!({ "keys": [
            good, good,
            { "kty": "RSA", "n": rsa(128), "e": "AQAB", "kid": "short" },
            { "kty": "RSA", "n": rsa(256), "e": "AQAB", "use": "enc" },
            { "kty": "RSA", "n": rsa(256), "e": "AQAB", "key_ops": ["encrypt"] },
            { "kty": "RSA", "n": rsa(256), "e": "AQAB", "alg": "RSA-OAEP" },
            { "kty": "oct", "k": "c2VjcmV0" },
            { "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" },
            { "kty": "RSA", "n": format!("{}==", rsa(256)), "e": "AQAB", "use": null, "kid": 7 },
            "RSA",
        ]});
        let set = KeySet::read(set.to_string().as_bytes()).unwrap();
        assert_eq!(set.keys.len(), 2, "{:?}", set.passed_over);
        assert_eq!(set.passed_over.len(), 7, "{:?}", set.passed_over);
        assert!(set.passed_over[0].contains("key `short`: 1024 bits"), "{:?}", set.passed_over);
        assert!(KeySet::read(b"{}").is_err() && KeySet::read(b"<html>").is_err());
    }
}
