//! A person's session: what is kept, what apps get of it, and how the answers of the provider change it. Pure.

use jiff::{SignedDuration, Timestamp};
use policy_schema::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use super::provider::Tokens;
use crate::policy::hex;

/// A token is renewed in the background when less is left than this or half its lifetime, but at least a minute. In
/// seconds.
const RENEW_BEFORE: i64 = 300;
/// A token with less left than this is not given out. In seconds.
const LEAST_LIFETIME: i64 = 30;
/// Tokens with a shorter lifetime are renewed when they are asked for, and never by themselves. In seconds.
const WORTH_RENEWING: i64 = 240;
/// A session that nobody asks for a token is renewed this long after its last renewal, so that the identity provider
/// does not take it for abandoned. In seconds.
const KEEP_ALIVE: i64 = 24 * 3600;
/// More tokens for scopes and resources of their own than this are not kept.
const MAXIMUM_ISSUED: usize = 16;

/// A session. Has no `Debug`: it is made of secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) issuer: String,
    pub(crate) client_id: String,
    pub(crate) subject: String,
    /// The person's address, if the ID token had one.
    pub(crate) email: Option<String>,
    /// What the first ID token had to say; a later one may repeat it.
    pub(crate) nonce: Option<String>,
    pub(crate) id_token: String,
    pub(crate) id_token_until: Timestamp,
    pub(crate) refresh_token: Option<String>,
    /// The scopes that the sign-in asked for; policy may ask for others by now.
    pub(crate) asked: Vec<String>,
    pub(crate) signed_in_at: Timestamp,
    /// The access tokens that are known, the one of the sign-in first.
    pub(crate) issued: Vec<Issued>,
}

/// For what an access token is wanted: by default, for everything that the sign-in asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Want {
    /// Fewer scopes than those of the sign-in (RFC 6749, section 6), in order; empty for all.
    pub(crate) scopes: Vec<String>,
    /// The resource that the token is for (RFC 8707).
    pub(crate) resource: Option<String>,
}

