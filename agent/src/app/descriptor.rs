//! App descriptors: what an app reads and where, as data. Embedded; one file per app in `agent/descriptors/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use broker::configuration::Configuration as SignInConfiguration;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use platform::SYSTEM;
use platform::app_processes::AppProcesses;
use platform::paths::Paths;
use policy_schema::{Code, Policy, Problem};
use semver::Version;
use serde::Deserialize;
use updates::installed::{of_package, of_program};

/// One app.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Descriptor {
    /// As the setting `App` names it.
    pub(crate) name: String,
    /// As users know it.
    pub(crate) title: String,
    /// The hosts that it has to reach besides the identity provider, some as patterns with `*`.
    #[serde(default)]
    domains: Vec<String>,
    /// By operating system.
    #[serde(flatten)]
    pub(crate) systems: BTreeMap<String, System>,
}

/// One app on one operating system.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct System {
    /// Why the app does not exist here.
    pub(crate) not_applicable: Option<String>,
    /// The vendor's release feeds: the names changed over time, so they are tried in this order.
    #[serde(default)]
    pub(crate) feeds: Vec<String>,
    /// How the names of the files in a feed end that can be installed.
    #[serde(default)]
    pub(crate) files: Vec<String>,
    /// What the app reads at its start.
    pub(crate) configuration: Option<Configuration>,
    /// The value of the configuration that switches the app's own updater off, where two updaters at once do harm.
    pub(crate) own_updater: Option<String>,
    /// How a release is installed.
    pub(crate) installation: Option<Installation>,
    /// Who may have signed its installers.
    #[serde(default)]
    publishers: Vec<Publisher>,
    /// The app's processes: names of programs, or folders (with a separator in them) that they lie in.
    #[serde(default)]
    pub(crate) processes: Vec<String>,
    /// Folders with its logs, as documentation writes them: `~/...`, `%APPDATA%\...`.
    #[serde(default)]
    pub(crate) logs: Vec<String>,
    /// Folders that only administrators can write to, whose programs may ask the broker for tokens.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// The name of its package, where the operating system installs it as one.
    pub(crate) package: Option<String>,
}

/// The app's managed configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Configuration {
    pub(crate) format: Format,
    /// A file, a registry key or a preference domain.
    pub(crate) path: String,
    /// By the app's own names.
    pub(crate) values: BTreeMap<String, Source>,
}

/// How a managed configuration is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// A file with one JSON object.
    Json,
    /// Values of a key of the Windows registry.
    Registry,
    /// macOS managed preferences, which belong to the MDM.
    ManagedPreferences,
}

/// Which setting a value comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) setting: String,
    /// The app's words for the setting's choices; a choice that is missing here is left to the app.
    pub(crate) map: Option<BTreeMap<String, serde_json::Value>>,
}

/// How a release is installed.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Installation {
    Folder(VersionFolders),
    Installer(Installer),
    /// The agent itself.
    Agent,
}

/// The operating system installs it, with an installer of the kind that the name of its file ends with.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Installer {
    /// The app's program, or its bundle.
    pub(crate) program: String,
    /// Arguments with which the program tries whether it can start, if it can do that.
    pub(crate) self_check: Option<Vec<String>>,
    /// The program that removes the app, if its installer has none of its own.
    pub(crate) uninstaller: Option<String>,
}

/// Who may have signed an app's installers, at some time: names change.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Publisher {
    /// The common name in the certificate (Windows), or the team ID (macOS).
    pub(crate) name: String,
    /// Only from this day on.
    from: Option<Date>,
    /// Only until this day.
    until: Option<Date>,
    /// The vendor does not say so, somebody else does.
    #[serde(default)]
    pub(crate) third_party: bool,
}

/// A plain folder per version, and a link to the current one.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct VersionFolders {
    /// Holds `versions/` and the link `current`.
    pub(crate) folder: String,
    /// The program, inside a version's folder.
    pub(crate) program: String,
    /// Arguments with which the program tries whether it can start.
    pub(crate) self_check: Vec<String>,
}

impl System {
    /// Whether the operating system checks who signed its installers: not those of Linux.
    pub(crate) fn has_publishers(&self) -> bool {
        let signed = [".exe", ".msi", ".pkg"];
        matches!(self.installation, Some(Installation::Installer(_)))
            && self.files.iter().any(|ending| signed.contains(&ending.as_str()))
    }

    /// The processes of the app.
    pub(crate) fn app_processes(&self, paths: &Paths) -> AppProcesses {
        AppProcesses::new(paths, &self.processes)
    }

    /// The version that a text of the operating system means; one that is older than every release, if none can be read.
    pub(crate) fn version_of(&self, text: &str) -> Version {
        if self.package.is_some() { of_package(text) } else { of_program(text) }
    }

    /// The value that switches the app's own updater off, with its name.
    pub(crate) fn own_updater_off(&self) -> Option<(&str, Option<&serde_json::Value>)> {
        let name = self.own_updater.as_deref()?;
        let source = self.configuration.as_ref().and_then(|configuration| configuration.values.get(name));
        Some((name, source.and_then(|source| source.map.as_ref()?.get("none"))))
    }

    /// Who may sign the app's installers now.
    pub(crate) fn publishers(&self, now: Timestamp) -> impl Iterator<Item = &Publisher> {
        let today = TimeZone::UTC.to_datetime(now).date();
        let valid = move |publisher: &&Publisher| {
            publisher.from.is_none_or(|from| from <= today)
                && publisher.until.is_none_or(|until| today <= until)
        };
        self.publishers.iter().filter(valid)
    }
}

impl Configuration {
    fn location(&self, paths: &Paths) -> String {
        match self.format {
            Format::Json => paths.under_root(self.path.as_ref()).display().to_string(),
            Format::Registry | Format::ManagedPreferences => self.path.clone(),
        }
    }
}

