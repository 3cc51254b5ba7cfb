//! The whole product, driven as people drive it: the built binaries against real servers on loopback.
#![forbid(unsafe_code)]

mod browser;
mod callers;
mod doctor;
mod exports;
mod helpers;
mod office;
mod platforms;
mod policy;
mod providers;
mod report;
mod session;
mod setup;
mod sign_in;
mod support;
mod update;
mod vault;

use e2e::device::Device;
use e2e::provider::{CLIENT_ID, Provider};

/// A policy for the sample app at a provider, with a redirect port of its own so that scenarios do not meet.
fn sign_in_policy(provider: &Provider, port: u16) -> String {
    format!(
        "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\n\
         RedirectUri = \"http://localhost:{port}\"\nProxyMode = \"direct\"\n\
         AllowedApplications = [\"{}\"]\n",
        provider.issuer(),
        e2e::device::program("lab-notes").display(),
    )
}

/// A port that is free now on both loopback addresses.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Starts the sample app; gives whether it was content, and what it said.
async fn start_app(device: &Device) -> (bool, String) {
    let user = nix::unistd::geteuid();
    let configuration = device.path("etc/opt/lab-notes/managed.json").display().to_string();
    let socket = device.path(&format!("run/user/{user}/steward/broker.sock")).display().to_string();
    let output = device.run(&e2e::device::program("lab-notes"), &[&configuration, &socket]).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
