//! Values that go between the provider and the session: which access token is meant, and what a provider gave.

use jiff::Timestamp;
use platform::secret::Secret;
use serde::{Deserialize, Serialize};

/// Which access token of a session: by default the one for everything that the sign-in asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TokenKey {
    /// Fewer scopes than those of the sign-in (RFC 6749, section 6), in order; empty for all.
    pub(crate) scopes: Vec<String>,
    /// The resource that the token is for (RFC 8707).
    pub(crate) resource: Option<String>,
}

/// Tokens that passed every check.
pub(crate) struct Tokens {
    pub(crate) access_token: Secret,
    pub(crate) id_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) expires_at: Timestamp,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) user: Option<User>,
    pub(crate) nonce: Option<String>,
}

/// The user that an ID token is about.
pub(crate) struct User {
    pub(crate) subject: String,
    pub(crate) email: Option<String>,
    /// Whether the provider says that the address is the user's own, if it says anything about that.
    pub(crate) email_verified: Option<bool>,
    /// When the ID token ends.
    pub(crate) id_token_expires_at: Timestamp,
}

impl TokenKey {
    /// The token that a caller asks for: scopes separated by spaces, in any order.
    pub(crate) fn new(scope: Option<&str>, resource: Option<String>) -> Self {
        let mut scopes: Vec<String> =
            scope.unwrap_or_default().split_ascii_whitespace().map(ToOwned::to_owned).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self { scopes, resource }
    }

    /// Whether it is everything that the sign-in asked for.
    pub(crate) fn is_main(&self) -> bool {
        self.scopes.is_empty() && self.resource.is_none()
    }
}
