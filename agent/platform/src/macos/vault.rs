//! The secret store of the person's session: the login keychain.

use std::collections::HashMap;

use apple_native_keyring_store::keychain::Store;
use keyring_core::Error as StoreError;
use keyring_core::api::CredentialStoreApi as _;

/// What the store is called, for people.
pub const NAME: &str = "keychain";

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no keychain.
    #[error("there is no login keychain")]
    Missing(#[source] StoreError),
    /// It does not open.
    #[error("the keychain is locked or refused")]
    Refused(#[source] StoreError),
}

/// Reads an entry; `None` if the store has no such entry. Blocks: call it on a thread of its own.
///
/// # Errors
/// The store is missing or refuses.
pub fn get(service: &str, user: &str) -> Result<Option<Vec<u8>>, VaultError> {
    match entry(service, user)?.get_secret() {
        Ok(secret) => Ok(Some(secret)),
        Err(StoreError::NoEntry) => Ok(None),
        Err(error) => Err(VaultError::Refused(error)),
    }
}

/// Writes an entry. Blocks: call it on a thread of its own.
///
/// # Errors
/// The store is missing or refuses.
pub fn set(service: &str, user: &str, secret: &[u8]) -> Result<(), VaultError> {
    entry(service, user)?.set_secret(secret).map_err(VaultError::Refused)
}

fn entry(service: &str, user: &str) -> Result<keyring_core::Entry, VaultError> {
    let store = Store::new().map_err(VaultError::Missing)?;
    store.build(service, user, Some(&HashMap::new())).map_err(VaultError::Refused)
}
