//! A person's session: what is kept, what apps get of it, and how the answers of the provider change it. Pure.

use jiff::{SignedDuration, Timestamp};
use policy_schema::{Code, Problem};
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::provider::Tokens;

/// A token with less left than this is renewed in the background while it is still given out. In seconds.
const RENEW_BEFORE: i64 = 300;
/// A token with less left than this is not given out. In seconds.
const LEAST_LIFETIME: i64 = 30;

/// A session. Has no `Debug`: it is made of secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) subject: String,
    /// The person's address, if the ID token had one.
    pub(crate) email: Option<String>,
    /// What the first ID token had to say; a later one may repeat it.
    pub(crate) nonce: String,
    pub(crate) id_token: String,
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: Timestamp,
    pub(crate) signed_in_at: Timestamp,
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
    /// A person must sign in again: why.
    Over(Problem),
}

/// What an app gets (RFC 6749, section 5.1, by name).
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) access_token: String,
    pub(crate) token_type: String,
    pub(crate) id_token: String,
    /// In seconds.
    pub(crate) expires_in: i64,
    pub(crate) scope: String,
    pub(crate) account: String,
}

impl Session {
    /// The session that a sign-in begins.
    ///
    /// # Errors
    /// The person is not one whom policy lets in.
    pub(crate) fn begin(
        configuration: &Configuration,
        tokens: Tokens,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        let (issuer, client_id) = configuration.client()?;
        let (Some(person), Some(id_token)) = (tokens.person, tokens.id_token) else {
            return Err(Problem::new(Code::SignInTokenInvalid, "the identity provider sent no ID token"));
        };
        check_address(configuration, person.email.as_deref())?;
        let asked = || configuration.scopes.clone();
        Ok(Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            subject: person.subject,
            email: person.email,
            nonce: tokens.nonce.unwrap_or_default(),
            id_token,
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token,
            scopes: tokens.scopes.unwrap_or_else(asked),
            expires_at: tokens.expires_at,
            signed_in_at: now,
        })
    }

    /// The session after a refresh. What the answer leaves out stays as it was.
    ///
    /// # Errors
    /// The answer is about somebody else.
    pub(crate) fn renew(&self, configuration: &Configuration, tokens: Tokens) -> Result<Self, Problem> {
        if let Some(person) = &tokens.person {
            if person.subject != self.subject {
                return Err(Problem::new(
                    Code::SignInTokenInvalid,
                    "after renewal the ID token names another person",
                )
                .at(&self.issuer));
            }
            if person.email.is_some() {
                check_address(configuration, person.email.as_deref())?;
            }
        }
        Ok(Self {
            email: tokens.person.and_then(|person| person.email).or_else(|| self.email.clone()),
            id_token: tokens.id_token.unwrap_or_else(|| self.id_token.clone()),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token.or_else(|| self.refresh_token.clone()),
            scopes: tokens.scopes.unwrap_or_else(|| self.scopes.clone()),
            expires_at: tokens.expires_at,
            ..self.clone()
        })
    }

    /// What can be done with it now, under a policy that may have changed since.
    pub(crate) fn freshness(&self, configuration: &Configuration, now: Timestamp) -> Freshness {
        let over = |message: String| Freshness::Over(Problem::new(Code::SignInRequired, message));
        let client = (Some(&self.issuer), Some(&self.client_id));
        if (configuration.issuer.as_ref(), configuration.client_id.as_ref()) != client {
            return over(format!("the session is one of {}, which policy no longer names", self.issuer));
        }
        if let Some(hours) = configuration.session_maximum_hours {
            let end = self.signed_in_at.checked_add(SignedDuration::from_hours(hours.into()));
            if end.is_ok_and(|end| end <= now) {
                return over(format!(
                    "the session has lasted {hours} hours, which is the most that policy allows"
                ));
            }
        }
        if let Err(problem) = check_address(configuration, self.email.as_deref()) {
            return Freshness::Over(problem);
        }
        let left = now.duration_until(self.expires_at).as_secs();
        match (left, &self.refresh_token) {
            (LEAST_LIFETIME..RENEW_BEFORE, Some(_)) => Freshness::Aging,
            (LEAST_LIFETIME.., _) => Freshness::Fresh,
            (_, Some(_)) => Freshness::Expired,
            (_, None) => {
                over("the session has ended, and the identity provider gave no refresh token; is `offline_access` among the scopes?".to_owned())
            }
        }
    }

    /// What an app gets.
    pub(crate) fn grant(&self, now: Timestamp) -> Grant {
        Grant {
            access_token: self.access_token.clone(),
            token_type: "Bearer".to_owned(),
            id_token: self.id_token.clone(),
            expires_in: now.duration_until(self.expires_at).as_secs().max(0),
            scope: self.scopes.join(" "),
            account: self.account().to_owned(),
        }
    }

    /// The person as people know it.
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
            nonce: "n".to_owned(),
            id_token: "i".to_owned(),
            access_token: "a".to_owned(),
            refresh_token: Some("refresh-canary".to_owned()),
            scopes: vec!["openid".to_owned()],
            expires_at: Timestamp::UNIX_EPOCH,
            signed_in_at: Timestamp::UNIX_EPOCH,
        }
    }
}

