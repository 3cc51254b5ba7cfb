//! Tokens as providers make them, and as attackers would. The kinds are those of the conformance suite of OpenID Connect,
//! of Wycheproof's vectors for JWS and JWK, and of trials with independent providers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;
use Check as C;

const NOW: i64 = 1_760_000_000;
const ISSUER: &str = "https://a.example";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair of the curve P-256.
struct Pair(EcdsaKeyPair);

impl Pair {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self(pair.unwrap())
    }

    fn public(&self, more: &Value) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let mut key = json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature))
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn claims(change: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": "ada", "aud": "client", "iat": NOW, "exp": NOW + 600, "nonce": "n",
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn check_with(token: &str, keys: &KeySet, others: &[String]) -> Result<String, Distrust> {
    let signed = Signed::verify(token, keys)?;
    signed.check(&Expected {
        issuer: ISSUER,
        client_id: "client",
        other_audiences: others,
        nonce: Some("n"),
        first: true,
        now: Timestamp::from_second(NOW).unwrap(),
    })?;
    signed.check_access_token("access")?;
    Ok(signed.claims.text("sub").unwrap_or_default().to_owned())
}

#[test]
fn claims_that_say_for_whom_by_whom_and_when_are_strict() {
    let pair = Pair::new();
    let keys = set(&[pair.public(&json!({ "kid": "1" }))]);
    let check = |change: &Value| {
        let token = pair.sign(r#"{"alg":"ES256","kid":"1"}"#, claims(change).to_string());
        check_with(&token, &keys, &[]).map_err(|(check, _)| check)
    };
    for (change, refused) in [
        (json!({}), None),
        (json!({ "iss": "https://a.example/" }), Some(C::Issuer)),
        (json!({ "iss": null }), Some(C::Claims)),
        (json!({ "iss": ["https://a.example"] }), Some(C::Claims)),
        (json!({ "sub": null }), Some(C::Claims)),
        (json!({ "sub": "" }), Some(C::Claims)),
        (json!({ "sub": "  " }), Some(C::Claims)),
        (json!({ "sub": 5 }), Some(C::Claims)),
        (json!({ "sub": "a\u{1b}[2J" }), Some(C::Claims)),
        (json!({ "sub": "a".repeat(256) }), Some(C::Claims)),
        (json!({ "aud": ["client"] }), None),
        (json!({ "aud": [] }), Some(C::Audience)),
        (json!({ "aud": null }), Some(C::Audience)),
        (json!({ "aud": "Client" }), Some(C::Audience)),
        (json!({ "aud": ["client", "other"] }), Some(C::Audience)),
        (json!({ "aud": ["client", 5] }), Some(C::Audience)),
        (json!({ "aud": { "client": true } }), Some(C::Audience)),
        (json!({ "azp": "client" }), None),
        (json!({ "azp": "other" }), Some(C::AuthorizedParty)),
        (json!({ "azp": ["client"] }), Some(C::AuthorizedParty)),
        (json!({ "exp": null }), Some(C::Claims)),
        (json!({ "exp": NOW - 59 }), None),
        (json!({ "exp": NOW - 60 }), Some(C::Expiry)),
        (json!({ "exp": (NOW + 600).to_string() }), None),
        (json!({ "exp": "tomorrow" }), Some(C::Claims)),
        (json!({ "exp": [NOW + 600] }), Some(C::Claims)),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": -1e300 }), Some(C::Expiry)),
        (json!({ "iat": null }), Some(C::Claims)),
        (json!({ "iat": NOW + 60 }), None),
        (json!({ "iat": NOW + 61 }), Some(C::Start)),
        (json!({ "iat": f64::from(1_760_000_000) + 0.5 }), None),
        (json!({ "nbf": NOW + 61 }), Some(C::Start)),
        (json!({ "nbf": (NOW + 61).to_string() }), Some(C::Start)),
        (json!({ "nbf": "later" }), Some(C::Claims)),
        (json!({ "nonce": "other" }), Some(C::Nonce)),
        (json!({ "nonce": null }), Some(C::Nonce)),
        (json!({ "nonce": ["n"] }), Some(C::Nonce)),
        (json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }), Some(C::AccessTokenHash)),
        (json!({ "at_hash": 5 }), Some(C::AccessTokenHash)),
    ] {
        assert_eq!(check(&change).err(), refused, "{change}");
    }
}

