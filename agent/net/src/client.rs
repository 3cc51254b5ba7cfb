//! Calls the endpoints of a local API.
//!
//! In: a socket or pipe, an endpoint and its request. Out: the response, or a [`CallError`]. Called by the command
//! line, by the agent for the sessions of users, and by the broker to tell the agent that a session changed.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use platform::ipc;
use policy_schema::Problem;
use protocol::endpoint::{Endpoint, Method};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A response may have this many bytes.
const MAXIMUM_RESPONSE: usize = 16 * 1024 * 1024;
/// How long a request that only reads waits for its response.
const READ_LIMIT: Duration = Duration::from_secs(4);

/// Why a call brought no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No process listens.
    #[error("no process listens at {address}")]
    Absent {
        /// The socket or pipe.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A process listens and does not respond in time.
    #[error("{address} does not respond within {} seconds", READ_LIMIT.as_secs())]
    Silent {
        /// The socket or pipe.
        address: String,
    },
    /// The connection ended before the response was whole.
    #[error("the response from {address} broke off")]
    Broken {
        /// The socket or pipe.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The response is whole, but this version does not understand it.
    #[error("this version does not understand the response from {address}")]
    Unexpected {
        /// The socket or pipe.
        address: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The API refused.
    #[error("{0}")]
    Refused(Problem),
}

/// Calls an endpoint.
///
/// # Errors
/// There was no response, or it is a refusal.
pub async fn call<Request: Serialize, Response: DeserializeOwned>(
    socket: &Path,
    endpoint: &Endpoint<Request, Response>,
    request: &Request,
) -> Result<Response, CallError> {
    call_server(ipc::Server::Trusted, MAXIMUM_RESPONSE, socket, endpoint, request).await
}

/// Calls an endpoint of another user's process, who has to be the one to whom the folder of its socket belongs, and accepts at
/// most `limit` bytes.
///
/// # Errors
/// There was no response, or it is a refusal.
pub async fn call_within<Request: Serialize, Response: DeserializeOwned>(
    limit: usize,
    socket: &Path,
    endpoint: &Endpoint<Request, Response>,
    request: &Request,
) -> Result<Response, CallError> {
    call_server(ipc::Server::OfFolder, limit, socket, endpoint, request).await
}

async fn call_server<Request: Serialize, Response: DeserializeOwned>(
    server: ipc::Server,
    limit: usize,
    socket: &Path,
    endpoint: &Endpoint<Request, Response>,
    request: &Request,
) -> Result<Response, CallError> {
    let unexpected = |source| CallError::Unexpected { address: socket.display().to_string(), source };
    let body = match endpoint.method {
        Method::Get => Vec::new(),
        Method::Post => serde_json::to_vec(request).map_err(unexpected)?,
    };
    let body = exchange(server, limit, socket, endpoint.method, endpoint.path, body).await?;
    serde_json::from_slice(&body).map_err(unexpected)
}

/// Sends a request and returns the body of a successful response.
async fn exchange(
    server: ipc::Server,
    limit: usize,
    socket: &Path,
    method: Method,
    path: &'static str,
    body: Vec<u8>,
) -> Result<Bytes, CallError> {
    let address = || socket.display().to_string();
    let calling = async {
        let stream = ipc::connect(socket, server)
            .await
            .map_err(|source| CallError::Absent { address: address(), source })?;
        let sent = send(limit, stream, method, path, body).await;
        let (success, body) = sent.map_err(|source| CallError::Broken { address: address(), source })?;
        if success {
            return Ok(body);
        }
        let refused: Refused = serde_json::from_slice(&body)
            .map_err(|source| CallError::Unexpected { address: address(), source })?;
        Err(CallError::Refused(refused.error))
    };
    match method {
        // An endpoint that acts may wait for a user or a server.
        Method::Post => calling.await,
        // An endpoint that only reads responds from memory.
        Method::Get => {
            let called = tokio::time::timeout(READ_LIMIT, calling).await;
            called.unwrap_or_else(|_| Err(CallError::Silent { address: address() }))
        }
    }
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Refused {
    error: Problem,
}

/// Returns whether the response is a success, and its body.
async fn send(
    limit: usize,
    stream: ipc::Connection,
    method: Method,
    path: &'static str,
    body: Vec<u8>,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::builder()
        .method(method.as_str())
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::<Bytes>::new(body.into()).map_err(|never: Infallible| match never {}))?;
    let response = async {
        let response = sender.send_request(request).await?;
        let success = response.status().is_success();
        let body = Limited::new(response.into_body(), limit).collect().await?.to_bytes();
        Ok((success, body))
    };
    tokio::pin!(response);
    tokio::select! {
        response = &mut response => response,
        ended = connection => {
            ended?;
            response.await
        }
    }
}
