//! Programs of others that scenarios use: two independent identity providers, and the packages that their scripts need.
//!
//! `cargo xtask test` installs them, with Chromium, and names their folders in `STEWARD_NODE` and `STEWARD_PYTHON`.

use std::path::PathBuf;
use std::process::Stdio;

use e2e::device::Device;
use e2e::provider::Provider;
use e2e::wait::{LIMIT, until};
use platform::environment;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::fixture::{FILE_VAULT, SignInDevice, device_with_policy, sign_in_policy};

/// An identity provider that is not the lab's.
pub(super) struct ExternalProvider {
    pub(super) issuer: String,
    _process: Child,
    /// Kept open: it would end if nobody could read its output.
    output: Lines<BufReader<ChildStdout>>,
}

impl ExternalProvider {
    /// The certified OpenID provider of the npm registry (`tests/node`).
    pub(super) async fn certified(redirect_uri: &str) -> Self {
        Self::certified_with(&[redirect_uri]).await
    }

    /// The same with more arguments.
    pub(super) async fn certified_with(arguments: &[&str]) -> Self {
        let node = node();
        Self::start(Command::new("node").arg(node.join("provider.mjs")).args(arguments).current_dir(node))
            .await
    }

    /// A server that prints its address first.
    pub(super) async fn start(program: &mut Command) -> Self {
        let mut process = program
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("`cargo xtask test` installs it");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let issuer = lines.next_line().await.expect("readable output").expect("its issuer");
        Self { issuer, _process: process, output: lines }
    }

    /// The next line that it prints.
    pub(super) async fn next_line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.output.next_line()).await;
        line.expect("a line in time").expect("readable output").expect("one more line")
    }
}

/// A server that is ordered how to respond, and keeps what arrives: a script of `tests/python` whose first argument is a folder.
pub(super) struct OrderedServer {
    folder: PathBuf,
    /// What it prints first: where it is.
    pub(super) address: String,
    _process: ExternalProvider,
}

impl OrderedServer {
    pub(super) async fn start(device: &Device, name: &str) -> Self {
        let folder = device.path(name);
        fs_err::create_dir_all(&folder).expect("the disk has room");
        let process = ExternalProvider::start(Command::new(python()).arg(script(name)).arg(&folder)).await;
        Self { folder, address: process.issuer.clone(), _process: process }
    }

    /// A file in its folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Says how it responds from now on.
    pub(super) fn order(&self, orders: &Value) {
        self.write("orders.json", orders);
    }

    /// Writes a file that it reads, whole or not at all.
    pub(super) fn write(&self, name: &str, value: &Value) {
        fs_err::write(self.file("new"), value.to_string()).expect("the disk has room");
        fs_err::rename(self.file("new"), self.file(name)).expect("both are here");
    }

    /// What arrived.
    pub(super) fn arrived(&self) -> Vec<Value> {
        let text = fs_err::read_to_string(self.file("arrived.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Begins anew.
    pub(super) fn forget_arrived(&self) {
        drop(fs_err::remove_file(self.file("arrived.jsonl")));
    }

    /// Waits for something to arrive; gives the last such thing.
    pub(super) async fn arrived_where(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let arrived = self.arrived();
            arrived.iter().rev().find(|one| condition(one)).cloned().ok_or_else(|| format!("{arrived:#?}"))
        })
        .await
    }
}

/// A device with an external provider and a browser command.
pub(super) async fn device_with_external_provider(issuer: &str, port: u16, browser: &str) -> SignInDevice {
    let mut device = Device::new();
    device.set("BROWSER", browser);
    device.set("LAST_PAGE", &device.path("last-page.txt").display().to_string());
    // The lab's own provider is not used, but belongs to such a device.
    let lab = Provider::start().await;
    let policy = sign_in_policy(&lab, port).replace(lab.issuer(), issuer);
    device_with_policy(device, lab, port, &format!("{policy}{FILE_VAULT}")).await
}

/// The folder with the packages of `tests/node`.
pub(super) fn node() -> PathBuf {
    installed("STEWARD_NODE")
}

/// Python with the packages of `tests/python`.
pub(super) fn python() -> PathBuf {
    installed("STEWARD_PYTHON").join("bin/python")
}

fn installed(variable: &str) -> PathBuf {
    let folder = environment::variable(variable);
    folder.map_or_else(|| panic!("{variable} is not set; run `cargo xtask test`"), PathBuf::from)
}

/// A script of `tests/python`.
pub(super) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// The browser command with the certified provider's login form.
pub(super) fn certified_browser() -> String {
    format!("node {} %s", node().join("browser.mjs").display())
}
