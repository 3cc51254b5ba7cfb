//! What health costs: the time to encode a report in each dialect, a quiet day of a device with every sink on, and a week without a network.
//! With a compressed clock: the clock jumps from one report to the next, and `steward policy reload` makes the agent look at it, so that a
//! day here does a little more than a day does.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use e2e::device::Device;
use e2e::process::Process;
use e2e::receiver::Receiver;
use e2e::wait::until;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::report::Report;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::{IDLE, field, median, peak, switches};

/// A report as a device of this version writes it.
const REPORT: &str = include_str!("../../../fixtures/frozen/0.1/report.json");
/// How often each encoding is measured.
const ENCODINGS: usize = 2000;
/// More than the longest time between two reports, in minutes.
const STEP: u32 = 62;
const DAY: u32 = 24;
const WEEK: u32 = 7 * 24;

/// Prints all of it.
pub(crate) async fn print() -> anyhow::Result<()> {
    encodings()?;
    quiet_day().await?;
    week_offline().await
}

fn encodings() -> anyhow::Result<()> {
    let report: Report = serde_json::from_str(REPORT)?;
    println!("{:<33} {:>10} {:>10} {:>10} {:>15}", "a report as", "time", "bytes", "with gzip", "target");
    for (name, encode) in agent::lab::dialects() {
        let mut times = Vec::with_capacity(ENCODINGS);
        let mut bytes = Vec::new();
        for _ in 0..ENCODINGS {
            let begun = Instant::now();
            bytes = std::hint::black_box(encode(std::hint::black_box(&report)));
            times.push(begun.elapsed());
        }
        let took = format!("{:.1} us", median(times).as_secs_f64() * 1e6);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&bytes)?;
        let (size, small) = (bytes.len(), gzip.finish()?.len());
        println!("{name:<33} {took:>10} {size:>10} {small:>10} {:>15}", "100 us");
    }
    Ok(())
}

/// Counts what goes over the wire to a server, in both directions, without what TCP adds.
async fn counted(server: &str, bytes: &Arc<AtomicU64>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let server = server.trim_start_matches("http://").split('/').next().context("it has a host")?.to_owned();
    let bytes = Arc::clone(bytes);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (server, bytes) = (server.clone(), Arc::clone(&bytes));
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(server).await else { return };
                // A connection that stays open counts as well.
                let (mut near_in, mut near_out) = near.split();
                let (mut far_in, mut far_out) = far.split();
                tokio::join!(
                    count(&mut near_in, &mut far_out, &bytes),
                    count(&mut far_in, &mut near_out, &bytes)
                );
            });
        }
    });
    Ok(address)
}

/// Passes on what arrives, and counts it.
async fn count(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), bytes: &AtomicU64) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other side may have closed it already.
    drop(to.shutdown().await);
}

/// An OpAMP server that takes everything, over WebSocket.
async fn opamp_server(got: Arc<AtomicU64>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let got = Arc::clone(&got);
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() {
                        got.fetch_add(1, Ordering::Relaxed);
                        // A header, and a message that says nothing.
                        drop(socket.send(Message::binary(vec![0])).await);
                    }
                }
            });
        }
    });
    Ok(address)
}

/// A device whose clock can be moved, with every sink on, and how many messages the collectors got.
async fn device_with_every_sink(
    receiver: &Receiver,
    bytes: &[Arc<AtomicU64>; 3],
) -> anyhow::Result<(Device, Process, Arc<AtomicU64>)> {
    let got = Arc::<AtomicU64>::default();
    let count = Arc::clone(&got);
    let server = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        StatusCode::OK
    };
    let opamp = opamp_server(Arc::clone(&got)).await?;
    // An empty body is an answer in OTLP.
    let collector = e2e::serve(Router::new().route("/{*path}", post(server))).await;
    let mut device = Device::new();
    device.set("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    device.set("FAKETIME_TIMESTAMP_FILE", &device.path("clock").display().to_string());
    device.set("FAKETIME_NO_CACHE", "1");
    device.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    set_clock(&device, 0)?;
    let reports = counted(&receiver.url(), &bytes[0]).await?;
    let others = counted(&format!("http://{collector}"), &bytes[1]).await?;
    let opamp = counted(&opamp, &bytes[2]).await?.replace("http", "ws");
    device.push(
        "50.toml",
        &format!(
            "App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{reports}/v1/reports\"\nOtlpUrl = \"{others}\"\n\
             OpampUrl = \"{opamp}/v1/opamp\"\nReportTextfile = \"/var/lib/metrics/steward.prom\"\n"
        ),
    );
    fs_err::create_dir_all(device.path("var/lib/metrics"))?;
    let agent = device.start_agent().await;
    Ok((device, agent, got))
}

