use proptest::prelude::*;

use super::*;
use crate::raw::{RawEntry, RawPolicy, RawValue, ReadError, ReadErrorKind};
use crate::read::{drop_in, property_list};
use crate::value::Literal;

fn source(rank: u32, policy: &str) -> Source {
    Source { rank, name: format!("source-{rank}"), contents: drop_in::read(policy.as_bytes()) }
}

fn broken(rank: u32) -> Source {
    source(rank, "this is not TOML")
}

pub(super) fn resolve_texts(policies: &[&str]) -> Resolved {
    let sources: Vec<_> = (1..).zip(policies).map(|(rank, policy)| source(rank, policy)).collect();
    resolve(&sources, &LastGood::default())
}

pub(super) fn instant(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn codes(resolved: &Resolved) -> Vec<&str> {
    resolved.problems.iter().map(|problem| problem.code.as_str()).collect()
}

fn mode(resolved: &Resolved) -> &'static str {
    resolved.policy.update_mode.as_str()
}

#[test]
fn no_source_gives_defaults() {
    let resolved = resolve(&[], &LastGood::default());
    assert!(resolved.problems.is_empty());
    assert_eq!(resolved.policy.redirect_uri, "http://localhost:18080");
    assert_eq!(mode(&resolved), "notify");
    assert_eq!(resolved.settings.len(), SETTINGS.len());
}

#[test]
fn stronger_source_wins_and_overridden_value_is_listed() {
    let resolved = resolve_texts(&["UpdateMode = \"off\"", "UpdateMode = \"automatic\""]);
    assert_eq!(mode(&resolved), "automatic");
    let explained = resolved.get("updatemode").unwrap();
    assert_eq!(explained.overridden.len(), 1);
    assert_eq!(explained.overridden[0].source, "source-1, line 1");
    assert_eq!(codes(&resolved), ["policy.conflict"]);
}

#[test]
fn sources_with_the_same_value_are_no_conflict() {
    let resolved = resolve_texts(&["UpdateMode = \"off\"", "UpdateMode = \"off\""]);
    assert!(resolved.problems.is_empty());
}

#[test]
fn weak_enforced_value_overrides_strong_recommended_value() {
    let resolved = resolve_texts(&["UpdateMode = \"off\"", "[recommended]\nUpdateMode = \"automatic\""]);
    assert_eq!(mode(&resolved), "off");
    assert!(resolved.problems.is_empty(), "a recommendation that is overruled is no conflict");
    let resolved = resolve_texts(&["[recommended]\nUpdateMode = \"automatic\""]);
    assert_eq!(mode(&resolved), "automatic");
}

#[test]
fn wrong_value_keeps_last_good_value_and_its_date() {
    let good = resolve_texts(&["UpdateMode = \"automatic\""]);
    let last_good = good.remember(&LastGood::default(), instant("2026-11-20T08:00:00Z"));
    let resolved = resolve(&[source(1, "UpdateMode = \"Automatik\"")], &last_good);
    assert_eq!(mode(&resolved), "automatic");
    assert_eq!(
        resolved.problems[0].to_string(),
        "`UpdateMode`: expected `off`, `notify` or `automatic`, got `Automatik`\n  \
         in source-1, line 1\n  \
         using `automatic`, the last good value (since 2026-11-20)\n  \
         hint: did you mean `automatic`?"
    );
}

#[test]
fn date_of_last_good_value_survives_later_reads() {
    let policy = [source(1, "UpdateMode = \"automatic\"")];
    let first = resolve(&policy, &LastGood::default());
    let remembered = first.remember(&LastGood::default(), instant("2026-11-20T08:00:00Z"));
    let again = resolve(&policy, &remembered).remember(&remembered, instant("2026-11-21T08:00:00Z"));
    assert_eq!(again, remembered);
    let broken = [source(1, "UpdateMode = 7")];
    let kept = resolve(&broken, &again).remember(&again, instant("2026-11-22T08:00:00Z"));
    assert_eq!(kept, remembered);
    let withdrawn = resolve(&[], &kept).remember(&kept, instant("2026-11-23T08:00:00Z"));
    assert_eq!(withdrawn, LastGood::default());
}

