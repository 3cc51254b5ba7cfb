//! Revocation (RFC 7009) and sign-in on another device (RFC 8628).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{CLIENT_ID, Granted, Inner, Shared, secret};

/// A sign-in on another device that waits for its user.
pub(super) struct PendingDeviceSignIn {
    user_code: String,
    scope: String,
    /// Set when the user has signed in.
    user: Option<&'static str>,
    /// How often the client has polled.
    polls: usize,
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Form(request): Form<BTreeMap<String, String>>,
) -> StatusCode {
    let mut state = shared.lock();
    let Some(token) = request.get("token") else { return StatusCode::BAD_REQUEST };
    if request.get("client_id").map(String::as_str) != Some(CLIENT_ID) {
        return StatusCode::UNAUTHORIZED;
    }
    if let Some(known) = state.refresh_tokens.get_mut(token) {
        known.revoked = true;
        state.revocations += 1;
    }
    // An unknown token counts as revoked (section 2.2).
    StatusCode::OK
}

pub(super) async fn device(
    State(shared): State<Arc<Shared>>,
    Form(request): Form<BTreeMap<String, String>>,
) -> Json<Value> {
    let mut state = shared.lock();
    let (device_code, user_code) = (secret(), "WDJB-MJHT".to_owned());
    let scope = request.get("scope").cloned().unwrap_or_default();
    let waiting = PendingDeviceSignIn { user_code: user_code.clone(), scope, user: None, polls: 0 };
    state.devices.insert(device_code.clone(), waiting);
    let address = format!("{}/device/done", state.issuer);
    Json(json!({
        "device_code": device_code, "user_code": user_code, "verification_uri": address,
        "verification_uri_complete": format!("{address}?user_code={user_code}"), "expires_in": 300, "interval": 1,
    }))
}

/// The user has entered the code and signed in.
pub(super) async fn device_done(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<BTreeMap<String, String>>,
) -> StatusCode {
    let mut state = shared.lock();
    let user = state.behaviour.user;
    let typed = request.get("user_code");
    let Some(waiting) = state.devices.values_mut().find(|waiting| Some(&waiting.user_code) == typed) else {
        return StatusCode::NOT_FOUND;
    };
    waiting.user = Some(user);
    state.logins += 1;
    StatusCode::OK
}

pub(super) fn redeem_device(state: &mut Inner, device_code: &str) -> Result<Granted, &'static str> {
    if state.behaviour.deny {
        return Err("access_denied");
    }
    let waiting = state.devices.get_mut(device_code).ok_or("expired_token")?;
    waiting.polls += 1;
    let Some(user) = waiting.user else {
        return Err(if waiting.polls == 2 { "slow_down" } else { "authorization_pending" });
    };
    let scope = waiting.scope.clone();
    state.devices.remove(device_code);
    Ok(Granted { nonce: String::new(), first: true, user, scope, with_refresh_token: true })
}
