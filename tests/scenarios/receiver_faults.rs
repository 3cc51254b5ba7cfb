//! Receivers that do not do as they should: each is named, and no report is lost.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::sync::{Arc, Mutex};

use e2e::device::Device;
use e2e::wait::until;
use policy_schema::Code;
use protocol::status::Status;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::fixture::movable_clock;

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Responds with this, and closes.
    Says(&'static str),
    /// Closes before it has read all.
    ClosesAtOnce,
    /// Reads all and says nothing.
    Hangs,
    /// Sends a byte now and then.
    Drips,
}

/// A server with a fault that can change.
struct Receiver {
    address: String,
    fault: Arc<Mutex<Fault>>,
    bodies: Arc<Mutex<Vec<Value>>>,
}

const FINE: Fault = Fault::Says("HTTP/1.1 204 No Content\r\n\r\n");

impl Receiver {
    async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/v1/reports", listener.local_addr().unwrap());
        let receiver = Self { address, fault: Arc::new(Mutex::new(fault)), bodies: Arc::default() };
        let (fault, bodies) = (Arc::clone(&receiver.fault), Arc::clone(&receiver.bodies));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fault, bodies) = (*fault.lock().unwrap(), Arc::clone(&bodies));
                tokio::spawn(async move { serve(stream, fault, &bodies).await });
            }
        });
        receiver
    }
}

/// Serves one connection. What fails is the client's affair.
async fn serve(mut stream: TcpStream, fault: Fault, bodies: &Mutex<Vec<Value>>) -> Option<()> {
    if matches!(fault, Fault::ClosesAtOnce) {
        return None;
    }
    let mut request = Vec::new();
    let body = loop {
        stream.read_buf(&mut request).await.ok().filter(|read| *read > 0)?;
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if body.len() >= length.parse::<usize>().ok()? {
            break body.to_owned();
        }
    };
    match fault {
        Fault::Says(response) => {
            if response == "HTTP/1.1 204 No Content\r\n\r\n" {
                bodies.lock().unwrap().push(serde_json::from_str(&body).ok()?);
            }
            stream.write_all(response.as_bytes()).await.ok()?;
        }
        Fault::Hangs => tokio::time::sleep(std::time::Duration::from_mins(2)).await,
        Fault::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.ok()?;
            for _ in 0..120 {
                stream.write_all(b" ").await.ok()?;
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
        Fault::ClosesAtOnce => {}
    }
    stream.shutdown().await.ok()
}

async fn is_named_and_loses_nothing(fault: Fault, words: &str) {
    let receiver = Receiver::start(fault).await;
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    device.push(
        "50.toml",
        &format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{}\"\n", receiver.address),
    );
    let _agent = device.start_agent().await;
    let problem = device.problem(Code::ReportUndelivered).await;
    assert!(problem.message.contains(words), "{fault:?}: {problem}");
    // Another one waits behind it.
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    device.problem(Code::PolicyInvalidValue).await;
    let status = device.machine_status_where("a report that waits", |status| status.report.queued > 0).await;
    assert!(status.report.delivered_at.is_none());
    let waiting = fs_err::read_dir(device.path("var/lib/steward/private/reports")).unwrap();
    let waiting: Vec<Value> = waiting
        .map(|entry| serde_json::from_slice(&fs_err::read(entry.unwrap().path()).unwrap()).unwrap())
        .collect();
    *receiver.fault.lock().unwrap() = FINE;
    minutes(61);
    device.printed(&["policy", "reload"]).await;
    until("all reports", async || {
        // One that says the same may have taken its place.
        let digests: Vec<Value> =
            receiver.bodies.lock().unwrap().iter().map(|body| body["digest"].clone()).collect();
        let all = waiting.iter().all(|report| digests.contains(&report["digest"]));
        if all && digests.len() >= 2 { Ok(()) } else { Err(digests) }
    })
    .await;
    let is_late = |status: &Status| status.problems.iter().any(|one| one.code == Code::ReportUndelivered);
    device.machine_status_where("no such problem", |status| !is_late(status)).await;
}

#[tokio::test]
async fn receiver_that_says_something_else_is_named_and_no_report_is_lost() {
    for (fault, words) in [
        (
            Fault::Says(
                "HTTP/1.1 302 Found\r\nlocation: https://portal.example.com/?secret=1\r\ncontent-length: 0\r\n\r\n",
            ),
            "redirects to `https://portal.example.com/?…`, which is not followed",
        ),
        (
            Fault::Says("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n<h1>Hi</h1>\n"),
            "the response is not a receiver's",
        ),
        (Fault::Says("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n"), "status 429"),
        (Fault::Says("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), "status 503"),
        (Fault::Says("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"seq"), "could not be reached"),
        (Fault::Says("SSH-2.0-OpenSSH_9.2\r\n"), "could not be reached"),
        (Fault::Says(""), "connection closed before message completed"),
        (Fault::ClosesAtOnce, "could not be reached"),
    ] {
        is_named_and_loses_nothing(fault, words).await;
    }
}

/// A report that the receiver will never take stays on the device, and blocks no other.
#[tokio::test]
async fn report_that_is_refused_for_good_is_put_aside() {
    for status in ["400 Bad Request", "413 Content Too Large", "422 Unprocessable Content"] {
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(Fault::Says(Box::leak(response.into_boxed_str()))).await;
        let device = Device::new();
        let policy =
            format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nReportUrl = \"{}\"\n", receiver.address);
        device.push("50.toml", &policy);
        let _agent = device.start_agent().await;
        let problem = device.problem(Code::ReportRejected).await;
        assert!(problem.message.contains(&status[..3]), "{problem}");
        let using = problem.using.unwrap();
        let aside = using.strip_prefix("nothing: it was put aside as ").unwrap();
        let report: Value = serde_json::from_slice(&fs_err::read(aside).unwrap()).unwrap();
        assert!(report["health"].is_object(), "{report}");
        *receiver.fault.lock().unwrap() = FINE;
        device.push("60.toml", "UpdateMode = \"sometimes\"\n");
        device.machine_status_where("a delivery", |status| status.report.delivered_at.is_some()).await;
        device.machine_status_where("an empty queue", |status| status.report.queued == 0).await;
    }
}

#[tokio::test]
async fn receiver_that_hangs_is_named_and_no_report_is_lost() {
    let words = "did not finish its response within 20 seconds";
    tokio::join!(
        is_named_and_loses_nothing(Fault::Hangs, words),
        is_named_and_loses_nothing(Fault::Drips, words)
    );
}
