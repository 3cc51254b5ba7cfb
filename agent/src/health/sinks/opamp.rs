//! Reports to an OpAMP server (Open Agent Management Protocol 0.20): with POST, or over a connection of WebSocket that stays open. In:
//! where, and what a report is made of. Out: what came of it. What is said is decided by [`session`].
//!
//! A [`Client`] owns its connection: what an old connection still says is heard by nobody, so that its end cannot end a new one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use net::chain;
use net::http::{Http, HttpError, Network, WebSocket};
use platform::clock;
use platform::file::Access;
use platform::state::StateFile;
use policy_schema::value::without_web_socket;
use policy_schema::{Code, Extra, Policy, Problem, Secret};
use prost::Message as _;
use protocol::opamp::{AgentToServer, ServerToAgent};
use ring::digest;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{LONGEST_RETRY_AFTER, SinkOutcome, payload, shown};
use crate::health::encode::opamp::{Parts, parts};
use crate::health::identity::Identity;
use crate::health::report::{self, ReportInputs};
use crate::state::private_folder;
use session::{Answer, Session};

mod session;

/// A server has nothing to say that is longer, in bytes.
const MAXIMUM_RESPONSE: usize = 1024 * 1024;
/// How long a server may take to respond on a connection that is open.
const RESPONSE_LIMIT: Duration = Duration::from_secs(20);
/// How long the agent takes to say goodbye.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// A connection that ends before this ended soon: something in between may cut what is quiet for a minute.
const LASTING: Duration = Duration::from_mins(10);
/// So many messages may arrive that respond to nothing, between two that do.
const MAXIMUM_UNASKED: u32 = 100;

/// A server, as policy names it.
#[derive(Clone, PartialEq)]
pub(crate) struct Server {
    url: Url,
    is_web_socket: bool,
    token: Option<Secret>,
    network: Network,
}

/// What is known about a server, and the connection to it.
pub(crate) struct Client {
    server: Server,
    device_id: String,
    session: Session,
    connection: Option<WebSocket>,
    /// When it was opened, by the clock that nobody sets.
    opened: Duration,
    /// How many connections ended soon, one after the other.
    short: u32,
    unasked: u32,
    /// Where the identifier is kept that the server gave to this device, and the one that is in it.
    file: StateFile<Given>,
    saved: [u8; 16],
}

/// The identifier that a server gave to this device, because another one has the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Given {
    server: String,
    device_id: String,
    instance_uid: Uuid,
    #[serde(flatten)]
    extra: Extra,
}

/// What arrived on a connection that is open.
pub(crate) enum Pushed {
    /// The server wants everything.
    Everything,
    /// It said something that asks for nothing now.
    NothingToDo,
    /// It does not take what was sent before.
    Refused(Problem),
    /// It wants to be left alone, for so many seconds if it says so.
    Later(Problem, Option<u64>),
    /// The connection is over; so many before it ended soon as well.
    Closed(String, u32),
}

/// Why a server does not have it.
enum Failure {
    /// It may take it soon.
    Passing(String, Option<u64>),
    /// It will not take this.
    Lasting(String),
}

impl Server {
    /// The server that policy names.
    pub(crate) fn of(policy: &Policy) -> Option<Self> {
        let address = policy.opamp_url.as_ref()?;
        let request = without_web_socket(address);
        Some(Self {
            url: request.parse().ok()?,
            is_web_socket: request != *address,
            token: policy.opamp_token.clone(),
            network: Network::from(policy),
        })
    }

    /// The address as others may see it: a query can hold a key.
    pub(crate) fn shown(&self) -> String {
        let shown = shown(&self.url);
        if self.is_web_socket { shown.replacen("http", "ws", 1) } else { shown }
    }

    /// How it is connected to.
    pub(crate) fn form(&self) -> &'static str {
        if self.is_web_socket { "health (OpAMP over WebSocket)" } else { "health (OpAMP over HTTP)" }
    }

    fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Secret::expose)
    }

    fn undelivered(&self, reason: &str) -> Problem {
        let problem = Problem::new(Code::ReportUndelivered, reason).key("OpampUrl").at(self.shown());
        problem.using("nothing: the next message says it")
    }

    fn rejected(&self, reason: &str) -> Problem {
        let problem = Problem::new(Code::ReportRejected, reason).key("OpampUrl").at(self.shown());
        problem.hint("check `OpampUrl` and `OpampToken`, and the log of the server".to_owned())
    }
}

