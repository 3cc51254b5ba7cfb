//! Reports and heartbeats over HTTP: the contract of a receiver in the README of the agent.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use protocol::report::Receipt;

use crate::arrival::{self, Refusal};
use crate::clock;
use crate::log::{chain, log};
use crate::shared::Shared;
use crate::store::{Kept, StoreError};

/// The largest body, in bytes, also when it is unpacked. A device keeps no larger one.
const LARGEST: usize = 1024 * 1024;
/// When a device comes again that found no place, in seconds: from the first on, at a moment of its own.
const AGAIN: u64 = 30;
const SPREAD: u64 = 90;
/// So long may a body be on its way.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    let whole = tokio::time::timeout(PATIENCE, whole(body)).await.unwrap_or(Err(Refusal::Incomplete));
    let read =
        whole.and_then(|body| unpacked(&headers, body)).and_then(|body| arrival::read(&body, clock::now()));
    let arrival = match read {
        Ok(arrival) => arrival,
        Err(refusal) => {
            shared.refused.count(refusal);
            return refused(refusal);
        }
    };
    let sequence = u64::try_from(arrival.sequence).ok();
    let key = arrival.device.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    match shared.store.keep(arrival).await {
        Ok(kept) => {
            let receipt = Receipt { sequence, heartbeats: true, resend: kept == Kept::Unknown };
            // RFC 7694: such bodies may come from now on.
            ([(ACCEPT_ENCODING, "gzip")], Json(receipt)).into_response()
        }
        Err(error) => {
            let is_full = matches!(error, StoreError::Full);
            let status =
                if is_full { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE };
            if !is_full {
                log(&format!("a report was not kept: {}", chain(&error)));
            }
            // Each device at a moment of its own, so that they do not all come at once.
            let again = AGAIN + key % SPREAD;
            (status, [(RETRY_AFTER, again.to_string())], format!("{error}\n")).into_response()
        }
    }
}

fn refused(refusal: Refusal) -> Response {
    let status = match refusal {
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::MediaType | Refusal::Compression => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::Incomplete => StatusCode::REQUEST_TIMEOUT,
        Refusal::WebPage => StatusCode::FORBIDDEN,
        Refusal::Json | Refusal::Report | Refusal::Name | Refusal::Sequence => StatusCode::BAD_REQUEST,
    };
    (status, format!("{refusal}\n")).into_response()
}

/// The whole body. Of one that is too large, the rest is read as far as that is bearable: whoever sends it would not read a response before.
async fn whole(mut body: Body) -> Result<Bytes, Refusal> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Refusal::Incomplete)?.into_data() else { continue };
        length += piece.len();
        if length <= LARGEST {
            bytes.extend_from_slice(&piece);
        } else if length > 16 * LARGEST {
            break;
        }
    }
    if length > LARGEST { Err(Refusal::TooLarge) } else { Ok(bytes.into()) }
}

/// The body as JSON, if this is a request of a device.
fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // A web page that the administrator has open can send such requests as well; browsers say so.
    if headers.contains_key("sec-fetch-site") || headers.contains_key("origin") {
        return Err(Refusal::WebPage);
    }
    let media_type = text(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::MediaType);
    }
    match text(CONTENT_ENCODING) {
        None | Some("identity") => Ok(body),
        Some("gzip") => {
            let mut bytes = Vec::new();
            let most = u64::try_from(LARGEST).unwrap_or(u64::MAX) + 1;
            let read = MultiGzDecoder::new(&body[..]).take(most).read_to_end(&mut bytes);
            read.map_err(|_| Refusal::Compression)?;
            if bytes.len() > LARGEST { Err(Refusal::TooLarge) } else { Ok(bytes.into()) }
        }
        Some(_) => Err(Refusal::Compression),
    }
}
