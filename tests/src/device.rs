//! A device: a temporary root, the two real steward processes in it, and the command line.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::wait::{LIMIT, until};

/// A device in a temporary folder.
pub struct Device {
    root: tempfile::TempDir,
    /// Environment of every process on it; nothing of the machine's own gets in.
    environment: BTreeMap<String, String>,
}

/// A `steward` that a person talks to; it is killed when this is dropped.
pub struct Talk {
    child: Child,
    says: tokio::io::Lines<BufReader<ChildStdout>>,
}

/// A process of the device; it is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
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
        let root = tempfile::Builder::new().prefix("steward-").tempdir().expect("room for temporary files");
        // The agent tries programs as another user, who must get here.
        fs_err::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let device = Self { environment: BTreeMap::new(), root };
        fs_err::create_dir_all(device.policy_folder()).expect("room for temporary files");
        let mut device = device;
        device.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        let home = device.path("home");
        fs_err::create_dir_all(&home).expect("room for temporary files");
        device.set("HOME", &home.display().to_string());
        device.set("BROWSER", &program("person").display().to_string());
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

    /// Where an administrator puts policy.
    #[must_use]
    pub fn policy_folder(&self) -> PathBuf {
        self.path("etc/steward/policy.d")
    }

    /// Puts a policy file in place, in one step as a configuration tool does.
    ///
    /// # Panics
    /// The disk is full.
    pub fn push(&self, name: &str, text: &str) {
        let path = self.policy_folder().join(name);
        let beside = self.policy_folder().join(format!(".{name}.new"));
        fs_err::write(&beside, text).expect("room for a policy");
        fs_err::rename(&beside, path).expect("room for a policy");
    }

    /// Takes a policy file away.
    ///
    /// # Panics
    /// It is not there.
    pub fn withdraw(&self, name: &str) {
        fs_err::remove_file(self.policy_folder().join(name)).expect("it was there");
    }

    /// What the sample app finds, if anything.
    #[must_use]
    pub fn managed_configuration(&self) -> Option<Value> {
        let bytes = fs_err::read(self.path("etc/opt/lab-notes/managed.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Starts a process of the device.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Process {
        let name = arguments.first().unwrap_or(&"process");
        let log = self.path(&format!("{name}.log"));
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&log).expect("room for a log");
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.into_parts().0)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; build it first", program.display()));
        Process { child, log }
    }

    /// Starts the machine service and waits until it answers.
    pub async fn start_agent(&self) -> Process {
        let process = self.start(&program("steward"), &["agent", "--root", &self.root_text()]);
        self.answers(&process, "run/steward/agent.sock").await;
        // It listens before its first look at policy and answers after it.
        self.status_where("an answering agent", |status| status["agent_running"] == true).await;
        process
    }

    /// Starts the person's broker and waits until it answers.
    pub async fn start_broker(&self) -> Process {
        let process = self.start(&program("steward"), &["broker", "--root", &self.root_text()]);
        let user = nix::unistd::geteuid();
        self.answers(&process, &format!("run/user/{user}/steward/broker.sock")).await;
        process
    }

    async fn answers(&self, process: &Process, socket: &str) {
        let socket = self.path(socket);
        until("an answering socket", async || {
            tokio::net::UnixStream::connect(&socket).await.map_err(|error| (error, process.log()))
        })
        .await;
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
        let running = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(LIMIT * 2, running)
            .await
            .unwrap_or_else(|_| {
                let log = fs_err::read_to_string(self.path("broker.log")).unwrap_or_default();
                panic!("{} {arguments:?} does not end; the broker says:\n{log}", program.display())
            })
            .unwrap_or_else(|error| panic!("{}: {error}; build it first", program.display()))
    }

    /// Runs `steward` and gives what it printed, whatever its exit code.
    pub async fn printed(&self, arguments: &[&str]) -> String {
        let output = self.steward(arguments).await;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// `steward status --json`.
    ///
    /// # Panics
    /// It prints no JSON.
    pub async fn status(&self) -> Value {
        let output = self.steward(&["status", "--json"]).await;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
            .expect("status prints JSON")
    }

    /// Waits until the status meets a condition, and gives it.
    pub async fn status_where(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let status = self.status().await;
            if condition(&status) { Ok(status) } else { Err(status.to_string()) }
        })
        .await
    }

    /// Waits until a problem with a code is shown, and gives it.
    ///
    /// # Panics
    /// It is not shown within the limit.
    pub async fn problem(&self, code: &str) -> Value {
        let status = self.status_where(code, |status| problem(status, code).is_some()).await;
        problem(&status, code).expect("it was just there")
    }

    /// `--root` of the device.
    #[must_use]
    pub fn root_text(&self) -> String {
        self.root.path().display().to_string()
    }

    /// Keeps the folder when the device is dropped.
    pub fn keep(&mut self) {
        self.root.disable_cleanup(true);
    }
}

impl Talk {
    /// Starts it.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn start(device: &Device, arguments: &[&str]) -> Self {
        let root = device.root_text();
        Self::run(device, &program("steward"), &[&["--root", &root], arguments].concat())
    }

    /// Starts another program that stands for it.
    ///
    /// # Panics
    /// The program was not built.
    #[must_use]
    pub fn run(device: &Device, program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&device.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it is built");
        let says = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, says }
    }

    /// The next line that it says.
    ///
    /// # Panics
    /// It says nothing in time.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.says.next_line()).await;
        let line = line.expect("it speaks in time").expect("it can be read").expect("it has more to say");
        line.trim_end().to_owned()
    }

    /// The next line that is an address.
    pub async fn address(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with("http") {
                return line;
            }
        }
    }

    /// Types a line.
    ///
    /// # Panics
    /// It does not listen.
    pub async fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it listens");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it listens");
    }

    /// Everything else that it says, with its complaints at the end.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn rest(mut self) -> String {
        let mut text = String::new();
        let reading = async {
            while let Ok(Some(line)) = self.says.next_line().await {
                text.push_str(&line);
                text.push('\n');
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("it ends in time");
        let complaints = self.child.wait_with_output().await.expect("it ends").stderr;
        text.push_str(&String::from_utf8_lossy(&complaints));
        text
    }

    /// Whether it ends well.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn end(mut self) -> bool {
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await;
        ended.expect("it ends in time").expect("it can be waited for").success()
    }
}

/// The problem of a code in `steward status --json`, the machine's or the person's.
#[must_use]
pub fn problem(status: &Value, code: &str) -> Option<Value> {
    ["/status/problems", "/sign_in/problems"]
        .iter()
        .filter_map(|list| status.pointer(list)?.as_array())
        .flatten()
        .find(|problem| problem["code"] == code)
        .cloned()
}

impl Drop for Process {
    /// Waits for the end, so that nothing writes into a folder that is being removed.
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.start_kill());
        for _ in 0..400 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Process {
    /// Its process ID.
    ///
    /// # Panics
    /// It has ended and was waited for.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// It cannot be waited for.
    pub async fn gone(&mut self) {
        self.child.wait().await.expect("it can be waited for");
    }

    /// Ends it without warning, as `kill -9` does.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn stop(mut self) {
        let id = i32::try_from(self.id()).expect("process IDs are small");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
        self.child.wait().await.expect("it can be waited for");
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs_err::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A built program of the workspace.
///
/// # Panics
/// The caller does not run from the build folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("it runs");
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not built; run `cargo build --workspace` first"))
}