#[test]
fn last_good_and_strict_values_count_as_set_by_policy() {
    let last_good = resolve_texts(&["UpdateMode = \"off\"\nLogLevel = \"debug\""])
        .remember(&LastGood::default(), instant("2026-11-20T08:00:00Z"));
    let policy = "UpdateMode = 1\nUpdateDeferDays = \"x\"\nApp = \"amazon-quick\"\nProxyMode = 7";
    let resolved = resolve(&[source(1, policy)], &last_good);
    let keys: Vec<_> = resolved.set_by_policy().map(|resolution| resolution.key).collect();
    assert_eq!(
        keys,
        ["App", "UpdateMode", "UpdateDeferDays"],
        "LogLevel is withdrawn, ProxyMode has its default"
    );
    let origins: Vec<_> = resolved.set_by_policy().map(|resolution| &resolution.origin).collect();
    assert!(
        matches!(origins[..], [Origin::Policy { .. }, Origin::LastGood { .. }, Origin::Strict]),
        "{origins:?}"
    );
}

#[test]
fn wrong_value_without_last_good_takes_strict_choice() {
    let resolved =
        resolve_texts(&["SocialSignIn = \"blokced\"\nUpdateRolloutPercent = \"10\"\nReportPosture = 7"]);
    assert_eq!(resolved.policy.social_sign_in.map(crate::settings::SocialSignIn::as_str), Some("blocked"));
    assert_eq!(resolved.policy.update_rollout_percent, 0);
    assert!(!resolved.policy.report_posture);
    assert!(resolved.problems[0].using.as_deref().unwrap().ends_with("the strict choice"));
}

#[test]
fn unreadable_source_keeps_last_good_values() {
    let last_good = resolve_texts(&["", "UpdateMode = \"automatic\""])
        .remember(&LastGood::default(), instant("2026-11-20T08:00:00Z"));
    let resolved = resolve(&[source(1, "UpdateMode = \"off\"\nUpdateDeferDays = 3"), broken(2)], &last_good);
    assert_eq!(mode(&resolved), "automatic", "source 2 may still say so");
    assert_eq!(
        resolved.policy.update_defer_days, 90,
        "unknown, so strict: source 1 never fills in for source 2"
    );
    assert_eq!(codes(&resolved), ["policy.syntax"]);
}

#[test]
fn source_stronger_than_unreadable_one_decides() {
    let resolved = resolve(&[broken(1), source(2, "UpdateMode = \"off\"")], &LastGood::default());
    assert_eq!(mode(&resolved), "off");
    let resolved =
        resolve(&[broken(1), source(2, "[recommended]\nUpdateMode = \"off\"")], &LastGood::default());
    assert_eq!(mode(&resolved), "notify", "the broken source may have enforced something");
}

#[test]
fn unknown_key_is_reported_with_likely_key() {
    let resolved = resolve_texts(&["UpdatMode = \"off\"\nClientSecrt = \"canary-4711\"\nxyzzy = 1"]);
    let hints: Vec<_> = resolved.problems.iter().map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(hints, [None, Some("did you mean `ClientSecret`?"), Some("did you mean `UpdateMode`?")]);
    assert!(!format!("{resolved:?}").contains("canary"), "it may be a secret");
}

/// Found by trial: `AllowedEmailDomain` was reported, and everybody could sign in.
#[test]
fn setting_under_wrong_name_or_in_wrong_table_takes_strict_choice() {
    for policy in [
        "AllowedEmailDomain = [\"example.com\"]\nSessionMaxHours = 8",
        "[steward]\nAllowedEmailDomains = [\"example.com\"]\nSessionMaximumHours = 8",
        "[Enforced]\nAllowedEmailDomains = [\"example.com\"]\nSessionMaximumHours = 8\n[Recommended]\nLogLevel = \"debug\"",
        "Steward.AllowedEmailDomains = [\"example.com\"]\nSteward.SessionMaximumHours = 8",
    ] {
        let resolved = resolve_texts(&[policy]);
        assert_eq!(resolved.policy.allowed_email_domains, Some(Vec::new()), "{policy}");
        assert_eq!(resolved.policy.session_maximum_hours, Some(1), "{policy}");
        assert!(codes(&resolved).iter().all(|code| *code == "policy.unknown-key"), "{policy}: {resolved:?}");
    }
    let table = resolve_texts(&["[SignIn]\nIssuer = \"https://a.example\"\nClientId = \"a\"\nScopes = []"]);
    assert_eq!(table.problems.len(), 1);
    let text = table.problems[0].to_string();
    assert!(
        text.contains("the 3 settings in it are ignored") && text.contains("move them to the top level"),
        "{text}"
    );
    let both =
        resolve_texts(&["AllowedEmailDomain = [\"a.example\"]\nAllowedEmailDomains = [\"b.example\"]"]);
    assert_eq!(both.policy.allowed_email_domains, Some(vec!["b.example".to_owned()]));
    assert_eq!(codes(&both), ["policy.unknown-key"]);
}

