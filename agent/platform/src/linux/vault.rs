//! The secret store of the person's session: Secret Service over D-Bus.

pub(crate) use dbus_secret_service_keyring_store::Store;

/// What the store is called, for people.
pub(crate) const NAME: &str = "Secret Service";
/// What an entry gets besides its name.
pub(crate) const MODIFIERS: &[(&str, &str)] = &[("label", "Steward session key")];