fn set_clock(device: &Device, minutes: u32) -> anyhow::Result<()> {
    Ok(fs_err::write(device.path("clock"), format!("+{}", minutes * 60))?)
}

async fn quiet_day() -> anyhow::Result<()> {
    let receiver = Receiver::start().await;
    receiver.offer_heartbeats_and_gzip();
    let bytes: [Arc<AtomicU64>; 3] = Default::default();
    let (device, agent, got) = device_with_every_sink(&receiver, &bytes).await?;
    device.machine_status_where("what the provider says", |_| true).await;
    device.quiet().await;
    let id = agent.id();
    let sums = || -> anyhow::Result<_> {
        let written = field(Path::new(&format!("/proc/{id}/io")), "write_bytes:")?;
        let wire = bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
        Ok((wire, written, processor_time(id)?, switches(id)?))
    };
    let before = sums()?;
    for hour in 1..=DAY {
        let (heartbeats, others) =
            (receiver.heartbeats().len() + receiver.reports().len(), got.load(Ordering::Relaxed));
        set_clock(&device, hour * STEP)?;
        device.printed(&["policy", "reload"]).await;
        until("a message to each", async || {
            let reports = receiver.heartbeats().len() + receiver.reports().len();
            let all = reports > heartbeats && got.load(Ordering::Relaxed) >= others + 2;
            if all { Ok(()) } else { Err((reports, got.load(Ordering::Relaxed))) }
        })
        .await;
        // The agent has to hear of it before its clock goes on. To ask it costs it something, so that it is not asked.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let after = sums()?;
    // What the compressed clock costs: the same without anything that is due.
    for _ in 1..=DAY {
        device.printed(&["policy", "reload"]).await;
    }
    let (_, _, without, _) = sums()?;
    let reloads = without.saturating_sub(after.2);
    // Threads for blocking work end after ten quiet seconds.
    tokio::time::sleep(Duration::from_secs(13)).await;
    let idle = switches(id)?;
    tokio::time::sleep(IDLE).await;
    let idle = switches(id)?.saturating_sub(idle);
    let anonymous = field(Path::new(&format!("/proc/{id}/status")), "RssAnon:")? * 1024;
    let kibibytes = |from: u64, to: u64| {
        format!("{:.1} KiB", f64::from(u32::try_from((to - from) / 103).unwrap_or(0)) / 10.0)
    };
    println!("{:<44} {:>10} {:>26}", "a quiet day with every sink on", "", "target");
    for (what, value, target) in [
        ("  on the wire (without TLS)", kibibytes(before.0.iter().sum(), after.0.iter().sum()), "40 kB"),
        ("    of that, reports", kibibytes(before.0[0], after.0[0]), ""),
        ("    of that, OTLP", kibibytes(before.0[1], after.0[1]), ""),
        ("    of that, OpAMP", kibibytes(before.0[2], after.0[2]), ""),
        ("  written to disk", kibibytes(before.1, after.1), "1 MiB"),
        ("  processor time", seconds(after.2.saturating_sub(before.2).saturating_sub(reloads)), "0.3 s"),
        ("  processor time of the compressed clock", seconds(reloads), ""),
        ("  peak memory", format!("{:.1} MiB", peak(id)?), "10 MiB"),
        // The rest is the program itself and libraries, which the kernel maps in pieces of its own choice and shares.
        ("    of that, not of files, now", kibibytes(0, anonymous), ""),
        ("  wakeups of all threads", (after.3 - before.3).to_string(), ""),
        ("  wakeups in an idle minute", idle.to_string(), "0"),
    ] {
        println!("{what:<44} {value:>10} {target:>26}");
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

async fn week_offline() -> anyhow::Result<()> {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let bytes: [Arc<AtomicU64>; 3] = Default::default();
    let (device, _agent, _) = device_with_every_sink(&receiver, &bytes).await?;
    for hour in 1..=WEEK {
        set_clock(&device, hour * STEP)?;
        device.printed(&["policy", "reload"]).await;
    }
    let folder = device.path("var/lib/steward/private/reports");
    let files: Vec<_> = fs_err::read_dir(folder)?.collect::<Result<_, _>>()?;
    let size: u64 = files.iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let value = format!("{size} bytes");
    println!("{:<44} {value:>10} {:>26}", format!("a week offline, in {} files", files.len()), "1 MiB");
    Ok(())
}

/// The processor time of a process and of its children that have ended (proc(5)).
fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let text = fs_err::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')').context("the name is in parentheses")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    // 100 in a second on every Linux (sysconf(3), _SC_CLK_TCK).
    Ok(Duration::from_millis(ticks * 10))
}
