//! Opens the user's browser.

/// Opens an address. Some browsers return only when they are closed.
///
/// # Errors
/// Why no browser opened.
pub(super) async fn open(address: String) -> Result<(), String> {
    match tokio::task::spawn_blocking(move || webbrowser::open(&address)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
