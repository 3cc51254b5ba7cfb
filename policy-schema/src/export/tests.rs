use proptest::prelude::*;

use super::*;
use crate::read::{document, drop_in, property_list, registry_pol};
use crate::resolve::Resolved;
use crate::settings::Setting;
use crate::value::{Format as TextFormat, Kind};

fn source(contents: RawPolicy) -> Source {
    Source { rank: 1, name: "a source".to_owned(), contents: Ok(contents) }
}

fn meaning(contents: RawPolicy) -> Resolved {
    let mut sources = vec![source(contents)];
    // Lines are a matter of the file, not of the meaning.
    for entries in sources.iter_mut().filter_map(|source| source.contents.as_mut().ok()) {
        for entry in entries.enforced.values_mut().chain(entries.recommended.values_mut()) {
            entry.line = None;
        }
    }
    resolve(&sources, &LastGood::default())
}

fn example() -> RawPolicy {
    policy_of(&[source(drop_in::read(EXAMPLE.as_bytes()).unwrap())]).unwrap().0
}

/// A policy with the example of every setting, at both levels.
fn everything() -> RawPolicy {
    let all: BTreeMap<String, RawEntry> =
        SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.example.to_raw().into())).collect();
    RawPolicy { enforced: all.clone(), recommended: all, ..RawPolicy::default() }
}

/// Every form that has a reader.
fn round_trips(policy: &RawPolicy) -> Vec<(&'static str, RawPolicy)> {
    let mut binary = Vec::new();
    plist::Value::Dictionary(mobileconfig::preferences(policy)).to_writer_binary(&mut binary).unwrap();
    let profile = &mobileconfig::profiles(policy, &[], None)[0].bytes;
    let mut read = vec![
        ("drop-in", drop_in::read(&toml::drop_in(policy)).unwrap()),
        ("profile", property_list::read_document(profile, DOMAIN).unwrap()),
        ("preferences", property_list::read(&binary).unwrap()),
        ("Registry.pol", registry_pol::read(&registry::pol(policy)).unwrap()),
    ];
    let (playbook, shell) = (scripts::playbook(policy), scripts::shell(policy));
    let plays: serde_json::Value = serde_saphyr::from_str(&playbook).unwrap();
    if policy.is_empty() {
        assert_eq!(plays[0]["tasks"][0]["ansible.builtin.file"]["state"], "absent");
        assert!(shell.contains("\nrm -f ") && !shell.contains("cat >"));
        return read;
    }
    let content = plays[0]["tasks"][1]["ansible.builtin.copy"]["content"].as_str().unwrap().to_owned();
    let heredoc = shell.split_once("<<'END-OF-STEWARD-POLICY'\n").unwrap().1;
    let heredoc = heredoc.split_once("END-OF-STEWARD-POLICY\n").unwrap().0;
    read.push(("playbook", drop_in::read(content.as_bytes()).unwrap()));
    read.push(("shell script", drop_in::read(heredoc.as_bytes()).unwrap()));
    read
}

#[test]
fn example_has_no_problems_and_every_format_keeps_every_setting() {
    assert_eq!(meaning(example()).problems, []);
    for policy in [example(), everything(), RawPolicy::default()] {
        let before = meaning(policy.clone());
        for (form, read) in round_trips(&policy) {
            assert_eq!(meaning(read).settings, before.settings, "{form}");
        }
    }
}

fn text_of(format: TextFormat) -> BoxedStrategy<String> {
    let line = "[ -~äß€😀]{1,40}".prop_map(|text| text.trim().to_owned());
    let examples =
        SETTINGS.iter().filter_map(move |setting| match (setting.kind, setting.example.to_raw()) {
            (Kind::Text { format: other }, RawValue::Str(text)) if other == format => Some(text),
            (Kind::List { format: other, .. }, RawValue::List(items)) if other == format => {
                items.first().cloned()
            }
            _ => None,
        });
    let known: Vec<String> = examples.collect();
    let candidates = prop_oneof![
        3 => line.clone(),
        1 => "\\PC{1,30}",
        1 => "[a-z]{1,9}(\\.[a-z]{2,5})?",
        1 => "https://[a-z]{1,9}\\.example/[!-~]{0,20}",
        2 => proptest::sample::select(if known.is_empty() { vec!["x".to_owned()] } else { known.clone() }),
    ];
    candidates
        .prop_map(move |text| {
            let fallback = known.first().cloned().unwrap_or_else(|| "x".to_owned());
            if format.check(&text).is_ok() { text } else { fallback }
        })
        .boxed()
}

