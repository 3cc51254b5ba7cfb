//! The certified OpenID provider of the npm registry, and a real browser at its real login form, through the real
//! redirect to port 18080.
//!
//! `cargo xtask ci` installs Chromium and the packages of `tests/node` and names the folder in `STEWARD_NODE`.

use std::path::PathBuf;
use std::process::Stdio;

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::wait::until;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::start_app;

pub(super) struct OtherProvider {
    pub(super) issuer: String,
    _process: Child,
    /// Kept open: it prints remarks later, and ends when nobody can read them.
    remarks: Lines<BufReader<ChildStdout>>,
}

impl OtherProvider {
    /// The certified provider of `tests/node`.
    pub(super) async fn start(redirect_uri: &str) -> Self {
        Self::start_with(&[redirect_uri]).await
    }

    pub(super) async fn start_with(arguments: &[&str]) -> Self {
        let node = node();
        Self::run(Command::new("node").arg(node.join("provider.mjs")).args(arguments).current_dir(node)).await
    }

    /// A provider that prints its issuer first.
    pub(super) async fn run(program: &mut Command) -> Self {
        let mut process = program
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("`cargo xtask test` installs it");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let issuer = lines.next_line().await.expect("it prints").expect("its issuer");
        Self { issuer, _process: process, remarks: lines }
    }

    /// The next line that it prints.
    pub(super) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(e2e::wait::LIMIT, self.remarks.next_line()).await;
        line.expect("it prints in time").expect("it prints").expect("it runs")
    }
}

/// Waits for what the person at the browser complains about; for ever, if there is nothing.
async fn until_complaint(path: &std::path::Path) -> String {
    loop {
        match fs_err::read_to_string(path) {
            Ok(complaint) if !complaint.is_empty() => return complaint,
            Ok(_) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}

/// Where `cargo xtask` installed the packages of `tests/node`.
pub(super) fn node() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the folder of installed packages is the caller's to say")]
    let folder = std::env::var_os("STEWARD_NODE");
    folder
        .map(PathBuf::from)
        .expect("STEWARD_NODE is not set; run `cargo xtask test`, which installs the packages")
}

#[tokio::test]
async fn port_18080_a_real_browser_signs_in_at_a_certified_provider() {
    let node = node();
    let provider = OtherProvider::start("http://localhost:18080").await;
    let mut device = Device::new();
    let _keyring = Keyring::start(&mut device).await;
    let last_page = device.path("last-page.txt");
    device.set("LAST_PAGE", &last_page.display().to_string());
    // A browser command with arguments, as BROWSER allows; %s is the address.
    device.set("BROWSER", &format!("node {} %s", node.join("person.mjs").display()));
    device.push(
        "50.toml",
        &format!(
            "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"steward-lab\"\nProxyMode = \"direct\"\n\
             AllowedApplications = [\"{}\"]\nOrganizationName = \"Example Corp\"\nSupportContact = \"it-help@example.com\"\n",
            provider.issuer,
            e2e::device::program("lab-notes").display(),
        ),
    );
    let _agent = device.start_agent().await;
    let broker = device.start_broker().await;
    let error = device.path("last-page.txt.error");
    let (content, said) = tokio::select! {
        answer = start_app(&device) => answer,
        complaint = until_complaint(&error) => panic!("the person could not go on: {complaint}"),
    };
    assert!(content && said.contains("ada@example.com"), "{said}\n{}", broker.log());

    let page = until("the last page", async || fs_err::read_to_string(&last_page)).await;
    assert!(page.contains("You are signed in") && page.contains("Example Corp"), "{page}");
    assert!(page.contains("Help: it-help@example.com"), "{page}");

    // The provider rotates strictly and its tokens end soon: each of these is a renewal, and none asks anybody.
    for _ in 0..3 {
        let token = device.steward(&["token"]).await;
        assert!(token.status.success(), "{}", String::from_utf8_lossy(&token.stderr));
    }
    let facts = device.status().await["sign_in"].clone();
    assert_eq!((&facts["state"], &facts["kept"]), (&"signed-in".into(), &"secret-store".into()));
    // The port is closed again.
    std::net::TcpListener::bind(("127.0.0.1", 18080)).expect("nobody listens there any more");
}
