//! Values of the registry. Records of: one byte for the key (0 the policy key, 1 Recommended, 2 and 3 a list in either),
//! one for the setting, one for the type, one for the length, then the data.
#![no_main]

use policy_schema::SETTINGS;
use policy_schema::read::registry::{self, RegistryValue, Tree};
use policy_schema_fuzz::survive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut tree = Tree::default();
    let mut recommended = Tree::default();
    let mut rest = bytes;
    while let [key, setting, kind, length, data @ ..] = rest {
        let (data, behind) = data.split_at(data.len().min(usize::from(*length)));
        rest = behind;
        let name = SETTINGS[usize::from(*setting) % SETTINGS.len()].key.to_owned();
        let level = if key % 2 == 0 { &mut tree } else { &mut recommended };
        let mut value = RegistryValue { name, kind: u32::from(*kind), bytes: data.to_vec() };
        if key % 4 < 2 {
            level.values.push(value);
            continue;
        }
        let name = std::mem::replace(&mut value.name, length.to_string());
        match level.subkeys.iter_mut().find(|(known, _)| *known == name) {
            Some((_, list)) => list.values.push(value),
            None => level.subkeys.push((name, Tree { values: vec![value], subkeys: Vec::new() })),
        }
    }
    tree.subkeys.push(("recommended".to_owned(), recommended));
    survive(Ok(registry::read(&tree)));
});
