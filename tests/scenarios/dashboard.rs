//! The dashboard: what devices report is what it shows, and each number can be opened.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use e2e::dashboard::Dashboard;
use e2e::device::Device;
use e2e::wait::until;
use flate2::Compression;
use flate2::write::GzEncoder;
use protocol::report::{Receipt, Report};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// The text of all elements with an attribute, and the link of each.
fn counts(page: &str) -> Vec<(usize, String)> {
    page.split("<a data-count href=\"")
        .skip(1)
        .map(|rest| {
            let (link, rest) = rest.split_once("\">").unwrap();
            let number = rest.split('<').next().unwrap();
            (number.parse().unwrap(), link.replace("&#38;", "&").replace("&amp;", "&"))
        })
        .collect()
}

/// Opens each number of a page, and compares. Gives how many there were.
async fn open_numbers(dashboard: &Dashboard, path: &str) -> usize {
    let numbers = counts(&dashboard.page(path).await);
    for (count, link) in &numbers {
        let list = dashboard.page(link).await;
        assert!(list.contains(&format!("data-total=\"{count}\"")), "{link} is not {count}: {list}");
        assert_eq!(list.matches("<th scope=\"row\">").count(), (*count).min(100), "{link}: {list}");
    }
    numbers.len()
}

async fn shows(dashboard: &Dashboard, path: &str, text: &str) -> String {
    until(&format!("{path} with {text:?}"), async || {
        let page = dashboard.page(path).await;
        if page.contains(text) { Ok(page) } else { Err(page) }
    })
    .await
}

#[tokio::test]
async fn device_reports_and_every_number_leads_to_it() {
    let device = Device::new();
    let dashboard = Dashboard::start(&device.path("")).await;
    let empty = dashboard.page("/").await;
    assert!(empty.contains(&format!("ReportUrl = \"{}\"", dashboard.report_url())), "{empty}");
    let policy = format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{}\"\nReportPosture = true\n",
        dashboard.report_url()
    );
    device.push("50.toml", &policy);
    let _agent = device.start_agent().await;
    let report = device.report().await;
    let page = format!("/devices/{}", report.device_id);
    shows(&dashboard, "/", "devices</p>").await;
    let shown = shows(&dashboard, &page, "sign-in").await;
    assert!(shown.contains(&report.status.policy.hash) && shown.contains("reporting"), "{shown}");
    assert!(open_numbers(&dashboard, "/").await >= 15);

    // A mistake in policy is seen, with what to do.
    device.push("60.toml", "UpdateMode = \"Automatik\"\n");
    shows(&dashboard, "/", "policy.invalid-value").await;
    let shown = shows(&dashboard, &page, "hint: did you mean").await;
    assert!(shown.contains("60.toml"), "{shown}");
    let listed = dashboard.page("/devices?problem=policy.invalid-value").await;
    assert!(listed.contains(&report.device_id) && listed.contains("data-total=\"1\""), "{listed}");
    open_numbers(&dashboard, "/").await;
    // Before it came, there was nothing.
    let before = dashboard.page("/?at=2020-01-01T00:00:00Z").await;
    assert!(before.contains("No device has reported by then"), "{before}");
    let csv = dashboard.page("/devices.csv").await;
    assert_eq!((csv.lines().count(), csv.contains(&report.device_id)), (2, true), "{csv}");

    // Its data outlives it, and nobody else can read the file.
    let Dashboard { process, .. } = dashboard;
    process.stop().await;
    // Whoever made it readable meanwhile did not mean to.
    let permissions: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs_err::set_permissions(device.path("fleet.sqlite"), permissions).unwrap();
    let dashboard = Dashboard::start(&device.path("")).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs_err::metadata(device.path("fleet.sqlite")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(dashboard.page("/devices").await.contains(&report.device_id));
}

/// A report of a device, as one of an agent would be.
fn sample(device: &str, epoch: &str, sequence: u64) -> String {
    let text =
        fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/frozen/0.1/report.json"))
            .unwrap();
    let mut report: Report = serde_json::from_str(&text).unwrap();
    (report.device_id, report.epoch, report.sequence) = (device.to_owned(), epoch.to_owned(), sequence);
    report.digest = format!("digest-{}", sequence % 7);
    serde_json::to_string(&report).unwrap()
}

/// What it is, the body, more headers, and the status of the response.
type Case<'c> = (&'c str, Vec<u8>, &'c [(&'c str, &'c str)], u16);

