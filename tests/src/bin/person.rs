//! A person at a browser, for the lab's own identity provider: opens the address, types user and password, follows the
//! redirects to the end. Takes the place of a browser through `BROWSER`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it shows what a person would see")]

use anyhow::Context as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: person URL")?;
    let last = e2e::person::type_password(&e2e::browser(), &address).await?;
    println!("{}", last.text().await?);
    Ok(())
}