fn value_of(setting: &'static Setting) -> BoxedStrategy<RawValue> {
    match setting.kind {
        Kind::Boolean => any::<bool>().prop_map(RawValue::Bool).boxed(),
        Kind::Integer { minimum, maximum, .. } => (minimum..=maximum).prop_map(RawValue::Int).boxed(),
        Kind::Text { format } | Kind::Secret { format } => text_of(format).prop_map(RawValue::Str).boxed(),
        Kind::Choice(choices) => {
            proptest::sample::select(choices).prop_map(|choice| RawValue::Str(choice.name.to_owned())).boxed()
        }
        Kind::List { format, .. } => {
            proptest::collection::vec(text_of(format), 0..12).prop_map(RawValue::List).boxed()
        }
    }
}

fn level() -> impl Strategy<Value = BTreeMap<String, RawEntry>> {
    proptest::collection::vec(proptest::sample::select(SETTINGS.iter().collect::<Vec<_>>()), 0..8)
        .prop_flat_map(|settings| {
            settings
                .into_iter()
                .map(|setting| (Just(setting.key.to_owned()), value_of(setting).prop_map(RawEntry::from)))
                .collect::<Vec<_>>()
        })
        .prop_map(|entries| entries.into_iter().collect())
}

proptest! {
    #[test]
    fn any_valid_policy_means_the_same_after_export_and_read(enforced in level(), recommended in level()) {
        let policy = RawPolicy { enforced, recommended, ..RawPolicy::default() };
        let before = meaning(policy.clone());
        for (form, read) in round_trips(&policy) {
            prop_assert_eq!(&meaning(read).settings, &before.settings, "{}", form);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = drop_in::read(&bytes);
        let _ = property_list::read(&bytes);
        let _ = property_list::read_document(&bytes, DOMAIN);
        let _ = document::read(&bytes, DOMAIN);
        let _ = registry_pol::read(&bytes);
        let _ = registry_pol::read(&[&registry_pol::HEADER[..], &bytes].concat());
    }
}

#[test]
fn policy_with_error_is_not_exported() {
    let wrong = source(drop_in::read(b"UpdateMode = \"of\"").unwrap());
    assert_eq!(policy_of(&[wrong]).unwrap_err()[0].key.as_deref(), Some("UpdateMode"));
    let spelt = source(drop_in::read(b"reportPOSTURE = 1\n[recommended]\nloglevel = \"debug\"").unwrap());
    let (policy, _) = policy_of(&[spelt]).unwrap();
    assert_eq!(policy.enforced["ReportPosture"].value, RawValue::Bool(true));
    assert_eq!(policy.recommended["LogLevel"].value, RawValue::Str("debug".to_owned()));
}

/// Group Policy clears a list before it fills it: what a longer list held before must not stay.
#[test]
fn list_in_registry_pol_is_cleared_first() {
    let pol = registry::pol(&example());
    let text: String =
        char::decode_utf16(pol[8..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])))
            .map(|unit| unit.unwrap_or('?'))
            .collect();
    let clear = text.find("Steward\\Scopes\0;**delvals.").unwrap();
    assert!(clear < text.find("Steward\\Scopes\0;1").unwrap());
}

