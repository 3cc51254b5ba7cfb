//! A Windows device: the agent built for Windows, under Wine, with a real registry. `cargo xtask test` builds it and
//! prepares Wine.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use platform::environment;
use protocol::overview::Overview;
use protocol::policy::ResolvedPolicy;
use protocol::status::Status;
use serde::de::DeserializeOwned;

use crate::device::Device;
use crate::interactive::Interactive;
use crate::process::Process;
use crate::wait::until;

pub use installed::UNINSTALL;

mod installed;

/// A device with its own part of the registry.
pub struct Windows {
    device: Device,
    wine: PathBuf,
    steward: String,
    /// Everything is where the package puts it, not below a folder of the device.
    installed: bool,
    _guest: Guest,
}

/// A program that waits for input for as long as the scenario runs. Wine ends all services with the last program that is none: without
/// this one, between two calls of a scenario.
struct Guest(std::process::Child);

impl Guest {
    fn start(wine: &Path) -> Self {
        let mut command = std::process::Command::new(wine);
        command.arg("cmd").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("Wine starts"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It ends with its input; one that has ended already is no fault.
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

/// Where the package puts the programs.
const PROGRAMS: &str = r"C:\Program Files\Steward";

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl Windows {
    /// Makes a device without policy and without running processes.
    ///
    /// # Panics
    /// Wine or the Windows build is missing.
    #[must_use]
    pub fn new() -> Self {
        let steward = PathBuf::from(given("STEWARD_WINDOWS")).join("steward.exe");
        Self::start("STEWARD_WINE", steward.display().to_string(), false)
    }

    fn start(wine: &str, steward: String, installed: bool) -> Self {
        let wine = PathBuf::from(given(wine));
        // Wine's own services go on to run and keep what they write to open, so that must not be a pipe of a scenario.
        let mut first = std::process::Command::new(&wine);
        first.args(["cmd", "/c", "exit"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(first.status().is_ok_and(|status| status.success()), "Wine does not start");
        let guest = Guest::start(&wine);
        Self { device: Device::new(), wine, steward, installed, _guest: guest }
    }

    /// The command line of `steward` on this device.
    fn command(&self, arguments: &[&str]) -> Vec<String> {
        let root = if self.installed { Vec::new() } else { vec!["--root".to_owned(), self.path("")] };
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        [self.steward.clone()].into_iter().chain(root).chain(arguments).collect()
    }

    fn launch(&self, arguments: &[&str]) -> Process {
        let command = self.command(arguments);
        self.device.start(&self.wine, &command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// A path as Windows programs see it.
    #[must_use]
    pub fn path(&self, below: &str) -> String {
        format!("Z:{}", self.device.path(below).display()).replace('/', "\\")
    }

    /// A key below `HKEY_LOCAL_MACHINE`, in the device's part of the registry.
    #[must_use]
    pub fn key(&self, below: &str) -> String {
        if self.installed {
            return below.to_owned();
        }
        format!("SOFTWARE\\Steward Roots\\{}\\{below}", self.label())
    }

    /// The root as one word.
    fn label(&self) -> String {
        let root = self.path("");
        root.trim_end_matches('\\').chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
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
        fs_err::write(self.device.path("import.reg"), file).expect("the disk has room");
        let output = self.wine(&["reg", "import", &self.path("import.reg")]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Runs a Windows program to its end.
    pub async fn wine(&self, arguments: &[&str]) -> Output {
        self.device.run(&self.wine, arguments).await
    }

    /// Runs `steward` to its end.
    pub async fn steward(&self, arguments: &[&str]) -> Output {
        let command = self.command(arguments);
        self.wine(&command.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// What `steward` prints as JSON.
    ///
    /// # Panics
    /// It prints no such JSON.
    pub async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        read(&self.steward(arguments).await)
    }

    /// `steward policy show --json`.
    pub async fn policy(&self) -> ResolvedPolicy {
        self.json(&["policy", "show", "--json"]).await
    }

    /// The same without a root: at the key that policy really has. One scenario at a time may do this.
    pub async fn policy_without_root(&self) -> ResolvedPolicy {
        read(&self.wine(&[self.steward.as_str(), "policy", "show", "--json"]).await)
    }

    /// What `reg query` shows of a key, with all below it.
    pub async fn registry(&self, key: &str) -> String {
        let output = self.wine(&["reg", "query", &format!("HKLM\\{key}"), "/s"]).await;
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the machine service and waits until it responds.
    pub async fn start_agent(&self) -> Process {
        let process = self.launch(&["agent"]);
        self.status_where("a response of the agent", |overview| overview.agent_running).await;
        process
    }

    /// Starts the machine service where nobody may be able to ask it.
    #[must_use]
    pub fn start_agent_without_api(&self) -> Process {
        self.launch(&["agent"])
    }

    /// A pipe of this device's Steward.
    #[must_use]
    pub fn pipe(&self, name: &str) -> String {
        format!("\\\\.\\pipe\\steward-{}-{name}", self.label())
    }

    /// Starts another program, that has a pipe or holds a file open (`fixtures/windows/other-program.c`), and waits until it has
    /// it.
    ///
    /// # Panics
    /// The compiler for Windows is missing.
    pub async fn start_other_program(&self, what: &str, name: &str) -> Process {
        let program = self.device.path("other-program.exe");
        if !program.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/windows/other-program.c");
            let arguments = ["-O1", "-o", &program.display().to_string(), source];
            let output = self.device.run("x86_64-w64-mingw32-gcc".as_ref(), &arguments).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let process = self.device.start(&self.wine, &[&program.display().to_string(), what, name]);
        until("the other program", async || {
            let log = process.log();
            if log.contains("has it") { Ok(()) } else { Err(log) }
        })
        .await;
        process
    }

    /// A file of the agent's state, as Windows programs see its path.
    #[must_use]
    pub fn state_file(&self, name: &str) -> Option<String> {
        Some(format!("Z:{}", self.find(name)?).replace('/', "\\"))
    }

    /// The content of a file of the agent's state.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn read_state_file(&self, name: &str) -> String {
        fs_err::read_to_string(self.find(name).expect("the agent wrote it")).expect("it is a text")
    }

    /// The status that the agent wrote last, if there is one.
    #[must_use]
    pub fn status_file(&self) -> Option<Status> {
        serde_json::from_str(&fs_err::read_to_string(self.find("status.json")?).ok()?).ok()
    }

    fn find(&self, name: &str) -> Option<String> {
        walk(&self.device.path("")).into_iter().find(|path| path.ends_with(&format!("/{name}")))
    }

    /// Writes a file, and gives its path as Windows programs see it.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn write(&self, name: &str, text: &str) -> String {
        fs_err::write(self.device.path(name), text).expect("the disk has room");
        self.path(name)
    }

    /// A path as this system sees it.
    #[must_use]
    pub fn real_path(&self, below: &str) -> PathBuf {
        self.device.path(below)
    }

    /// Whether there is a file or folder.
    #[must_use]
    pub fn exists(&self, below: &str) -> bool {
        self.device.path(below).exists()
    }

    /// Runs `steward` in a folder, which is made.
    ///
    /// # Panics
    /// The disk is full.
    pub async fn steward_in(&self, folder: &str, arguments: &[&str]) -> Output {
        let folder = self.device.path(folder);
        fs_err::create_dir_all(&folder).expect("the disk has room");
        let (folder, wine, root) =
            (folder.display().to_string(), self.wine.display().to_string(), self.path(""));
        let first = ["--chdir", &folder, &wine, &self.steward, "--root", &root];
        self.device.run("/usr/bin/env".as_ref(), &[&first, arguments].concat()).await
    }

    /// Sets the proxies in the Internet settings of the user: a list with exceptions, a script, or neither. They are the same for
    /// all devices.
    ///
    /// # Panics
    /// `reg.exe` refuses it.
    pub async fn set_internet_settings(&self, proxies: Option<&str>, bypass: &str, script: Option<&str>) {
        // A version, a number that counts changes, what is in use (1 nothing, 2 a list, 4 a script), three texts with their
        // lengths, 32 bytes more.
        let flags = 1 | u32::from(proxies.is_some()) << 1 | u32::from(script.is_some()) << 2;
        let mut bytes: Vec<u8> = [0x46, 1, flags].into_iter().flat_map(u32::to_le_bytes).collect();
        for text in [proxies.unwrap_or_default(), bypass, script.unwrap_or_default()] {
            bytes.extend(u32::try_from(text.len()).expect("it is short").to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        bytes.extend([0; 32]);
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let key =
            "HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\Connections";
        let text = format!("REGEDIT4\n\n[{key}]\n\"DefaultConnectionSettings\"=hex:{}\n", hex.join(","));
        self.import(text.as_bytes()).await;
    }

    /// The processes of a program, by ID.
    pub async fn processes(&self, program: &str) -> Vec<u32> {
        let output = self.wine(&["wmic", "process", "get", "name,processid"]).await.stdout;
        let units = output.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let list = String::from_utf16_lossy(&units.collect::<Vec<_>>());
        let of_program =
            list.lines().filter_map(|line| line.trim().strip_prefix(program)?.trim().parse().ok());
        of_program.collect()
    }

    /// Starts what Windows starts at logon, and waits until it has started the user's broker.
    pub async fn start_session(&self) -> Process {
        let process = self.device.start(&self.wine, &[&format!(r"{PROGRAMS}\steward-session.exe")]);
        self.status_where("a response of the broker", |overview| overview.sign_in.is_some()).await;
        process
    }

    /// Starts the user's broker and waits until it responds.
    pub async fn start_broker(&self) -> Process {
        let process = self.launch(&["broker"]);
        self.status_where("a response of the broker", |overview| overview.sign_in.is_some()).await;
        process
    }

    /// Starts a `steward` that a user types into.
    #[must_use]
    pub fn interactive(&self, arguments: &[&str]) -> Interactive {
        let command = self.command(arguments);
        Interactive::start(&self.device, &self.wine, &command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs a copy of `steward` at another path: a program that policy does not allow.
    ///
    /// # Panics
    /// The disk is full.
    pub async fn run_copy(&self, arguments: &[&str]) -> Output {
        let copy = self.device.path("copy.exe");
        fs_err::copy(&self.steward, &copy).expect("the disk has room");
        let root = self.path("");
        self.wine(&[&[&copy.display().to_string(), "--root", &root], arguments].concat()).await
    }

    /// The files of the user's vault, by name.
    #[must_use]
    pub fn vault(&self) -> Vec<String> {
        let found = walk(&self.device.path("")).into_iter();
        found.filter(|name| [".sealed", ".key", ".next"].iter().any(|kind| name.ends_with(kind))).collect()
    }

    /// Starts a program that keeps running.
    #[must_use]
    pub fn start_program(&self, path: &str) -> Process {
        self.device.start(&self.wine, &[path])
    }

    /// Starts a copy of the agent's program under another name, as an app that keeps running.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn start_app(&self, name: &str) -> Process {
        let copy = self.device.path(name);
        fs_err::copy(&self.steward, &copy).expect("the disk has room");
        let root = self.path("app");
        fs_err::create_dir_all(self.device.path("app")).expect("the disk has room");
        self.device.start(&self.wine, &[&copy.display().to_string(), "--root", &root, "agent"])
    }

    /// Waits until the overview meets a condition, and gives it.
    pub async fn status_where(&self, what: &str, condition: impl Fn(&Overview) -> bool) -> Overview {
        until(what, async || {
            let output = self.steward(&["status", "--json"]).await;
            // Under Wine, with both cores busy, a program ended once before it printed anything.
            if output.stdout.is_empty() {
                return Err(format!("{output:?}"));
            }
            let status: Overview = read(&output);
            if condition(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// Waits until the status of the machine service meets a condition, and gives it.
    ///
    /// # Panics
    /// It does not.
    pub async fn machine_status_where(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        let met = |overview: &Overview| overview.status.as_ref().is_some_and(&condition);
        self.status_where(what, met).await.status.expect("it meets the condition")
    }

    /// Waits until policy sets so many settings.
    pub async fn settings_become(&self, count: usize) {
        let met = |status: &Status| status.policy.settings == count;
        self.status_where("the new policy", |overview| overview.status.as_ref().is_some_and(met)).await;
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        if self.installed {
            // The next one begins with a removal.
            return;
        }
        let key = format!("HKLM\\{}", self.key("").trim_end_matches('\\'));
        let removal = std::process::Command::new(&self.wine).args(["reg", "delete", &key, "/f"]).output();
        // The prefix is a cache: what is left in it does no harm.
        drop(removal);
    }
}

fn given(name: &str) -> String {
    environment::variable(name)
        .unwrap_or_else(|| panic!("{name} is not set; `cargo xtask test` prepares Wine and sets it"))
}

/// Reads what a program printed as JSON.
fn read<T: DeserializeOwned>(output: &Output) -> T {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let [printed, errors] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        panic!("{error}: {printed}{errors}")
    })
}

/// The paths of all files below a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}