/// Found in the field: each of these vetoed a sign-in, although nobody needs it.
#[test]
fn claims_that_nobody_needs_may_have_any_form() {
    let pair = Pair::new();
    let keys = set(&[pair.public(&json!({}))]);
    for change in [
        json!({ "updated_at": "2026-11-26T00:00:00Z", "email_verified": "true", "phone_number_verified": 1 }),
        json!({ "amr": "pwd", "acr": 1, "auth_time": "1760000000" }),
        json!({ "name": null, "locale": ["en"], "address": "Main Street", "gender": 3, "picture": "" }),
        json!({ "birthdate": {}, "groups": "one", "roles": null, "email": 7 }),
    ] {
        let token = pair.sign(r#"{"alg":"ES256","typ":5,"x5t":null}"#, claims(&change).to_string());
        assert_eq!(check_with(&token, &keys, &[]).unwrap(), "ada", "{change}");
    }
}

#[test]
fn audience_of_policy_may_stand_beside_the_client() {
    let pair = Pair::new();
    let keys = set(&[pair.public(&json!({}))]);
    let token = pair.sign(r#"{"alg":"ES256"}"#, claims(&json!({ "aud": ["client", "287614"] })).to_string());
    let (check, reason) = check_with(&token, &keys, &[]).unwrap_err();
    assert_eq!(check, Check::Audience);
    assert!(reason.contains("287614") && reason.contains("`AdditionalAudiences`"), "{reason}");
    assert!(check_with(&token, &keys, &["287614".to_owned()]).is_ok());
    // Alone it is not enough.
    let token = pair.sign(r#"{"alg":"ES256"}"#, claims(&json!({ "aud": "287614" })).to_string());
    assert!(check_with(&token, &keys, &["287614".to_owned()]).is_err());
}

#[test]
fn key_is_found_by_its_name_or_by_trying_those_without_one() {
    let (first, second) = (Pair::new(), Pair::new());
    let named = |pair: &Pair, id: &str| pair.public(&json!({ "kid": id }));
    let bare = |pair: &Pair| pair.public(&json!({}));
    let by = |header: &str, keys: &[Value]| {
        let token = second.sign(header, claims(&json!({})).to_string());
        check_with(&token, &set(keys), &[]).map_err(|(check, _)| check)
    };
    let (with_name, without) = (r#"{"alg":"ES256","kid":"2"}"#, r#"{"alg":"ES256"}"#);
    assert!(by(with_name, &[named(&first, "1"), named(&second, "2")]).is_ok());
    assert!(by(with_name, &[named(&first, "2"), named(&second, "2")]).is_ok(), "two keys of one name");
    assert!(by(with_name, &[named(&second, "2"), named(&second, "2")]).is_ok(), "listed twice");
    assert!(by(with_name, &[bare(&first), bare(&second)]).is_ok());
    assert!(by(without, &[bare(&first), bare(&second)]).is_ok());
    assert!(by(without, &[named(&second, "2")]).is_ok());
    assert_eq!(by(without, &[named(&first, "1"), named(&second, "2")]), Err(Check::Key));
    assert_eq!(by(with_name, &[named(&first, "1")]), Err(Check::Key));
    assert_eq!(by(with_name, &[named(&first, "2")]), Err(Check::Signature), "changed under the same name");
    assert_eq!(by(with_name, &[]), Err(Check::Key));
    for useless in [
        json!({ "kid": "2", "use": "enc" }),
        json!({ "kid": "2", "key_ops": ["sign"] }),
        json!({ "kid": "2", "alg": "ES384" }),
        json!({ "kid": "2", "crv": "P-384" }),
        json!({ "kid": "2", "kty": "RSA" }),
    ] {
        assert_eq!(by(with_name, &[second.public(&useless)]), Err(Check::Key), "{useless}");
    }
}

/// Nothing of these may ever be believed.
#[test]
fn token_that_is_no_signed_token_is_refused() {
    let pair = Pair::new();
    let keys = set(&[pair.public(&json!({ "kid": "1" }))]);
    let good = pair.sign(r#"{"alg":"ES256","kid":"1"}"#, claims(&json!({})).to_string());
    assert!(check_with(&good, &keys, &[]).is_ok());
    let parts: Vec<&str> = good.split('.').collect();
    let signed = |header: &[u8]| pair.sign(header, claims(&json!({})).to_string());
    let body = |body: &[u8]| pair.sign(r#"{"alg":"ES256"}"#, body);
    // The last character of a signature has bits that are not used.
    let mut loose = good.clone();
    let last = loose.pop().unwrap();
    loose.push(char::from(last as u8 + 1));
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "a.b".to_owned(),
        format!("{good}.x"),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], encode("{}"), parts[2]),
        format!(" {good}"),
        format!("{good}="),
        good.replace('.', ". "),
        loose,
        format!("{}.{}.", encode(r#"{"alg":"none"}"#), parts[1]),
        format!("{}.{}.{}", encode(r#"{"alg":"none"}"#), parts[1], parts[2]),
        format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), parts[1], parts[2]),
        signed(br#"{"alg":"es256"}"#),
        signed(br#"{"alg":null}"#),
        signed(b"{}"),
        signed(br#"{"alg":"ES256","kid":7}"#),
        signed(br#"{"alg":"ES256","crit":["exp"],"exp":1}"#),
        signed(br#"{"alg":"ES256","crit":[]}"#),
        signed(br#"{"alg":"none","alg":"ES256"}"#),
        signed(b"{\"alg\":\"ES256\",\"x\":\"\xff\"}"),
        signed(b"[]"),
        body(b""),
        body(b"[]"),
        body(b"\xff"),
        body(format!("{} x", claims(&json!({}))).as_bytes()),
        body(br#"{"iss":"https://a.example","sub":"eve","sub":"ada","aud":"client","iat":1760000000,"exp":1760000600,"nonce":"n"}"#),
    ];
    for token in cases {
        assert!(check_with(&token, &keys, &[]).is_err(), "{token}");
    }
}