#[test]
fn profile_of_other_policy_keeps_identity_and_app_has_its_own() {
    let apps = [AppPreferences {
        domain: "com.example.app".to_owned(),
        title: "Some App".to_owned(),
        values: BTreeMap::from([("Blocked".to_owned(), RawValue::Bool(true))]),
    }];
    let first = mobileconfig::profiles(&example(), &apps, None);
    let second = mobileconfig::profiles(&RawPolicy::default(), &apps, None);
    let uuids = |bytes: &[u8]| {
        let value = plist::Value::from_reader(std::io::Cursor::new(bytes)).unwrap();
        let profile = value.into_dictionary().unwrap();
        let payload = profile["PayloadContent"].as_array().unwrap()[0].as_dictionary().unwrap().clone();
        [profile["PayloadUUID"].clone(), payload["PayloadUUID"].clone()]
    };
    assert_eq!(uuids(&first[0].bytes), uuids(&second[0].bytes));
    assert_ne!(uuids(&first[0].bytes), uuids(&first[1].bytes));
    assert_eq!(first[1].path, "macos/some-app.mobileconfig");
    let app = property_list::read_document(&first[1].bytes, "com.example.app").unwrap();
    assert_eq!(app.enforced["Blocked"].value, RawValue::Bool(true));
    assert!(property_list::read_document(&first[1].bytes, DOMAIN).unwrap().is_empty());
}

#[test]
fn profile_of_the_services_names_the_jobs_and_with_a_team_who_may_replace_apps() {
    let payloads = |team| {
        let files = mobileconfig::profiles(&example(), &[], team);
        let file = files.iter().find(|file| file.path == "macos/steward-services.mobileconfig").unwrap();
        let profile = plist::Value::from_reader(std::io::Cursor::new(&file.bytes)).unwrap();
        let payloads = profile.as_dictionary().unwrap()["PayloadContent"].as_array().unwrap().clone();
        let of_type = |kind: &str| {
            let found = payloads.iter().filter_map(plist::Value::as_dictionary);
            found.into_iter().find(|payload| payload["PayloadType"].as_string() == Some(kind)).cloned()
        };
        (of_type("com.apple.servicemanagement"), of_type("com.apple.TCC.configuration-profile-policy"))
    };
    let rule = |payload: &plist::Dictionary| {
        payload["Rules"].as_array().unwrap()[0].as_dictionary().unwrap().clone()
    };
    let (jobs, privacy) = payloads(None);
    let jobs = rule(&jobs.unwrap());
    assert_eq!(
        (jobs["RuleType"].as_string(), jobs["RuleValue"].as_string()),
        (Some("LabelPrefix"), Some("dev.steward."))
    );
    assert!(jobs.get("TeamIdentifier").is_none());
    // Without a requirement on the signature, whoever replaced the program would have the right.
    assert_eq!(privacy, None);
    let (jobs, privacy) = payloads(Some("A1B2C3D4E5"));
    assert_eq!(rule(&jobs.unwrap())["TeamIdentifier"].as_string(), Some("A1B2C3D4E5"));
    let services = privacy.unwrap()["Services"].as_dictionary().unwrap().clone();
    let grant = services["SystemPolicyAppBundles"].as_array().unwrap()[0].as_dictionary().unwrap().clone();
    assert!(
        grant["CodeRequirement"]
            .as_string()
            .unwrap()
            .ends_with("certificate leaf[subject.OU] = \"A1B2C3D4E5\"")
    );
}

#[test]
fn every_pattern_covers_whole_text() {
    for setting in SETTINGS {
        let (Kind::Text { format } | Kind::List { format, .. }) = setting.kind else { continue };
        let Some(pattern) = format.pattern() else { continue };
        assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{pattern}");
    }
}

#[test]
fn empty_list_that_oma_uri_cannot_express_is_remarked() {
    let empty = RawPolicy {
        enforced: BTreeMap::from([("AllowedEmailDomains".to_owned(), RawValue::List(Vec::new()).into())]),
        ..RawPolicy::default()
    };
    assert!(remarks(&empty)[0].0 && remarks(&empty)[0].1.contains("AllowedEmailDomains"));
    assert_eq!(remarks(&example()), []);
}
