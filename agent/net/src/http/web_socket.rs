//! Connections of WebSocket (RFC 6455), through the same proxies and with the same trust as every request. Binary messages only: a text
//! ends the connection, and so does a server that does nothing but ping.

use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use reqwest::header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use url::Url;

use super::{DOCUMENT_LIMIT, Http, HttpError, host, refused, unreachable};

/// How long a message may take to leave, and how long the other side may take to close.
const SEND_LIMIT: Duration = Duration::from_secs(20);
/// The buffers of an idle connection are small, in bytes.
const BUFFER: usize = 4096;

/// So many pings and pongs may come between two messages.
const MAXIMUM_CONTROLS: u32 = 1000;

/// An open connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<Upgraded>,
    controls: u32,
}

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    /// The other side closed it, or it broke off.
    #[error("the connection was closed")]
    Closed,
    /// It was used against its rules, or broke.
    #[error("the connection broke")]
    Broken(#[source] Box<tungstenite::Error>),
    /// A text was sent.
    #[error("a text arrived where only bytes are expected")]
    Text,
    /// The other side sends pings and nothing else.
    #[error("{MAXIMUM_CONTROLS} pings arrived, and no message")]
    Pings,
    /// A message did not leave in time.
    #[error("a message could not be sent within {} seconds", SEND_LIMIT.as_secs())]
    TooSlow,
}

impl From<tungstenite::Error> for WebSocketError {
    fn from(error: tungstenite::Error) -> Self {
        if matches!(error, tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) {
            return Self::Closed;
        }
        Self::Broken(Box::new(error))
    }
}

impl Http {
    /// Opens a connection at an http or https address, with a bearer token if there is one (RFC 6750). Messages that arrive may have
    /// `limit` bytes.
    ///
    /// # Errors
    /// No response came in time, or one that opens no connection ([`HttpError::Status`], [`HttpError::Later`]).
    pub async fn web_socket(
        &self,
        url: &Url,
        token: Option<&str>,
        limit: usize,
    ) -> Result<WebSocket, HttpError> {
        let key = generate_key();
        let mut request = self
            .client
            .get(url.clone())
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header("sec-websocket-version", "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.route(url).await;
        let opening = async {
            let response = request.send().await.map_err(|source| unreachable(url, source))?;
            if response.status().as_u16() != 101 || !accepts(response.headers(), &key) {
                return Err(refused(url, &response));
            }
            let connection = response.upgrade().await.map_err(|source| unreachable(url, source))?;
            let configuration = WebSocketConfig::default()
                .read_buffer_size(BUFFER)
                .write_buffer_size(0)
                .max_message_size(Some(limit))
                .max_frame_size(Some(limit));
            let stream =
                WebSocketStream::from_raw_socket(connection, Role::Client, Some(configuration)).await;
            Ok(WebSocket { stream, controls: 0 })
        };
        let opened = tokio::time::timeout(DOCUMENT_LIMIT, opening).await;
        opened.unwrap_or_else(|_| Err(HttpError::TooSlow { host: host(url) }))
    }
}

/// Whether a response opens the connection that was asked for (RFC 6455, section 4.1).
fn accepts(headers: &HeaderMap, key: &str) -> bool {
    let names = |name: &str, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    let proof = headers.get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().trim_ascii());
    names("upgrade", "websocket")
        && names("connection", "upgrade")
        && proof == Some(derive_accept_key(key.as_bytes()).as_bytes())
        // None was asked for.
        && !headers.contains_key("sec-websocket-extensions")
        && !headers.contains_key("sec-websocket-protocol")
}

impl WebSocket {
    /// Sends one message.
    ///
    /// # Errors
    /// The connection has ended, or the message did not leave in time.
    pub async fn send(&mut self, message: Vec<u8>) -> Result<(), WebSocketError> {
        let sending = self.stream.send(Message::Binary(message.into()));
        Ok(tokio::time::timeout(SEND_LIMIT, sending).await.map_err(|_| WebSocketError::TooSlow)??)
    }

