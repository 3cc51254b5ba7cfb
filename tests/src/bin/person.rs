//! A person at a browser, for the lab's own identity provider: opens the address, types user and password, follows the
//! redirects to the end. Takes the place of a browser through `BROWSER`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it shows what a person would see")]

use anyhow::{Context as _, bail};
use e2e::provider::{PASSWORD, USER};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: person URL")?;
    let browser = e2e::browser();
    let response = browser.get(&address).send().await?;
    let base = response.url().clone();
    let page = response.error_for_status()?.text().await?;
    let Some(request) = page.split("name=request value=").nth(1).and_then(|rest| rest.split('>').next())
    else {
        bail!("the page has no form: {page}");
    };
    let form = [("request", request), ("username", USER), ("password", PASSWORD)];
    let last = browser.post(base.join("/login")?).form(&form).send().await?;
    println!("{}", last.text().await?);
    Ok(())
}