/// An access token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issued {
    pub(crate) want: Want,
    pub(crate) access_token: String,
    /// What was granted, which may be less than what was asked for.
    pub(crate) scopes: Vec<String>,
    /// When it was issued, and when it ends.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
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
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Grant {
    pub(crate) access_token: String,
    /// Always `Bearer` (RFC 6750).
    pub(crate) token_type: String,
    /// The ID token of the sign-in or of the last renewal that brought one.
    pub(crate) id_token: String,
    /// How long the access token lasts from now on, in seconds.
    pub(crate) expires_in: i64,
    /// How long the ID token lasts from now on, in seconds; below zero if it has ended.
    pub(crate) id_token_expires_in: i64,
    /// The scopes of the access token, separated by spaces.
    pub(crate) scope: String,
    /// The person's address, or the subject where there is no address.
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
            return Err(Problem::new(Code::SignInIdTokenMissing, "the identity provider sent no ID token"));
        };
        check_address(configuration, person.email.as_deref())?;
        let id_token_until = person.vouched_until;
        Ok(Self {
            id_token_until,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            subject: person.subject,
            email: person.email,
            nonce: tokens.nonce,
            id_token,
            refresh_token: tokens.refresh_token,
            asked: configuration.requested_scopes().map(ToOwned::to_owned).collect(),
            signed_in_at: now,
            issued: vec![Issued {
                want: Want::default(),
                access_token: tokens.access_token,
                scopes: tokens.scopes.unwrap_or_else(|| configuration.scopes.clone()),
                since: now,
                until: tokens.expires_at,
            }],
        })
    }

    /// The session after a refresh. What the answer leaves out stays as it was.
    ///
    /// # Errors
    /// The answer is about somebody else.
    pub(crate) fn renew(
        &self,
        configuration: &Configuration,
        want: &Want,
        tokens: Tokens,
        now: Timestamp,
    ) -> Result<Self, Problem> {
        if let Some(person) = &tokens.person {
            if person.subject != self.subject {
                return Err(Problem::new(
                    Code::SignInSubjectChanged,
                    "after renewal the ID token names another person",
                )
                .at(&self.issuer));
            }
            if person.email.is_some() {
                check_address(configuration, person.email.as_deref())?;
            }
        }
        let asked = || match want.scopes.as_slice() {
            [] => self.main().scopes.clone(),
            fewer => fewer.to_vec(),
        };
        let renewed = Issued {
            want: want.clone(),
            access_token: tokens.access_token,
            scopes: tokens.scopes.unwrap_or_else(asked),
            since: now,
            until: tokens.expires_at,
        };
        let mut issued = self.issued.clone();
        match issued.iter_mut().find(|issued| issued.want == *want) {
            Some(before) => *before = renewed,
            None => issued.push(renewed),
        }
        if issued.len() > MAXIMUM_ISSUED {
            // The first belongs to the sign-in; of the others, the oldest goes.
            issued.remove(1);
        }
        let vouched_until = tokens.person.as_ref().map(|person| person.vouched_until);
        Ok(Self {
            id_token_until: vouched_until.unwrap_or(self.id_token_until),
            email: tokens.person.and_then(|person| person.email).or_else(|| self.email.clone()),
            id_token: tokens.id_token.unwrap_or_else(|| self.id_token.clone()),
            refresh_token: tokens.refresh_token.or_else(|| self.refresh_token.clone()),
            issued,
            ..self.clone()
        })
    }

    /// What can be done with it now, under a policy that may have changed since.
    pub(crate) fn freshness(&self, configuration: &Configuration, want: &Want, now: Timestamp) -> Freshness {
        let over = |message: String| Freshness::Over(Problem::new(Code::SignInRequired, message));
        if !self.is_of(configuration) {
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
        let issued = self.issued.iter().find(|issued| issued.want == *want);
        let left = issued.map_or(i64::MIN, |issued| now.duration_until(issued.until).as_secs());
        let early = issued.map_or(0, Issued::renew_before);
        match (left, &self.refresh_token) {
            (LEAST_LIFETIME.., Some(_)) if left < early => Freshness::Aging,
            (LEAST_LIFETIME.., _) => Freshness::Fresh,
            (_, Some(_)) => Freshness::Expired,
            (_, None) => {
                over("the session has ended, and the identity provider gave no refresh token; is `offline_access` among the scopes?".to_owned())
            }
        }
    }

    /// Whether its ID token can be given to somebody who looks at its end.
    pub(crate) fn vouches(&self, now: Timestamp) -> bool {
        now.duration_until(self.id_token_until).as_secs() >= LEAST_LIFETIME
    }

    /// When to renew it without being asked, with a spread so that not all devices come at once; `None` if that is
    /// not worth it. `used` says whether somebody has asked for the token since it was issued.
    pub(crate) fn renewal_due(&self, used: bool, spread: i64) -> Option<Timestamp> {
        self.refresh_token.as_ref()?;
        let main = self.main();
        let lifetime = main.since.duration_until(main.until).as_secs();
        let after = if used { (lifetime - main.renew_before()).min(KEEP_ALIVE) } else { KEEP_ALIVE };
        let due = SignedDuration::from_secs(after - spread);
        (lifetime >= WORTH_RENEWING).then(|| main.since.checked_add(due).ok()).flatten()
    }

    /// Whether it belongs to the identity provider and client of policy.
    pub(crate) fn is_of(&self, configuration: &Configuration) -> bool {
        (configuration.issuer.as_ref(), configuration.client_id.as_ref())
            == (Some(&self.issuer), Some(&self.client_id))
    }

    /// What an app gets; `None` if there is no such token.
    pub(crate) fn grant(&self, want: &Want, now: Timestamp) -> Option<Grant> {
        let issued = self.issued.iter().find(|issued| issued.want == *want)?;
        Some(Grant {
            access_token: issued.access_token.clone(),
            token_type: "Bearer".to_owned(),
            id_token: self.id_token.clone(),
            expires_in: now.duration_until(issued.until).as_secs().max(0),
            id_token_expires_in: now.duration_until(self.id_token_until).as_secs(),
            scope: issued.scopes.join(" "),
            account: self.account().to_owned(),
        })
    }

    /// The token of the sign-in.
    pub(crate) fn main(&self) -> &Issued {
        self.issued.first().expect("a session begins with a token")
    }

    /// One account of one person: issuer, client and subject (Core 1.0, section 5.7). As a name of a file.
    pub(crate) fn id(&self) -> String {
        let text = format!("{}\n{}\n{}", self.issuer, self.client_id, self.subject);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hex(&digest.as_ref()[..8])
    }

    /// Whether a caller means this account: its address, in any capitals, or its subject.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.subject == name || self.email.as_ref().is_some_and(|email| email.eq_ignore_ascii_case(name))
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
            nonce: Some("n".to_owned()),
            id_token: "i".to_owned(),
            id_token_until: Timestamp::UNIX_EPOCH,
            refresh_token: Some("refresh-canary".to_owned()),
            asked: vec!["email".to_owned()],
            signed_in_at: Timestamp::UNIX_EPOCH,
            issued: vec![Issued {
                want: Want::default(),
                access_token: "a".to_owned(),
                scopes: vec!["openid".to_owned()],
                since: Timestamp::UNIX_EPOCH,
                until: Timestamp::UNIX_EPOCH,
            }],
        }
    }
}

