//! A browser with a user, for the lab's own identity provider: opens the address, submits the login form, follows the
//! redirects to the end. `BROWSER` names it instead of a real browser.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints the last page")]

use anyhow::Context as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: scripted-browser URL")?;
    let last = e2e::browser::submit_login(&e2e::browser::client(), &address).await?;
    println!("{}", last.text().await?);
    Ok(())
}
