//! `cargo xtask bench`: how fast and how small, as ratios to floors that are measured in the same run.
//!
//! A floor is the same work without Steward: an inotify event and an atomic write, an HTTP echo over the same kind of
//! socket, the program `true`, a process that waits on inotify.
//!
//! Where the time goes that is above the floor, as `strace -f -T`, `perf record -e page-faults` and
//! `LD_DEBUG=statistics` show it on Linux:
//!
//! - Policy to app: the way from the thread of the watch to the loop; one look at each folder for the watch, and at each
//!   folder and file for trust; the record of what the agent wrote, and what the app finds now. The rest is the floor's
//!   own work: one replaced file with two syncs.
//! - Connecting: 13 system calls more than the echo. The kernel names the peer (`SO_PEERPIDFD`, its folder in /proc, the
//!   file that it runs), and the request asks again whether that file, `sign-in.json` and the allowed program are still
//!   the same.
//! - `steward token`: the request is a tenth. The rest is the start of a program of this size: 14,000 relocations, which
//!   change 60 pages, and 100 more page faults than `true` has: 33 for the heap (the tree of the command line), 26 for
//!   text, 15 for the stack.
//! - Peak memory: all but 1 MiB is text and constants that agent, broker and command line share. Linux maps 64 KiB around
//!   each page that is touched, so nearly all of it would count, if what the services run did not lie together
//!   ([`order`]): agent and broker then have 5.3 and 6.6 MiB, and 8.1 and 8.8 without.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::provider::{CLIENT_ID, Provider};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use notify::{RecursiveMode, Watcher as _};
use platform::file;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::Instant;

mod day;
mod oidc_agent;
mod order;
mod patch;
mod signed;
mod start;
mod update;

const POLICIES: usize = 60;
const REQUESTS: usize = 3000;
const PROCESSES: usize = 200;
const IDLE: Duration = Duration::from_mins(1);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => runtime.block_on(measure(true)),
        ["health"] => runtime.block_on(day::print()),
        ["oidc-agent"] => runtime.block_on(measure(false)),
        ["order"] => runtime.block_on(order::print()),
        ["patch"] => runtime.block_on(patch::print()),
        ["make-patch", old, new, sent] => patch::make(old, new, sent),
        ["apply-patch", old, sent, like, made] => patch::apply(old, sent, like, made),
        ["signed"] => runtime.block_on(signed::print()),
        ["update"] => runtime.block_on(update::print()),
        ["floor", folder] => runtime.block_on(floor_process(Path::new(folder))),
        _ => {
            anyhow::bail!(
                "nothing; `health`, `oidc-agent`, `signed` or `update` for that alone; or `order` or `patch`"
            )
        }
    }
}

async fn measure(all: bool) -> anyhow::Result<()> {
    let provider = Provider::start().await;
    let device = Device::new();
    let own = std::env::current_exe()?.display().to_string();
    let policy = |number: usize| {
        format!(
            "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nVaultFallback = \"encrypted-file\"\n\
             RedirectUri = \"http://localhost:18081\"\nAllowedApplications = [{own:?}]\n\
             OrganizationName = \"{number}\"\nJwksUri = \"{}/jwks?{number}\"\n",
            provider.issuer(),
            provider.issuer()
        )
    };
    device.push("50.toml", &policy(0));
    let agent = device.start_agent().await;
    let broker = device.start_broker().await;

    let configuration = device.configuration_file();
    e2e::wait::until("the first configuration", async || fs_err::metadata(&configuration)).await;
    let login = device.steward(&["login"]).await;
    anyhow::ensure!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
    let socket = device.broker_socket();
    if all {
        day::print().await?;
        table(&device, &agent, &broker, &socket, &policy).await?;
    }
    // The other agent may hang or be missing: the table above is complete without it.
    let compared =
        tokio::time::timeout(IDLE * 2, oidc_agent::compare(&device, &broker, &provider, &socket)).await;
    match compared {
        Ok(Ok(())) => {}
        Ok(Err(error)) => println!("not compared further: {error:#}"),
        Err(_) => println!("not compared further: oidc-agent took longer than two minutes"),
    }
    Ok(())
}