    /// Waits for the next message, and answers pings meanwhile. Can be dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn receive(&mut self) -> Result<Vec<u8>, WebSocketError> {
        loop {
            match self.stream.next().await.ok_or(WebSocketError::Closed)?? {
                Message::Binary(bytes) => {
                    self.controls = 0;
                    return Ok(bytes.into());
                }
                Message::Text(_) => return Err(WebSocketError::Text),
                Message::Close(_) => return Err(WebSocketError::Closed),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    self.controls += 1;
                    if self.controls > MAXIMUM_CONTROLS {
                        return Err(WebSocketError::Pings);
                    }
                }
            }
        }
    }

    /// A message that has arrived already; `None` if there is none.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn arrived(&mut self) -> Result<Option<Vec<u8>>, WebSocketError> {
        self.receive().now_or_never().transpose()
    }

    /// Says goodbye, and does not wait long for an answer.
    pub async fn close(mut self) {
        // It is over in any case.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.close(None)).await;
    }
}

#[cfg(test)]
mod tests {
    use policy_schema::settings::ProxyMode;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::Network;
    use super::*;

    /// A server that answers every request with this, where `KEY` is what proves that it understood.
    async fn server(response: &'static str, then: &[u8]) -> Url {
        let then = then.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/opamp", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let line = request
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("sec-websocket-key: ").map(|_| line))
                .expect("it asks for WebSocket");
            let key = derive_accept_key(line.split_once(": ").unwrap().1.as_bytes());
            stream.write_all(response.replace("KEY", &key).as_bytes()).await.unwrap();
            stream.write_all(&then).await.unwrap();
            // Until the client has read it.
            let _ = stream.read(&mut [0; 64]).await;
        });
        url
    }

    async fn open(url: &Url) -> Result<WebSocket, HttpError> {
        Http::new(&Network::of(ProxyMode::Direct)).unwrap().web_socket(url, None, 100).await
    }

    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n\
                          sec-websocket-accept: KEY\r\n\r\n";

    #[tokio::test]
    async fn server_that_does_not_prove_that_it_understood_opens_no_connection() {
        for (response, expected) in [
            (
                "HTTP/1.1 101 x\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: a\r\n\r\n",
                101,
            ),
            (
                "HTTP/1.1 101 x\r\nupgrade: h2c\r\nconnection: upgrade\r\nsec-websocket-accept: KEY\r\n\r\n",
                101,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", 401),
        ] {
            let error = open(&server(response, b"").await).await.unwrap_err();
            assert!(
                matches!(error, HttpError::Status { status, .. } if status == expected),
                "{response}: {error}"
            );
        }
        let busy = "HTTP/1.1 503 Busy\r\nretry-after: 77\r\ncontent-length: 0\r\n\r\n";
        let error = open(&server(busy, b"").await).await.unwrap_err();
        assert!(matches!(error, HttpError::Later { seconds: 77, .. }), "{error}");
    }

    #[tokio::test]
    async fn message_arrives_and_one_that_is_too_large_or_no_bytes_ends_the_connection() {
        let mut open_one = open(&server(SWITCH, &[0x89, 0, 0x82, 2, 7, 8]).await).await.unwrap();
        assert_eq!(open_one.receive().await.unwrap(), [7, 8], "after a ping");
        for (frame, expected) in [
            (&[0x82, 126, 1, 0][..], "the connection broke"),
            (&[0x81, 1, b'a'], "a text"),
            (&[0x88, 0], "the connection was closed"),
        ] {
            let mut connection = open(&server(SWITCH, frame).await).await.unwrap();
            let error = connection.receive().await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn server_may_ping_between_messages_but_not_without_end() {
        let pings = |count: u32| (0..count).flat_map(|_| [0x89, 0]).collect::<Vec<u8>>();
        let message = [0x82, 1, 7].as_slice();
        let twice = [&pings(MAXIMUM_CONTROLS), message, &pings(MAXIMUM_CONTROLS), message].concat();
        let mut connection = open(&server(SWITCH, &twice).await).await.unwrap();
        assert_eq!(connection.receive().await.unwrap(), [7]);
        assert_eq!(connection.receive().await.unwrap(), [7]);
        let mut connection = open(&server(SWITCH, &pings(MAXIMUM_CONTROLS + 1)).await).await.unwrap();
        assert!(matches!(connection.receive().await, Err(WebSocketError::Pings)));
    }

    #[tokio::test]
    async fn what_has_arrived_is_given_without_waiting() {
        let mut connection = open(&server(SWITCH, &[0x82, 1, 7, 0x82, 1, 8]).await).await.unwrap();
        assert_eq!(connection.receive().await.unwrap(), [7]);
        assert_eq!(connection.arrived().unwrap(), Some(vec![8]));
        assert!(matches!(connection.arrived(), Ok(None)));
    }
}
