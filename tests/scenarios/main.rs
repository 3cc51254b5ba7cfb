//! The whole product, used as users and administrators use it: the built binaries against real servers on loopback.
#![forbid(unsafe_code)]

mod api;
mod at_logon;
mod attacks;
mod callers;
mod certified_provider;
mod command_line;
mod compliance;
mod doctor;
mod exports;
mod external_provider;
mod fixture;
mod frozen;
mod mac_package;
mod packages;
mod platforms;
mod policy;
mod policy_documents;
mod policy_files;
mod policy_view;
mod providers;
mod renewal;
mod report;
mod session;
mod setup;
mod sign_in;
mod state;
mod support_bundle;
mod token_formats;
mod token_response;
mod truth;
mod update;
mod update_faults;
mod vault;
mod windows;
mod windows_packages;
