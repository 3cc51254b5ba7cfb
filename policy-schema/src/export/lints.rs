//! The meaning of ADMX that no schema checks: the rules of Group Policy's editor and of Intune's import.
#![expect(clippy::wildcard_enum_match_arm, reason = "of documents only the parts that are checked matter")]

use std::collections::{BTreeMap, BTreeSet};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{admx, jamf, manifest};

/// Every element with its attributes, and the text right inside it.
fn elements(bytes: &[u8]) -> Vec<(String, BTreeMap<String, String>, String)> {
    let mut reader = Reader::from_reader(bytes);
    let mut found: Vec<(String, BTreeMap<String, String>, String)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let read = |start: &BytesStart<'_>| {
        let attributes = start
            .attributes()
            .map(|attribute| {
                let attribute = attribute.unwrap();
                let value = attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).unwrap();
                (attribute.key.0.to_owned(), value.into_owned())
            })
            .collect();
        (start.name().0.to_owned(), attributes, String::new())
    };
    let mut buffer = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer).unwrap() {
            Event::Start(start) => {
                open.push(found.len());
                found.push(read(&start));
            }
            Event::Empty(start) => found.push(read(&start)),
            Event::End(_) => drop(open.pop()),
            Event::Text(text) => {
                if let Some(index) = open.last() {
                    found[*index].2.push_str(&text.html_content());
                }
            }
            Event::GeneralRef(name) => {
                let character = match &*name.html_content() {
                    "lt" => "<",
                    "gt" => ">",
                    "amp" => "&",
                    "quot" => "\"",
                    "apos" => "'",
                    other => panic!("{other}"),
                };
                if let Some(index) = open.last() {
                    found[*index].2.push_str(character);
                }
            }
            Event::Eof => return found,
            _ => {}
        }
        buffer.clear();
    }
}

#[test]
fn template_obeys_rules_of_group_policy_and_intune() {
    let (template, texts) = (admx::admx(), admx::adml());
    assert!(template.len() < 1_000_000 && texts.len() < 1_000_000, "Intune takes files of up to a megabyte");
    let (template, texts) = (elements(&template), elements(&texts));
    let is_identifier = |id: &str| !id.is_empty() && id.chars().all(|c| c.is_alphanumeric() || c == '_');
    let ids = |name: &str| -> BTreeSet<&str> {
        texts
            .iter()
            .filter(|(element, ..)| element == name)
            .map(|(_, attributes, _)| &*attributes["id"])
            .collect()
    };
    let (strings, presentations) = (ids("string"), ids("presentation"));
    let mut names = BTreeSet::new();
    for (element, attributes, _) in &template {
        assert_ne!(element, "using", "a prefix would have to be uploaded first");
        for value in attributes.values() {
            if let Some(id) = value.strip_prefix("$(string.").and_then(|rest| rest.strip_suffix(')')) {
                assert!(strings.contains(id), "no text for {id}");
            }
            if let Some(id) = value.strip_prefix("$(presentation.").and_then(|rest| rest.strip_suffix(')')) {
                assert!(presentations.contains(id), "no presentation for {id}");
            }
        }
        if let Some(key) = attributes.get("key") {
            let key = key.to_lowercase();
            assert!(key.starts_with("software\\policies\\steward"), "{key}");
        }
        match element.as_str() {
            "policy" | "category" | "definition" => {
                assert!(is_identifier(&attributes["name"]), "{}", attributes["name"]);
                assert!(names.insert((element, &attributes["name"])), "twice: {}", attributes["name"]);
            }
            "decimal" if attributes.contains_key("id") => {
                assert!(attributes.contains_key("maxValue"), "Windows would allow 9999 at most");
                let bounds =
                    [&attributes["minValue"], &attributes["maxValue"]].map(|bound| bound.parse::<u32>());
                assert!(bounds.iter().all(Result::is_ok), "a REG_DWORD: {attributes:?}");
            }
            "text" => assert!(attributes.contains_key("maxLength"), "Windows would allow 1023 at most"),
            _ => {}
        }
    }
    let enums = template.iter().filter(|(element, ..)| element == "string");
    assert!(enums.clone().count() > 20 && enums.clone().all(|(_, _, text)| text.len() < 256));
    for (element, attributes, _) in &texts {
        assert_ne!(element, "comboBox", "Intune's import fails on it");
        if let Some(id) = attributes.get("id") {
            assert!(is_identifier(id), "{id}");
        }
        if let Some(control) = attributes.get("refId") {
            let has_element = template.iter().any(|(_, attributes, _)| attributes.get("id") == Some(control));
            assert!(has_element, "the control {control} belongs to nothing");
        }
        if let Some(item) = attributes.get("defaultItem") {
            let key = &attributes["refId"];
            let setting = crate::SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            let crate::value::Kind::Choice(choices) = setting.kind else { panic!("{key}") };
            assert!(item.parse::<usize>().unwrap() < choices.len());
        }
    }
    for setting in crate::SETTINGS {
        assert!(names.contains(&(&"policy".to_owned(), &setting.key.to_owned())), "{}", setting.key);
    }
}

