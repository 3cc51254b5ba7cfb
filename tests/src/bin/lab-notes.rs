//! The sample desktop app: reads its managed configuration and gets tokens from the broker, so a user types no
//! configuration. It calls the broker with plain HTTP, as an app without Steward's code does.
//!
//! `lab-notes CONFIGURATION SOCKET` prints who is signed in; `--self-check` says whether the app could start. Without arguments it runs
//! until it is ended, as an app whose window is open; a version that has a file `crashes` fails right after its start.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it is a program for users")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = std::env::current_exe()?;
    let folder = folder.ancestors().nth(2).context("it is installed in bin/")?;
    let version = fs_err::read_to_string(folder.join("VERSION")).unwrap_or_else(|_| "0.0.0".to_owned());
    if arguments.first().is_some_and(|first| first == "--self-check") {
        ensure!(!folder.join("broken").exists(), "a library that it needs is missing");
        return Ok(());
    }
    if arguments.is_empty() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(!folder.join("crashes").exists(), "the window cannot be shown");
        return std::future::pending().await;
    }
    let [configuration, socket] = arguments.as_slice() else {
        anyhow::bail!("usage: lab-notes CONFIGURATION SOCKET");
    };
    let text = fs_err::read_to_string(configuration).context("this app is not configured yet")?;
    let configuration: Value = serde_json::from_str(&text)?;
    let issuer = configuration["issuer"].as_str().context("the configuration names no issuer")?;
    let client = configuration["clientId"].as_str().context("the configuration names no client")?;
    let tokens = request_token(Path::new(socket)).await?;
    println!(
        "Lab Notes {version}: {} signed in at {issuer} for {client}; access token of {} characters, ID token of {}",
        tokens["account"].as_str().context("no account")?,
        tokens["access_token"].as_str().context("no access token")?.len(),
        tokens["id_token"].as_str().context("no ID token")?.len(),
    );
    Ok(())
}

/// `POST /v1/token` at the broker, which opens the browser if no user is signed in.
async fn request_token(socket: &Path) -> anyhow::Result<Value> {
    let stream = tokio::net::UnixStream::connect(socket).await.context("no broker runs")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::post("/v1/token")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(b"{\"interactive\":true}")))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "the broker refused: {}", String::from_utf8_lossy(&body));
    Ok(serde_json::from_slice(&body)?)
}
