//! The desktop app's managed configuration: observe, render, apply.
//!
//! In: the policy and what lies on disk. Out: the bytes that the app is to find, and their writing. What an app reads,
//! and where, is data ([`descriptor`]); [`crate::plan`] compares and decides.

pub(crate) mod descriptor;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use agent_platform::file;
use agent_platform::paths::Paths;
use policy_schema::resolve::Origin;
use policy_schema::{Resolved, Value};

use descriptor::{Descriptor, Format, System};

/// What an app is to find, and what it finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Where the configuration of the app lies, on systems where the agent writes it.
    pub(crate) path: Option<PathBuf>,
    /// What is there now.
    pub(crate) found: Option<Vec<u8>>,
    /// Where the agent wrote one before, for this or another app.
    pub(crate) written_before: Option<PathBuf>,
}

/// Looks at the managed configuration that lies on disk.
pub(crate) fn observe(paths: &Paths, descriptor: Option<&Descriptor>) -> Observed {
    let path = descriptor
        .and_then(Descriptor::system)
        .and_then(|system| system.configuration.as_ref())
        .filter(|configuration| configuration.format == Format::Json)
        .map(|configuration| paths.under_root(configuration.path.as_ref()));
    let found = path.as_ref().and_then(|path| fs_err::read(path).ok());
    let written_before = fs_err::read_to_string(marker(paths)).ok().map(|text| PathBuf::from(text.trim()));
    Observed { path, found, written_before }
}

/// What the app is to find: the values that policy sets, by the app's own names. `None` if policy sets none of them.
pub(crate) fn render(system: &System, resolved: &Resolved) -> Option<Vec<u8>> {
    let configuration = system.configuration.as_ref()?;
    let values: BTreeMap<&str, serde_json::Value> = configuration
        .values
        .iter()
        .filter_map(|(name, source)| {
            let resolution = resolved.get(&source.setting)?;
            if matches!(resolution.origin, Origin::Default | Origin::Unset) {
                return None;
            }
            let value = resolution.value.as_ref()?;
            let value = match &source.map {
                None => serde_json::to_value(value).ok()?,
                Some(map) => match value {
                    Value::Text(text) => map.get(text)?.clone(),
                    Value::Boolean(_) | Value::Integer(_) | Value::List(_) | Value::Secret(_) => return None,
                },
            };
            Some((name.as_str(), value))
        })
        .collect();
    if values.is_empty() {
        return None;
    }
    let mut bytes = serde_json::to_vec_pretty(&values).ok()?;
    bytes.push(b'\n');
    Some(bytes)
}

/// Writes a managed configuration, after noting where, so that it is found again even if this is the last step.
///
/// # Errors
/// The system refused; the old configuration is then still there.
pub(crate) fn write(paths: &Paths, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let noted = path.display().to_string();
    let noted_before = fs_err::read_to_string(marker(paths)).is_ok_and(|before| before == noted);
    if !noted_before {
        file::create_folder(&paths.state(), 0o755)?;
        file::replace(&marker(paths), noted.as_bytes(), file::PUBLIC)?;
    }
    if let Some(folder) = path.parent() {
        file::create_folder(folder, 0o755)?;
    }
    file::replace(path, bytes, file::PUBLIC)
}

/// Removes a managed configuration that the agent wrote.
///
/// # Errors
/// The system refused.
pub(crate) fn remove(paths: &Paths, path: &std::path::Path) -> io::Result<()> {
    file::remove(path)?;
    file::remove(&marker(paths))
}

fn marker(paths: &Paths) -> PathBuf {
    paths.state().join("managed-configuration")
}

#[cfg(test)]
mod tests {
    use policy_schema::raw::Place;
    use policy_schema::read::drop_in;
    use policy_schema::{LastGood, resolve};

    use super::*;

    fn rendered(app: &str, system: &str, policy: &str) -> Option<serde_json::Value> {
        let place = Place { rank: 1, name: "test".to_owned(), contents: drop_in::read(policy.as_bytes()) };
        let resolved = resolve(&[place], &LastGood::default());
        let descriptor = descriptor::find(app).unwrap();
        let bytes = render(&descriptor.systems[system], &resolved)?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn only_what_policy_sets_reaches_the_app() {
        assert_eq!(rendered("lab-notes", "linux", ""), None);
        assert_eq!(
            rendered("lab-notes", "linux", "Issuer = \"https://a.example\"\nSocialSignIn = \"blocked\""),
            Some(serde_json::json!({ "issuer": "https://a.example", "socialSignIn": false }))
        );
    }

    /// The app names the smallest update that is BLOCKED, the setting the largest that is allowed.
    #[test]
    fn the_polarity_of_amazon_quick_s_update_policy_is_turned_round() {
        let cases = [
            ("none", Some("patch")),
            ("patch-only", Some("minor")),
            ("minor-and-patch", Some("major")),
            ("all", None),
        ];
        for (allowed, blocked) in cases {
            for system in ["windows", "macos"] {
                let rendered = rendered("amazon-quick", system, &format!("AppSelfUpdate = \"{allowed}\""));
                let value = rendered.as_ref().and_then(|rendered| rendered["DisableAutoUpdates"].as_str());
                assert_eq!(value, blocked, "{allowed} on {system}");
            }
        }
    }

    #[test]
    fn a_misspelt_choice_blocks_rather_than_allows() {
        let rendered = rendered("amazon-quick", "macos", "SocialSignIn = \"bloked\"").unwrap();
        assert_eq!(rendered["DisableSocialLogin"], serde_json::json!(true));
    }
}
