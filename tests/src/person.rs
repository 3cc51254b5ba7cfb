//! A person at a browser, for the lab's own identity provider.

use anyhow::{Context as _, bail};
use reqwest::{Client, Response};

use crate::provider::{PASSWORD, USER};

/// Opens the address of a sign-in, types user and password, and gives where the browser is sent then.
///
/// # Panics
/// The provider shows no form, or does not send the browser on.
pub async fn sign_in(address: &str) -> String {
    let response = type_password(&crate::patient_browser(), address).await.expect("a login form");
    let location = response.headers().get("location").expect("the browser is sent on");
    location.to_str().expect("an address").to_owned()
}

/// Opens the address of a sign-in and types user and password.
///
/// # Errors
/// The provider shows no form.
pub async fn type_password(browser: &Client, address: &str) -> anyhow::Result<Response> {
    let response = browser.get(address).send().await?;
    let base = response.url().clone();
    let page = response.error_for_status()?.text().await?;
    let request = page.split("name=request value=").nth(1).and_then(|rest| rest.split('>').next());
    let Some(request) = request else { bail!("the page has no form: {page}") };
    let form = [("request", request), ("username", USER), ("password", PASSWORD)];
    browser.post(base.join("/login")?).form(&form).send().await.context("the form was not taken")
}
