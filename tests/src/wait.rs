//! Waiting for something to become true: bounded, and the panic shows the last failure.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take before a scenario fails. Generous: machines are slow, and what hangs does so forever.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Tries again and again until an attempt succeeds.
///
/// # Panics
/// None does within [`LIMIT`]; the panic shows the last error.
pub async fn until<T, E: Debug>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => {
                panic!("waited {} s for: {what}; at last: {last:?}", LIMIT.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
