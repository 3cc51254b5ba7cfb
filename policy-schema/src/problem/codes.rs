//! THE list of stable codes, each with its meaning, cause and fix. Each area declares its codes in a file of its own;
//! here they become one type and one table.

use serde::{Deserialize, Serialize};

use super::{Component, Severity};
use crate::areas::{concatenate, count};

/// Declares the codes of one area, and the component that they belong to: `area: Component { ... }`. Each code is a doc
/// comment (meaning, cause and fix, as the reference shows them), then `Variant = "name", Severity;`.
macro_rules! codes {
    ($area:ident: $component:ident {
        $($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $severity:ident;)+
    }) => {
        /// The codes of this area, in the order of the reference.
        pub(super) const CODES: &[super::CodeInfo] =
            &[$(super::CodeInfo { code: super::Code::$variant, documentation: &[$($doc),+] }),+];

        area! { ($) $area { $($(#[doc = $doc])+ $variant = $name, $severity, $component;)+ } }
    };
}

#[macro_use]
mod policy;
#[macro_use]
mod agent;
#[macro_use]
mod app;
#[macro_use]
mod update;
#[macro_use]
mod sign_in;
#[macro_use]
mod vault;
#[macro_use]
mod report;

const AREAS: &[&[CodeInfo]] =
    &[policy::CODES, agent::CODES, app::CODES, update::CODES, sign_in::CODES, vault::CODES, report::CODES];

/// Every code with its documentation, in the order of the reference.
pub static CODES: &[CodeInfo] = &concatenate::<CodeInfo, { count(AREAS) }>(AREAS);

/// One code as the reference shows it.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The code.
    pub code: Code,
    /// Meaning, cause and fix: the three paragraphs of the doc comment, line by line.
    pub documentation: &'static [&'static str],
}

/// Declares [`Code`] from the codes of all areas.
macro_rules! code {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $severity:ident, $component:ident;)+) => {
        /// A stable problem code. Codes are API: never renamed, never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "export", derive(schemars::JsonSchema))]
        pub enum Code {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// The code as printed, for example `policy.invalid-value`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// How much a problem of this code matters, unless its reporter says otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// The part of Steward that a problem of this code belongs to.
            #[must_use]
            pub fn component(self) -> Component {
                match self { $(Self::$variant => Component::$component,)+ }
            }
        }
    };
}
policy! { code [] agent app update sign_in vault report }