/// Found by trial: a list of domains with a typing mistake on a new device let everybody sign in.
#[test]
fn source_that_was_never_read_takes_strict_choice_and_known_one_keeps_what_held() {
    let provider = source(4, "Issuer = \"https://a.example\"\nClientId = \"a\"");
    let sources = [broken(3), provider.clone()];
    let mut last_good = LastGood::default();
    for _ in 0..2 {
        let resolved = resolve(&sources, &last_good);
        assert_eq!(resolved.policy.allowed_email_domains, Some(Vec::new()));
        assert_eq!(resolved.policy.issuer.as_deref(), Some("https://a.example"), "a stronger source says so");
        last_good = resolved.remember(&last_good, instant("2026-11-20T08:00:00Z"));
    }
    let known = resolve(&[source(3, "UpdateMode = \"off\""), provider.clone()], &last_good);
    assert_eq!(known.policy.allowed_email_domains, None);
    let last_good = known.remember(&last_good, instant("2026-11-21T08:00:00Z"));
    let damaged = resolve(&sources, &last_good);
    assert_eq!((damaged.policy.allowed_email_domains.clone(), mode(&damaged)), (None, "off"));
    let last_good = damaged.remember(&last_good, instant("2026-11-22T08:00:00Z"));
    assert_eq!(mode(&resolve(&sources, &last_good)), "off", "also the second time");
}

/// Found by trial: a drop-in of which a full disk had left nothing withdrew its settings.
#[test]
fn source_that_has_become_empty_keeps_its_last_good_values() {
    let (before, other) = ("AllowedEmailDomains = [\"example.com\"]", "UpdateMode = \"off\"");
    let last_good =
        resolve_texts(&[before, other]).remember(&LastGood::default(), instant("2026-11-20T08:00:00Z"));
    for emptied in ["", "\n \n", "# nothing\n", "\0\0\0\0"] {
        let resolved = resolve(&[source(1, emptied), source(2, other)], &last_good);
        assert_eq!(
            resolved.policy.allowed_email_domains,
            Some(vec!["example.com".to_owned()]),
            "{emptied:?}"
        );
        assert!(resolved.problems[0].severity.is_error(), "{emptied:?}");
        assert_eq!(resolved.remember(&last_good, instant("2026-11-21T08:00:00Z")), last_good, "{emptied:?}");
    }
    let template = resolve(&[source(3, "# nothing yet\n")], &LastGood::default());
    assert_eq!((template.problems.len(), template.policy.allowed_email_domains), (0, None));
}

/// Found by review: the section was called unknown, and its settings were to be moved where they bind.
#[test]
fn section_whose_name_is_nearly_recommended_is_recognized() {
    for (text, hint) in [
        ("[Recomended]\nLogLevel = \"debug\"", "did you mean [Recommended]?"),
        ("[SignIn]\nLogLevel = \"debug\"", "move it to the top level"),
        ("[Recommended.Extra]\nLogLevel = \"debug\"", "move it to the top level"),
    ] {
        let resolved = resolve_texts(&[text]);
        let hints: Vec<&str> =
            resolved.problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
        assert!(hints.iter().any(|one| one.contains(hint)), "{text}: {:?}", resolved.problems);
    }
}

#[test]
fn setting_that_slid_below_the_line_of_recommended_values_is_remarked() {
    let slid = resolve_texts(&["[Recommended]\nLogLevel = \"debug\"\n# added\nSessionMaximumHours = 8"]);
    assert_eq!(codes(&slid), ["policy.only-recommended"]);
    assert_eq!(slid.problems[0].place.as_deref(), Some("source-1, line 4"));
}

#[test]
fn key_in_two_spellings_is_duplicate_and_other_capitals_are_not() {
    let resolved = resolve_texts(&["UPDATEMODE = \"off\"\nUpdateMode = \"automatic\""]);
    assert_eq!(codes(&resolved), ["policy.duplicate-key"]);
    assert_eq!(mode(&resolved), "notify");
    assert_eq!(mode(&resolve_texts(&["updatemode = \"off\""])), "off");
}

