//! PURE: a user's session: what is kept, what apps get of it, and how the responses of the provider change it.

use jiff::{SignedDuration, Timestamp};
use platform::clock::{Moment, SinceBoot};
use platform::random::hex;
use platform::secret::Secret;
use policy_schema::{Extra, text};
use protocol::broker::TokenResponse;
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::tokens::{TokenKey, Tokens};

pub(crate) use error::{AddressError, BeginError, Ended, RenewalMismatch};

mod error;

/// A token is renewed in the background when less is left than this or half its lifetime, but at least a minute. In
/// seconds.
const RENEW_BEFORE: i64 = 300;
/// A token with less left than this is not given out. In seconds.
const LEAST_LIFETIME: i64 = 30;
/// Tokens with a shorter lifetime are renewed when they are asked for, and never by themselves. In seconds.
const WORTH_RENEWING: i64 = 240;
/// A session whose token nobody requests is renewed this long after its last renewal, so that the identity provider
/// does not take it for abandoned. In seconds.
const KEEP_ALIVE: i64 = 24 * 3600;
/// A clock may be set back by this much without consequences, in seconds.
const CLOCK_STEP: i64 = 60;
/// More tokens for scopes and resources of their own than this are not kept.
const MAXIMUM_ACCESS_TOKENS: usize = 16;

/// A session. Has no `Debug`: it is made of secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) subject: String,
    /// The user's address, if the ID token had one.
    pub(crate) email: Option<String>,
    /// What the first ID token had to say; a later one may repeat it.
    pub(crate) nonce: Option<String>,
    pub(crate) id_token: Secret,
    #[serde(rename = "id_token_until")]
    pub(crate) id_token_expires_at: Timestamp,
    pub(crate) refresh_token: Option<Secret>,
    /// The scopes that the sign-in asked for; policy may ask for others by now.
    #[serde(rename = "asked")]
    pub(crate) requested_scopes: Vec<String>,
    pub(crate) signed_in_at: Timestamp,
    /// The access tokens that are known, the one of the sign-in first.
    #[serde(rename = "issued")]
    pub(crate) access_tokens: Vec<AccessToken>,
    /// What a newer version keeps besides.
    #[serde(flatten)]
    pub(crate) extra: Extra,
}

/// An access token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessToken {
    #[serde(rename = "want")]
    pub(crate) key: TokenKey,
    #[serde(rename = "access_token")]
    pub(crate) secret: Secret,
    /// What was granted, which may be less than what was asked for.
    pub(crate) scopes: Vec<String>,
    #[serde(rename = "since")]
    pub(crate) issued_at: Timestamp,
    #[serde(rename = "until")]
    pub(crate) expires_at: Timestamp,
    /// When it was issued, on a clock that nobody can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_boot: Option<SinceBoot>,
    /// Whether an ID token came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) with_id_token: Option<bool>,
    /// What a newer version keeps besides.
    #[serde(flatten)]
    pub(crate) extra: Extra,
}

/// What can be done with a session at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Its token can be given out.
    Fresh,
    /// Its token can be given out, and should be renewed.
    Aging,
    /// Its token must be renewed first.
    Expired,
    /// The user must sign in again: why.
    Over(Ended),
}

impl Session {
    /// The session that a sign-in begins.
    ///
    /// # Errors
    /// The user is not one whom policy lets in, or the provider's response has no ID token.
    pub(crate) fn begin(
        configuration: &Configuration,
        tokens: Tokens,
        now: &Moment,
    ) -> Result<Self, BeginError> {
        let (issuer, client_id) = configuration.client()?;
        let (Some(user), Some(id_token)) = (tokens.user, tokens.id_token) else {
            return Err(BeginError::NoIdToken);
        };
        check_address(configuration, user.email.as_deref(), user.email_verified)?;
        let id_token_expires_at = user.id_token_expires_at;
        Ok(Self {
            id_token_expires_at,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            subject: user.subject,
            email: user.email,
            nonce: tokens.nonce,
            id_token,
            refresh_token: tokens.refresh_token,
            requested_scopes: configuration.requested_scopes().map(ToOwned::to_owned).collect(),
            signed_in_at: now.wall,
            access_tokens: vec![AccessToken {
                key: TokenKey::default(),
                secret: tokens.access_token,
                scopes: tokens.scopes.unwrap_or_else(|| configuration.scopes.clone()),
                issued_at: now.wall,
                expires_at: tokens.expires_at,
                since_boot: now.boot.clone(),
                with_id_token: Some(true),
                extra: Extra::default(),
            }],
            extra: Extra::default(),
        })
    }

