//! Another program shares it (cargo-fuzz): what must hold for whatever a reader made of foreign bytes.
#![forbid(unsafe_code)]

use policy_schema::export::{mobileconfig, policy_of, registry, toml};
use policy_schema::raw::{RawPolicy, ReadError, Source};
use policy_schema::read::{drop_in, property_list, registry_pol};
use policy_schema::{LastGood, resolve};

/// It resolves, every problem can be shown, and what is valid means the same after it was exported and read again.
pub fn survive(read: Result<RawPolicy, ReadError>) {
    let source = |contents| Source { rank: 1, name: "fuzz".to_owned(), contents };
    let resolved = resolve(&[source(read.clone())], &LastGood::default());
    for problem in &resolved.problems {
        assert!(!problem.to_string().is_empty());
    }
    let Ok((policy, _)) = policy_of(&[source(read)]) else { return };
    let before = resolve(&[source(Ok(policy.clone()))], &LastGood::default()).settings;
    let profile = mobileconfig::profiles(&policy, &[], None).remove(0).bytes;
    for again in [
        registry_pol::read(&registry::pol(&policy)),
        drop_in::read(&toml::drop_in(&policy)),
        property_list::read_profile(&profile, policy_schema::export::DOMAIN),
    ] {
        let again = again.map(|mut policy| {
            // Lines are a matter of the file, not of the meaning.
            for entry in policy.enforced.values_mut().chain(policy.recommended.values_mut()) {
                entry.line = None;
            }
            policy
        });
        assert_eq!(resolve(&[source(again)], &LastGood::default()).settings, before);
    }
}
