//! Where sessions are kept.

codes! {
    vault: Vault {
        /// The secret store of the session cannot be used, so the session is kept in memory only.
        ///
        /// Cause: no Secret Service runs, or it is locked.
        ///
        /// Fix: start or unlock the keyring, or set `VaultFallback` to `encrypted-file`.
        VaultUnavailable = "vault.unavailable", Warning;
        /// The session is kept in an encrypted file, with its key in a file beside it.
        ///
        /// Cause: no secret store, and `VaultFallback` is `encrypted-file`.
        ///
        /// Fix: none if it is intended; else start a keyring.
        VaultDegraded = "vault.degraded", Warning;
        /// The saved session could not be opened and was put aside.
        ///
        /// Cause: a damaged file, or a key of another device or user.
        ///
        /// Fix: sign in again.
        VaultCorrupt = "vault.corrupt", Error;
    }
}
