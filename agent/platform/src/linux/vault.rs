//! The secret store of the person's session: Secret Service over D-Bus.

use std::collections::HashMap;

use dbus_secret_service_keyring_store::Store;
use keyring_core::Error as StoreError;
use keyring_core::api::CredentialStoreApi as _;

/// What the store is called, for people.
pub const NAME: &str = "Secret Service";

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No store answers on the session bus.
    #[error("no Secret Service answers on the session bus")]
    Missing(#[source] StoreError),
    /// A store answers but does not open.
    #[error("the Secret Service is locked or refused")]
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

/// A new connection each time: a store that was missing a minute ago may be there now.
fn entry(service: &str, user: &str) -> Result<keyring_core::Entry, VaultError> {
    let store = Store::new().map_err(VaultError::Missing)?;
    let label = HashMap::from([("label", "Steward session key")]);
    store.build(service, user, Some(&label)).map_err(VaultError::Refused)
}
