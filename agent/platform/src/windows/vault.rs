//! The secret store of the user's session: Credential Manager.

pub(crate) use windows_native_keyring_store::Store;

/// The name of the store, for messages.
pub(crate) const NAME: &str = "Credential Manager";
/// How it is made usable, for messages.
pub(crate) const UNLOCK: &str = "start the service Credential Manager";
/// What an entry has besides its name: it stays on this device, where the session is (it would roam otherwise).
pub(crate) const MODIFIERS: &[(&str, &str)] = &[("persistence", "Local")];