    /// The session after a renewal. What the response leaves out stays as it was.
    ///
    /// # Errors
    /// The response is about another user.
    pub(crate) fn renew(
        &self,
        configuration: &Configuration,
        key: &TokenKey,
        tokens: Tokens,
        now: &Moment,
    ) -> Result<Self, RenewalMismatch> {
        if let Some(user) = &tokens.user {
            if user.subject != self.subject {
                return Err(RenewalMismatch::AnotherUser);
            }
            if user.email.is_some() {
                check_address(configuration, user.email.as_deref(), user.email_verified)?;
            }
        }
        let asked = || match key.scopes.as_slice() {
            [] => self.main().scopes.clone(),
            fewer => fewer.to_vec(),
        };
        let renewed = AccessToken {
            key: key.clone(),
            secret: tokens.access_token,
            scopes: tokens.scopes.unwrap_or_else(asked),
            issued_at: now.wall,
            expires_at: tokens.expires_at,
            since_boot: now.boot.clone(),
            with_id_token: Some(tokens.id_token.is_some()),
            extra: Extra::default(),
        };
        let mut access_tokens = self.access_tokens.clone();
        match access_tokens.iter().position(|token| token.key == *key) {
            Some(0) => access_tokens[0] = renewed,
            before => {
                before.map(|before| access_tokens.remove(before));
                access_tokens.push(renewed);
            }
        }
        if access_tokens.len() > MAXIMUM_ACCESS_TOKENS {
            // The first belongs to the sign-in; of the others, the one that was renewed first goes.
            access_tokens.remove(1);
        }
        let id_token_expires_at = tokens.user.as_ref().map(|user| user.id_token_expires_at);
        Ok(Self {
            id_token_expires_at: id_token_expires_at.unwrap_or(self.id_token_expires_at),
            email: tokens.user.and_then(|user| user.email).or_else(|| self.email.clone()),
            id_token: tokens.id_token.unwrap_or_else(|| self.id_token.clone()),
            refresh_token: tokens.refresh_token.or_else(|| self.refresh_token.clone()),
            access_tokens,
            // A clock that was ahead at the sign-in makes no session longer than policy allows.
            signed_in_at: self.signed_in_at.min(now.wall),
            ..self.clone()
        })
    }

    /// What can be done with it now, under a policy that may have changed since.
    pub(crate) fn freshness(&self, configuration: &Configuration, key: &TokenKey, now: &Moment) -> Freshness {
        if !self.is_of(configuration) {
            return Freshness::Over(Ended::OtherProvider { issuer: self.issuer.clone() });
        }
        if let Some(hours) = configuration.session_maximum_hours {
            let end = self.signed_in_at.checked_add(SignedDuration::from_hours(hours.into()));
            if end.is_ok_and(|end| end <= self.main().believed(now)) {
                return Freshness::Over(Ended::TooOld { hours });
            }
        }
        // Whether it was verified was asked when it came.
        if let Err(error) = check_address(configuration, self.email.as_deref(), None) {
            return Freshness::Over(error.into());
        }
        let token = self.access_tokens.iter().find(|token| token.key == *key);
        let left = token.map_or(i64::MIN, |token| token.left(now));
        let early = token.map_or(0, AccessToken::renew_before);
        match (left, &self.refresh_token) {
            (LEAST_LIFETIME.., Some(_)) if left < early => Freshness::Aging,
            (LEAST_LIFETIME.., _) => Freshness::Fresh,
            (_, Some(_)) => Freshness::Expired,
            (_, None) => Freshness::Over(Ended::NoRefreshToken),
        }
    }

    /// Whether its ID token can be given to a caller who checks when it expires.
    pub(crate) fn has_valid_id_token(&self, now: &Moment) -> bool {
        self.main().believed(now).duration_until(self.id_token_expires_at).as_secs() >= LEAST_LIFETIME
    }

    /// When to renew it without a request, with a spread so that not all devices come at once; `None` if that is
    /// not worth it. `used` says whether somebody has asked for the token since it was issued.
    pub(crate) fn renewal_due(&self, used: bool, spread: i64) -> Option<Timestamp> {
        self.refresh_token.as_ref()?;
        let main = self.main();
        let lifetime = main.issued_at.duration_until(main.expires_at).as_secs();
        let after = if used { (lifetime - main.renew_before()).min(KEEP_ALIVE) } else { KEEP_ALIVE };
        let due = SignedDuration::from_secs(after - spread);
        (lifetime >= WORTH_RENEWING).then(|| main.issued_at.checked_add(due).ok()).flatten()
    }

    /// Whether it belongs to the identity provider and client of policy.
    pub(crate) fn is_of(&self, configuration: &Configuration) -> bool {
        (configuration.issuer.as_ref(), configuration.client_id.as_ref())
            == (Some(&self.issuer), Some(&self.client_id))
    }

