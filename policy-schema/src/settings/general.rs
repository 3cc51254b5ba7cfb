//! The organisation, and the log.

use super::Setting;
use super::choices::LogLevel;
use crate::value::{Format, Literal};

settings! {
    general: "General" {
        /// Organisation
        ///
        /// The organisation's name, shown to users at sign-in.
        OrganizationName => organization_name: Option<String> = Setting::text(Format::Line, "Example Corp");
        /// Support contact
        ///
        /// Whom users can ask for help: an address, a number or a page. Shown wherever something fails.
        SupportContact => support_contact: Option<String> = Setting::text(Format::Line, "it-help@example.com");
        /// Log level
        ///
        /// How much the agent writes into the system log.
        LogLevel => log_level: LogLevel = Setting::choice(LogLevel::CHOICES, "debug")
            .default(Literal::Text("info")).user_may_override();
    }
}