impl Descriptor {
    /// The app on this operating system; `None` if it does not exist here.
    pub(crate) fn system(&self) -> Option<&System> {
        self.on(SYSTEM)
    }

    /// The app on an operating system; `None` if it does not exist there.
    pub(crate) fn on(&self, system: &str) -> Option<&System> {
        self.systems.get(system).filter(|system| system.not_applicable.is_none())
    }

    /// Where it finds its managed configuration on this operating system.
    pub(crate) fn location(&self, paths: &Paths) -> Option<String> {
        let configuration = self.system()?.configuration.as_ref()?;
        Some(configuration.location(paths))
    }

    /// The hosts that it has to reach, some as patterns with `*`.
    pub(crate) fn domains(&self) -> impl Iterator<Item = &'static str> + use<>
    where
        Self: 'static,
    {
        find(&self.name).into_iter().flat_map(|app| app.domains.iter().map(String::as_str))
    }

    /// Why there is nothing to do on this operating system.
    pub(crate) fn not_applicable(&self) -> Option<String> {
        match self.systems.get(SYSTEM) {
            None => Some(format!("{} does not exist on {SYSTEM}", self.title)),
            Some(system) => system.not_applicable.clone(),
        }
    }
}

/// The locations of the configurations of all apps on this operating system.
pub(crate) fn locations(paths: &Paths) -> impl Iterator<Item = String> {
    let configurations = ALL.iter().filter_map(|app| app.system()?.configuration.as_ref());
    configurations.map(|configuration| configuration.location(paths))
}

/// The app of a name.
pub(crate) fn find(name: &str) -> Option<&'static Descriptor> {
    ALL.iter().find(|descriptor| descriptor.name == name)
}

/// The agent itself, which is no app that policy can name.
pub(crate) fn agent() -> &'static Descriptor {
    static AGENT: LazyLock<Descriptor> = LazyLock::new(|| {
        toml::from_str(include_str!("../../descriptors/steward.toml")).expect("a test reads it")
    });
    &AGENT
}

/// What sign-in depends on: policy, and the folders of the programs of the apps that it names.
pub(crate) fn sign_in_configuration(policy: &Policy) -> SignInConfiguration {
    let folders = |name: &str| find(name).and_then(Descriptor::system).map(|system| system.programs.clone());
    let allowed = std::iter::once(policy.app.as_str()).chain(policy.applications(false));
    let to_confirm = policy.applications(true);
    SignInConfiguration::new(
        policy,
        allowed.filter_map(folders).flatten().collect(),
        to_confirm.filter_map(folders).flatten().collect(),
    )
}

/// The apps that policy names and this version does not know.
pub(crate) fn unknown(policy: &Policy) -> Vec<Problem> {
    let hint = format!("known are {}", names());
    let mut problems = Vec::new();
    if find(&policy.app).is_none() {
        let problem = Problem::new(Code::AppUnknown, format!("Steward knows no app `{}`", policy.app));
        problems.push(problem.key("App").using("nothing: no app is managed").hint(hint.clone()));
    }
    let is_path = |text: &str| text.contains(['/', '\\']);
    let named = [false, true].into_iter().flat_map(|to_confirm| policy.applications(to_confirm));
    for name in named.filter(|name| !is_path(name) && find(name).is_none()) {
        let problem =
            Problem::new(Code::AppUnknown, format!("Steward knows no app `{name}`, so it gets no tokens"));
        problems.push(
            problem.key("AllowedApplications").hint(format!("write the whole path of a program; {hint}")),
        );
    }
    problems
}

/// The names of all apps.
fn names() -> String {
    ALL.iter().map(|descriptor| format!("`{}`", descriptor.name)).collect::<Vec<_>>().join(", ")
}

static ALL: LazyLock<Vec<Descriptor>> = LazyLock::new(|| {
    [
        include_str!("../../descriptors/amazon-quick.toml"),
        include_str!("../../descriptors/lab-notes.toml"),
        include_str!("../../descriptors/lab-memo.toml"),
    ]
    .iter()
    .map(|text| toml::from_str(text).expect("a test reads every embedded descriptor"))
    .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_is_readable_and_names_settings_and_choices_that_exist() {
        for descriptor in ALL.iter() {
            for system in descriptor.systems.values() {
                for source in
                    system.configuration.iter().flat_map(|configuration| configuration.values.values())
                {
                    let setting = policy_schema::SETTINGS
                        .iter()
                        .find(|setting| setting.key == source.setting)
                        .unwrap_or_else(|| panic!("{}: {}", descriptor.name, source.setting));
                    for choice in source.map.iter().flat_map(BTreeMap::keys) {
                        let value = policy_schema::raw::RawValue::Str(choice.clone());
                        assert!(
                            setting.kind.parse(&value).is_ok(),
                            "{choice} is no choice of {}",
                            setting.key
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn amazon_quick_exists_where_its_vendor_says() {
        let quick = find("amazon-quick").unwrap();
        assert_eq!(
            quick.systems["linux"].not_applicable.as_deref(),
            Some("there is no Linux build of Amazon Quick")
        );
        for system in ["windows", "macos"] {
            assert!(
                quick.systems[system].not_applicable.is_none() && !quick.systems[system].processes.is_empty()
            );
        }
        assert_eq!(quick.system().is_some(), quick.not_applicable().is_none());
    }

    #[test]
    fn agent_itself_is_known_everywhere_and_is_no_app() {
        for system in ["linux", "macos", "windows"] {
            assert!(matches!(agent().systems[system].installation, Some(Installation::Agent)), "{system}");
        }
        assert!(find(&agent().name).is_none());
    }
}
