//! How soon the machine service is ready, how long `steward status` takes, and how large what is deployed is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use e2e::device::Device;
use e2e::process::program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::time::Instant;

use super::median;

const STARTS: usize = 40;
const COMMANDS: usize = 100;
/// A service that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints the rows. The device has a running agent.
pub(super) async fn print(device: &Device, policy: &str) -> anyhow::Result<()> {
    let milliseconds = |name: &str, took: Duration, target: u32| {
        println!("{name:<44} {:>7.1} ms {:>25}", took.as_secs_f64() * 1e3, format!("{target} ms"));
    };
    milliseconds("service ready after its start", ready(policy).await?, 15);
    let root = device.root_text();
    let mut times = Vec::new();
    for _ in 0..COMMANDS {
        let mut command = Command::new(program("steward"));
        command.args(["--root", &root, "status"]).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        command.status().await?;
        times.push(begun.elapsed());
    }
    milliseconds("`steward status`", median(times), 10);
    size("steward", &program("steward"), 8.0)?;
    Ok(())
}

fn size(name: &str, file: &Path, target: f64) -> anyhow::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a file has fewer bytes than 2 to the 52")]
    let mebibytes = fs_err::metadata(file)?.len() as f64 / (1024.0 * 1024.0);
    println!("{:<44} {mebibytes:>6.2} MiB {:>25}", format!("size of `{name}`"), format!("{target} MiB"));
    Ok(())
}

/// From the start of the process until it tells systemd that it is ready (`Type=notify`), with policy and an app to configure.
async fn ready(policy: &str) -> anyhow::Result<Duration> {
    let device = Device::new();
    device.push("50.toml", policy);
    let path = device.path("notify.sock");
    let socket = UnixDatagram::bind(&path)?;
    let root = device.root_text();
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut command = Command::new(program("steward"));
        command.args(["--root", &root, "agent"]).env("NOTIFY_SOCKET", &path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let begun = Instant::now();
        let mut agent = command.spawn()?;
        let mut message = [0; 512];
        loop {
            let length = tokio::time::timeout(LIMIT, socket.recv(&mut message)).await??;
            if message[..length].starts_with(b"READY=1") {
                break;
            }
        }
        times.push(begun.elapsed());
        let id = i32::try_from(agent.id().context("it runs")?)?;
        kill(Pid::from_raw(id), Signal::SIGTERM)?;
        agent.wait().await?;
    }
    Ok(median(times))
}
