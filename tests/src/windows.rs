//! A Windows device: the agent built for Windows, under Wine, with a real registry. `cargo xtask test` builds it and
//! prepares Wine.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use agent_platform::environment;
use serde_json::Value;

use crate::device::{Device, Process, Talk};
use crate::wait::until;

/// A device with a part of the registry of its own.
pub struct Windows {
    device: Device,
    wine: PathBuf,
    steward: String,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl Windows {
    /// Makes a device without policy and without running processes.
    ///
    /// # Panics
    /// Wine or the Windows build is not there.
    #[must_use]
    pub fn new() -> Self {
        let given = |name: &str| {
            environment::variable(name)
                .unwrap_or_else(|| panic!("{name} is not set; `cargo xtask test` prepares Wine and sets it"))
        };
        let steward = PathBuf::from(given("STEWARD_WINDOWS")).join("steward.exe");
        let wine = PathBuf::from(given("STEWARD_WINE"));
        // Wine's own services stay, and with them whatever they were given to write to: not a pipe of a scenario's.
        let mut first = std::process::Command::new(&wine);
        first.args(["cmd", "/c", "exit"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(first.status().is_ok_and(|status| status.success()), "Wine does not start");
        Self { device: Device::new(), wine, steward: steward.display().to_string() }
    }

    /// A path as Windows programs see it.
    #[must_use]
    pub fn path(&self, below: &str) -> String {
        format!("Z:{}", self.device.path(below).display()).replace('/', "\\")
    }

    /// A key below `HKEY_LOCAL_MACHINE`, in the device's part of the registry.
    #[must_use]
    pub fn key(&self, below: &str) -> String {
        let root = self.path("");
        let label: String =
            root.trim_end_matches('\\').chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
        format!("SOFTWARE\\Steward Roots\\{label}\\{below}")
    }

    /// The key of the agent's policy.
    #[must_use]
    pub fn policy_key(&self) -> String {
        self.key("SOFTWARE\\Policies\\Steward")
    }

    /// Imports a .reg file, as an administrator would.
    ///
    /// # Panics
    /// `reg.exe` refuses it.
    pub async fn import(&self, file: &[u8]) {
        fs_err::write(self.device.path("import.reg"), file).expect("room for a file");
        let output = self.wine(&["reg", "import", &self.path("import.reg")]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Runs a Windows program to its end.
    pub async fn wine(&self, arguments: &[&str]) -> Output {
        self.device.run(&self.wine, arguments).await
    }

    /// Runs `steward` to its end.
    pub async fn steward(&self, arguments: &[&str]) -> Output {
        let root = self.path("");
        self.wine(&[&[self.steward.as_str(), "--root", &root], arguments].concat()).await
    }

    /// What `steward` prints as JSON.
    ///
    /// # Panics
    /// It prints none.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.steward(arguments).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{error}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// The same without a root: in the place that policy really has. One scenario at a time may do this.
    ///
    /// # Panics
    /// It prints no JSON.
    pub async fn at_home(&self, arguments: &[&str]) -> Value {
        let output = self.wine(&[&[self.steward.as_str()], arguments].concat()).await;
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }

    /// What `reg query` shows of a key, with all below it.
    pub async fn registry(&self, key: &str) -> String {
        let output = self.wine(&["reg", "query", &format!("HKLM\\{key}"), "/s"]).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the machine service and waits until it answers.
    pub async fn start_agent(&self) -> Process {
        let root = self.path("");
        let process = self.device.start(&self.wine, &[&self.steward, "--root", &root, "agent"]);
        self.status_where("an answering agent", |status| status["agent_running"] == true).await;
        process
    }

    /// Starts the person's broker and waits until it answers.
    pub async fn start_broker(&self) -> Process {
        let root = self.path("");
        let process = self.device.start(&self.wine, &[&self.steward, "--root", &root, "broker"]);
        self.status_where("an answering broker", |status| status["sign_in"].is_object()).await;
        process
    }

    /// Starts a `steward` that a person talks to.
    #[must_use]
    pub fn talk(&self, arguments: &[&str]) -> Talk {
        let root = self.path("");
        Talk::run(&self.device, &self.wine, &[&[self.steward.as_str(), "--root", &root], arguments].concat())
    }

    /// Runs a copy of `steward` that lies elsewhere: a program that policy does not know.
    ///
    /// # Panics
    /// There is no room for a copy.
    pub async fn stranger(&self, arguments: &[&str]) -> Output {
        let copy = self.device.path("stranger.exe");
        fs_err::copy(&self.steward, &copy).expect("room for a program");
        let root = self.path("");
        self.wine(&[&[&copy.display().to_string(), "--root", &root], arguments].concat()).await
    }

    /// The files of the person's vault, by name.
    #[must_use]
    pub fn vault(&self) -> Vec<String> {
        let found = walk(&self.device.path("")).into_iter();
        found.filter(|name| [".sealed", ".key", ".next"].iter().any(|kind| name.ends_with(kind))).collect()
    }

    /// Starts a copy of the agent's program under another name, as an app that runs on and on.
    ///
    /// # Panics
    /// There is no room for a copy.
    #[must_use]
    pub fn start_app(&self, name: &str) -> Process {
        let copy = self.device.path(name);
        fs_err::copy(&self.steward, &copy).expect("room for a program");
        let root = self.path("app");
        fs_err::create_dir_all(self.device.path("app")).expect("room for a folder");
        self.device.start(&self.wine, &[&copy.display().to_string(), "--root", &root, "agent"])
    }

    /// Waits until the status meets a condition, and gives it.
    pub async fn status_where(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let status = self.json(&["status", "--json"]).await;
            if condition(&status) { Ok(status) } else { Err(status.to_string()) }
        })
        .await
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let key = format!("HKLM\\{}", self.key("").trim_end_matches('\\'));
        let removal = std::process::Command::new(&self.wine).args(["reg", "delete", &key, "/f"]).output();
        // The prefix is a cache; what is left in it harms nobody.
        drop(removal);
    }
}

/// The names of all files below a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}