impl Want {
    /// What a caller asks for: scopes separated by spaces, in any order.
    pub(crate) fn new(scope: Option<&str>, resource: Option<String>) -> Self {
        let mut scopes: Vec<String> =
            scope.unwrap_or_default().split_ascii_whitespace().map(ToOwned::to_owned).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self { scopes, resource }
    }

    /// Whether it is everything that the sign-in asked for.
    pub(crate) fn is_main(&self) -> bool {
        self.scopes.is_empty() && self.resource.is_none()
    }
}

impl Issued {
    /// How long before its end it is renewed, in seconds.
    fn renew_before(&self) -> i64 {
        let lifetime = self.since.duration_until(self.until).as_secs();
        RENEW_BEFORE.min((lifetime / 2).max(60))
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
pub(crate) mod tests {
    use policy_schema::raw::Place;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;
    use crate::broker::provider::Person;

    pub(crate) fn configuration(more: &str) -> Configuration {
        let text = format!("Issuer = \"https://a.example\"\nClientId = \"client\"\n{more}");
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
        Configuration::from(&resolve(&[place], &LastGood::default()).policy)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn session_until(seconds: i64) -> Session {
        session_between(0, seconds)
    }

    fn session_between(issued: i64, expires: i64) -> Session {
        let mut session = Session::sample();
        session.issued[0].since = at(issued);
        session.issued[0].until = at(expires);
        session
    }

    fn tokens(subject: &str, refresh_token: Option<&str>) -> Tokens {
        Tokens {
            access_token: "new".to_owned(),
            id_token: None,
            refresh_token: refresh_token.map(ToOwned::to_owned),
            expires_at: at(7200),
            scopes: None,
            person: Some(Person { subject: subject.to_owned(), email: None, vouched_until: at(600) }),
            nonce: None,
        }
    }

    #[test]
    fn a_token_is_given_out_while_it_lasts_and_renewed_before_it_ends() {
        let freshness = |left: i64| {
            session_between(1000 + left - 3600, 1000 + left).freshness(
                &configuration(""),
                &Want::default(),
                at(1000),
            )
        };
        assert_eq!(freshness(3600), Freshness::Fresh);
        assert_eq!(freshness(299), Freshness::Aging);
        assert_eq!(freshness(29), Freshness::Expired);
        assert_eq!(freshness(-5), Freshness::Expired);
        // A short-lived one is not renewed with every question.
        let short = session_between(0, 200);
        assert_eq!(short.freshness(&configuration(""), &Want::default(), at(50)), Freshness::Fresh);
        assert_eq!(short.freshness(&configuration(""), &Want::default(), at(120)), Freshness::Aging);
        // One for something else is not there yet.
        let other = Want::new(Some("profile"), None);
        assert_eq!(short.freshness(&configuration(""), &other, at(50)), Freshness::Expired);
    }

    #[test]
    fn a_session_that_is_used_is_renewed_in_time_and_another_once_a_day() {
        let session = session_between(1000, 4600);
        assert_eq!(session.renewal_due(true, 0), Some(at(4300)));
        assert_eq!(session.renewal_due(true, 60), Some(at(4240)));
        assert_eq!(session.renewal_due(false, 0), Some(at(1000 + 86_400)));
        assert_eq!(session_between(0, 60).renewal_due(true, 0), None, "too short to be worth it");
        assert_eq!(Session { refresh_token: None, ..session }.renewal_due(true, 0), None);
        assert_eq!(session_between(0, 30 * 86_400).renewal_due(true, 0), Some(at(86_400)));
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
            let freshness = session.freshness(&configuration(policy), &Want::default(), at(now));
            assert_eq!(matches!(freshness, Freshness::Over(_)), ends, "{policy} at {now}");
        }
        let moved = Configuration { issuer: Some("https://b.example".to_owned()), ..configuration("") };
        assert!(matches!(session.freshness(&moved, &Want::default(), at(10)), Freshness::Over(_)));
    }

    #[test]
    fn a_refresh_keeps_what_the_answer_leaves_out_and_refuses_another_person() {
        let configuration = configuration("");
        let renew = |want: &Want, tokens| Session::sample().renew(&configuration, want, tokens, at(5));
        let renewed = renew(&Want::default(), tokens("ada", None)).unwrap();
        assert_eq!(renewed.refresh_token.as_deref(), Some("refresh-canary"));
        assert_eq!(renewed.email.as_deref(), Some("ada@example.com"));
        assert_eq!(renewed.main().access_token, "new");
        assert_eq!(renewed.main().scopes, ["openid"]);
        let rotated = renew(&Want::default(), tokens("ada", Some("next"))).unwrap();
        assert_eq!(rotated.refresh_token.as_deref(), Some("next"));
        assert!(renew(&Want::default(), tokens("eve", None)).is_err());
    }

    #[test]
    fn tokens_for_other_scopes_and_resources_lie_beside_the_one_of_the_sign_in() {
        let configuration = configuration("");
        let mut session = session_until(7200);
        for number in 0..40 {
            let want = Want::new(Some("b a b"), Some(format!("https://{number}.example")));
            assert_eq!(want.scopes, ["a", "b"]);
            session = session.renew(&configuration, &want, tokens("ada", None), at(5)).unwrap();
            assert_eq!(session.grant(&want, at(5)).unwrap().scope, "a b");
        }
        assert_eq!(session.issued.len(), MAXIMUM_ISSUED);
        assert_eq!(session.main().access_token, "a");
        assert!(session.grant(&Want::new(None, Some("https://0.example".to_owned())), at(5)).is_none());
    }

    #[test]
    fn an_account_is_issuer_client_and_subject() {
        let session = Session::sample();
        assert_eq!(session.id(), Session { email: None, ..session.clone() }.id());
        assert_ne!(session.id(), Session { subject: "eve".to_owned(), ..session.clone() }.id());
        assert_ne!(session.id(), Session { client_id: "other".to_owned(), ..session.clone() }.id());
        assert!(
            session.is_called("ADA@example.com") && session.is_called("ada") && !session.is_called("Ada")
        );
    }

    #[test]
    fn without_a_refresh_token_the_end_names_the_likely_cause() {
        let session = Session { refresh_token: None, ..session_until(10) };
        let freshness = session.freshness(&configuration(""), &Want::default(), at(100));
        assert!(
            matches!(&freshness, Freshness::Over(problem) if problem.message.contains("offline_access")),
            "{freshness:?}"
        );
    }
}
