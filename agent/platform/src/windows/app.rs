//! Which version of an app is installed, as its entry in the list of installed programs says.

use policy_schema::raw::RawValue;
use policy_schema::read::registry as read_registry;
use windows_registry::{Key, LOCAL_MACHINE};

use super::registry::{subkeys, values};
use crate::installed::App;
use crate::paths::Paths;

/// The lists of installed programs, for programs of 64 and of 32 bits (Microsoft, "Uninstall Registry Key").
const LISTS: [&str; 2] = [
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall",
    r"SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
];
/// The number of entries that are looked at.
const MAXIMUM_ENTRIES: usize = 5000;

/// The version of the program that is installed in one of its folders, or under its title. Packages say none here.
#[must_use]
pub fn installed_version(paths: &Paths, app: &App<'_>) -> Option<String> {
    let versions =
        LISTS.iter().filter_map(|list| LOCAL_MACHINE.open(paths.key(list)).ok()).flat_map(|list| {
            let names = subkeys(&list).unwrap_or_default();
            let entries =
                names.into_iter().take(MAXIMUM_ENTRIES).filter_map(move |name| list.open(name).ok());
            entries.filter_map(|entry| version_in(&entry, app)).collect::<Vec<_>>()
        });
    // An entry of an earlier installer may be left.
    versions.max_by_key(|version| {
        version.split('.').map(|number| number.parse().unwrap_or(0)).collect::<Vec<u64>>()
    })
}

/// The version of an entry, if it is the app's: its program lies in one of its folders, or it has its title, perhaps with the
/// version behind it. What Windows Installer writes need not name a folder.
fn version_in(entry: &Key, app: &App<'_>) -> Option<String> {
    let values = values(entry).ok()?;
    let text = |name: &str| {
        let value = values.iter().find(|value| value.name.eq_ignore_ascii_case(name))?;
        match read_registry::value(value) {
            RawValue::Str(text) => Some(text),
            RawValue::Bool(_)
            | RawValue::Int(_)
            | RawValue::List(_)
            | RawValue::Table(_)
            | RawValue::Other(_) => None,
        }
    };
    let lies_in = |path: String| {
        let path = path.trim_start_matches('"').to_ascii_lowercase();
        app.folders.iter().any(|folder| {
            let folder = folder.to_ascii_lowercase();
            path.starts_with(&folder) || format!("{path}\\") == folder
        })
    };
    let version = text("DisplayVersion")?;
    let lies_there =
        ["InstallLocation", "UninstallString", "DisplayIcon"].into_iter().filter_map(text).any(lies_in);
    let has_title = text("DisplayName").is_some_and(|name| {
        let rest = name.strip_prefix(app.title).filter(|_| !app.title.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.trim_start() == version)
    });
    (lies_there || has_title).then_some(version)
}
