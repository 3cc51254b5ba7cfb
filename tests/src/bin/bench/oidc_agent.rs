//! The same requests to Debian's oidc-agent, in the same run: latency, throughput, what waits behind a renewal that hangs,
//! and what is left after `kill -9`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::crash_point::CrashPoint;
use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::provider::{CLIENT_ID, Provider, Rotation};
use platform::environment;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::{REQUESTS, connect, connecting, in_turn, median, request_token, token_command};

const CLIENTS: usize = 8;
/// How long a renewal hangs.
const STALL: Duration = Duration::from_secs(3);
const ACCOUNT: &str = "lab";

/// A running oidc-agent with an account at the lab's provider.
struct OidcAgent {
    folder: PathBuf,
    agent: Child,
}

impl OidcAgent {
    async fn start(device: &Device, provider: &Provider) -> anyhow::Result<Self> {
        let folder = device.path("oidc-agent");
        fs_err::create_dir_all(&folder)?;
        fs_err::write(folder.join("password"), "lab\n")?;
        let agent = Self::run(&folder).await?;
        let oidc_agent = Self { folder, agent };
        let token = provider.issue_refresh_token();
        let arguments =
            ["--manual", "--issuer", provider.issuer(), "--client-id", CLIENT_ID, "--client-secret", ""];
        let more =
            ["--redirect-uri", "http://localhost:18082", "--scope", "openid email offline_access", "--rt"];
        let rest = [
            &token,
            "--flow",
            "refresh",
            "--no-url-call",
            "--no-webserver",
            "--no-scheme",
            "--prompt",
            "none",
        ];
        let all = [&[ACCOUNT], &arguments[..], &more, &rest, &["--confirm-default"]].concat();
        let made = oidc_agent.run_tool("oidc-gen", &all).await?;
        ensure!(made.status.success(), "oidc-gen: {}", String::from_utf8_lossy(&made.stderr));
        Ok(oidc_agent)
    }

    async fn run(folder: &Path) -> anyhow::Result<Child> {
        let socket = folder.join("socket");
        let agent = Command::new("oidc-agent")
            .arg("--console")
            .arg(format!("--socket-path={}", socket.display()))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder)
            .env("OIDC_CONFIG_DIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        e2e::wait::until("oidc-agent", async || tokio::net::UnixStream::connect(&socket).await).await;
        Ok(agent)
    }

