//! The secret store of the user's session: the login keychain.

pub(crate) use apple_native_keyring_store::keychain::Store;

/// The name of the store, for messages.
pub(crate) const NAME: &str = "keychain";
/// What an entry has besides its name.
pub(crate) const MODIFIERS: &[(&str, &str)] = &[];
