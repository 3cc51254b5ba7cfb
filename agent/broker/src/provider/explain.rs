//! Errors of the network and of documents as [`ProviderError`]s.

use net::chain;
use net::http::HttpError;
use url::Url;

use super::error::{ProviderError, one_line};

pub(super) fn unreachable(error: &HttpError) -> ProviderError {
    ProviderError::Unreachable { reason: chain(error), arrived: !error.never_arrived() }
}

pub(super) fn invalid(reason: &str) -> ProviderError {
    ProviderError::Discovery(one_line(reason))
}

pub(super) fn no_keys(at: &Url, reason: &str) -> ProviderError {
    ProviderError::Keys(one_line(&format!("the address of the keys (jwks_uri), {at}, {reason}")))
}
