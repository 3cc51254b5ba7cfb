//! Whether a response is trusted: OpenID Connect Core 1.0, section 3.1.3.7 (at sign-in) and 12.2 (after a
//! refresh). The library verifies signature, issuer, audience and end; the rest is here.
//!
//! Signatures are RS, PS or ES with 256, 384 or 512; HS and `none` are refused. Each rule has a case in
//! `tests/scenarios/token_response.rs`.

use jiff::Timestamp;
use openidconnect::core::{CoreGenderClaim, CoreJwsSigningAlgorithm, CoreTokenType};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, ClientId, IdTokenClaims, IdTokenVerifier, Nonce,
    OAuth2TokenResponse as _, SignatureVerificationError, SubjectIdentifier, TokenResponse as _,
    UserInfoClaims, UserInfoError,
};

use super::Provider;
use super::error::{Check, ProviderError, one_line};
use super::key::Key;
use super::types::{OtherClaims, Token, TokenEndpointResponse};
use crate::tokens::{Tokens, User};
use net::chain;
use platform::clock;

/// Clocks may differ by this much, in seconds.
pub const LEEWAY: i64 = 60;

const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EcdsaP521Sha512,
];

/// Whether signatures with this algorithm are accepted, by its name (RFC 7518, section 3.1).
#[must_use]
pub fn accepts(algorithm: &str) -> bool {
    let known = serde_json::from_value(algorithm.into());
    known.is_ok_and(|algorithm: CoreJwsSigningAlgorithm| ALGORITHMS.contains(&algorithm))
}

type Claims = IdTokenClaims<OtherClaims, CoreGenderClaim>;

