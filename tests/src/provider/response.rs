//! The token endpoint's responses, right and wrong.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library has algorithms that the lab has no keys for"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest;
use serde_json::{Value, json};

use super::behaviour::{ProviderFault, Variation};
use super::{CLIENT_ID, Granted, RefreshToken, Shared, email, secret};

/// A body that begins and does not end.
pub(super) struct IncompleteBody {
    begun: bool,
    /// The connection breaks instead of waiting forever.
    breaks: bool,
}

impl IncompleteBody {
    pub(super) fn that_stalls() -> Self {
        Self { begun: false, breaks: false }
    }

    pub(super) fn that_breaks() -> Self {
        Self { begun: false, breaks: true }
    }
}

impl futures_core::Stream for IncompleteBody {
    type Item = std::io::Result<&'static str>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        use std::task::Poll;
        if !std::mem::replace(&mut self.begun, true) {
            return Poll::Ready(Some(Ok("{\"access_token\":")));
        }
        if self.breaks {
            Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
        } else {
            Poll::Pending
        }
    }
}

impl Shared {
    pub(super) fn token_response(&self, granted: &Granted) -> Value {
        use ProviderFault as F;
        let vendor = self.vendor;
        let Granted { nonce, first, user, scope, with_refresh_token } = granted;
        let first = *first;
        let mut state = self.lock();
        let (fault, variation) = (state.behaviour.fault, state.behaviour.variation);
        if variation == Some(Variation::KeysRotateBeforeSigning) {
            state.rotated = true;
        }
        let (access_token, refresh_token) = (secret(), secret());
        let entry = RefreshToken { nonce: nonce.clone(), user, used: None, revoked: false };
        if *with_refresh_token {
            state.refresh_tokens.insert(refresh_token.clone(), entry);
        }

        #[expect(clippy::disallowed_methods, reason = "an identity provider has a clock")]
        let now = jiff::Timestamp::now().as_second();
        let algorithm = match state.behaviour.algorithm {
            Algorithm::ES384 | Algorithm::RS384 | Algorithm::PS384 => &digest::SHA384,
            Algorithm::RS512 | Algorithm::PS512 => &digest::SHA512,
            _ => &digest::SHA256,
        };
        let hash = digest::digest(algorithm, access_token.as_bytes());
        let mut claims = json!({
            "iss": state.issuer, "sub": user, "aud": CLIENT_ID, "email": email(user), "email_verified": true,
            "iat": now, "exp": now + state.behaviour.id_token_lifetime, "at_hash": BASE64.encode(&hash.as_ref()[..algorithm.output_len() / 2]),
        });
        if first && !nonce.is_empty() {
            claims["nonce"] = json!(nonce);
        }
        if !vendor.has_email() {
            claims["email"] = Value::Null;
        }
        if !vendor.hashes_access_token() {
            claims["at_hash"] = Value::Null;
        }
        spoil_claims(&mut claims, (fault, variation), first, now);
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        let (key, id) = match state.behaviour.algorithm {
            Algorithm::ES384 => (&self.long_key, "lab-long"),
            Algorithm::ES256 if state.rotated => (&self.other_key, "lab-2"),
            Algorithm::ES256 => (&self.key, "lab"),
            _ => (&self.rsa_key, "lab-rsa"),
        };
        let id = match (fault, variation) {
            (Some(F::NoKeyIdOfSeveral), _) | (_, Some(Variation::NoKeyIdOfOne)) => None,
            (Some(F::UnknownKey), _) => Some("never published".to_owned()),
            _ => Some(id.to_owned()),
        };
        let header = |algorithm| Header { kid: id.clone(), ..Header::new(algorithm) };
        let signed = |key, algorithm| {
            jsonwebtoken::encode(&header(algorithm), &claims, key).expect("the lab's keys sign")
        };
        let id_token = match fault {
            Some(F::WrongSignature) => signed(&self.other_key, Algorithm::ES256),
            Some(F::SharedSecret) => {
                signed(&EncodingKey::from_secret(CLIENT_ID.as_bytes()), Algorithm::HS256)
            }
            Some(F::Unsigned) => {
                format!("{}.{}.", BASE64.encode("{\"alg\":\"none\"}"), BASE64.encode(claims.to_string()))
            }
            Some(_) | None => signed(key, state.behaviour.algorithm),
        };
        let mut response = json!({
            "access_token": access_token, "token_type": "bearer", "expires_in": state.behaviour.lifetime,
            "refresh_token": refresh_token, "id_token": id_token,
            "scope": scope,
        });
        match fault {
            Some(F::NoIdToken) => response["id_token"] = Value::Null,
            Some(F::NoAccessToken) => response["access_token"] = Value::Null,
            Some(F::ForeignTokenType) => response["token_type"] = json!("mac"),
            Some(_) | None => {}
        }
        match variation {
            Some(Variation::NoLifetime) => response["expires_in"] = Value::Null,
            Some(Variation::TokenTypeInCapitals) => response["token_type"] = json!("BEARER"),
            Some(Variation::RenewalWithoutIdToken) if !first => response["id_token"] = Value::Null,
            Some(Variation::RenewalWithoutRefreshToken) if !first => {
                state.refresh_tokens.remove(&refresh_token);
                response["refresh_token"] = Value::Null;
            }
            Some(_) | None => {}
        }
        if !first && !vendor.renews_id_token(scope) {
            response["id_token"] = Value::Null;
        }
        if !with_refresh_token {
            response["refresh_token"] = Value::Null;
        }
        if let Some(response) = response.as_object_mut() {
            response.retain(|_, value| !value.is_null());
        }
        response
    }
}

