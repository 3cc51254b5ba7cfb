//! PURE: a user's session: what is kept, what apps get of it, and how the responses of the provider change it.

use jiff::{SignedDuration, Timestamp};
use platform::random::hex;
use policy_schema::Extra;
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
    pub(crate) id_token: String,
    #[serde(rename = "id_token_until")]
    pub(crate) id_token_expires_at: Timestamp,
    pub(crate) refresh_token: Option<String>,
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
    pub(crate) secret: String,
    /// What was granted, which may be less than what was asked for.
    pub(crate) scopes: Vec<String>,
    #[serde(rename = "since")]
    pub(crate) issued_at: Timestamp,
    #[serde(rename = "until")]
    pub(crate) expires_at: Timestamp,
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
        now: Timestamp,
    ) -> Result<Self, BeginError> {
        let (issuer, client_id) = configuration.client()?;
        let (Some(user), Some(id_token)) = (tokens.user, tokens.id_token) else {
            return Err(BeginError::NoIdToken);
        };
        check_address(configuration, user.email.as_deref())?;
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
            signed_in_at: now,
            access_tokens: vec![AccessToken {
                key: TokenKey::default(),
                secret: tokens.access_token,
                scopes: tokens.scopes.unwrap_or_else(|| configuration.scopes.clone()),
                issued_at: now,
                expires_at: tokens.expires_at,
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
        now: Timestamp,
    ) -> Result<Self, RenewalMismatch> {
        if let Some(user) = &tokens.user {
            if user.subject != self.subject {
                return Err(RenewalMismatch::AnotherUser);
            }
            if user.email.is_some() {
                check_address(configuration, user.email.as_deref())?;
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
            issued_at: now,
            expires_at: tokens.expires_at,
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
            ..self.clone()
        })
    }

    /// What can be done with it now, under a policy that may have changed since.
    pub(crate) fn freshness(
        &self,
        configuration: &Configuration,
        key: &TokenKey,
        now: Timestamp,
    ) -> Freshness {
        if !self.is_of(configuration) {
            return Freshness::Over(Ended::OtherProvider { issuer: self.issuer.clone() });
        }
        if let Some(hours) = configuration.session_maximum_hours {
            let end = self.signed_in_at.checked_add(SignedDuration::from_hours(hours.into()));
            if end.is_ok_and(|end| end <= now) {
                return Freshness::Over(Ended::TooOld { hours });
            }
        }
        if let Err(error) = check_address(configuration, self.email.as_deref()) {
            return Freshness::Over(error.into());
        }
        let token = self.access_tokens.iter().find(|token| token.key == *key);
        let left = token.map_or(i64::MIN, |token| now.duration_until(token.expires_at).as_secs());
        let early = token.map_or(0, AccessToken::renew_before);
        match (left, &self.refresh_token) {
            (LEAST_LIFETIME.., Some(_)) if left < early => Freshness::Aging,
            (LEAST_LIFETIME.., _) => Freshness::Fresh,
            (_, Some(_)) => Freshness::Expired,
            (_, None) => Freshness::Over(Ended::NoRefreshToken),
        }
    }

    /// Whether its ID token can be given to a caller who checks when it expires.
    pub(crate) fn has_valid_id_token(&self, now: Timestamp) -> bool {
        now.duration_until(self.id_token_expires_at).as_secs() >= LEAST_LIFETIME
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

    /// What an app gets; `None` if there is no such token.
    pub(crate) fn token_response(&self, key: &TokenKey, now: Timestamp) -> Option<TokenResponse> {
        let token = self.access_tokens.iter().find(|token| token.key == *key)?;
        Some(TokenResponse {
            access_token: token.secret.clone(),
            token_type: "Bearer".to_owned(),
            id_token: self.id_token.clone(),
            expires_in: now.duration_until(token.expires_at).as_secs().max(0),
            id_token_expires_in: now.duration_until(self.id_token_expires_at).as_secs(),
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
            id_token: "i".to_owned(),
            id_token_expires_at: Timestamp::UNIX_EPOCH,
            refresh_token: Some("refresh-canary".to_owned()),
            requested_scopes: vec!["email".to_owned()],
            signed_in_at: Timestamp::UNIX_EPOCH,
            access_tokens: vec![AccessToken {
                key: TokenKey::default(),
                secret: "a".to_owned(),
                scopes: vec!["openid".to_owned()],
                issued_at: Timestamp::UNIX_EPOCH,
                expires_at: Timestamp::UNIX_EPOCH,
                extra: Extra::default(),
            }],
            extra: Extra::default(),
        }
    }
}

impl AccessToken {
    /// How long before its end it is renewed, in seconds.
    fn renew_before(&self) -> i64 {
        let lifetime = self.issued_at.duration_until(self.expires_at).as_secs();
        RENEW_BEFORE.min((lifetime / 2).max(60))
    }
}

fn check_address(configuration: &Configuration, email: Option<&str>) -> Result<(), AddressError> {
    let Some(domains) = &configuration.allowed_email_domains else { return Ok(()) };
    let Some(email) = email else {
        return Err(AddressError::Missing { claim: configuration.email_claim.clone() });
    };
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    if domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
        return Ok(());
    }
    Err(AddressError::NotAllowed { email: email.to_owned(), domains: domains.clone() })
}

#[cfg(test)]
pub(crate) mod tests {
    use policy_schema::raw::Source;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::tokens::User;

    pub(crate) fn configuration(more: &str) -> Configuration {
        let text = format!("Issuer = \"https://a.example\"\nClientId = \"client\"\n{more}");
        let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        Configuration::new(&resolve(&[source], &LastGood::default()).policy, Vec::new())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn session_until(seconds: i64) -> Session {
        session_between(0, seconds)
    }

    fn session_between(issued: i64, expires: i64) -> Session {
        let mut session = Session::sample();
        session.access_tokens[0].issued_at = at(issued);
        session.access_tokens[0].expires_at = at(expires);
        session
    }

    fn tokens(subject: &str, refresh_token: Option<&str>) -> Tokens {
        Tokens {
            access_token: "new".to_owned(),
            id_token: None,
            refresh_token: refresh_token.map(ToOwned::to_owned),
            expires_at: at(7200),
            scopes: None,
            user: Some(User { subject: subject.to_owned(), email: None, id_token_expires_at: at(600) }),
            nonce: None,
        }
    }

    #[test]
    fn token_is_given_out_while_valid_and_renewed_before_it_expires() {
        let freshness = |left: i64| {
            session_between(1000 + left - 3600, 1000 + left).freshness(
                &configuration(""),
                &TokenKey::default(),
                at(1000),
            )
        };
        assert_eq!(freshness(3600), Freshness::Fresh);
        assert_eq!(freshness(299), Freshness::Aging);
        assert_eq!(freshness(29), Freshness::Expired);
        assert_eq!(freshness(-5), Freshness::Expired);
        // A short-lived one is not renewed with every request.
        let short = session_between(0, 200);
        assert_eq!(short.freshness(&configuration(""), &TokenKey::default(), at(50)), Freshness::Fresh);
        assert_eq!(short.freshness(&configuration(""), &TokenKey::default(), at(120)), Freshness::Aging);
        // One for something else is not there yet.
        let other = TokenKey::new(Some("profile"), None);
        assert_eq!(short.freshness(&configuration(""), &other, at(50)), Freshness::Expired);
    }

    #[test]
    fn used_session_is_renewed_in_time_and_unused_one_once_a_day() {
        let session = session_between(1000, 4600);
        assert_eq!(session.renewal_due(true, 0), Some(at(4300)));
        assert_eq!(session.renewal_due(true, 60), Some(at(4240)));
        assert_eq!(session.renewal_due(false, 0), Some(at(1000 + 86_400)));
        assert_eq!(session_between(0, 60).renewal_due(true, 0), None, "too short to be worth it");
        assert_eq!(Session { refresh_token: None, ..session }.renewal_due(true, 0), None);
        assert_eq!(session_between(0, 30 * 86_400).renewal_due(true, 0), Some(at(86_400)));
    }

    #[test]
    fn policy_ends_session() {
        let session = session_until(1_000_000);
        let cases = [
            ("", 10, false),
            ("SessionMaximumHours = 2", 7199, false),
            ("SessionMaximumHours = 2", 7200, true),
            ("AllowedEmailDomains = [\"example.com\"]", 10, false),
            ("AllowedEmailDomains = [\"EXAMPLE.com\"]", 10, false),
            ("AllowedEmailDomains = [\"example.org\"]", 10, true),
            ("AllowedEmailDomains = []", 10, true),
        ];
        for (policy, now, ends) in cases {
            let freshness = session.freshness(&configuration(policy), &TokenKey::default(), at(now));
            assert_eq!(matches!(freshness, Freshness::Over(_)), ends, "{policy} at {now}");
        }
        let moved = Configuration { issuer: Some("https://b.example".to_owned()), ..configuration("") };
        assert!(matches!(session.freshness(&moved, &TokenKey::default(), at(10)), Freshness::Over(_)));
    }

    #[test]
    fn renewal_keeps_what_the_response_leaves_out_and_refuses_another_user() {
        let configuration = configuration("");
        let renew = |key: &TokenKey, tokens| Session::sample().renew(&configuration, key, tokens, at(5));
        let renewed = renew(&TokenKey::default(), tokens("ada", None)).unwrap();
        assert_eq!(renewed.refresh_token.as_deref(), Some("refresh-canary"));
        assert_eq!(renewed.email.as_deref(), Some("ada@example.com"));
        assert_eq!(renewed.main().secret, "new");
        assert_eq!(renewed.main().scopes, ["openid"]);
        let rotated = renew(&TokenKey::default(), tokens("ada", Some("next"))).unwrap();
        assert_eq!(rotated.refresh_token.as_deref(), Some("next"));
        assert!(renew(&TokenKey::default(), tokens("eve", None)).is_err());
    }

    #[test]
    fn tokens_for_other_scopes_and_resources_are_kept_beside_the_main_one() {
        let configuration = configuration("");
        let mut session = session_until(7200);
        for number in 0..40 {
            let key = TokenKey::new(Some("b a b"), Some(format!("https://{number}.example")));
            assert_eq!(key.scopes, ["a", "b"]);
            session = session.renew(&configuration, &key, tokens("ada", None), at(5)).unwrap();
            assert_eq!(session.token_response(&key, at(5)).unwrap().scope, "a b");
        }
        assert_eq!(session.access_tokens.len(), MAXIMUM_ACCESS_TOKENS);
        assert_eq!(session.main().secret, "a");
        let key = |number: u32| TokenKey::new(Some("a b"), Some(format!("https://{number}.example")));
        assert!(session.token_response(&key(0), at(5)).is_none());
        // One that is renewed is not the next to go.
        let oldest = session.access_tokens[1].key.clone();
        session = session.renew(&configuration, &oldest, tokens("ada", None), at(6)).unwrap();
        session = session.renew(&configuration, &key(99), tokens("ada", None), at(6)).unwrap();
        assert!(session.token_response(&oldest, at(6)).is_some());
    }

    #[test]
    fn account_is_issuer_client_and_subject() {
        let session = Session::sample();
        assert_eq!(session.id(), Session { email: None, ..session.clone() }.id());
        assert_ne!(session.id(), Session { subject: "eve".to_owned(), ..session.clone() }.id());
        assert_ne!(session.id(), Session { client_id: "other".to_owned(), ..session.clone() }.id());
        assert!(session.is_named("ADA@example.com") && session.is_named("ada") && !session.is_named("Ada"));
    }

    #[test]
    fn session_without_refresh_token_names_the_likely_cause_when_it_ends() {
        let session = Session { refresh_token: None, ..session_until(10) };
        let freshness = session.freshness(&configuration(""), &TokenKey::default(), at(100));
        assert!(
            matches!(&freshness, Freshness::Over(ended) if ended.to_string().contains("offline_access")),
            "{freshness:?}"
        );
    }
}
