//! Waiting for something to become true: bounded, and with the last answer in the complaint.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take before a scenario gives up. Generous: machines are slow, hangs are for ever.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits until a question is answered with `Ok`.
///
/// # Panics
/// It is not within [`LIMIT`]; the panic shows the last answer.
pub async fn until<T, E: Debug>(what: &str, mut question: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        match question().await {
            Ok(answer) => return answer,
            Err(last) if Instant::now() > deadline => {
                panic!("waited {} s for: {what}; at last: {last:?}", LIMIT.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
