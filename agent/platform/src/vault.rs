//! The secret store of the user's session. Portable; each operating system has its own store.

use std::collections::HashMap;

use keyring_core::Error as StoreError;
use keyring_core::api::CredentialStoreApi as _;

use crate::os::vault as os;

/// The name of the store, for messages.
pub const NAME: &str = os::NAME;

/// How it is made usable, for messages.
pub const UNLOCK: &str = os::UNLOCK;

/// Whether the machine service has such a store as well.
#[must_use]
pub fn of_machine() -> bool {
    os::OF_MACHINE
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No store runs in this session.
    #[error("no {NAME} responds in this session")]
    Missing(#[source] StoreError),
    /// A store runs but does not open.
    #[error("the {NAME} is locked or refused")]
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

/// Removes an entry. One that does not exist is no error. Blocks: call it on a thread of its own.
///
/// # Errors
/// The store is missing or refuses.
pub fn remove(service: &str, user: &str) -> Result<(), VaultError> {
    match entry(service, user)?.delete_credential() {
        Ok(()) | Err(StoreError::NoEntry) => Ok(()),
        Err(error) => Err(VaultError::Refused(error)),
    }
}

/// A new connection each time: a store that was missing a minute ago may be there now.
fn entry(service: &str, user: &str) -> Result<keyring_core::Entry, VaultError> {
    let store = os::Store::new().map_err(VaultError::Missing)?;
    let modifiers: HashMap<&str, &str> = os::MODIFIERS.iter().copied().collect();
    store.build(service, user, Some(&modifiers)).map_err(VaultError::Refused)
}