/// Makes a report, and sends what the server does not know of it. A client for another server or another device is replaced.
pub(crate) async fn send(
    server: Server,
    client: Option<Client>,
    inputs: ReportInputs,
    identity: Identity,
) -> SinkOutcome {
    let (report, protections) = report::make(&inputs, &identity).await;
    let mut client = match client {
        Some(client) if client.server == server && client.device_id == identity.device_id => client,
        Some(other) => {
            other.leave().await;
            Client::new(server, &private_folder(&inputs.paths), &identity)
        }
        None => Client::new(server, &private_folder(&inputs.paths), &identity),
    };
    let (problem, retry, retry_after) = match client.tell(&parts(&report)).await {
        Ok(()) => (None, false, None),
        Err(Failure::Passing(reason, retry_after)) => {
            (Some(client.server.undelivered(&reason)), true, retry_after)
        }
        Err(Failure::Lasting(reason)) => (Some(client.server.rejected(&reason)), false, None),
    };
    client.save();
    let interval = client.session.heartbeat();
    SinkOutcome {
        problem,
        retry,
        retry_after,
        interval,
        protections,
        client: Some(client),
        ..SinkOutcome::nothing()
    }
}

impl Client {
    fn new(server: Server, private: &Path, identity: &Identity) -> Self {
        let file = given(private);
        let own = own_instance(&identity.device_id);
        // One that cannot be read is made again: the server gives another one.
        let given = file
            .peek()
            .ok()
            .flatten()
            .filter(|given| given.server == server.shown() && given.device_id == identity.device_id);
        let instance = given.map_or(own, |given| given.instance_uid.into_bytes());
        Self {
            server,
            device_id: identity.device_id.clone(),
            session: Session::new(instance),
            connection: None,
            opened: Duration::ZERO,
            short: 0,
            unasked: 0,
            file,
            saved: instance,
        }
    }

