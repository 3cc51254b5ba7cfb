//! A device whose person can sign in, for scenarios about sign-in and sessions.

use e2e::device::{Device, Process};
use e2e::provider::Provider;
use serde_json::Value;

use super::{free_port, sign_in_policy};

/// For devices without a secret store.
pub(super) const FILE_VAULT: &str = "VaultFallback = \"encrypted-file\"\n";

/// A device with a provider, policy and both processes.
pub(super) struct Office {
    pub(super) broker: Process,
    _agent: Process,
    pub(super) provider: Provider,
    pub(super) device: Device,
}

pub(super) async fn office(more: &str) -> Office {
    office_on(Device::new(), more).await
}

pub(super) async fn office_on(device: Device, more: &str) -> Office {
    let provider = Provider::start().await;
    device.push("50.toml", &format!("{}{more}", sign_in_policy(&provider, free_port())));
    let agent = device.start_agent().await;
    let broker = device.start_broker().await;
    Office { device, provider, broker, _agent: agent }
}

impl Office {
    pub(super) async fn restart_broker(&mut self) {
        let next = self.device.start_broker();
        // The old one must be gone before the new one listens, and takes its lock.
        let user = nix::unistd::geteuid();
        let socket = self.device.path(&format!("run/user/{user}/steward/broker.sock"));
        let id = i32::try_from(self.broker.id()).expect("process IDs are small");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL)
            .expect("it runs");
        self.broker.gone().await;
        e2e::wait::until("the broker's end", async || match tokio::net::UnixStream::connect(&socket).await {
            Ok(_) => Err("it still answers"),
            Err(_) => Ok(()),
        })
        .await;
        self.broker = next.await;
    }

    pub(super) async fn sign_in_facts(&self) -> Value {
        self.device.status().await["sign_in"].clone()
    }

    pub(super) async fn token(&self) -> Result<String, String> {
        let output = self.device.steward(&["token"]).await;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}