/// Prints what is compared with a floor.
async fn table(
    device: &Device,
    agent: &Process,
    broker: &Process,
    socket: &Path,
    policy: &impl Fn(usize) -> String,
) -> anyhow::Result<()> {
    println!("{:<44} {:>10} {:>10} {:>7} {:>7}", "", "ours", "floor", "ratio", "target");
    let configuration = device.configuration_file();
    let ours =
        replacements(&configuration, POLICIES, |number| device.push("50.toml", &policy(number + 1))).await?;
    let floor = floor_of_replacements(&device.path("floor")).await?;
    row("policy written to app configuration on disk", ours, floor, 1.4);

    let echo = device.path("echo.sock");
    let response = request_token(&mut connect(socket).await?).await?;
    let listener = UnixListener::bind(&echo)?;
    std::thread::spawn(move || echo_server(listener.into_std()?, response));
    row("cached token, connection kept open", kept_open(socket).await?, kept_open(&echo).await?, 2.0);
    row("cached token, connecting", connecting(socket).await?, connecting(&echo).await?, 1.5);
    let root = device.root_text();
    let (token, floor) = in_turn(|| token_command(&root), || Command::new("/bin/true")).await?;
    row("`steward token` as a process (floor: `true`)", token, floor, 1.6);

    start::print(device, &policy(0)).await?;
    update::print().await?;
    signed::print().await?;

    // Everything that a change causes has happened before the wait below ends.
    let floor = Command::new(std::env::current_exe()?)
        .arg("floor")
        .arg(device.path("etc"))
        .kill_on_drop(true)
        .spawn()?;
    // Threads for blocking work end after ten quiet seconds.
    tokio::time::sleep(Duration::from_secs(13)).await;
    let processes =
        [("agent", agent.id()), ("broker", broker.id()), ("floor", floor.id().context("it runs")?)];
    let before: Vec<u64> = processes.iter().map(|(_, id)| switches(*id)).collect::<Result<_, _>>()?;
    tokio::time::sleep(IDLE).await;
    for ((name, id), before) in processes.iter().zip(before) {
        println!(
            "{:<44} {:>10}",
            format!("{name}: wakeups in an idle minute"),
            switches(*id)?.saturating_sub(before)
        );
    }
    let floor = peak(processes[2].1)?;
    for (name, id) in &processes[..2] {
        let ours = peak(*id)?;
        println!(
            "{:<44} {:>6.1} MiB {:>6.1} MiB {:>7.1} {:>7}",
            format!("{name}: peak memory"),
            ours,
            floor,
            ours / floor,
            "8 MiB"
        );
        let rollup = PathBuf::from(format!("/proc/{id}/smaps_rollup"));
        for (kind, fields) in [
            ("its own memory (anonymous)", &["Anonymous:"][..]),
            ("of that and of files, changed (dirty)", &["Private_Dirty:", "Shared_Dirty:"]),
        ] {
            let kibibytes: u64 = fields.iter().map(|name| field(&rollup, name)).sum::<Result<u64, _>>()?;
            println!("{:<44} {:>6.1} MiB", format!("  {kind}"), mebibytes(kibibytes)?);
        }
    }
    Ok(())
}

fn row(name: &str, ours: Duration, floor: Duration, target: f64) {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    let micros = |duration: Duration| format!("{:.0} us", duration.as_secs_f64() * 1e6);
    println!("{name:<44} {:>10} {:>10} {ratio:>7.2} {target:>7.1}", micros(ours), micros(floor));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// From before a change is made until a file was replaced.
async fn replacements(path: &Path, count: usize, change: impl Fn(usize)) -> anyhow::Result<Duration> {
    let (sender, mut renamed) = mpsc::unbounded_channel();
    let name = path.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let hit = event.is_ok_and(|event| {
            event.paths.contains(&name)
                && matches!(event.kind, notify::EventKind::Modify(notify::event::ModifyKind::Name(_)))
        });
        if hit {
            // The measurement may be over.
            let _ = sender.send(Instant::now());
        }
    })?;
    watcher.watch(path.parent().context("it has a folder")?, RecursiveMode::NonRecursive)?;
    let mut times = Vec::new();
    for number in 0..count {
        // Longer than the agent is quiet after a change: this is about one change, not about a burst.
        tokio::time::sleep(Duration::from_millis(150)).await;
        while renamed.try_recv().is_ok() {}
        let begun = Instant::now();
        change(number);
        let ended = tokio::time::timeout(Duration::from_secs(10), renamed.recv()).await?;
        times.push(ended.context("the watch ended")?.duration_since(begun));
    }
    Ok(median(times))
}

