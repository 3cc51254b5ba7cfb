//! A device: a temporary root, the two real Steward processes in it, and the command line.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::Context as _;
use jiff::Timestamp;
use net::client::{CallError, call};
use policy_schema::{Code, Problem};
use protocol::agent::STATUS;
use protocol::broker::TokenResponse;
use protocol::endpoint::{Endpoint, Nothing};
use protocol::overview::Overview;
use protocol::policy::ResolvedPolicy;
use protocol::report::{Preview, Report};
use protocol::status::Status;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::process::Command;

use crate::process::{Process, program};
use crate::wait::{LIMIT, until};

/// A device in a temporary folder.
pub struct Device {
    root: tempfile::TempDir,
    /// The environment of each of its processes; nothing of the machine's own environment is in it.
    environment: BTreeMap<String, String>,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    /// Makes a device without policy and without running processes.
    ///
    /// # Panics
    /// There is no room for temporary files.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("steward-").tempdir().expect("the disk has room");
        // The agent tries new versions of the app as another user, who must be able to read them.
        fs_err::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut device = Self { environment: BTreeMap::new(), root };
        let home = device.path("home");
        for folder in [&device.policy_folder(), &home] {
            fs_err::create_dir_all(folder).expect("the disk has room");
        }
        if updates_are_off() {
            let folder = device.path("usr/lib/steward/policy.d");
            fs_err::create_dir_all(&folder).expect("the disk has room");
            fs_err::write(folder.join("10-updates.toml"), "UpdateMode = \"off\"\n")
                .expect("the disk has room");
        }
        device.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        device.set("HOME", &home.display().to_string());
        device.set("BROWSER", &program("scripted-browser").display().to_string());
        device
    }

    /// Sets a variable for the processes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// A path on the device.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// `--root` of the device.
    #[must_use]
    pub fn root_text(&self) -> String {
        self.root.path().display().to_string()
    }

    /// The folder that an administrator puts policy files into.
    #[must_use]
    pub fn policy_folder(&self) -> PathBuf {
        self.path("etc/steward/policy.d")
    }

    /// The managed configuration of the sample app.
    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.path("etc/opt/lab-notes/managed.json")
    }

    /// The machine service's local API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.path("run/steward/agent.sock")
    }

    /// The local API of the user's broker.
    #[must_use]
    pub fn broker_socket(&self) -> PathBuf {
        self.path(&format!("run/user/{}/steward/broker.sock", nix::unistd::geteuid()))
    }

    /// The folder of the user's saved sessions.
    #[must_use]
    pub fn session_folder(&self) -> PathBuf {
        self.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()))
    }

    /// Puts a policy file in place, in one step as a configuration tool does.
    ///
    /// # Panics
    /// The disk is full.
    pub fn push(&self, name: &str, text: &str) {
        let path = self.policy_folder().join(name);
        let beside = self.policy_folder().join(format!(".{name}.new"));
        fs_err::write(&beside, text).expect("the disk has room");
        fs_err::rename(&beside, path).expect("the disk has room");
    }

    /// Removes a policy file.
    ///
    /// # Panics
    /// It does not exist.
    pub fn withdraw(&self, name: &str) {
        fs_err::remove_file(self.policy_folder().join(name)).expect("it exists");
    }

    /// What the sample app finds in its managed configuration, if there is one.
    #[must_use]
    pub fn managed_configuration(&self) -> Option<Value> {
        let bytes = fs_err::read(self.configuration_file()).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// A program with the device's environment.
    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.environment);
        command
    }

    /// Starts a process of the device.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Process {
        let name = arguments.first().unwrap_or(&"process");
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        Process::start(self.command(program, arguments), self.path(&format!("{name}.log")))
    }

    /// Starts the machine service and waits until it responds.
    pub async fn start_agent(&self) -> Process {
        let process = self.start(&program("steward"), &["agent", "--root", &self.root_text()]);
        // It listens before it reads policy for the first time, and responds after it.
        until("a response of the agent", async || {
            self.call_agent(&STATUS, &Nothing {}).await.map_err(|error| (error, process.log()))
        })
        .await;
        process
    }

    /// Starts the user's broker and waits until it accepts connections.
    pub async fn start_broker(&self) -> Process {
        let process = self.start(&program("steward"), &["broker", "--root", &self.root_text()]);
        let socket = self.broker_socket();
        until("a broker that accepts connections", async || {
            tokio::net::UnixStream::connect(&socket).await.map_err(|error| (error, process.log()))
        })
        .await;
        process
    }

    /// Runs `steward` to its end.
    ///
    /// # Panics
    /// It was not built.
    pub async fn steward(&self, arguments: &[&str]) -> Output {
        self.run(&program("steward"), &[&["--root", &self.root_text()], arguments].concat()).await
    }

    /// Runs a program to its end.
    ///
    /// # Panics
    /// It was not built, or does not end in time; the panic shows the broker's log.
    pub async fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        let running = self.command(program, arguments).stdin(Stdio::null()).kill_on_drop(true).output();
        tokio::time::timeout(LIMIT * 2, running)
            .await
            .unwrap_or_else(|_| {
                let log = fs_err::read_to_string(self.path("broker.log")).unwrap_or_default();
                panic!("{} {arguments:?} does not end; the broker's log:\n{log}", program.display())
            })
            .unwrap_or_else(|error| panic!("{}: {error}; build it first", program.display()))
    }

    /// Runs a program and gives its output and its errors, whatever its exit code.
    pub async fn output_of(&self, program: &Path, arguments: &[&str]) -> String {
        let output = self.run(program, arguments).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Runs `steward` and gives its output and its errors, whatever its exit code.
    pub async fn printed(&self, arguments: &[&str]) -> String {
        let output = self.steward(arguments).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Runs `steward` and reads what it prints as JSON, whatever its exit code.
    ///
    /// # Errors
    /// It prints no such JSON: the text of its errors.
    pub async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let output = self.steward(arguments).await;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// `steward status --json`.
    ///
    /// # Panics
    /// It prints no overview.
    pub async fn status(&self) -> Overview {
        self.json(&["status", "--json"]).await.expect("status prints an overview")
    }

    /// The machine's part of `steward status --json`.
    ///
    /// # Panics
    /// No agent has run on the device.
    pub async fn machine_status(&self) -> Status {
        self.status().await.status.expect("an agent has run")
    }

    /// `steward policy show --json`.
    ///
    /// # Panics
    /// It prints no policy.
    pub async fn policy(&self) -> ResolvedPolicy {
        self.json(&["policy", "show", "--json"]).await.expect("policy show prints a policy")
    }

    /// `steward report --format json`.
    ///
    /// # Panics
    /// It prints no report.
    pub async fn report(&self) -> Report {
        self.json(&["report", "--format", "json"]).await.expect("report prints a report")
    }

    /// Waits until the agent has nothing to send for some seconds: everything was said, and it knows that it arrived.
    ///
    /// # Panics
    /// It prints no preview.
    pub async fn quiet(&self) {
        until("nothing to send", async || if self.is_quiet().await { Ok(()) } else { Err(()) }).await;
    }

    /// Whether the agent has nothing to send for some seconds. Shorter than anybody waits, as its place in the hour may be just now.
    ///
    /// # Panics
    /// It prints no preview.
    pub async fn is_quiet(&self) -> bool {
        let shown = self.json(&["report", "--show", "--json"]).await;
        let preview: Preview = shown.expect("it prints a preview");
        let soon = preview.report.sent_at.as_second() + 20;
        let is_later = |next: Option<Timestamp>| next.is_some_and(|next| next.as_second() > soon);
        preview.destinations.iter().all(|destination| is_later(destination.next))
    }

    /// `steward token --json`, with more arguments.
    ///
    /// # Errors
    /// It prints no tokens: its errors.
    pub async fn tokens(&self, more: &[&str]) -> Result<TokenResponse, String> {
        let tokens = self.json(&[&["token", "--json"], more].concat()).await;
        tokens.map_err(|error| error.to_string())
    }

    /// Waits until the overview meets a condition, and gives it.
    pub async fn status_where(&self, what: &str, condition: impl Fn(&Overview) -> bool) -> Overview {
        until(what, async || {
            let status = self.status().await;
            if condition(&status) { Ok(status) } else { Err(status) }
        })
        .await
    }

    /// Waits until the machine's status meets a condition, and gives it.
    ///
    /// # Panics
    /// It does not within the limit.
    pub async fn machine_status_where(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let met = |overview: &Overview| overview.status.as_ref().is_some_and(&condition);
        self.status_where(what, met).await.status.expect("the condition was met")
    }

    /// Waits until policy sets so many settings.
    pub async fn settings_become(&self, count: usize) {
        let count = settings(count);
        self.machine_status_where("the new policy", |status| status.policy.settings == count).await;
    }

    /// Waits until a problem with a code is shown, and gives it.
    ///
    /// # Panics
    /// It is not shown within the limit.
    pub async fn problem(&self, code: Code) -> Problem {
        let overview = self.status_where(code.as_str(), |overview| problem(overview, code).is_some()).await;
        problem(&overview, code).expect("the condition was met").clone()
    }

    /// Calls the machine service's local API.
    ///
    /// # Errors
    /// There was no response, or it is a refusal.
    pub async fn call_agent<Request: Serialize, Response: DeserializeOwned>(
        &self,
        endpoint: &Endpoint<Request, Response>,
        request: &Request,
    ) -> Result<Response, CallError> {
        call(&self.agent_socket(), endpoint, request).await
    }

    /// Calls the local API of the user's broker. The broker sees the program that runs the tests as the caller.
    ///
    /// # Errors
    /// There was no response, or it is a refusal.
    pub async fn call_broker<Request: Serialize, Response: DeserializeOwned>(
        &self,
        endpoint: &Endpoint<Request, Response>,
        request: &Request,
    ) -> Result<Response, CallError> {
        call(&self.broker_socket(), endpoint, request).await
    }

    /// Keeps the folder when the device is dropped.
    pub fn keep(&mut self) {
        self.root.disable_cleanup(true);
    }
}

/// Whether this run of the scenarios is the one in which policy switches updates off on every device.
fn updates_are_off() -> bool {
    platform::environment::variable("STEWARD_UPDATES").is_some_and(|updates| updates == "off")
}

/// How many settings policy sets on a device: as many as a scenario pushes, and the one of this run.
#[must_use]
pub fn settings(pushed: usize) -> usize {
    pushed + usize::from(updates_are_off())
}

/// The problem with a code in `steward status --json`, the machine's or the user's.
#[must_use]
pub fn problem(overview: &Overview, code: Code) -> Option<&Problem> {
    let machine = overview.status.iter().flat_map(|status| &status.problems);
    let user = overview.sign_in.iter().flat_map(|session| &session.problems);
    machine.chain(user).find(|problem| problem.code == code)
}