#[test]
fn only_what_is_not_enforced_is_left_to_the_user() {
    for (text, left) in [
        ("UpdateMode = \"off\"", true),
        ("[Recommended]\nSignInAtLogon = true", true),
        ("SignInAtLogon = true", false),
        ("SignInAtLogon = \"maybe\"", false),
    ] {
        let resolved = resolve_texts(&[text]);
        assert_eq!(resolved.leaves_to_user("SignInAtLogon"), left, "{text}");
        assert!(resolved.leaves_to_user("LogLevel"), "{text}");
        assert!(!resolved.leaves_to_user("ClientId") && !resolved.leaves_to_user("no setting"));
        assert_eq!(resolved.sets("SignInAtLogon"), text.contains("true"), "{text}");
    }
    // A source that cannot be read may enforce anything.
    assert!(!resolve(&[broken(1)], &LastGood::default()).leaves_to_user("SignInAtLogon"));
}

/// A setting with an old name.
pub(super) static RENAMED: &[Setting] = &[Setting {
    key: "Issuer",
    aliases: &["IssuerUrl"],
    category: "Test",
    documentation: &["Issuer", "", "For the test."],
    kind: Kind::Boolean,
    default: None,
    strict: None,
    example: Literal::Boolean(true),
    user_may_override: false,
    items_stand_alone: false,
}];

#[test]
fn deprecated_key_works_and_is_reported() {
    let (resolutions, problems) =
        resolve_settings(RENAMED, &[source(1, "IssuerUrl = true")], &LastGood::default());
    assert_eq!(resolutions[0].value, Some(Value::Boolean(true)));
    assert_eq!(problems[0].code, Code::PolicyDeprecatedKey);
    assert_eq!(problems[0].hint.as_deref(), Some("write `Issuer`"));
}

#[test]
fn secrets_do_not_appear_in_output() {
    let resolved = resolve_texts(&[
        "ClientSecret = \"canary-1\"\nReportEnrollmentToken = [\"canary-2\"]",
        "ClientSecret = \"canary-3\"",
    ]);
    let shown = format!(
        "{resolved:?} {} {}",
        serde_json::to_string(&resolved.settings).unwrap(),
        resolved.problems.iter().map(ToString::to_string).collect::<String>()
    );
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(resolved.policy.client_secret.unwrap().expose(), "canary-3");
}

fn any_value() -> impl Strategy<Value = RawValue> {
    prop_oneof![
        any::<bool>().prop_map(RawValue::Bool),
        any::<i64>().prop_map(RawValue::Int),
        (-2..130_i64).prop_map(RawValue::Int),
        ".{0,40}".prop_map(RawValue::Str),
        prop::sample::select(vec!["off", "notify", "automatic", "none", "https://a.example", "2.0.0"])
            .prop_map(|text| RawValue::Str(text.to_owned())),
        prop::collection::vec("[a-z.]{0,12}", 0..4).prop_map(RawValue::List),
        Just(RawValue::Other("a date".to_owned())),
    ]
}

fn any_contents() -> impl Strategy<Value = Result<RawPolicy, ReadError>> {
    let key = prop_oneof![
        9 => prop::sample::select(SETTINGS).prop_map(|setting| setting.key.to_owned()),
        1 => "[A-Za-z]{1,12}",
    ];
    let entries = || prop::collection::btree_map(key.clone(), any_value().prop_map(RawEntry::from), 0..12);
    prop_oneof![
        6 => (entries(), entries()).prop_map(|(enforced, recommended)| Ok(RawPolicy { enforced, recommended, ..RawPolicy::default() })),
        1 => Just(Err(ReadError::new(ReadErrorKind::Syntax, "broken"))),
    ]
}

fn any_sources() -> impl Strategy<Value = Vec<Source>> {
    prop::collection::vec(any_contents(), 0..5).prop_map(|all| {
        (0..)
            .zip(all)
            .map(|(rank, contents)| Source { rank, name: format!("source-{rank}"), contents })
            .collect()
    })
}