    /// Whether this is the token that apps get now.
    pub(crate) fn gives(&self, key: &TokenKey, secret: &str) -> bool {
        self.access_tokens.iter().any(|token| token.key == *key && token.secret.expose() == secret)
    }

    /// What an app gets; `None` if there is no such token.
    pub(crate) fn token_response(&self, key: &TokenKey, now: &Moment) -> Option<TokenResponse> {
        let token = self.access_tokens.iter().find(|token| token.key == *key)?;
        Some(TokenResponse {
            access_token: token.secret.expose().to_owned(),
            token_type: "Bearer".to_owned(),
            id_token: self.id_token.expose().to_owned(),
            expires_in: token.left(now).max(0),
            id_token_expires_in: token.believed(now).duration_until(self.id_token_expires_at).as_secs(),
            id_token_renewed: token.with_id_token,
            scope: token.scopes.join(" "),
            account: self.account().to_owned(),
        })
    }

    /// The token of the sign-in.
    pub(crate) fn main(&self) -> &AccessToken {
        self.access_tokens.first().expect("a session begins with a token")
    }

    /// One account of one user: issuer, client and subject (Core 1.0, section 5.7). As a name of a file.
    pub(crate) fn id(&self) -> String {
        let text = format!("{}\n{}\n{}", self.issuer, self.client_id, self.subject);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hex(&digest.as_ref()[..8])
    }

    /// Whether a caller means this account: its address, in any capitals, or its subject.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.subject == name || self.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(name))
    }

    /// The user's address, or the subject.
    pub(crate) fn account(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.subject)
    }

    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            issuer: "https://a.example".to_owned(),
            client_id: "client".to_owned(),
            subject: "ada".to_owned(),
            email: Some("ada@example.com".to_owned()),
            nonce: Some("n".to_owned()),
            id_token: "i".to_owned().into(),
            id_token_expires_at: Timestamp::UNIX_EPOCH,
            refresh_token: Some("refresh-canary".to_owned().into()),
            requested_scopes: vec!["email".to_owned()],
            signed_in_at: Timestamp::UNIX_EPOCH,
            access_tokens: vec![AccessToken {
                key: TokenKey::default(),
                secret: "a".to_owned().into(),
                scopes: vec!["openid".to_owned()],
                issued_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::UNIX_EPOCH,
                since_boot: None,
                with_id_token: None,
                extra: Extra::default(),
            }],
            extra: Extra::default(),
        }
    }
}

impl AccessToken {
    /// The time of day, as far as it can be believed: within one start of the system, at least as much time has passed since
    /// the token was issued as the other clock says. A token of the future was issued, or is looked at, by a wrong clock,
    /// so it counts as expired.
    fn believed(&self, now: &Moment) -> Timestamp {
        let passed =
            self.since_boot.as_ref().zip(now.boot.as_ref()).and_then(|(issued, now)| {
                (issued.id == now.id).then(|| (now.seconds - issued.seconds).max(0))
            });
        let ahead = now.wall.duration_until(self.issued_at).as_secs();
        match passed {
            Some(passed) => {
                let at_least = self.issued_at.checked_add(SignedDuration::from_secs(passed));
                now.wall.max(at_least.unwrap_or(Timestamp::MAX))
            }
            None if ahead > CLOCK_STEP => self.expires_at.max(now.wall),
            None => now.wall,
        }
    }

    /// How long it is still valid, in seconds.
    fn left(&self, now: &Moment) -> i64 {
        self.believed(now).duration_until(self.expires_at).as_secs()
    }

    /// How long before its end it is renewed, in seconds.
    fn renew_before(&self) -> i64 {
        let lifetime = self.issued_at.duration_until(self.expires_at).as_secs();
        RENEW_BEFORE.min((lifetime / 2).max(60))
    }
}

/// Whether policy lets a user with this address in. `verified` is what the provider says of the address, if it does.
fn check_address(
    configuration: &Configuration,
    email: Option<&str>,
    verified: Option<bool>,
) -> Result<(), AddressError> {
    let Some(domains) = &configuration.allowed_email_domains else { return Ok(()) };
    let claim = || configuration.email_claim.clone();
    let email = email.ok_or_else(|| AddressError::Missing { claim: claim() })?;
    let parts: Vec<&str> = email.split('@').collect();
    let odd = text::invisible(email).is_some() || email.contains(char::is_whitespace);
    let &[user, domain] = parts.as_slice() else { return Err(AddressError::Malformed { claim: claim() }) };
    if odd || user.is_empty() || domain.is_empty() {
        return Err(AddressError::Malformed { claim: claim() });
    }
    if !domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
        return Err(AddressError::NotAllowed { email: email.to_owned(), domains: domains.clone() });
    }
    if verified == Some(false) {
        return Err(AddressError::Unverified { email: email.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
