//! A device where a user can sign in, for scenarios about sign-in, sessions and whatever needs tokens.

use std::path::Path;

use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::provider::{CLIENT_ID, Provider, Vendor};
use nix::sys::signal::Signal;
use protocol::session::SessionStatus;

use super::update_conditions::FAKETIME;

/// A program that requests tokens and gets them where policy allows it.
pub(super) const CURL: &str = "/usr/bin/curl";
/// Policy for a device without a secret store.
pub(super) const FILE_VAULT: &str = "VaultFallback = \"encrypted-file\"\n";

/// A device with an identity provider, policy and both processes.
pub(super) struct SignInDevice {
    pub(super) broker: Process,
    pub(super) agent: Process,
    pub(super) provider: Provider,
    pub(super) device: Device,
    /// The port of the redirect URI.
    pub(super) port: u16,
}

/// A device with more policy than [`sign_in_policy`].
pub(super) async fn sign_in_device(more: &str) -> SignInDevice {
    sign_in_device_on(Device::new(), more).await
}

/// The same on a device that was prepared.
pub(super) async fn sign_in_device_on(device: Device, more: &str) -> SignInDevice {
    device_with_provider(device, Provider::start().await, more).await
}

/// The same with a vendor's provider, and without a secret store.
pub(super) async fn device_of_vendor(vendor: Vendor, more: &str) -> SignInDevice {
    device_with_provider(Device::new(), Provider::start_as(vendor).await, &format!("{FILE_VAULT}{more}"))
        .await
}

/// The same with a provider that runs already.
pub(super) async fn device_with_provider(device: Device, provider: Provider, more: &str) -> SignInDevice {
    let port = free_port();
    let policy = format!("{}{more}", sign_in_policy(&provider, port));
    device_with_policy(device, provider, port, &policy).await
}

/// The same with only the given policy.
pub(super) async fn device_with_policy(
    device: Device,
    provider: Provider,
    port: u16,
    policy: &str,
) -> SignInDevice {
    device.push("50.toml", policy);
    let agent = device.start_agent().await;
    let broker = device.start_broker().await;
    SignInDevice { broker, agent, provider, device, port }
}

impl SignInDevice {
    pub(super) async fn restart_broker(&mut self) {
        self.kill_broker().await;
        self.start_broker_again().await;
    }

    /// Kills the broker as `kill -9` does.
    pub(super) async fn kill_broker(&mut self) {
        self.broker.signal(Signal::SIGKILL);
        self.broker.wait_for_exit().await;
    }

    pub(super) async fn start_broker_again(&mut self) {
        self.broker = self.device.start_broker().await;
    }

    /// The session as `steward status --json` shows it.
    pub(super) async fn session(&self) -> SessionStatus {
        self.device.status().await.sign_in.expect("the broker runs")
    }

    /// `steward login`; gives what it printed.
    pub(super) async fn login(&self) -> String {
        self.device.printed(&["login"]).await
    }

    /// `steward token`: the access token, or the errors.
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
        self.device.broker_socket().display().to_string()
    }

    /// What a program with the arguments of curl prints when it requests a token.
    pub(super) async fn token_request_by(&self, program: &Path, more: &[&str]) -> String {
        let socket = self.socket();
        let request = ["-sS", "--unix-socket", &socket, "-H", "content-type: application/json", "-d", "{}"];
        let arguments = [&request[..], more, &["http://localhost/v1/token"]].concat();
        self.device.output_of(program, &arguments).await
    }

    /// Allows programs, and no others, to have tokens.
    pub(super) async fn allow(&self, applications: &[&str]) {
        let before = self.device.machine_status().await.policy.hash;
        self.device.push("60.toml", &format!("AllowedApplications = {applications:?}\n"));
        self.device.machine_status_where("the new policy", |status| status.policy.hash != before).await;
    }

    /// Allows the program that runs the tests, which calls the broker itself, to have tokens.
    pub(super) async fn allow_tests(&self) {
        self.allow(&[&own_program()]).await;
    }

    /// The files of the user's vault, by name.
    pub(super) fn vault(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.device.session_folder()).expect("a broker runs");
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "broker.lock")
            .collect();
        names.sort();
        names
    }
}

/// A policy for the sample app at a provider, with its own redirect port so that scenarios do not share one.
pub(super) fn sign_in_policy(provider: &Provider, port: u16) -> String {
    format!(
        "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\n\
         RedirectUri = \"http://localhost:{port}\"\nProxyMode = \"direct\"\n\
         AllowedApplications = [\"{}\"]\n",
        provider.issuer(),
        program("lab-notes").display(),
    )
}

/// How many settings [`sign_in_policy`] sets.
pub(super) const SIGN_IN_SETTINGS: usize = 6;

/// The path of the program that runs the tests.
pub(super) fn own_program() -> String {
    std::env::current_exe().expect("the path of the own program is known").display().to_string()
}

/// A port that is free now on both loopback addresses.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Starts the sample app; gives whether it succeeded, and what it printed.
pub(super) async fn start_app(device: &Device) -> (bool, String) {
    let configuration = device.configuration_file().display().to_string();
    let socket = device.broker_socket().display().to_string();
    let output = device.run(&program("lab-notes"), &[&configuration, &socket]).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The real path of an installed program: the one that runs, and so the one that policy has to name.
pub(super) fn installed_program(name: &str) -> String {
    let paths = ["/usr/local/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    let path = paths.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is not installed"));
    fs_err::canonicalize(path).expect("it exists").display().to_string()
}

/// A clock of the device that is ahead by so many minutes, from the moment at which that is said.
pub(super) fn movable_clock(device: &mut Device) -> impl Fn(u32) + use<> {
    let file = device.path("clock");
    let ahead = {
        let file = file.clone();
        // In one step: every look at the clock reads it, and an empty file is the real time.
        move |minutes: u32| {
            let new = file.with_extension("new");
            fs_err::write(&new, format!("+{}", minutes * 60)).expect("the disk has room");
            fs_err::rename(&new, &file).expect("it is in the same folder");
        }
    };
    ahead(0);
    device.set("LD_PRELOAD", FAKETIME);
    device.set("FAKETIME_TIMESTAMP_FILE", &file.display().to_string());
    device.set("FAKETIME_NO_CACHE", "1");
    device.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    ahead
}