    async fn run_tool(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let running = self.command(program.as_ref()).args(arguments).output();
        Ok(tokio::time::timeout(Duration::from_secs(30), running).await??)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .env("OIDC_CONFIG_DIR", &self.folder)
            .env("OIDC_SOCK", self.folder.join("socket"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if program.to_string_lossy().starts_with("oidc-gen")
            || program.to_string_lossy().starts_with("oidc-add")
        {
            command.arg(format!("--pw-file={}", self.folder.join("password").display()));
        }
        command
    }

    /// Median of a call, and calls a second.
    async fn calls(&self, calls: usize, clients: usize) -> anyhow::Result<(Duration, f64)> {
        let python =
            environment::variable("STEWARD_PYTHON").context("`cargo xtask bench` sets STEWARD_PYTHON")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/oidc_agent_calls.py");
        let output = self
            .command(&Path::new(&python).join("bin/python"))
            .arg(script)
            .args([ACCOUNT, &calls.to_string(), &clients.to_string()])
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (median, rate) = text.trim().split_once(' ').with_context(|| {
            format!("oidc-agent's library: {text}{}", String::from_utf8_lossy(&output.stderr))
        })?;
        Ok((Duration::from_secs_f64(median.parse::<f64>()? / 1e6), rate.parse()?))
    }
}

/// Prints the comparison.
pub(super) async fn compare(
    device: &Device,
    broker: &Process,
    provider: &Provider,
    socket: &Path,
) -> anyhow::Result<()> {
    println!("\n{:<44} {:>10} {:>10}", "", "ours", "oidc-agent");
    let mut oidc_agent = OidcAgent::start(device, provider).await?;
    let line = |name: &str, ours: String, theirs: String| println!("{name:<44} {ours:>10} {theirs:>10}");
    let micros = |time: Duration| format!("{:.0} us", time.as_secs_f64() * 1e6);

    let (theirs, _) = oidc_agent.calls(REQUESTS, 1).await?;
    line("cached token, connecting", micros(connecting(socket).await?), micros(theirs));
    let (theirs_each, theirs_rate) = oidc_agent.calls(REQUESTS / 4, CLIENTS).await?;
    let (ours_each, ours_rate) = concurrent_clients(socket)?;
    line("the same, 8 clients at once", micros(ours_each), micros(theirs_each));
    line("the same, responses a second", format!("{ours_rate:.0}"), format!("{theirs_rate:.0}"));
    let root = device.root_text();
    let theirs = || {
        let mut command = oidc_agent.command("oidc-token".as_ref());
        command.arg(ACCOUNT);
        command
    };
    let (ours, theirs) = in_turn(|| token_command(&root), theirs).await?;
    line("as a process: `steward token`, `oidc-token`", micros(ours), micros(theirs));

    // One client needs a renewal, which hangs; another one needs the cached token.
    provider.behave(|behaviour| behaviour.stall = Some(STALL));
    let hanging = oidc_agent
        .command("oidc-token".as_ref())
        .args(["--time", "999999", ACCOUNT])
        .stdout(Stdio::null())
        .spawn()?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    oidc_agent.run_tool("oidc-token", &[ACCOUNT]).await?;
    let theirs = begun.elapsed();
    drop(hanging);
    let waiting = Command::new(program("steward"))
        .args(["--root", &root, "token", "--scope", "email"])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    request_token(&mut connect(socket).await?).await?;
    line("behind a renewal that hangs for 3 s", micros(begun.elapsed()), micros(theirs));
    drop(waiting);
    tokio::time::sleep(STALL).await;

    // Each is killed while it saves a renewal, and started again. The provider accepts a used refresh token for half a
    // minute.
    provider.behave(|behaviour| {
        behaviour.stall = None;
        behaviour.rotation = Rotation::Grace;
    });
    let account = oidc_agent.folder.join(ACCOUNT);
    let saving = oidc_agent.agent.id().context("it runs")?;
    let trap = CrashPoint::set(saving, "write", 1, &[&account]).await?;
    oidc_agent.run_tool("oidc-token", &["--time", "999999", ACCOUNT]).await?;
    trap.remove().await?;
    oidc_agent.agent.kill().await?;
    fs_err::remove_file(oidc_agent.folder.join("socket"))?;
    oidc_agent.agent = OidcAgent::run(&oidc_agent.folder).await?;
    oidc_agent.run_tool("oidc-add", &[ACCOUNT]).await?;
    let theirs = oidc_agent.run_tool("oidc-token", &["--time", "999999", ACCOUNT]).await?.status.success();
    let ours = survives(device, broker).await?;
    let kept = |kept: bool| if kept { "kept" } else { "LOST" }.to_owned();
    line("session after `kill -9` while it is saved", kept(ours), kept(theirs));
    Ok(())
}

/// Kills the broker while it saves a renewal, starts another and renews again; whether that works.
async fn survives(device: &Device, broker: &Process) -> anyhow::Result<bool> {
    let root = device.root_text();
    let renew = async |scope: &str| {
        let arguments = ["--root", &root, "token", "--scope", scope];
        let output = Command::new(program("steward")).args(arguments).output();
        Ok::<_, anyhow::Error>(output.await?.status.success())
    };
    let folder = device.session_folder();
    let sealed = fs_err::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|kind| kind == "sealed"))
        .context("a session is saved")?;
    // The first write reserves room, before the refresh token is used.
    let trap = CrashPoint::set(broker.id(), "write", 2, &[&sealed.with_extension("next")]).await?;
    ensure!(!renew("profile").await?, "the broker should have been killed");
    trap.remove().await?;
    let _broker = device.start_broker().await;
    renew("openid").await
}

/// Eight clients, each on its own thread, with a connection for each request.
fn concurrent_clients(socket: &Path) -> anyhow::Result<(Duration, f64)> {
    let started = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let socket = socket.to_owned();
            std::thread::spawn(move || -> anyhow::Result<Vec<Duration>> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let mut times = Vec::new();
                    for _ in 0..REQUESTS / 4 {
                        let begun = Instant::now();
                        request_token(&mut connect(&socket).await?).await?;
                        times.push(begun.elapsed());
                    }
                    Ok(times)
                })
            })
        })
        .collect();
    let mut times: Vec<Duration> = Vec::new();
    for client in clients {
        times.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let taken = started.elapsed();
    let count = u32::try_from(times.len())?;
    Ok((median(times), f64::from(count) / taken.as_secs_f64()))
}
