//! The lab's server for releases: it serves files over HTTP/1.1, with entity tags and ranges (RFC 9110), and misbehaves as it is
//! told. Written by hand, because no HTTP library breaks the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How archives are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Serving {
    /// As they are.
    #[default]
    Well,
    /// The connection ends after so many bytes of each response.
    DropsAfter(usize),
    /// So many bytes at once, and then a pause.
    Slowly {
        /// How many.
        bytes: usize,
        /// How long.
        pause: Duration,
    },
    /// Without a length, and with zeros at the end that never end.
    Endlessly,
    /// The page of a network that wants a sign-in, with status 200.
    WebPage,
    /// Somewhere else.
    RedirectsTo(String),
    /// A request for a part gets the beginning, and the response says so.
    WrongPart,
    /// A request for a part gets the beginning, and the response says that it is the part.
    LiesAboutPart,
    /// A request for a part gets the whole.
    IgnoresParts,
    /// It has too much to do, and says for how many seconds.
    Busy(u32),
}

/// One request for an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The name of the file.
    pub name: String,
    /// Where the requested part begins.
    pub from: Option<usize>,
}

#[derive(Default)]
struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    serving: Serving,
    /// Put in place once the next archive has been requested.
    then: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
    /// Of every request, also for feeds and metadata.
    asked: Vec<String>,
}

/// A running server.
#[derive(Clone)]
pub struct ReleaseServer {
    base: String,
    shared: Arc<Mutex<Shared>>,
}

impl ReleaseServer {
    /// Starts one without files on a free port.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = Self { base, shared: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = serving.clone();
                // A client that goes away is no failure of the lab.
                tokio::spawn(async move { drop(server.respond(stream).await) });
            }
        });
        server
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Serves a file.
    ///
    /// # Panics
    /// A task of the server has panicked.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.shared.lock().expect("no task panics").files.insert(name.to_owned(), bytes);
    }

    /// Serves a file from the moment on at which the next archive has been requested.
    ///
    /// # Panics
    /// A task of the server has panicked.
    pub fn put_later(&self, name: &str, bytes: Vec<u8>) {
        self.shared.lock().expect("no task panics").then.insert(name.to_owned(), bytes);
    }

    /// How it serves archives from now on.
    ///
    /// # Panics
    /// A task of the server has panicked.
    pub fn serve(&self, serving: Serving) {
        self.shared.lock().expect("no task panics").serving = serving;
    }

    /// All requests for archives so far.
    ///
    /// # Panics
    /// A task of the server has panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().expect("no task panics").requests.clone()
    }

    /// The names of all files that were asked for so far, feeds and metadata among them.
    ///
    /// # Panics
    /// A task of the server has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().expect("no task panics").asked.clone()
    }

    /// All files with their names.
    ///
    /// # Panics
    /// A task of the server has panicked.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.lock().expect("no task panics").files.clone()
    }

    async fn respond(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let request = read_request(&mut stream).await?;
        let is_feed = [".yml", ".json"].iter().any(|ending| request.name.ends_with(ending));
        let (bytes, serving) = {
            let mut shared = self.shared.lock().expect("no task panics");
            let bytes = shared.files.get(&request.name).cloned();
            shared.asked.push(request.name.clone());
            let serving = if is_feed { Serving::Well } else { shared.serving.clone() };
            if !is_feed {
                shared.requests.push(request.clone());
                let then = std::mem::take(&mut shared.then);
                shared.files.extend(then);
            }
            (bytes, serving)
        };
        let mut stream = stream.into_inner();
        match bytes {
            Some(bytes) => send(&mut stream, &serving, &bytes, request.from).await?,
            None => stream.write_all(&head("404 Not Found", "content-length: 0\r\n")).await?,
        }
        stream.shutdown().await
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let (mut request, mut line) = (Request { name: String::new(), from: None }, String::new());
    // Requests of our own programs only, so of a reasonable size.
    while stream.take(16 * 1024).read_line(&mut line).await? > 2 {
        let lower = line.to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("GET /") {
            rest.split(' ').next().unwrap_or_default().clone_into(&mut request.name);
        } else if let Some(range) = lower.strip_prefix("range: bytes=") {
            request.from = range.trim().trim_end_matches('-').parse().ok();
        }
        line.clear();
    }
    Ok(request)
}

fn head(status: &str, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

/// A file from `said` on, or what the server says about it.
fn head_of(bytes: &[u8], said: Option<usize>, length: usize) -> Vec<u8> {
    let etag = URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes));
    let common = format!("etag: \"{etag}\"\r\naccept-ranges: bytes\r\ncontent-length: {length}\r\n");
    match said {
        None => head("200 OK", &common),
        Some(said) => {
            let (total, last) = (bytes.len(), (said + length).saturating_sub(1));
            head("206 Partial Content", &format!("{common}content-range: bytes {said}-{last}/{total}\r\n"))
        }
    }
}

async fn send(
    stream: &mut TcpStream,
    serving: &Serving,
    bytes: &[u8],
    from: Option<usize>,
) -> std::io::Result<()> {
    let part = from.filter(|from| *from < bytes.len());
    let rest = &bytes[part.unwrap_or(0)..];
    match (serving, part) {
        (Serving::Well, _) => {
            stream.write_all(&head_of(bytes, part, rest.len())).await?;
            stream.write_all(rest).await
        }
        (Serving::DropsAfter(count), _) => {
            stream.write_all(&head_of(bytes, part, rest.len())).await?;
            stream.write_all(&rest[..(*count).min(rest.len())]).await?;
            stream.flush().await?;
            // What was sent arrives before the end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
        (Serving::Slowly { bytes: count, pause }, _) => {
            stream.write_all(&head_of(bytes, part, rest.len())).await?;
            for piece in rest.chunks(*count) {
                stream.write_all(piece).await?;
                stream.flush().await?;
                tokio::time::sleep(*pause).await;
            }
            Ok(())
        }
        (Serving::Endlessly, _) => {
            stream.write_all(&head("200 OK", "")).await?;
            stream.write_all(bytes).await?;
            let zeros = vec![0; 64 * 1024];
            // Until the client has enough, which it must have long before this.
            for _ in 0..1000 {
                stream.write_all(&zeros).await?;
            }
            Ok(())
        }
        (Serving::WebPage, _) => {
            let page = "<!doctype html><title>Welcome</title><p>Please accept the terms of this hotel.";
            let headers =
                format!("content-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n", page.len());
            stream.write_all(&head("200 OK", &headers)).await?;
            stream.write_all(page.as_bytes()).await
        }
        (Serving::RedirectsTo(target), _) => {
            let headers = format!("location: {target}\r\ncontent-length: 0\r\n");
            stream.write_all(&head("302 Found", &headers)).await
        }
        (Serving::WrongPart, Some(_)) => {
            stream.write_all(&head_of(bytes, Some(0), rest.len())).await?;
            stream.write_all(&bytes[..rest.len()]).await
        }
        (Serving::LiesAboutPart, Some(_)) => {
            stream.write_all(&head_of(bytes, part, rest.len())).await?;
            stream.write_all(&bytes[..rest.len()]).await
        }
        (Serving::IgnoresParts | Serving::WrongPart | Serving::LiesAboutPart, _) => {
            stream.write_all(&head_of(bytes, None, bytes.len())).await?;
            stream.write_all(bytes).await
        }
        (Serving::Busy(seconds), _) => {
            let headers = format!("retry-after: {seconds}\r\ncontent-length: 0\r\n");
            stream.write_all(&head("503 Service Unavailable", &headers)).await
        }
    }
}
