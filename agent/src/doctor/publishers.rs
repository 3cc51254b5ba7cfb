//! PURE: who may sign the installers of the app, and whether anybody may.

use jiff::Timestamp;

use super::{Finding, Outcome};
use crate::app::descriptor::System;

const NAME: &str = "publishers";

/// `named` is what policy says, which replaces what is known of the app. `None` where installers have no publishers.
pub(super) fn check(system: &System, named: &[String], now: Timestamp) -> Option<Finding> {
    if !system.has_publishers() {
        return None;
    }
    if !named.is_empty() {
        let summary = "installers of the app must be signed by a publisher that policy names";
        return Some(Finding::pass(NAME, summary).observed(named.iter().map(|name| format!("`{name}`"))));
    }
    let known: Vec<_> = system.publishers(now).collect();
    let evidence = known.iter().map(|publisher| {
        let source = if publisher.third_party { ", as a third party tells it" } else { "" };
        format!("`{}`{source}", publisher.name)
    });
    let evidence: Vec<String> = evidence.collect();
    Some(if known.is_empty() {
        let summary = "nobody is known to sign the app's installers, so none is started: name the vendor in `UpdatePublishers`";
        Finding::new(NAME, Outcome::Warning, summary)
    } else if known.iter().any(|publisher| publisher.third_party) {
        let summary =
            "who signs the app's installers is not known from its vendor: name it in `UpdatePublishers`";
        Finding::new(NAME, Outcome::Warning, summary).observed(evidence)
    } else {
        Finding::pass(NAME, "installers of the app must be signed by its vendor").observed(evidence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::descriptor;

    #[test]
    fn publisher_that_nobody_or_a_third_party_names_is_a_warning() {
        let quick = descriptor::find("amazon-quick").unwrap();
        let ours = ["Example Corp".to_owned()];
        for (system, named, outcome, text) in [
            ("windows", &[][..], Outcome::Warning, "nobody is known"),
            ("macos", &[], Outcome::Warning, "not known from its vendor"),
            ("windows", &ours, Outcome::Pass, "that policy names"),
            ("macos", &ours, Outcome::Pass, "that policy names"),
        ] {
            let finding = check(&quick.systems[system], named, Timestamp::UNIX_EPOCH).unwrap();
            assert!(finding.outcome == outcome && finding.summary.contains(text), "{system}: {finding:?}");
        }
        let notes = descriptor::find("lab-notes").unwrap();
        assert_eq!(check(&notes.systems["linux"], &[], Timestamp::UNIX_EPOCH), None);
    }
}
