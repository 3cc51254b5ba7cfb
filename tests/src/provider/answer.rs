//! What the token endpoint answers, right or wrong.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library has more algorithms than the lab has keys for"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest;
use serde_json::{Value, json};

use super::behaviour::{Misbehaviour, Oddity};
use super::{CLIENT_ID, Granted, RefreshToken, Shared, email, secret};

/// A body that begins and then does not go on.
pub(super) struct Stalling {
    begun: bool,
    /// It breaks off, rather than never to end.
    breaks: bool,
}

impl Stalling {
    pub(super) fn begun() -> Self {
        Self { begun: false, breaks: false }
    }

    pub(super) fn broken() -> Self {
        Self { begun: false, breaks: true }
    }
}

impl futures_core::Stream for Stalling {
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
    pub(super) fn answer(&self, granted: &Granted) -> Value {
        use Misbehaviour as M;
        let vendor = self.vendor;
        let Granted { nonce, first, user, scope, lasting } = granted;
        let first = *first;
        let mut state = self.lock();
        let (wrong, odd) = (state.behaviour.misbehaviour, state.behaviour.oddity);
        if odd == Some(Oddity::KeysRotateBeforeSigning) {
            state.rotated = true;
        }
        let (access_token, refresh_token) = (secret(), secret());
        let entry = RefreshToken { nonce: nonce.clone(), user, used: None, revoked: false };
        if *lasting {
            state.refresh_tokens.insert(refresh_token.clone(), entry);
        }

        #[expect(clippy::disallowed_methods, reason = "an identity provider knows the time")]
        let now = jiff::Timestamp::now().as_second();
        let algorithm = match state.behaviour.algorithm {
            Algorithm::ES384 | Algorithm::RS384 | Algorithm::PS384 => &digest::SHA384,
            Algorithm::RS512 | Algorithm::PS512 => &digest::SHA512,
            _ => &digest::SHA256,
        };
        let hash = digest::digest(algorithm, access_token.as_bytes());
        let mut claims = json!({
            "iss": state.issuer, "sub": user, "aud": CLIENT_ID, "email": email(user), "email_verified": true,
            "iat": now, "exp": now + state.behaviour.identity_lifetime, "at_hash": BASE64.encode(&hash.as_ref()[..algorithm.output_len() / 2]),
        });
        if first && !nonce.is_empty() {
            claims["nonce"] = json!(nonce);
        }
        if !vendor.tells_email() {
            claims["email"] = Value::Null;
        }
        if !vendor.hashes_access_token() {
            claims["at_hash"] = Value::Null;
        }
        spoil(&mut claims, (wrong, odd), first, now);
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        let (key, id) = match state.behaviour.algorithm {
            Algorithm::ES384 => (&self.long_key, "lab-long"),
            Algorithm::ES256 if state.rotated => (&self.other_key, "lab-2"),
            Algorithm::ES256 => (&self.key, "lab"),
            _ => (&self.rsa_key, "lab-rsa"),
        };
        let id = match (wrong, odd) {
            (Some(M::NoKeyIdOfSeveral), _) | (_, Some(Oddity::NoKeyIdOfOne)) => None,
            (Some(M::UnknownKey), _) => Some("never published".to_owned()),
            _ => Some(id.to_owned()),
        };
        let header = |algorithm| Header { kid: id.clone(), ..Header::new(algorithm) };
        let signed = |key, algorithm| {
            jsonwebtoken::encode(&header(algorithm), &claims, key).expect("the lab's keys sign")
        };
        let id_token = match wrong {
            Some(M::WrongSignature) => signed(&self.other_key, Algorithm::ES256),
            Some(M::SharedSecret) => {
                signed(&EncodingKey::from_secret(CLIENT_ID.as_bytes()), Algorithm::HS256)
            }
            Some(M::Unsigned) => {
                format!("{}.{}.", BASE64.encode("{\"alg\":\"none\"}"), BASE64.encode(claims.to_string()))
            }
            Some(_) | None => signed(key, state.behaviour.algorithm),
        };
        let mut answer = json!({
            "access_token": access_token, "token_type": "bearer", "expires_in": state.behaviour.lifetime,
            "refresh_token": refresh_token, "id_token": id_token,
            "scope": scope,
        });
        match wrong {
            Some(M::NoIdToken) => answer["id_token"] = Value::Null,
            Some(M::NoAccessToken) => answer["access_token"] = Value::Null,
            Some(M::ForeignTokenType) => answer["token_type"] = json!("mac"),
            Some(_) | None => {}
        }
        match odd {
            Some(Oddity::NoLifetime) => answer["expires_in"] = Value::Null,
            Some(Oddity::TokenTypeInCapitals) => answer["token_type"] = json!("BEARER"),
            Some(Oddity::RenewalWithoutIdToken) if !first => answer["id_token"] = Value::Null,
            Some(Oddity::RenewalWithoutRefreshToken) if !first => {
                state.refresh_tokens.remove(&refresh_token);
                answer["refresh_token"] = Value::Null;
            }
            Some(_) | None => {}
        }
        if !first && !vendor.renews_identity(scope) {
            answer["id_token"] = Value::Null;
        }
        if !lasting {
            answer["refresh_token"] = Value::Null;
        }
        if let Some(answer) = answer.as_object_mut() {
            answer.retain(|_, value| !value.is_null());
        }
        answer
    }
}

