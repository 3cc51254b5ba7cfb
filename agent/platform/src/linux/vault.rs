//! The secret store of the user's session: Secret Service over D-Bus.

pub(crate) use dbus_secret_service_keyring_store::Store;

/// The name of the store, for messages.
pub(crate) const NAME: &str = "Secret Service";

/// Whether the machine service has one as well. A service has no session whose store it could use.
pub(crate) const OF_MACHINE: bool = false;
/// How it is made usable, for messages.
pub(crate) const UNLOCK: &str = "start or unlock the keyring";
/// What an entry has besides its name.
pub(crate) const MODIFIERS: &[(&str, &str)] = &[("label", "Steward session key")];
