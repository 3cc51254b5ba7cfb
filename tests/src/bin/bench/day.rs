//! What health costs: the time to encode a report in each dialect, a quiet day of a device with every sink on, and a week without a network.
//! With a compressed clock: the clock jumps from one report to the next, and `steward policy reload` makes the agent look at it, so that a
//! day here does a little more than a day does.

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
use protocol::report::Report;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::{field, median, peak, switches};

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
    println!("{:<44} {:>10} {:>10} {:>15}", "a report as", "time", "bytes", "target");
    for (name, encode) in agent::lab::dialects() {
        let mut times = Vec::with_capacity(ENCODINGS);
        let mut size = 0;
        for _ in 0..ENCODINGS {
            let begun = Instant::now();
            size = std::hint::black_box(encode(std::hint::black_box(&report))).len();
            times.push(begun.elapsed());
        }
        let took = format!("{:.1} us", median(times).as_secs_f64() * 1e6);
        println!("{name:<44} {took:>10} {size:>10} {:>15}", "100 us");
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
                if let Ok((up, down)) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
                    bytes.fetch_add(up + down, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(address)
}

/// A device whose clock can be moved, with every sink on, and how many messages the collectors got.
async fn device_with_every_sink(
    receiver: &Receiver,
    bytes: &Arc<AtomicU64>,
) -> anyhow::Result<(Device, Process, Arc<AtomicU64>)> {
    let got = Arc::<AtomicU64>::default();
    let count = Arc::clone(&got);
    let server = async move || {
        count.fetch_add(1, Ordering::Relaxed);
        StatusCode::OK
    };
    // An empty body is an answer in OTLP and in OpAMP.
    let collector = e2e::serve(Router::new().route("/{*path}", post(server))).await;
    let mut device = Device::new();
    device.set("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1");
    device.set("FAKETIME_TIMESTAMP_FILE", &device.path("clock").display().to_string());
    device.set("FAKETIME_NO_CACHE", "1");
    device.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    set_clock(&device, 0)?;
    let reports = counted(&receiver.url(), bytes).await?;
    let others = counted(&format!("http://{collector}"), bytes).await?;
    device.push(
        "50.toml",
        &format!(
            "App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{reports}/v1/reports\"\nOtlpUrl = \"{others}\"\n\
             OpampUrl = \"{others}/v1/opamp\"\nReportTextfile = \"/var/lib/metrics/steward.prom\"\n"
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
    let bytes = Arc::<AtomicU64>::default();
    let (device, agent, got) = device_with_every_sink(&receiver, &bytes).await?;
    // Until everything was looked at, and said.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let id = agent.id();
    let sums = || -> anyhow::Result<_> {
        let written = field(Path::new(&format!("/proc/{id}/io")), "write_bytes:")?;
        Ok((bytes.load(Ordering::Relaxed), written, processor_time(id)?, switches(id)?))
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
    }
    let after = sums()?;
    let kibibytes = |from: u64, to: u64| {
        format!("{:.1} KiB", f64::from(u32::try_from((to - from) / 103).unwrap_or(0)) / 10.0)
    };
    println!("{:<44} {:>10} {:>26}", "a quiet day with every sink on", "", "target");
    for (what, value, target) in [
        ("  on the wire (without TLS)", kibibytes(before.0, after.0), "40 kB"),
        ("  written to disk", kibibytes(before.1, after.1), "1 MiB"),
        ("  processor time", format!("{:.2} s", after.2.saturating_sub(before.2).as_secs_f64()), "0.3 s"),
        ("  peak memory", format!("{:.1} MiB", peak(id)?), "10 MiB"),
        ("  wakeups of all threads", (after.3 - before.3).to_string(), ""),
    ] {
        println!("{what:<44} {value:>10} {target:>26}");
    }
    Ok(())
}

async fn week_offline() -> anyhow::Result<()> {
    let receiver = Receiver::start().await;
    receiver.refuse_with(Some(503));
    let bytes = Arc::<AtomicU64>::default();
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
