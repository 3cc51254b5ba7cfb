//! A device whose person can sign in, for scenarios about sign-in and sessions.

use std::path::Path;

use e2e::device::{Device, Process};
use e2e::provider::Provider;
use serde_json::Value;

use super::{free_port, sign_in_policy};

/// A program that asks for tokens, if policy allows it.
pub(super) const CURL: &str = "/usr/bin/curl";
/// For devices without a secret store.
pub(super) const FILE_VAULT: &str = "VaultFallback = \"encrypted-file\"\n";

/// A device with a provider, policy and both processes.
pub(super) struct Office {
    pub(super) broker: Process,
    _agent: Process,
    pub(super) provider: Provider,
    pub(super) device: Device,
    /// Of the redirect URI.
    pub(super) port: u16,
}

pub(super) async fn office(more: &str) -> Office {
    office_on(Device::new(), more).await
}

pub(super) async fn office_on(device: Device, more: &str) -> Office {
    office_at(device, Provider::start().await, more).await
}

/// With a provider that runs already.
pub(super) async fn office_at(device: Device, provider: Provider, more: &str) -> Office {
    let port = free_port();
    let policy = format!("{}{more}", sign_in_policy(&provider, port));
    office_by(device, provider, port, &policy).await
}

/// With a policy of its own.
pub(super) async fn office_by(device: Device, provider: Provider, port: u16, policy: &str) -> Office {
    device.push("50.toml", policy);
    let agent = device.start_agent().await;
    let broker = device.start_broker().await;
    Office { device, port, provider, broker, _agent: agent }
}

impl Office {
    pub(super) async fn restart_broker(&mut self) {
        self.kill_broker().await;
        self.start_broker_again().await;
    }

    /// Kills the broker as `kill -9` does.
    pub(super) async fn kill_broker(&mut self) {
        let id = i32::try_from(self.broker.id()).expect("process IDs are small");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL)
            .expect("it runs");
        self.broker.gone().await;
    }

    pub(super) async fn start_broker_again(&mut self) {
        self.broker = self.device.start_broker().await;
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

    /// The broker's socket.
    pub(super) fn socket(&self) -> String {
        let user = nix::unistd::geteuid();
        self.device.path(&format!("run/user/{user}/steward/broker.sock")).display().to_string()
    }

    /// What a program like curl gets.
    pub(super) async fn asked_by(&self, program: &Path, more: &[&str]) -> String {
        let socket = self.socket();
        let question = ["-sS", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", "{}"];
        let arguments = [&question[..], more, &["http://localhost/v1/token"]].concat();
        let output = self.device.run(program, &arguments).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Lets programs have tokens.
    pub(super) async fn allow(&self, applications: &[&str]) {
        let before = self.device.status().await["status"]["policy"]["hash"].clone();
        let applications = format!("AllowedApplications = {applications:?}\n");
        self.device.push("60.toml", &applications);
        self.device
            .status_where("the new policy", |status| status["status"]["policy"]["hash"] != before)
            .await;
    }

    /// Asks the broker for something at its socket, as curl.
    pub(super) async fn post(&self, route: &str, question: &Value) -> Value {
        let (socket, question) = (self.socket(), question.to_string());
        let address = format!("http://localhost{route}");
        let arguments =
            ["-sS", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", &question];
        let output = self.device.run(CURL.as_ref(), &[&arguments[..], &[&address]].concat()).await;
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The files of the person's vault, by name.
    pub(super) fn vault(&self) -> Vec<String> {
        let user = nix::unistd::geteuid();
        let folder = self.device.path(&format!("home/{user}/.local/state/steward"));
        let entries = fs_err::read_dir(folder).expect("a broker runs");
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "broker.lock")
            .collect();
        names.sort();
        names
    }
}