fn check_address(configuration: &Configuration, email: Option<&str>) -> Result<(), Problem> {
    let Some(domains) = &configuration.allowed_email_domains else { return Ok(()) };
    let refused = |message: String, hint: String| {
        Err(Problem::new(Code::SignInAddressRefused, message).key("AllowedEmailDomains").hint(hint))
    };
    let Some(email) = email else {
        return refused(
            format!("the ID token has no claim `{}`", configuration.email_claim),
            "add the claim at the identity provider, or name the right one in `EmailClaim`".to_owned(),
        );
    };
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    if domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain)) {
        return Ok(());
    }
    refused(
        format!("{email} is not an address of {}", domains.join(" or ")),
        "sign in with another account".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Place;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::broker::provider::Person;

    fn configuration(more: &str) -> Configuration {
        let text = format!("Issuer = \"https://a.example\"\nClientId = \"client\"\n{more}");
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        Configuration::from(&resolve(&[place], &LastGood::default()).policy)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn session_until(seconds: i64) -> Session {
        Session { expires_at: at(seconds), ..Session::sample() }
    }

    fn tokens(subject: &str, refresh_token: Option<&str>) -> Tokens {
        Tokens {
            access_token: "new".to_owned(),
            id_token: None,
            refresh_token: refresh_token.map(ToOwned::to_owned),
            expires_at: at(7200),
            scopes: None,
            person: Some(Person { subject: subject.to_owned(), email: None }),
            nonce: None,
        }
    }

    #[test]
    fn a_token_is_given_out_while_it_lasts_and_renewed_before_it_ends() {
        let freshness = |left: i64| session_until(1000 + left).freshness(&configuration(""), at(1000));
        assert_eq!(freshness(3600), Freshness::Fresh);
        assert_eq!(freshness(299), Freshness::Aging);
        assert_eq!(freshness(29), Freshness::Expired);
        assert_eq!(freshness(-5), Freshness::Expired);
    }

    #[test]
    fn policy_ends_a_session() {
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
            let freshness = session.freshness(&configuration(policy), at(now));
            assert_eq!(matches!(freshness, Freshness::Over(_)), ends, "{policy} at {now}");
        }
        let moved = Configuration { issuer: Some("https://b.example".to_owned()), ..configuration("") };
        assert!(matches!(session.freshness(&moved, at(10)), Freshness::Over(_)));
    }

    #[test]
    fn a_refresh_keeps_what_the_answer_leaves_out_and_refuses_another_person() {
        let configuration = configuration("");
        let renewed = Session::sample().renew(&configuration, tokens("ada", None)).unwrap();
        assert_eq!(renewed.refresh_token.as_deref(), Some("refresh-canary"));
        assert_eq!(renewed.email.as_deref(), Some("ada@example.com"));
        assert_eq!(renewed.access_token, "new");
        let rotated = Session::sample().renew(&configuration, tokens("ada", Some("next"))).unwrap();
        assert_eq!(rotated.refresh_token.as_deref(), Some("next"));
        assert!(Session::sample().renew(&configuration, tokens("eve", None)).is_err());
    }

    #[test]
    fn without_a_refresh_token_the_end_names_the_likely_cause() {
        let session = Session { refresh_token: None, ..session_until(10) };
        let freshness = session.freshness(&configuration(""), at(100));
        assert!(
            matches!(&freshness, Freshness::Over(problem) if problem.message.contains("offline_access")),
            "{freshness:?}"
        );
    }
}
