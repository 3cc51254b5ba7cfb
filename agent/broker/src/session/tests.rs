use policy_schema::raw::Source;
use policy_schema::read::drop_in;
use policy_schema::{LastGood, resolve};

use super::*;
use crate::tokens::User;

pub(crate) fn configuration(more: &str) -> Configuration {
    let text = format!("Issuer = \"https://a.example\"\nClientId = \"client\"\n{more}");
    let source = Source { rank: 1, name: "test".to_owned(), contents: drop_in::read(text.as_bytes()) };
    Configuration::new(&resolve(&[source], &LastGood::default()).policy, Vec::new(), Vec::new())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn moment(seconds: i64) -> Moment {
    at(seconds).into()
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
        access_token: "new".into(),
        id_token: None,
        refresh_token: refresh_token.map(Secret::from),
        expires_at: at(7200),
        scopes: None,
        user: Some(User {
            subject: subject.to_owned(),
            email: None,
            email_verified: None,
            id_token_expires_at: at(600),
        }),
        nonce: None,
    }
}

#[test]
fn token_is_given_out_while_valid_and_renewed_before_it_expires() {
    let freshness = |left: i64| {
        session_between(1000 + left - 3600, 1000 + left).freshness(
            &configuration(""),
            &TokenKey::default(),
            &moment(1000),
        )
    };
    assert_eq!(freshness(3600), Freshness::Fresh);
    assert_eq!(freshness(299), Freshness::Aging);
    assert_eq!(freshness(29), Freshness::Expired);
    assert_eq!(freshness(-5), Freshness::Expired);
    // A short-lived one is not renewed with every request.
    let short = session_between(0, 200);
    assert_eq!(short.freshness(&configuration(""), &TokenKey::default(), &moment(50)), Freshness::Fresh);
    assert_eq!(short.freshness(&configuration(""), &TokenKey::default(), &moment(120)), Freshness::Aging);
    // One for something else is not there yet.
    let other = TokenKey::new(Some("profile"), None);
    assert_eq!(short.freshness(&configuration(""), &other, &moment(50)), Freshness::Expired);
}

/// A device whose clock was ahead gave out tokens that had long expired, once the clock was right.
#[test]
fn lifetime_of_token_is_measured_by_the_clock_that_nobody_sets() {
    let since = |id: &str, seconds: i64| Some(SinceBoot { id: id.to_owned(), seconds });
    let left = |issued: (i64, Option<SinceBoot>), now: (i64, Option<SinceBoot>)| {
        let mut session = session_between(issued.0, issued.0 + 3600);
        session.access_tokens[0].since_boot = issued.1;
        session.main().left(&Moment { wall: at(now.0), boot: now.1 })
    };
    let day = 86_400;
    for (issued, now, expected, why) in [
        ((day, since("a", 100)), (day + 600, since("a", 700)), 3000, "both clocks agree"),
        ((day, since("a", 100)), (600, since("a", 700)), 3000, "the clock was a day ahead and was put right"),
        ((day, since("a", 100)), (600, since("a", 5000)), -1300, "the same, after an hour and more"),
        (
            (0, since("a", 100)),
            (day, since("a", 700)),
            3600 - day,
            "the clock was a day behind: renewed early",
        ),
        ((day, since("a", 100)), (day + 600, since("b", 5)), 3000, "another start of the system"),
        (
            (day, since("a", 100)),
            (600, since("b", 5)),
            0,
            "issued in the future, and no other clock knows more",
        ),
        ((day, None), (day - 30, None), 3630, "a small step of the clock"),
        ((day, None), (600, since("a", 5)), 0, "saved by a version that did not measure"),
        (
            (day, since("a", 700)),
            (day + 600, since("a", 100)),
            3000,
            "a clock since boot that goes back is ignored",
        ),
    ] {
        assert_eq!(left(issued, now), expected, "{why}");
    }
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
        let freshness = session.freshness(&configuration(policy), &TokenKey::default(), &moment(now));
        assert_eq!(matches!(freshness, Freshness::Over(_)), ends, "{policy} at {now}");
    }
    let moved = Configuration { issuer: Some("https://b.example".to_owned()), ..configuration("") };
    assert!(matches!(session.freshness(&moved, &TokenKey::default(), &moment(10)), Freshness::Over(_)));
}

#[test]
fn renewal_keeps_what_the_response_leaves_out_and_refuses_another_user() {
    let configuration = configuration("");
    let renew = |key: &TokenKey, tokens| Session::sample().renew(&configuration, key, tokens, &moment(5));
    let renewed = renew(&TokenKey::default(), tokens("ada", None)).unwrap();
    assert_eq!(renewed.refresh_token.as_ref().map(Secret::expose), Some("refresh-canary"));
    assert_eq!(renewed.email.as_deref(), Some("ada@example.com"));
    assert_eq!(renewed.main().secret.expose(), "new");
    assert_eq!(renewed.main().scopes, ["openid"]);
    let rotated = renew(&TokenKey::default(), tokens("ada", Some("next"))).unwrap();
    assert_eq!(rotated.refresh_token.as_ref().map(Secret::expose), Some("next"));
    assert!(renew(&TokenKey::default(), tokens("eve", None)).is_err());
}

#[test]
fn tokens_for_other_scopes_and_resources_are_kept_beside_the_main_one() {
    let configuration = configuration("");
    let mut session = session_until(7200);
    for number in 0..40 {
        let key = TokenKey::new(Some("b a b"), Some(format!("https://{number}.example")));
        assert_eq!(key.scopes, ["a", "b"]);
        session = session.renew(&configuration, &key, tokens("ada", None), &moment(5)).unwrap();
        assert_eq!(session.token_response(&key, &moment(5)).unwrap().scope, "a b");
    }
    assert_eq!(session.access_tokens.len(), MAXIMUM_ACCESS_TOKENS);
    assert_eq!(session.main().secret.expose(), "a");
    let key = |number: u32| TokenKey::new(Some("a b"), Some(format!("https://{number}.example")));
    assert!(session.token_response(&key(0), &moment(5)).is_none());
    // One that is renewed is not the next to go.
    let oldest = session.access_tokens[1].key.clone();
    session = session.renew(&configuration, &oldest, tokens("ada", None), &moment(6)).unwrap();
    session = session.renew(&configuration, &key(99), tokens("ada", None), &moment(6)).unwrap();
    assert!(session.token_response(&oldest, &moment(6)).is_some());
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
    let freshness = session.freshness(&configuration(""), &TokenKey::default(), &moment(100));
    assert!(
        matches!(&freshness, Freshness::Over(ended) if ended.to_string().contains("offline_access")),
        "{freshness:?}"
    );
}