#[tokio::test]
async fn hostile_bodies_are_refused_by_name_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = Dashboard::start(folder.path()).await;
    let good = sample("device-1", "epoch-1", 1);
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 300_000_000]).unwrap();
    let bomb = packed.finish().unwrap();
    let gzip = [("content-encoding", "gzip")];
    let cases: [Case<'_>; 13] = [
        ("nothing", Vec::new(), &[], 400),
        ("no JSON", b"<html>".to_vec(), &[], 400),
        ("another JSON", b"{\"health\": 1}".to_vec(), &[], 400),
        ("too deep", [vec![b'['; 100_000], vec![b']'; 100_000]].concat(), &[], 400),
        ("a name with markup", good.replace("device-1", "<script>").into_bytes(), &[], 400),
        ("a name that leads elsewhere", good.replace("device-1", "..").into_bytes(), &[], 400),
        ("no name", good.replace("device-1", "").into_bytes(), &[], 400),
        ("a long name", good.replace("device-1", &"d".repeat(200)).into_bytes(), &[], 400),
        ("too many bytes", vec![b' '; 2_000_000], &[], 413),
        ("too many bytes, compressed", bomb, &gzip, 413),
        ("not compressed", good.clone().into_bytes(), &gzip, 415),
        ("another compression", good.clone().into_bytes(), &[("content-encoding", "br")], 415),
        ("a web page", good.clone().into_bytes(), &[("origin", "https://evil.example")], 403),
    ];
    for (case, body, headers, status) in cases {
        let response = dashboard.post(body, headers).await.unwrap();
        assert_eq!(response.status(), status, "{case}");
    }
    let page = dashboard.page("/").await;
    assert!(page.contains("No device has reported"), "{page}");
    for reason in ["the request comes from a web page", "device_id or epoch is empty", "larger than 1 MiB"] {
        assert!(page.contains(reason), "{reason}: {page}");
    }
    // Another name that leads to this machine.
    let response = dashboard.post(good.clone(), &[("host", "evil.example")]).await.unwrap();
    assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);
    // What a device says is text, and no markup.
    let text = good.replace("\"agent_version\":\"", "\"agent_version\":\"<b>&\\\"");
    assert_ne!(text, good);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let response = dashboard.post(packed.finish().unwrap(), &gzip).await.unwrap();
    assert_eq!(response.headers()["accept-encoding"], "gzip");
    let receipt: Receipt = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(receipt, Receipt { sequence: Some(1), heartbeats: true, resend: false });
    for path in ["/", "/devices", "/devices/device-1", "/devices?search=%3Cscript%3E&at="] {
        let page = dashboard.page(path).await;
        assert!(!page.contains("<b>") && !page.contains("<script"), "{path}: {page}");
    }
    assert!(open_numbers(&dashboard, "/").await >= 15);
    // Whoever does not finish a request does not keep the process.
    let mut half = TcpStream::connect(dashboard.base.trim_start_matches("http://")).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nHost: localh").await.unwrap();
    dashboard.process.stop().await;
}

/// A receiver's word is durable: what it has acknowledged is there after it was killed, and once only.
#[tokio::test(flavor = "multi_thread")]
async fn kill_under_load_loses_no_acknowledged_report_and_makes_no_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard = Arc::new(Dashboard::start(folder.path()).await);
    let sent = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|device| {
            let (dashboard, sent) = (Arc::clone(&dashboard), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut acknowledged = BTreeSet::new();
                let name = format!("device-{device}");
                for sequence in 0..10_000 {
                    let response = dashboard.post(sample(&name, "epoch-1", sequence), &[]).await;
                    match response {
                        Some(response) if response.status() == StatusCode::OK => {
                            acknowledged.insert(sequence);
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => break,
                    }
                }
                (name, acknowledged)
            })
        })
        .collect();
    until("a thousand reports", async || {
        let sent = sent.load(Ordering::Relaxed);
        if sent > 1000 { Ok(()) } else { Err(sent) }
    })
    .await;
    dashboard.process.signal(nix::sys::signal::Signal::SIGKILL);
    let mut devices = Vec::new();
    for task in tasks {
        devices.push(task.await.unwrap());
    }
    Arc::into_inner(dashboard).unwrap().process.wait_for_exit().await;
    let dashboard = Dashboard::start(folder.path()).await;
    let all = dashboard.page("/devices").await;
    assert!(all.contains("data-total=\"64\""), "{all}");
    for (name, acknowledged) in devices {
        let last = *acknowledged.last().unwrap();
        assert_eq!(acknowledged.len() as u64, last + 1);
        let path = format!("/devices/{name}");
        let shown = |page: &str| page.matches("<span class=\"state").count();
        let before = shown(&dashboard.page(&path).await);
        // Whatever was acknowledged has arrived already; it changes nothing.
        for sequence in acknowledged {
            let response = dashboard.post(sample(&name, "epoch-1", sequence), &[]).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
        assert_eq!(shown(&dashboard.page(&path).await), before, "{name}");
    }
    open_numbers(&dashboard, "/").await;
}