    /// Sends what the server does not know, and everything if it asks for that. A connection that was open may have ended unnoticed, so
    /// that a new one is tried at once.
    async fn tell(&mut self, parts: &Parts) -> Result<(), Failure> {
        self.unasked = 0;
        self.take_arrived()?;
        let mut may_be_dead = self.connection.is_some();
        // One more for a server that wants everything, and one more for a connection that is dead.
        for _ in 0..3 {
            let message = self.session.message(parts);
            let was_whole = message.is_whole();
            let answer = match self.exchange(&message).await {
                Ok(response) => self.session.received(response, was_whole),
                Err(failure) => {
                    self.connection = None;
                    self.session.forget();
                    if std::mem::take(&mut may_be_dead) {
                        continue;
                    }
                    return Err(failure);
                }
            };
            may_be_dead = false;
            if !self.wants_everything(answer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes what has arrived already: it responds to nothing that is sent now.
    fn take_arrived(&mut self) -> Result<(), Failure> {
        while let Some(connection) = &mut self.connection {
            let bytes = match connection.arrived() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                // A new one is opened.
                Err(_) => {
                    self.connection = None;
                    self.session.forget();
                    break;
                }
            };
            let answer = self.unasked_answer(&bytes);
            self.wants_everything(answer)?;
        }
        Ok(())
    }

    /// What a message means that responds to nothing.
    fn unasked_answer(&mut self, bytes: &[u8]) -> Answer {
        self.unasked += 1;
        if self.unasked > MAXIMUM_UNASKED {
            let reason = format!("the server sent {MAXIMUM_UNASKED} messages that nobody asked for");
            return Answer::Later(reason, None);
        }
        match unframed(bytes) {
            Ok(message) => self.session.received(message, false),
            Err(Failure::Passing(reason, _) | Failure::Lasting(reason)) => Answer::Later(reason, None),
        }
    }

    /// Follows an answer: whether the server wants everything now.
    fn wants_everything(&mut self, answer: Answer) -> Result<bool, Failure> {
        match answer {
            Answer::Taken => Ok(false),
            Answer::Everything => Ok(true),
            Answer::Refused(reason) => {
                self.session.forget();
                Err(Failure::Lasting(reason))
            }
            Answer::Later(reason, retry_after) => {
                self.connection = None;
                self.session.forget();
                Err(Failure::Passing(reason, retry_after))
            }
        }
    }

    async fn exchange(&mut self, message: &AgentToServer) -> Result<ServerToAgent, Failure> {
        if !self.server.is_web_socket {
            return post(&self.server, message).await;
        }
        let connection = if let Some(connection) = &mut self.connection {
            connection
        } else {
            self.opened = clock::monotonic();
            self.connection.insert(open(&self.server).await?)
        };
        let broken = |error| Failure::Passing(chain(&error), None);
        connection.send(framed(message)).await.map_err(broken)?;
        let response = tokio::time::timeout(RESPONSE_LIMIT, connection.receive()).await;
        let Ok(response) = response else {
            let reason = format!("the server did not respond within {} seconds", RESPONSE_LIMIT.as_secs());
            return Err(Failure::Passing(reason, None));
        };
        unframed(&response.map_err(broken)?)
    }

    /// Waits for what a server says unasked; for ever without a connection. Can be dropped at any time: nothing is lost.
    pub(crate) async fn pushed(&mut self) -> Pushed {
        let Some(connection) = &mut self.connection else { return std::future::pending().await };
        let received = connection.receive().await;
        let reason = match received {
            Ok(bytes) => {
                let answer = self.unasked_answer(&bytes);
                return match self.wants_everything(answer) {
                    Ok(true) => Pushed::Everything,
                    Ok(false) => Pushed::NothingToDo,
                    Err(Failure::Lasting(reason)) => Pushed::Refused(self.server.rejected(&reason)),
                    Err(Failure::Passing(reason, pause)) => {
                        Pushed::Later(self.server.undelivered(&reason), pause)
                    }
                };
            }
            Err(error) => chain(&error),
        };
        self.connection = None;
        self.session.forget();
        let lasted = clock::monotonic().saturating_sub(self.opened);
        let before = if lasted < LASTING { self.short } else { 0 };
        self.short = before.saturating_add(1);
        Pushed::Closed(reason, before)
    }

    /// Says goodbye, if the server can be expected to hear it.
    pub(crate) async fn leave(mut self) {
        let message = self.session.farewell();
        let leaving = async {
            match self.connection {
                // It is over in any case.
                Some(mut connection) => {
                    drop(connection.send(framed(&message)).await);
                    connection.close().await;
                }
                None if !self.server.is_web_socket => drop(post(&self.server, &message).await),
                None => {}
            }
        };
        let _ = tokio::time::timeout(FAREWELL_LIMIT, leaving).await;
    }

    /// How often the server wants to hear from this device, in seconds, if not as policy says.
    pub(crate) fn heartbeat(&self) -> Option<u64> {
        self.session.heartbeat()
    }

    /// Keeps the identifier that the server gave. If that fails, the server gives another one after the next start.
    fn save(&mut self) {
        let instance = self.session.instance();
        if instance == self.saved {
            return;
        }
        let given = Given {
            server: self.server.shown(),
            device_id: self.device_id.clone(),
            instance_uid: Uuid::from_bytes(instance),
            extra: Extra::default(),
        };
        match self.file.save(&given) {
            Ok(()) => self.saved = instance,
            Err(error) => tracing::warn!("{}", chain(&error)),
        }
    }
}

/// Where the identifier is kept that a server gave.
fn given(private: &Path) -> StateFile<Given> {
    StateFile::new(PathBuf::from(private).join("opamp.json"), Access::Private)
}

/// The device as 16 bytes: its ID, which is a UUID, or what stands for an ID of another kind.
fn own_instance(device_id: &str) -> [u8; 16] {
    let hash = || {
        let digest = digest::digest(&digest::SHA256, device_id.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        bytes
    };
    Uuid::parse_str(device_id).map_or_else(|_| hash(), Uuid::into_bytes)
}

async fn open(server: &Server) -> Result<WebSocket, Failure> {
    let failure = |error: HttpError| {
        if let HttpError::Status { status, .. } = error {
            return of_status(status, None);
        }
        let asked = if let HttpError::Later { seconds, .. } = error { Some(seconds) } else { None };
        Failure::Passing(chain(&error), asked.map(|seconds| seconds.min(LONGEST_RETRY_AFTER)))
    };
    let http = Http::new(&server.network).map_err(failure)?;
    http.web_socket(&server.url, server.token(), MAXIMUM_RESPONSE).await.map_err(failure)
}

/// "Plain HTTP Transport".
async fn post(server: &Server, message: &AgentToServer) -> Result<ServerToAgent, Failure> {
    let passing = |error| Failure::Passing(chain(&error), None);
    let http = Http::new(&server.network).map_err(passing)?;
    let mut body = payload("application/x-protobuf", message.encode_to_vec(), true);
    let instance = Uuid::from_slice(&message.instance_uid).unwrap_or_default();
    body.header = Some(("opamp-instance-uid", instance.to_string()));
    let response = http.post(&server.url, server.token(), body, MAXIMUM_RESPONSE).await.map_err(passing)?;
    match response.status {
        200..=299 => decoded(&response.body),
        status => Err(of_status(status, response.retry_after)),
    }
}

/// A status that says no.
fn of_status(status: u16, retry_after: Option<u64>) -> Failure {
    let reason = format!("the server responded with status {status}");
    match status {
        408 | 429 | 500..=599 => {
            Failure::Passing(reason, retry_after.map(|seconds| seconds.min(LONGEST_RETRY_AFTER)))
        }
        _ => Failure::Lasting(reason),
    }
}

/// "WebSocket Message Format": a header, which is the number 0, and the message.
fn framed(message: &AgentToServer) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(message.encode_to_vec());
    bytes
}

/// Servers of before the header send none. No message begins with the byte of a header.
fn unframed(bytes: &[u8]) -> Result<ServerToAgent, Failure> {
    decoded(bytes.strip_prefix(&[0]).unwrap_or(bytes))
}

fn decoded(bytes: &[u8]) -> Result<ServerToAgent, Failure> {
    ServerToAgent::decode(bytes)
        .map_err(|_| Failure::Passing("the response is not one of OpAMP".to_owned(), None))
}
