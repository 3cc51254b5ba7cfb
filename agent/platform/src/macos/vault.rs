//! The secret store of the person's session: the login keychain.

pub(crate) use apple_native_keyring_store::keychain::Store;

/// What the store is called, for people.
pub(crate) const NAME: &str = "keychain";
/// What an entry gets besides its name.
pub(crate) const MODIFIERS: &[(&str, &str)] = &[];
