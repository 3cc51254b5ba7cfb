//! The proxy that the system itself names: Linux has none besides environment variables.

use std::io;

use crate::proxy::SystemProxy;

/// What the system says about an address: nothing.
///
/// # Errors
/// Never.
pub fn for_url(_: &str) -> io::Result<Option<SystemProxy>> {
    Ok(None)
}
