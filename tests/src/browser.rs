//! A browser and its user, for the login form of the lab's own identity provider.

use anyhow::{Context as _, bail};
use reqwest::{Client, Response};

use crate::provider::{PASSWORD, USER};

/// An HTTP client as simple as a browser's: follows redirects, uses no proxy.
///
/// # Panics
/// The TLS library cannot start.
#[must_use]
pub fn client() -> Client {
    with_redirects(reqwest::redirect::Policy::default())
}

/// An HTTP client that shows redirects instead of following them.
///
/// # Panics
/// The TLS library cannot start.
#[must_use]
pub fn client_without_redirects() -> Client {
    with_redirects(reqwest::redirect::Policy::none())
}

fn with_redirects(redirects: reqwest::redirect::Policy) -> Client {
    // A repeated call finds that a provider is installed, which is the goal.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().redirect(redirects).build().expect("the settings are valid")
}

/// Opens the address of a sign-in, submits user and password, and gives the redirect response: the address that the
/// browser is sent to.
///
/// # Panics
/// The provider shows no form, or does not redirect the browser.
pub async fn sign_in(address: &str) -> String {
    let response = submit_login(&client_without_redirects(), address).await.expect("a login form");
    let location = response.headers().get("location").expect("the browser is redirected");
    location.to_str().expect("an address").to_owned()
}

/// Where the broker's own address sends a browser: to the provider.
///
/// # Panics
/// It does not redirect.
pub async fn authorization_url(address: &str) -> String {
    let response = client_without_redirects().get(address).send().await.expect("the broker listens");
    let location = response.headers().get("location").expect("the browser is redirected");
    location.to_str().expect("an address").to_owned()
}

/// Opens the address of a sign-in, submits user and password, and gives the response.
///
/// # Errors
/// The provider shows no form.
pub async fn submit_login(client: &Client, address: &str) -> anyhow::Result<Response> {
    let mut response = client.get(address).send().await?;
    // The broker's own address sends a browser on to the provider.
    if let Some(location) = response.headers().get("location") {
        response = client.get(location.to_str()?).send().await?;
    }
    let base = response.url().clone();
    let page = response.error_for_status()?.text().await?;
    let request = page.split("name=request value=").nth(1).and_then(|rest| rest.split('>').next());
    let Some(request) = request else { bail!("the page has no form: {page}") };
    let form = [("request", request), ("username", USER), ("password", PASSWORD)];
    client.post(base.join("/login")?).form(&form).send().await.context("the form was not accepted")
}