/// Makes the claims of an ID token wrong or odd.
fn spoil(claims: &mut Value, (wrong, odd): (Option<Misbehaviour>, Option<Oddity>), first: bool, now: i64) {
    use Misbehaviour as M;
    match wrong {
        Some(M::WrongIssuer) => claims["iss"] = json!("https://elsewhere.example"),
        Some(M::WrongAudience) => claims["aud"] = json!("another-client"),
        Some(M::ExtraAudience) => claims["aud"] = json!([CLIENT_ID, "another-client"]),
        Some(M::WrongNonce) => claims["nonce"] = json!("another-sign-in"),
        Some(M::NoNonce) => claims["nonce"] = Value::Null,
        Some(M::Expired) => claims["exp"] = json!(now - 3600),
        Some(M::IssuedInTheFuture) => claims["iat"] = json!(now + 3600),
        Some(M::NotYetValid) => claims["nbf"] = json!(now + 3600),
        Some(M::WrongAuthorizedParty) => claims["azp"] = json!("another-client"),
        Some(M::WrongAccessTokenHash) => claims["at_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA"),
        Some(M::NoSubject) => claims["sub"] = Value::Null,
        Some(M::NoAudience) => claims["aud"] = Value::Null,
        Some(M::NoIssueTime) => claims["iat"] = Value::Null,
        Some(M::NoExpiry) => claims["exp"] = Value::Null,
        Some(M::ExpiredBeyondLeeway) => claims["exp"] = json!(now - 70),
        Some(M::UserInfoOfAnotherPerson | M::NoEmail) => claims["email"] = Value::Null,
        Some(M::RenewalOfAnotherIssuer) if !first => claims["iss"] = json!("https://elsewhere.example"),
        Some(M::RenewalOfAnotherPerson) if !first => claims["sub"] = json!("eve"),
        Some(M::RenewalForAnotherClient) if !first => claims["aud"] = json!("another-client"),
        Some(_) | None => {}
    }
    match odd {
        Some(Oddity::AudienceIsList) => claims["aud"] = json!([CLIENT_ID]),
        Some(Oddity::ExpiredWithinLeeway) => claims["exp"] = json!(now - 20),
        Some(Oddity::IssuedWithinLeeway) => claims["iat"] = json!(now + 40),
        Some(Oddity::FractionalTime) => claims["auth_time"] = json!(1_760_000_000.5),
        Some(Oddity::NoAccessTokenHash) => claims["at_hash"] = Value::Null,
        Some(Oddity::EmailAtUserInfo) => claims["email"] = Value::Null,
        Some(Oddity::RenewalWithoutEmail) if !first => claims["email"] = Value::Null,
        Some(_) | None => {}
    }
}