/// Makes the claims of an ID token wrong, or unusual but valid.
fn spoil_claims(
    claims: &mut Value,
    (fault, variation): (Option<ProviderFault>, Option<Variation>),
    first: bool,
    now: i64,
) {
    use ProviderFault as F;
    match fault {
        Some(F::WrongIssuer) => claims["iss"] = json!("https://elsewhere.example"),
        Some(F::WrongAudience) => claims["aud"] = json!("another-client"),
        Some(F::ExtraAudience) => claims["aud"] = json!([CLIENT_ID, "another-client"]),
        Some(F::WrongNonce) => claims["nonce"] = json!("another-sign-in"),
        Some(F::NoNonce) => claims["nonce"] = Value::Null,
        Some(F::Expired) => claims["exp"] = json!(now - 3600),
        Some(F::IssuedInTheFuture) => claims["iat"] = json!(now + 3600),
        Some(F::NotYetValid) => claims["nbf"] = json!(now + 3600),
        Some(F::WrongAuthorizedParty) => claims["azp"] = json!("another-client"),
        Some(F::WrongAccessTokenHash) => claims["at_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA"),
        Some(F::NoSubject) => claims["sub"] = Value::Null,
        Some(F::NoAudience) => claims["aud"] = Value::Null,
        Some(F::NoIssueTime) => claims["iat"] = Value::Null,
        Some(F::NoExpiry) => claims["exp"] = Value::Null,
        Some(F::ExpiredBeyondLeeway) => claims["exp"] = json!(now - 70),
        Some(F::UserInfoOfAnotherUser | F::NoEmail) => claims["email"] = Value::Null,
        Some(F::RenewalOfAnotherIssuer) if !first => claims["iss"] = json!("https://elsewhere.example"),
        Some(F::RenewalOfAnotherUser) if !first => claims["sub"] = json!("eve"),
        Some(F::RenewalForAnotherClient) if !first => claims["aud"] = json!("another-client"),
        Some(_) | None => {}
    }
    match variation {
        Some(Variation::AudienceIsList) => claims["aud"] = json!([CLIENT_ID]),
        Some(Variation::ExpiredWithinLeeway) => claims["exp"] = json!(now - 20),
        Some(Variation::IssuedWithinLeeway) => claims["iat"] = json!(now + 40),
        Some(Variation::FractionalTime) => claims["auth_time"] = json!(1_760_000_000.5),
        Some(Variation::NoAccessTokenHash) => claims["at_hash"] = Value::Null,
        Some(Variation::EmailAtUserInfo) => claims["email"] = Value::Null,
        Some(Variation::RenewalWithoutEmail) if !first => claims["email"] = Value::Null,
        Some(_) | None => {}
    }
}
