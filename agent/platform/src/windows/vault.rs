//! The secret store of the user's session: Credential Manager.

pub(crate) use windows_native_keyring_store::Store;

/// The name of the store, for messages.
pub(crate) const NAME: &str = "Credential Manager";

/// Whether the machine service has one as well. The account of the service has one of its own.
pub(crate) const OF_MACHINE: bool = true;
/// How it is made usable, for messages.
pub(crate) const UNLOCK: &str = "start the service Credential Manager";
/// What an entry has besides its name: it stays on this device, where the session is (it would roam otherwise).
pub(crate) const MODIFIERS: &[(&str, &str)] = &[("persistence", "Local")];
