//! A running `steward-dashboard`.

use std::path::Path;

use reqwest::{Client, Response, StatusCode};
use tokio::process::Command;

use crate::browser;
use crate::process::{Process, program};
use crate::wait::until;

/// The dashboard, with its file.
pub struct Dashboard {
    /// Its process.
    pub process: Process,
    /// Its address, without a slash at the end.
    pub base: String,
    client: Client,
}

impl Dashboard {
    /// Starts it with the file `fleet.sqlite` of a folder.
    ///
    /// # Panics
    /// It was not built, or there is no such folder.
    pub async fn start(folder: &Path) -> Self {
        let mut command = Command::new(program("steward-dashboard"));
        command.arg("--database").arg(folder.join("fleet.sqlite")).args(["--listen", "127.0.0.1:0"]);
        // One log for each start: it says the address.
        let logs = fs_err::read_dir(folder).expect("the folder is there").count();
        let log = folder.join(format!("dashboard-{logs}.log"));
        let process = Process::start(command, log);
        let base = until("the address of the dashboard", async || {
            let log = process.log();
            let address = log.lines().find_map(|line| line.strip_prefix("steward-dashboard: http://"));
            let address = address.and_then(|line| line.split('/').next());
            address.map(|address| format!("http://{address}")).ok_or(log)
        })
        .await;
        Self { process, base, client: browser::client_without_redirects() }
    }

    /// Where devices report to.
    #[must_use]
    pub fn report_url(&self) -> String {
        format!("{}/v1/reports", self.base)
    }

    /// A page of it.
    ///
    /// # Panics
    /// There is none.
    pub async fn page(&self, path: &str) -> String {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.expect("it runs");
        let status = response.status();
        let text = response.text().await.expect("it is text");
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    /// Sends it a body as a device does; `None` if it does not respond.
    pub async fn post(&self, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Option<Response> {
        let mut request = self.client.post(self.report_url()).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.ok()
    }
}