/// The same with nothing in between: an inotify event, and an atomic write with both syncs.
async fn floor_of_replacements(folder: &Path) -> anyhow::Result<Duration> {
    let (from, to) = (folder.join("from"), folder.join("to"));
    fs_err::create_dir_all(&from)?;
    fs_err::create_dir_all(&to)?;
    let target = to.join("managed.json");
    file::replace(&target, b"{}", file::Access::Public)?;
    let (path, source) = (target.clone(), from.join("policy.toml"));
    let policy = source.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| {
            event.paths.contains(&policy)
                && matches!(
                    event.kind,
                    notify::EventKind::Modify(notify::event::ModifyKind::Name(
                        notify::event::RenameMode::To | notify::event::RenameMode::Both
                    ))
                )
        }) {
            file::replace(&path, &[b'x'; 200], file::Access::Public).expect("the disk has room");
        }
    })?;
    watcher.watch(&from, RecursiveMode::NonRecursive)?;
    replacements(&target, POLICIES, move |number| {
        let beside = from.join(".new");
        fs_err::write(&beside, number.to_string()).expect("the disk has room");
        fs_err::rename(&beside, &source).expect("the disk has room");
    })
    .await
}

async fn connect(socket: &Path) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn request_token(sender: &mut SendRequest<Full<Bytes>>) -> anyhow::Result<Bytes> {
    let request = hyper::Request::post("/v1/token")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(b"{}")))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "{}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

async fn kept_open(socket: &Path) -> anyhow::Result<Duration> {
    let mut sender = connect(socket).await?;
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        request_token(&mut sender).await?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

async fn connecting(socket: &Path) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        request_token(&mut connect(socket).await?).await?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

/// Responds to every request with the same bytes, on its own thread as the broker is its own process.
fn echo_server(listener: std::os::unix::net::UnixListener, response: Bytes) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = UnixListener::from_std(listener)?;
        let routes = Router::new().route("/v1/token", post(async move || response.clone()));
        Ok(axum::serve(listener, routes).await?)
    })
}

fn token_command(root: &str) -> Command {
    let mut command = Command::new(program("steward"));
    command.args(["--root", root, "token"]);
    command
}

/// Two programs in turn, so that what else the machine does meets both.
async fn in_turn(
    ours: impl Fn() -> Command,
    theirs: impl Fn() -> Command,
) -> anyhow::Result<(Duration, Duration)> {
    let (mut ours_took, mut theirs_took) = (Vec::new(), Vec::new());
    for _ in 0..PROCESSES {
        for (mut command, times) in [(ours(), &mut ours_took), (theirs(), &mut theirs_took)] {
            let begun = Instant::now();
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
            let program = command.as_std().get_program().display();
            anyhow::ensure!(status.success(), "{program}: {status}");
            times.push(begun.elapsed());
        }
    }
    Ok((median(ours_took), median(theirs_took)))
}

/// The floor for idling: a runtime that waits on inotify.
async fn floor_process(folder: &Path) -> anyhow::Result<()> {
    let (sender, mut events) = mpsc::unbounded_channel::<()>();
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = sender.send(());
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    while events.recv().await.is_some() {}
    Ok(())
}

/// How often the threads of a process have begun to wait, which is how often they were woken.
fn switches(process: u32) -> anyhow::Result<u64> {
    let tasks: Vec<PathBuf> = fs_err::read_dir(format!("/proc/{process}/task"))?
        .map(|task| task.map(|task| task.path().join("status")))
        .collect::<Result<_, _>>()?;
    let mut sum = 0;
    for task in tasks {
        sum += field(&task, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// Peak memory in MiB.
fn peak(process: u32) -> anyhow::Result<f64> {
    mebibytes(field(Path::new(&format!("/proc/{process}/status")), "VmHWM:")?)
}

fn mebibytes(kibibytes: u64) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(kibibytes)?) / 1024.0)
}

fn field(path: &Path, name: &str) -> anyhow::Result<u64> {
    let text = fs_err::read_to_string(path)?;
    let line = text.lines().find(|line| line.starts_with(name)).context("the kernel knows the field")?;
    Ok(line[name.len()..].trim().trim_end_matches(" kB").parse()?)
}