proptest! {
    #[test]
    fn order_of_sources_does_not_matter(
        (sources, shuffled) in any_sources().prop_flat_map(|sources| (Just(sources.clone()), Just(sources).prop_shuffle()))
    ) {
        prop_assert_eq!(resolve(&sources, &LastGood::default()), resolve(&shuffled, &LastGood::default()));
    }

    #[test]
    fn wrong_value_in_strong_source_never_lets_weaker_value_through(
        weak in any_contents(), setting in prop::sample::select(SETTINGS), bad in any_value()
    ) {
        prop_assume!(setting.kind.parse(&bad).is_err());
        let strong = RawPolicy { enforced: BTreeMap::from([(setting.key.to_owned(), bad.into())]), ..RawPolicy::default() };
        let strong = Source { rank: 9, name: "strong".to_owned(), contents: Ok(strong) };
        let weak = Source { rank: 1, name: "weak".to_owned(), contents: weak };
        let with = resolve(&[strong.clone(), weak], &LastGood::default());
        let alone = resolve(&[strong], &LastGood::default());
        let (with, alone) = (with.get(setting.key).unwrap(), alone.get(setting.key).unwrap());
        prop_assert_eq!(&with.value, &alone.value);
        prop_assert_eq!(&with.origin, &alone.origin);
    }

    #[test]
    fn unreadable_sources_keep_every_remembered_value(sources in any_sources()) {
        let resolved = resolve(&sources, &LastGood::default());
        let last_good = resolved.remember(&LastGood::default(), Timestamp::UNIX_EPOCH);
        let unreadable = [broken(0)];
        let later = resolve(&unreadable, &last_good);
        for setting in &resolved.settings {
            if matches!(setting.origin, Origin::Policy { .. }) {
                prop_assert_eq!(&later.get(setting.key).unwrap().value, &setting.value);
            }
        }
        prop_assert_eq!(later.remember(&last_good, Timestamp::UNIX_EPOCH).values, last_good.values);
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for contents in [drop_in::read(&bytes), property_list::read(&bytes)] {
            drop(resolve(&[Source { rank: 0, name: "bytes".to_owned(), contents }], &LastGood::default()));
        }
    }

    #[test]
    fn almost_toml_never_panics_its_reader(text in "([A-Za-z.]{1,6} ?= ?[\\[\\]{}\"'a-z0-9,.= ]{0,12}\n?){0,6}") {
        let contents = drop_in::read(text.as_bytes());
        drop(resolve(&[Source { rank: 0, name: "text".to_owned(), contents }], &LastGood::default()));
    }

    #[test]
    fn damaged_property_list_never_panics_its_reader(
        position in 0..200_usize, byte in any::<u8>(), cut in 0..200_usize
    ) {
        let dictionary = plist::Dictionary::from_iter([
            ("UpdateMode", plist::Value::from("off")),
            ("Scopes", plist::Value::Array(vec!["openid".into(), "email".into()])),
        ]);
        let mut bytes = Vec::new();
        plist::Value::Dictionary(dictionary).to_writer_binary(&mut bytes).unwrap();
        if let Some(damaged) = bytes.get_mut(position) {
            *damaged = byte;
        }
        bytes.truncate(cut.max(1));
        let contents = property_list::read(&bytes);
        drop(resolve(&[Source { rank: 0, name: "bytes".to_owned(), contents }], &LastGood::default()));
    }
}

/// Found by trial: one bad certificate withdrew all of them, and one bad bypass all bypasses.
#[test]
fn item_that_is_not_valid_is_left_out_only_where_that_weakens_nothing() {
    let resolved = resolve_texts(&["ProxyBypass = [\"a.example\", \"not a host\", \".b.example\"]"]);
    assert_eq!(resolved.policy.proxy_bypass, ["a.example", ".b.example"]);
    assert_eq!(codes(&resolved), ["policy.invalid-value"]);
    assert_eq!(resolved.problems[0].using.as_deref(), Some("the other items"));
    assert!(resolved.problems[0].message.contains("not a host"), "{}", resolved.problems[0]);
    let resolved = resolve_texts(&["ProxyBypass = [\"not a host\"]"]);
    assert_eq!(codes(&resolved), ["policy.invalid-value"]);
    // Without the wrong one, the rest would let in others than those who were meant, or shut them out.
    let resolved = resolve_texts(&["AllowedEmailDomains = [\"a.example\", \"not a domain\"]"]);
    assert_eq!(resolved.policy.allowed_email_domains, Some(Vec::new()));
    let resolved = resolve_texts(&["AllowedApplications = [\"/usr/bin/a\", \"relative/b\"]"]);
    assert_eq!(resolved.policy.allowed_applications, Vec::<String>::new());
}