#[test]
fn text_that_looks_like_markup_stays_text() {
    let bytes =
        super::xml::document(|xml| super::xml::text(xml, "string", &[("id", "<&\">'\n")], "<a & \"b\">"));
    let found = elements(&bytes);
    assert_eq!(found[0].1["id"], "<&\">'\n");
    assert_eq!(found[0].2, "<a & \"b\">");
}

/// Jamf's form ignores words that it does not know, and then shows nothing.
#[test]
fn jamf_schema_has_only_words_that_jamf_knows() {
    const WORDS: [&str; 13] = [
        "title",
        "description",
        "properties",
        "type",
        "property_order",
        "default",
        "enum",
        "options",
        "enum_titles",
        "items",
        "pattern",
        "links",
        "anyOf",
    ];
    fn check(value: &serde_json::Value, inside: &str) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    assert!(
                        inside == "properties" || inside == "links" || WORDS.contains(&key.as_str()),
                        "{key}"
                    );
                    check(value, key);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| check(item, inside)),
            _ => {}
        }
    }
    let schema: serde_json::Value = serde_json::from_slice(&jamf::schema()).unwrap();
    check(&schema, "");
    assert!(
        schema["properties"]["Issuer"]["anyOf"][0]["type"] == "null",
        "an optional value can be left out"
    );
}

#[test]
fn manifest_has_only_words_of_manifests() {
    const WORDS: [&str; 19] = [
        "pfm_title",
        "pfm_description",
        "pfm_domain",
        "pfm_format_version",
        "pfm_last_modified",
        "pfm_platforms",
        "pfm_version",
        "pfm_unique",
        "pfm_targets",
        "pfm_subkeys",
        "pfm_name",
        "pfm_type",
        "pfm_default",
        "pfm_range_list",
        "pfm_range_list_titles",
        "pfm_range_min",
        "pfm_range_max",
        "pfm_format",
        "pfm_sensitive",
    ];
    fn check(value: &plist::Value) {
        match value {
            plist::Value::Dictionary(map) => {
                for (key, value) in map {
                    assert!(WORDS.contains(&key.as_str()), "{key}");
                    check(value);
                }
            }
            plist::Value::Array(items) => items.iter().for_each(check),
            _ => {}
        }
    }
    let manifest = plist::Value::from_reader(std::io::Cursor::new(manifest::manifest())).unwrap();
    check(&manifest);
    assert!(manifest.as_dictionary().unwrap()["pfm_last_modified"].as_date().is_some());
    let subkeys = manifest.as_dictionary().unwrap()["pfm_subkeys"].as_array().unwrap();
    assert_eq!(subkeys.len(), 7 + crate::SETTINGS.len() + 1);
}
