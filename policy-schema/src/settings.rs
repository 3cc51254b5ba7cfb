//! THE list: every setting once, with its key, type, default, constraints and the administrator's text. Each area
//! declares its settings in a file of its own; here they become one table and one typed policy.
//!
//! The doc comment of a setting is what an administrator reads everywhere (reference, templates, profiles): a title
//! line, then the explanation. Keys are API from the first release: never renamed, positive names, the same
//! spelling and polarity on every operating system.

use std::collections::BTreeMap;

pub use choices::{
    AppSelfUpdate, DeviceFlow, IdentityProvider, LogLevel, ProxyMode, ReportAcknowledgement,
    ReportCertificate, ReportIdentity, SocialSignIn, UpdateAppClose, UpdateMode, VaultFallback,
};

use crate::areas::{concatenate, count};
use crate::roots::TrustedRoots;
use crate::value::{Choice, Format, FromValue, Kind, Literal, Secret, Value, application};
use crate::version::{Downgrade, Pin};
use crate::window::Window;

mod choices;
#[macro_use]
mod declare;
#[macro_use]
mod sign_in;
#[macro_use]
mod app;
#[macro_use]
mod updates;
#[macro_use]
mod reporting;
#[macro_use]
mod network;
#[macro_use]
mod general;

const AREAS: &[&[Setting]] = &[
    sign_in::SETTINGS,
    app::SETTINGS,
    updates::SETTINGS,
    reporting::SETTINGS,
    network::SETTINGS,
    general::SETTINGS,
];

/// Every setting, in the order of the reference.
pub static SETTINGS: &[Setting] = &concatenate::<Setting, { count(AREAS) }>(AREAS);

/// One setting, as parsing and every exporter see it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key, as written in policy.
    pub key: &'static str,
    /// Old keys that still work.
    pub aliases: &'static [&'static str],
    /// The heading it stands under.
    pub category: &'static str,
    /// Title line, then the explanation, line by line.
    pub documentation: &'static [&'static str],
    /// What it may hold.
    pub kind: Kind,
    /// What holds where policy says nothing.
    pub default: Option<Literal>,
    /// What holds, in place of the default, where policy says something that cannot be understood and no last good
    /// value is known. For settings whose default is weaker than what the administrator can have meant.
    pub strict: Option<Literal>,
    /// A value worth copying.
    pub example: Literal,
    /// Whether a user may choose otherwise where the value is only recommended.
    pub user_may_override: bool,
    /// Whether an item of a list that is not valid can be left out without making policy weaker. Else the list stands or
    /// falls together.
    pub items_stand_alone: bool,
}

impl Setting {
    /// The first line of the documentation.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.documentation.first().map_or("", |line| line.trim())
    }

    const fn new(kind: Kind, example: Literal) -> Self {
        Self {
            key: "",
            aliases: &[],
            category: "",
            documentation: &[],
            kind,
            default: None,
            strict: None,
            example,
            user_may_override: false,
            items_stand_alone: false,
        }
    }

    const fn boolean(default: bool) -> Self {
        Self::new(Kind::Boolean, Literal::Boolean(!default)).default(Literal::Boolean(default))
    }

    const fn integer(minimum: i64, maximum: i64, unit: &'static str, example: i64) -> Self {
        Self::new(Kind::Integer { minimum, maximum, unit }, Literal::Integer(example))
    }

    const fn text(format: Format, example: &'static str) -> Self {
        Self::new(Kind::Text { format }, Literal::Text(example))
    }

    const fn secret(format: Format, example: &'static str) -> Self {
        Self::new(Kind::Secret { format }, Literal::Text(example))
    }

    const fn choice(choices: &'static [Choice], example: &'static str) -> Self {
        Self::new(Kind::Choice(choices), Literal::Text(example))
    }

    const fn list(format: Format, maximum_items: usize, example: &'static [&'static str]) -> Self {
        Self::new(Kind::List { format, maximum_items }, Literal::List(example))
    }

    const fn items_stand_alone(mut self) -> Self {
        self.items_stand_alone = true;
        self
    }

    const fn default(mut self, default: Literal) -> Self {
        self.default = Some(default);
        self
    }

    const fn strict(mut self, strict: Literal) -> Self {
        self.strict = Some(strict);
        self
    }

    const fn user_may_override(mut self) -> Self {
        self.user_may_override = true;
        self
    }
}

/// Declares the typed [`Policy`] from the settings of all areas.
macro_rules! policy {
    ($($(#[doc = $doc:literal])+ $key:ident => $field:ident: $type:ty;)+) => {
        /// What policy means, typed: values that passed, defaults where it is silent.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Policy {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Policy {
            /// Takes values by key. Every setting with a default must be among them.
            pub(crate) fn from_values(values: &BTreeMap<&'static str, Value>) -> Self {
                Self { $($field: typed(values, stringify!($key)),)+ }
            }
        }
    };
}
impl Policy {
    /// What `AllowedApplications` names: the programs that the user has to confirm first, or the others.
    pub fn applications(&self, to_confirm: bool) -> impl Iterator<Item = &str> {
        let named = self.allowed_applications.iter().map(|item| application(item));
        named.filter(move |(_, confirm)| *confirm == to_confirm).map(|(named, _)| named)
    }
}

sign_in! { policy [] app updates reporting network general }

/// Whether a setting of the type `T` always has a value to give.
const fn always_has_value<T: FromValue>(setting: &Setting) -> bool {
    T::OPTIONAL || setting.default.is_some()
}

fn typed<T: FromValue>(values: &BTreeMap<&'static str, Value>, key: &str) -> T {
    // The declaration does not compile if the type needs a default and there is none; a test compares the types with
    // the values that the settings allow.
    T::from_value(values.get(key))
        .unwrap_or_else(|| unreachable!("{key}: policy has no value of the type that its setting declares"))
}

/// The setting that a key of policy names, in any capitals, and whether by an old name.
#[must_use]
pub fn find(settings: &'static [Setting], key: &str) -> Option<(&'static Setting, bool)> {
    settings.iter().find_map(|setting| {
        if setting.key.eq_ignore_ascii_case(key) {
            Some((setting, false))
        } else {
            setting.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(key)).then_some((setting, true))
        }
    })
}

