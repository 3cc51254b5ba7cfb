//! The secret store of the person's session: Credential Manager.

pub(crate) use windows_native_keyring_store::Store;

/// What the store is called, for people.
pub(crate) const NAME: &str = "Credential Manager";
/// What an entry gets besides its name: it stays on this device, where the session is (it would roam otherwise).
pub(crate) const MODIFIERS: &[(&str, &str)] = &[("persistence", "Local")];
