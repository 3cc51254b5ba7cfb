//! The secret store of the user's session: the login keychain.

pub(crate) use apple_native_keyring_store::keychain::Store;

/// The name of the store, for messages.
pub(crate) const NAME: &str = "keychain";

/// Whether the machine service has one as well. A daemon has no keychain of its own.
pub(crate) const OF_MACHINE: bool = false;
/// How it is made usable, for messages.
pub(crate) const UNLOCK: &str = "unlock the login keychain";
/// What an entry has besides its name.
pub(crate) const MODIFIERS: &[(&str, &str)] = &[];