impl Policy {
    /// The roots that the releases of the agent itself are trusted from.
    #[must_use]
    pub fn agent_roots(&self) -> Option<&TrustedRoots> {
        self.agent_update_trusted_roots.as_ref().or(self.update_trusted_roots.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_aliases_are_unique_in_any_case() {
        let mut keys: Vec<_> = SETTINGS
            .iter()
            .flat_map(|setting| std::iter::once(&setting.key).chain(setting.aliases))
            .map(|key| key.to_ascii_lowercase())
            .collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn default_strict_choice_and_example_of_setting_are_valid() {
        for setting in SETTINGS {
            let literals = [setting.default, setting.strict, Some(setting.example)];
            for literal in literals.into_iter().flatten() {
                match setting.kind.parse(&literal.to_raw()) {
                    // Secrets have an example only.
                    Ok(Value::Secret(_)) => {}
                    Ok(value) => assert_eq!(value, literal.to_value(), "{}", setting.key),
                    Err(invalid) => panic!("{}: {}", setting.key, invalid.message),
                }
            }
        }
    }

    /// The typed policy with the default of every setting, and one value in place of its default.
    fn policy_with(value: Option<(&Setting, Literal)>) -> Policy {
        let defaults = SETTINGS.iter().filter_map(|setting| Some((setting, setting.default?)));
        let values = defaults.chain(value).map(|(setting, literal)| {
            let value = setting.kind.parse(&literal.to_raw()).map_err(|invalid| invalid.message);
            (setting.key, value.unwrap())
        });
        Policy::from_values(&values.collect())
    }

    #[test]
    fn value_other_than_default_changes_typed_policy() {
        for setting in SETTINGS {
            let candidates: Vec<Literal> = match setting.kind {
                Kind::Choice(choices) => choices.iter().map(|choice| Literal::Text(choice.name)).collect(),
                Kind::Boolean => vec![Literal::Boolean(true), Literal::Boolean(false)],
                Kind::Integer { minimum, maximum, .. } => {
                    vec![Literal::Integer(minimum), Literal::Integer(maximum)]
                }
                // For examples that are the default as well.
                Kind::Text { .. } | Kind::Secret { .. } => {
                    let others = ["other", "http://127.0.0.1:1"].map(Literal::Text);
                    let valid = others.into_iter().filter(|text| setting.kind.parse(&text.to_raw()).is_ok());
                    valid.chain([setting.example]).collect()
                }
                Kind::List { .. } => vec![Literal::List(&[]), setting.example],
            };
            assert!(candidates.iter().any(|literal| Some(*literal) != setting.default), "{}", setting.key);
            for literal in candidates {
                let changed = policy_with(Some((setting, literal))) != policy_with(None);
                let expected = Some(literal) != setting.default;
                assert_eq!(changed, expected, "{} = {literal:?}", setting.key);
            }
        }
    }

    #[test]
    fn choice_without_policy_is_the_default_that_its_setting_declares() {
        let resolved = crate::resolve(&[], &crate::LastGood::default());
        let policy = resolved.policy;
        let named = [
            ("IdentityProvider", policy.identity_provider.as_str()),
            ("VaultFallback", policy.vault_fallback.as_str()),
            ("DeviceFlow", policy.device_flow.as_str()),
            ("UpdateMode", policy.update_mode.as_str()),
            ("UpdateAppClose", policy.update_app_close.as_str()),
            ("AgentUpdateMode", policy.agent_update_mode.as_str()),
            ("ReportIdentity", policy.report_identity.as_str()),
            ("ReportAcknowledgement", policy.report_acknowledgement.as_str()),
            ("ReportCertificate", policy.report_certificate.as_str()),
            ("ProxyMode", policy.proxy_mode.as_str()),
            ("LogLevel", policy.log_level.as_str()),
        ];
        let declared: BTreeMap<_, _> = SETTINGS
            .iter()
            .filter(|setting| matches!(setting.kind, Kind::Choice(_)))
            .filter_map(|setting| Some((setting.key, setting.default?)))
            .collect();
        assert_eq!(
            named.map(|(key, name)| (key, Literal::Text(name))).into_iter().collect::<BTreeMap<_, _>>(),
            declared
        );
    }

    #[test]
    fn only_optional_setting_may_lack_default() {
        let without_default = Setting::choice(UpdateMode::CHOICES, "notify");
        assert!(!always_has_value::<UpdateMode>(&without_default));
        assert!(always_has_value::<Option<UpdateMode>>(&without_default));
        assert!(always_has_value::<UpdateMode>(&without_default.default(Literal::Text("off"))));
    }

    #[test]
    fn every_setting_has_title_and_explanation() {
        for setting in SETTINGS {
            assert!(setting.documentation.len() >= 3, "{}", setting.key);
            assert!(!setting.title().is_empty() && !setting.title().ends_with('.'), "{}", setting.key);
        }
    }
}
