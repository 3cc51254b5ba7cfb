//! The command line of `steward-dashboard`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::log::log;
use crate::server;
use crate::store::Store;

/// Receives the reports of a fleet, and shows what they say.
///
/// Point devices at it with the policy `ReportUrl = "ADDRESS/v1/reports"`, and open ADDRESS in a browser. Readers cannot sign in yet and devices
/// are not authenticated: it serves this machine only.
#[derive(Parser)]
#[command(name = "steward-dashboard", version)]
struct Arguments {
    /// The file that everything is kept in. It is made if it is not there.
    #[arg(long, value_name = "FILE", default_value = "steward-dashboard.sqlite")]
    database: PathBuf,
    /// The address that it serves: one of this machine. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:18090")]
    listen: SocketAddr,
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let address = arguments.listen;
    anyhow::ensure!(
        address.ip().is_loopback(),
        "{address} can be reached from other machines, and everybody there could read and report.\n\
         hint: use --listen 127.0.0.1:{} until this version can authenticate users and devices",
        address.port()
    );
    let store = Store::open(&arguments.database)
        .with_context(|| format!("the database {} cannot be opened", arguments.database.display()))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = server::listen(address).with_context(|| format!("{address} cannot be served"))?;
        let address = listener.local_addr()?;
        log(&format!("http://{address}/ shows what is in {}", arguments.database.display()));
        log(&format!("devices report to it with the policy ReportUrl = \"http://{address}/v1/reports\""));
        log("nobody has to sign in, so it serves this machine only");
        Ok(server::serve(listener, store).await?)
    })
}
