//! A Linux device with a real systemd: a small Debian in a container, on which packages are installed as an administrator
//! does. `cargo xtask test` prepares it; where containers cannot run, scenarios say that they are skipped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use platform::environment;
use protocol::overview::Overview;
use tempfile::TempDir;

use crate::process::Process;
use crate::wait::until;

/// The user of the device.
pub const USER: &str = "ada";

/// A running device. What it changes lies in memory; it ends when this is dropped.
pub struct Container {
    machine: Child,
    /// The process ID of its systemd.
    leader: String,
    shared: TempDir,
}

impl Container {
    /// Boots a device, with a user whose services run. `None` where containers cannot run; that is printed.
    ///
    /// # Panics
    /// It does not boot.
    pub async fn boot() -> Option<Self> {
        let Some(root) = environment::variable("STEWARD_CONTAINER") else {
            #[expect(clippy::print_stderr, reason = "a scenario that does not run has to say so")]
            {
                eprintln!(
                    "SKIPPED: STEWARD_CONTAINER is not set; `cargo xtask test` prepares a container where it can"
                );
            }
            return None;
        };
        let packages = environment::variable("STEWARD_PACKAGES").expect("it is set with the container");
        let shared = tempfile::tempdir().expect("the disk has room");
        let mut command = Command::new("systemd-nspawn");
        command.args([
            "--quiet",
            "--boot",
            "--volatile=overlay",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
        ]);
        command.arg("--private-network").arg("--directory").arg(root);
        command.arg(format!("--machine=device-{}", std::process::id()));
        command.arg(format!("--bind-ro={packages}:/packages"));
        command.arg(format!("--bind={}:/shared", shared.path().display()));
        let log = fs_err::File::create(shared.path().join("console.log"))
            .expect("the disk has room")
            .into_parts()
            .0;
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let machine = command.spawn().expect("systemd-nspawn starts");
        let mut device = Self { machine, leader: String::new(), shared };
        until("a booted device", async || {
            // At first it is a process that has the container made.
            device.leader = device.child().map_err(|error| error.to_string())?;
            let state = device.run("systemctl is-system-running").await;
            // Where several boot at once, the kernel may refuse one of them a mount that nobody needs.
            let booted = ["running", "degraded"].contains(&state.text.trim());
            if booted { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
        device.must(&format!("useradd --create-home {USER} && loginctl enable-linger {USER}")).await;
        until("the user's services", async || {
            let state = device.as_user("systemctl --user is-system-running").await;
            if state.text.trim() == "running" { Ok(()) } else { Err(state) }
        })
        .await;
        Some(device)
    }

    fn child(&self) -> io::Result<String> {
        let children = fs_err::read_to_string(format!("/proc/{0}/task/{0}/children", self.machine.id()))?;
        let first = children.split_ascii_whitespace().next().ok_or(io::ErrorKind::NotFound)?;
        Ok(first.to_owned())
    }

    /// A folder that the device sees as `/shared`.
    #[must_use]
    pub fn shared(&self) -> &Path {
        self.shared.path()
    }

    /// Runs a line of shell as root.
    ///
    /// # Panics
    /// The device has ended.
    pub async fn run(&self, line: &str) -> Ran {
        let mut command = tokio::process::Command::new("nsenter");
        command.args(["--target", &self.leader, "--all", "sh", "-c", line]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        let output = command.stdin(Stdio::null()).output().await.expect("nsenter starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { success: output.status.success(), text: text(&output.stdout), errors: text(&output.stderr) }
    }

    /// Serves the shared folder at a port of the device's loopback until the device ends.
    ///
    /// # Panics
    /// Python does not start.
    #[must_use]
    pub fn serve_shared(&self, port: u16) -> Process {
        let mut command = tokio::process::Command::new("nsenter");
        command.args([
            "--target",
            &self.leader,
            "--net",
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
        ]);
        command.arg(port.to_string()).current_dir(self.shared());
        Process::start(command, self.shared().join("server.log"))
    }

    /// Runs a line of shell as root, which has to succeed; gives what it printed.
    ///
    /// # Panics
    /// It fails.
    pub async fn must(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert!(ran.success, "{line}: {ran:?}");
        ran.text
    }

    /// Runs a line of shell in the user's session.
    pub async fn as_user(&self, line: &str) -> Ran {
        let quoted = line.replace('\'', r"'\''");
        self.run(&format!(
            "id=$(id --user {USER}); exec runuser --user {USER} -- env XDG_RUNTIME_DIR=/run/user/$id sh -c '{quoted}'"
        ))
        .await
    }

    /// Installs a package of a version, which has to succeed.
    pub async fn install(&self, version: &str) {
        self.must(&format!("dpkg --install /packages/steward_{version}_*.deb")).await;
    }

    /// What `steward status` tells.
    ///
    /// # Errors
    /// It told nothing.
    pub async fn status(&self) -> Result<Overview, Ran> {
        let ran = self.run("steward status --json").await;
        serde_json::from_str(&ran.text).map_err(|_| ran)
    }

    /// The process ID of the machine service; 0 if it does not run.
    pub async fn agent(&self) -> u32 {
        self.must("systemctl show --property MainPID --value steward-agent")
            .await
            .trim()
            .parse()
            .unwrap_or_default()
    }

    /// Waits for a machine service in another process than `before`.
    pub async fn other_agent(&self, before: u32) -> u32 {
        until("another process of the agent", async || {
            let state = self.run("systemctl is-active steward-agent").await;
            let agent = self.agent().await;
            if agent != before && agent != 0 && state.success { Ok(agent) } else { Err(state) }
        })
        .await
    }

    /// Puts a policy in its place.
    ///
    /// # Panics
    /// The disk is full.
    pub async fn push(&self, policy: &str) {
        let file: PathBuf = self.shared.path().join("policy.toml");
        fs_err::write(file, policy).expect("the disk has room");
        self.must("install -m 0644 /shared/policy.toml /etc/steward/policy.d/50-test.toml").await;
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its systemd takes everything with it. What has ended already needs no end.
        if let Ok(leader) = self.child() {
            drop(Command::new("kill").args(["-9", &leader]).status());
        }
        drop(self.machine.kill());
        drop(self.machine.wait());
    }
}

/// What came of a line of shell.
#[derive(Debug)]
pub struct Ran {
    /// Whether it exited with 0.
    pub success: bool,
    /// What it printed.
    pub text: String,
    /// What it printed to standard error.
    pub errors: String,
}
