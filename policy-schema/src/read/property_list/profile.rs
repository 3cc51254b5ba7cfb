//! Configuration profiles, and what else a file of an MDM may be: one payload, or preferences in the form of MCX.

use super::super::{foreign, syntax};
use super::Preferences;
use crate::message::excerpt;
use crate::problem::{Code, Problem};
use crate::raw::{Notation, RawPolicy, ReadError};
use crate::settings::{SETTINGS, find};

/// The payload with which older consoles manage any preference domain (Apple, `ManagedPreferences`).
const MANAGED_CLIENT: &str = "com.apple.ManagedClient.preferences";

/// What a document holds for a preference domain.
pub(super) fn policy_of(document: Preferences, domain: &str) -> Result<RawPolicy, ReadError> {
    if document.policy.enforced.contains_key("$archiver") {
        let hint = "write the preferences themselves, as `defaults export` does";
        return Err(syntax("this is an archive of objects (NSKeyedArchiver), not preferences", Some(hint)));
    }
    match document.kind.as_deref() {
        None if document.payloads.is_none() => Ok(document.policy),
        Some(kind) if kind == domain => {
            let mut policy = of_payload(document, domain);
            let message =
                "this is the payload by itself; a device takes a whole profile, of the type `Configuration`";
            policy.remarks.push(
                Problem::new(Code::PolicyPassedOver, message)
                    .hint("`steward export --format mobileconfig` writes one".to_owned()),
            );
            Ok(policy)
        }
        Some(kind) if document.payloads.is_none() && kind != MANAGED_CLIENT && kind != "Configuration" => {
            Ok(nothing(format!("this is a payload of the type {}, not {domain}", excerpt(kind))))
        }
        Some(_) | None => of_profile(document, domain),
    }
}

fn of_profile(document: Preferences, domain: &str) -> Result<RawPolicy, ReadError> {
    let mut all = RawPolicy { notation: Notation::PropertyList, ..RawPolicy::default() };
    let mut others: Vec<String> = Vec::new();
    let mut found = false;
    let (has_content, is_list) = (document.has_content, document.payloads.is_some());
    let for_users = document.scope.as_deref() == Some("User");
    let stray = document.policy.enforced.keys().filter(|key| find(SETTINGS, key).is_some()).count();
    let payloads = if document.kind.as_deref() == Some(MANAGED_CLIENT) {
        vec![document]
    } else {
        document.payloads.unwrap_or_default()
    };
    for payload in payloads {
        let kind = payload.kind.clone().unwrap_or_default();
        if kind == domain || kind == MANAGED_CLIENT && payload.domains.iter().any(|one| one == domain) {
            found = true;
            merge(&mut all, of_payload(payload, domain))?;
        } else if kind == MANAGED_CLIENT {
            others.extend(payload.domains);
        } else {
            others.push(if kind.is_empty() { "one without `PayloadType`".to_owned() } else { kind });
        }
    }
    if stray > 0 {
        let message = format!(
            "{} at the top level of the profile, where devices do not read settings",
            settings(stray)
        );
        let hint = format!("move settings into a payload of the type {domain}");
        all.remarks.push(Problem::new(Code::PolicyForeign, message).hint(hint));
    }
    if for_users && found {
        let message = "`PayloadScope` is `User`: the settings are in force for one user, and the agent reads those of the device";
        all.remarks.push(
            Problem::new(Code::PolicyPassedOver, message).hint("set `PayloadScope` to `System`".to_owned()),
        );
    }
    if !found {
        let there = others.iter().take(5).map(|kind| excerpt(kind)).collect::<Vec<_>>().join(", ");
        let there = match (there.is_empty(), has_content, is_list) {
            (false, _, _) => format!("there is {there}"),
            (true, true, true) => "its list `PayloadContent` is empty".to_owned(),
            (true, true, false) => "its `PayloadContent` is not a list of payloads".to_owned(),
            (true, false, _) => "it has no `PayloadContent`".to_owned(),
        };
        all.remarks.push(foreign(format!("the profile has no payload of the type {domain}; {there}")));
    }
    Ok(all)
}

/// What one payload for the domain holds: its own keys, or those that MCX forces.
fn of_payload(payload: Preferences, domain: &str) -> RawPolicy {
    if payload.kind.as_deref() == Some(MANAGED_CLIENT) {
        let mut policy = payload.forced;
        policy.notation = Notation::PropertyList;
        if payload.not_forced {
            let message =
                "preferences under `Set-Once` or `Often` are not policy; only those under `Forced` are read";
            policy.remarks.push(Problem::new(Code::PolicyPassedOver, message));
        }
        return policy;
    }
    let nested = payload.domains.iter().filter(|key| find(SETTINGS, key).is_some()).count();
    let mut policy = payload.policy;
    if nested > 0 {
        let message = format!(
            "{} in a dictionary `PayloadContent`, where devices do not read settings",
            settings(nested)
        );
        let hint = format!("move settings next to `PayloadType`, directly into the payload of {domain}");
        policy.remarks.push(foreign(message).hint(hint));
    }
    policy
}

fn merge(all: &mut RawPolicy, payload: RawPolicy) -> Result<(), ReadError> {
    all.remarks.extend(payload.remarks);
    for (into, from) in [(&mut all.enforced, payload.enforced), (&mut all.recommended, payload.recommended)] {
        for (key, entry) in from {
            if into.get(&key).is_some_and(|before| *before != entry) {
                let key = excerpt(&key);
                let message = format!("the key `{key}` has different values in two payloads");
                return Err(syntax(message, Some("keep one: a device may take either")));
            }
            into.insert(key, entry);
        }
    }
    Ok(())
}

fn settings(count: usize) -> String {
    if count == 1 { "a setting is".to_owned() } else { format!("{count} settings are") }
}

fn nothing(message: String) -> RawPolicy {
    RawPolicy { notation: Notation::PropertyList, remarks: vec![foreign(message)], ..RawPolicy::default() }
}