impl Provider<'_> {
    /// Checks a response of the token endpoint. `first` says that it ends a sign-in; the nonce is the one that was sent
    /// then, if one was.
    pub(super) async fn accept(
        &mut self,
        response: TokenEndpointResponse,
        nonce: Option<&str>,
        first: bool,
    ) -> Result<Tokens, ProviderError> {
        let now = clock::now();
        // RFC 6749, section 7.1: a token of a type that is not understood is not used.
        if *response.token_type() != CoreTokenType::Bearer {
            let reason = format!("the access token is of the type {:?}, not `Bearer`", response.token_type());
            return Err(untrusted(Check::TokenResponse, one_line(&reason)));
        }
        let mut user = match response.id_token() {
            Some(token) => Some(self.verify(token, nonce, first, response.access_token(), now).await?),
            None => None,
        };
        if first && let Some(user) = &mut user {
            self.fetch_email(user, response.access_token()).await?;
        }
        // A missing lifetime counts as an hour (RFC 6749, section 5.1 leaves it open).
        let lifetime = response.expires_in().map_or(3600, |lifetime| lifetime.as_secs());
        Ok(Tokens {
            access_token: response.access_token().secret().clone(),
            id_token: response.id_token().map(ToString::to_string),
            refresh_token: response.refresh_token().map(|token| token.secret().clone()),
            expires_at: clock::after(now, lifetime),
            scopes: response.scopes().map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
            user,
            nonce: nonce.filter(|_| first).map(ToOwned::to_owned),
        })
    }

    /// Some providers give the address at the userinfo endpoint only. It must be about the same user (Core 1.0,
    /// section 5.3.2).
    async fn fetch_email(&self, user: &mut User, access_token: &AccessToken) -> Result<(), ProviderError> {
        let Some(user_info) = self.user_info_address().filter(|_| user.email.is_none()) else {
            return Ok(());
        };
        let subject = SubjectIdentifier::new(user.subject.clone());
        let client = self.client.clone().set_user_info_url(user_info);
        let request = client.user_info(access_token.clone(), Some(subject)).require_signed_response(false);
        let response: Result<UserInfoClaims<OtherClaims, CoreGenderClaim>, _> =
            request.request_async(&self.http).await;
        match response {
            Ok(claims) => {
                user.email = match self.discovered.configuration.email_claim.as_str() {
                    "email" => claims.email().map(|email| email.to_string()),
                    other => text(claims.additional_claims(), other),
                };
                Ok(())
            }
            Err(UserInfoError::ClaimsVerification(error)) => Err(untrusted(
                Check::UserInfo,
                format!("the userinfo response is not trusted: {}", chain(&error)),
            )),
            Err(error) => {
                // Whether an address is needed is a matter of policy, which is asked next.
                tracing::warn!(
                    "no address in the ID token, and none from userinfo: {}",
                    one_line(&chain(&error))
                );
                Ok(())
            }
        }
    }

    async fn verify(
        &mut self,
        token: &Token,
        nonce: Option<&str>,
        first: bool,
        access_token: &AccessToken,
        now: Timestamp,
    ) -> Result<User, ProviderError> {
        use SignatureVerificationError::NoMatchingKey;
        let mut checked = self.claims(token, nonce, first, now);
        // The provider may have changed its keys since they were fetched: fetch them once more.
        if matches!(checked, Err(ClaimsVerificationError::SignatureVerification(NoMatchingKey)))
            && self.search_keys(now).await?
        {
            checked = self.claims(token, nonce, first, now);
        }
        let claims = checked.map_err(|error| Self::untrusted_claims(&error))?;
        check_parties_and_times(claims, &self.client_id, now)
            .map_err(|(check, reason)| untrusted(check, format!("the ID token is not trusted: {reason}")))?;
        if let Some(expected) = claims.access_token_hash() {
            let actual =
                token.signing_alg().ok().zip(token.signing_key(&self.verifier(now)).ok()).and_then(
                    |(algorithm, key)| AccessTokenHash::from_token(access_token, algorithm, key).ok(),
                );
            if actual.as_ref() != Some(expected) {
                return Err(untrusted(
                    Check::AccessTokenHash,
                    "the access token does not belong to the ID token (at_hash)".to_owned(),
                ));
            }
        }
        let email = match self.discovered.configuration.email_claim.as_str() {
            "email" => claims.email().map(|email| email.to_string()),
            "preferred_username" => claims.preferred_username().map(|name| name.to_string()),
            other => text(claims.additional_claims(), other),
        };
        let id_token_expires_at =
            Timestamp::from_second(claims.expiration().timestamp()).unwrap_or(Timestamp::MAX);
        Ok(User { subject: claims.subject().to_string(), email, id_token_expires_at })
    }

    fn claims<'t>(
        &self,
        token: &'t Token,
        nonce: Option<&str>,
        first: bool,
        now: Timestamp,
    ) -> Result<&'t Claims, ClaimsVerificationError> {
        token.claims(&self.verifier(now), |found: Option<&Nonce>| match (found, nonce) {
            (Some(found), Some(sent)) if found.secret() == sent => Ok(()),
            (Some(_), _) => Err("it belongs to another sign-in".to_owned()),
            // After a refresh it need not be there (Core 1.0, section 12.2).
            (None, Some(_)) if first => Err("it is missing".to_owned()),
            (None, _) => Ok(()),
        })
    }

    fn verifier(&self, now: Timestamp) -> IdTokenVerifier<'_, Key> {
        let with_leeway = chrono::DateTime::from_timestamp(now.as_second() - LEEWAY, 0).unwrap_or_default();
        let keys = self.discovered.keys.clone();
        IdTokenVerifier::new_public_client(self.client_id.clone(), self.issuer.clone(), keys)
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || with_leeway)
            .set_other_audience_verifier_fn(|_| false)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the errors of the library are not exhaustive")]
    fn untrusted_claims(error: &ClaimsVerificationError) -> ProviderError {
        use SignatureVerificationError as Signature;
        let check = match error {
            ClaimsVerificationError::Expired(_) => Check::Expiry,
            ClaimsVerificationError::InvalidIssuer(_) => Check::Issuer,
            ClaimsVerificationError::InvalidAudience(_) => Check::Audience,
            ClaimsVerificationError::InvalidNonce(_) => Check::Nonce,
            ClaimsVerificationError::InvalidSubject(_) => Check::Subject,
            ClaimsVerificationError::SignatureVerification(error) => match error {
                Signature::NoMatchingKey | Signature::AmbiguousKeyId(_) => Check::Key,
                Signature::DisallowedAlg(_) | Signature::UnsupportedAlg(_) => Check::Algorithm,
                _ => Check::Signature,
            },
            _ => Check::Token,
        };
        untrusted(check, format!("the ID token is not trusted: {}", one_line(&chain(error))))
    }
}

/// A response that failed a check.
pub(super) fn untrusted(check: Check, reason: String) -> ProviderError {
    ProviderError::Untrusted { check, reason }
}

/// What the library leaves to its user: `azp`, `nbf` and a start in the future.
fn check_parties_and_times(
    claims: &Claims,
    client_id: &ClientId,
    now: Timestamp,
) -> Result<(), (Check, String)> {
    let authorized = claims.authorized_party();
    if authorized.is_some_and(|party| party.as_str() != client_id.as_str()) {
        return Err((Check::AuthorizedParty, "it was issued to another client (azp)".to_owned()));
    }
    let early = |reason: &str| Err((Check::Start, reason.to_owned()));
    let latest = now.as_second() + LEEWAY;
    if claims.issue_time().timestamp() > latest {
        return early("it was issued in the future; is this device's clock right?");
    }
    let not_before = claims.additional_claims().by_name.get("nbf").and_then(serde_json::Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
    if not_before.is_some_and(|not_before| not_before > latest as f64) {
        return early("it is not valid yet (nbf); is this device's clock right?");
    }
    Ok(())
}

fn text(claims: &OtherClaims, name: &str) -> Option<String> {
    claims.by_name.get(name)?.as_str().map(ToOwned::to_owned)
}
