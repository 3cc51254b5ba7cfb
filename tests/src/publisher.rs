//! Whoever publishes releases in a signed repository: `steward repo`, and a server for what it makes.

use std::path::PathBuf;

use crate::device::Device;
use crate::feed::sample_app;
use crate::process::Process;
use crate::release_server::ReleaseServer;

/// That of the keys.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// An administrator with a repository, whose public folder is served.
pub struct Publisher {
    /// Where the administrator works.
    pub device: Device,
    /// The repository.
    pub folder: PathBuf,
    /// What devices see of it.
    pub server: ReleaseServer,
}

impl Publisher {
    /// Makes a new repository. Gives what `steward repo init` printed as well.
    ///
    /// # Panics
    /// No server starts.
    pub async fn new(mut device: Device, more: &[&str]) -> (Self, String) {
        device.set("STEWARD_REPO_PASSPHRASE", PASSPHRASE);
        let folder = device.path("repository");
        let publisher = Self { folder, device, server: ReleaseServer::start().await };
        let printed = publisher.repo(&[&["init"], more].concat()).await;
        publisher.serve();
        (publisher, printed)
    }

    /// `steward repo VERB FOLDER ...`; gives what it printed.
    ///
    /// # Panics
    /// There is no verb.
    pub async fn repo(&self, arguments: &[&str]) -> String {
        let (verb, more) = arguments.split_first().expect("there is a verb");
        let folder = self.folder.display().to_string();
        self.device.printed(&[&["repo", *verb, &folder], more].concat()).await
    }

    /// Puts everything on the server.
    ///
    /// # Panics
    /// A file cannot be read.
    pub fn serve(&self) {
        let public = self.folder.join("public");
        let mut folders = vec![public.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("it is ours").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&public).expect("it is below").display().to_string();
                    self.server.put(&name, fs_err::read(&path).expect("it is ours"));
                }
            }
        }
    }

    /// A version of the sample app, as the file that it is added from.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn archive(&self, version: &str) -> String {
        let file = self.device.path(&format!("lab-notes-{version}.tar.gz"));
        fs_err::write(&file, sample_app(version, None, "")).expect("the disk has room");
        file.display().to_string()
    }

    /// Adds a version of the sample app, and serves it.
    pub async fn add(&self, version: &str, more: &[&str]) -> String {
        let file = self.archive(version);
        let arguments = ["add", &file, "--app", "lab-notes", "--version", version];
        let printed = self.repo(&[&arguments, more].concat()).await;
        self.serve();
        printed
    }

    /// Says which devices may have a version of the sample app, and serves that.
    pub async fn target(&self, more: &[&str]) -> String {
        let printed = self.repo(&[&["target", "--app", "lab-notes"], more].concat()).await;
        self.serve();
        printed
    }

    /// The settings that follow from what `steward repo init` printed.
    ///
    /// # Panics
    /// It printed no roots.
    #[must_use]
    pub fn settings(&self, printed: &str) -> String {
        let roots = printed.lines().find(|line| line.starts_with("UpdateTrustedRoots = "));
        format!("UpdateFeed = \"{}\"\n{}\n", self.server.base(), roots.expect("it printed them"))
    }

    /// Starts the agent with that policy.
    pub async fn follow(&self, printed: &str) -> Process {
        let settings = self.settings(printed);
        self.device.push(
            "50.toml",
            &format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateMode = \"automatic\"\n{settings}"),
        );
        self.device.start_agent().await
    }

    /// What is installed of the sample app after a check, and what the check said.
    pub async fn installs(&self) -> (String, String) {
        let printed = self.device.printed(&["update"]).await;
        let target = fs_err::read_link(self.device.path("opt/lab-notes/current")).ok();
        let installed = target.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        (installed.unwrap_or_default(), printed)
    }
}
