//! The lab's identity provider: OpenID Connect with a login form, PKCE, and refresh tokens in the manner of several
//! vendors. Its behaviour can be changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::EncodingKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use url::Url;

pub use behaviour::{Behaviour, ProviderFault, Rotation, Variation};
pub use vendor::Vendor;

mod behaviour;
mod device_flow;
mod documents;
mod response;
mod token;
mod vendor;

/// The client that is registered.
pub const CLIENT_ID: &str = "steward-lab";
/// The user who signs in unless told otherwise.
pub const USER: &str = "ada";
/// The client secret as Google gives it to desktop clients; it is public.
pub const GOOGLE_SECRET: &str = "GOCSPX-lab";
/// The password of every user.
pub const PASSWORD: &str = "correct horse battery staple";
/// The address of [`USER`].
pub const EMAIL: &str = "ada@example.com";

/// A running provider.
#[derive(Clone)]
pub struct Provider {
    issuer: String,
    address: SocketAddr,
    routes: Router,
    server: Arc<Mutex<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    vendor: Vendor,
    state: Mutex<Inner>,
    key: EncodingKey,
    other_key: EncodingKey,
    long_key: EncodingKey,
    rsa_key: EncodingKey,
    /// As the provider publishes them: one of the first two, and always the others.
    public: [Value; 4],
}

/// The lab's RSA key: making one takes longer than a scenario.
const RSA_KEY: &[u8] = include_bytes!("../fixtures/rsa-key.der");
const RSA_MODULUS: &str = include_str!("../fixtures/rsa-key.modulus");

struct Inner {
    issuer: String,
    behaviour: Behaviour,
    requests: BTreeMap<String, BTreeMap<String, String>>,
    codes: BTreeMap<String, BTreeMap<String, String>>,
    refresh_tokens: BTreeMap<String, RefreshToken>,
    /// The parameters of the last authorization request.
    authorization: BTreeMap<String, String>,
    /// The parameters of the last token request.
    token: BTreeMap<String, String>,
    token_requests: usize,
    devices: BTreeMap<String, device_flow::PendingDeviceSignIn>,
    revocations: usize,
    logins: usize,
    refreshes: usize,
    key_requests: usize,
    /// Whether the second key has replaced the first.
    rotated: bool,
}

#[derive(Clone)]
struct RefreshToken {
    nonce: String,
    user: &'static str,
    used: Option<Instant>,
    revoked: bool,
}

/// What a token is issued for.
struct Granted {
    nonce: String,
    /// It is a sign-in, not a renewal.
    first: bool,
    user: &'static str,
    scope: String,
    /// Whether the response has a refresh token.
    with_refresh_token: bool,
}

/// The address of a user.
fn email(user: &str) -> String {
    format!("{user}@example.com")
}

impl Provider {
    /// Starts a provider on a free port.
    ///
    /// # Panics
    /// No port is free, or there is no randomness.
    pub async fn start() -> Self {
        Self::start_as(Vendor::Plain).await
    }

    /// Starts a provider that behaves like a vendor's.
    ///
    /// # Panics
    /// No port is free, or there is no randomness.
    pub async fn start_as(vendor: Vendor) -> Self {
        let random = SystemRandom::new();
        let pair = |id: &str, curve: &str, kind| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("there is randomness");
            let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).expect("it was just made");
            let point = pair.public_key().as_ref()[1..].to_vec();
            let (x, y) = point.split_at(point.len() / 2);
            let (x, y) = (BASE64.encode(x), BASE64.encode(y));
            let public = json!({ "kty": "EC", "crv": curve, "use": "sig", "kid": id, "x": x, "y": y });
            (EncodingKey::from_ec_der(pkcs8.as_ref()), public)
        };
        let (key, first) = pair("lab", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
        let (other_key, second) = pair("lab-2", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
        let (long_key, third) = pair("lab-long", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING);
        let rsa = json!({ "kty": "RSA", "use": "sig", "kid": "lab-rsa", "n": RSA_MODULUS, "e": "AQAB" });
        let shared = Arc::new(Shared {
            vendor,
            state: Mutex::new(Inner {
                issuer: String::new(),
                behaviour: vendor.behaviour(),
                rotated: false,
                requests: BTreeMap::new(),
                codes: BTreeMap::new(),
                refresh_tokens: BTreeMap::new(),
                authorization: BTreeMap::new(),
                token: BTreeMap::new(),
                token_requests: 0,
                devices: BTreeMap::new(),
                revocations: 0,
                logins: 0,
                refreshes: 0,
                key_requests: 0,
            }),
            key,
            other_key,
            long_key,
            rsa_key: EncodingKey::from_rsa_der(RSA_KEY),
            public: [first, second, third, rsa],
        });
        let at = vendor.endpoints();
        let discovery_path = format!("{}/.well-known/openid-configuration", at.issuer);
        let routes = Router::new()
            .route(&discovery_path, get(documents::discovery))
            .route(at.authorize, get(authorize))
            .route("/login", post(login))
            .route(at.token, post(token::token))
            .route(at.keys, get(documents::jwks))
            .route(at.user_info, get(documents::user_info).post(documents::user_info))
            .route("/revoke", post(device_flow::revoke))
            .route("/device", post(device_flow::device))
            .route("/device/done", get(device_flow::device_done))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let issuer = format!("http://{address}{}", at.issuer);
        shared.lock().issuer.clone_from(&issuer);
        let server = Arc::new(Mutex::new(serve(listener, routes.clone())));
        Self { issuer, address, routes, server, shared }
    }

    /// Stops: connections are refused from now on.
    ///
    /// # Panics
    /// A server task has panicked.
    pub async fn stop(&self) {
        self.server.lock().expect("no task panics").abort();
        crate::wait::until("a closed port", async || match TcpStream::connect(self.address).await {
            Ok(_) => Err("it still accepts connections"),
            Err(_) => Ok(()),
        })
        .await;
    }

    /// Starts again at the same address.
    ///
    /// # Panics
    /// Another process uses its port.
    pub async fn start_again(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        *self.server.lock().expect("no task panics") = serve(listener, self.routes.clone());
    }

    /// The issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The address that it listens at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Uses another address in its issuer identifier and its documents from now on.
    #[must_use]
    pub fn behind(mut self, address: &str) -> Self {
        address.clone_into(&mut self.issuer);
        self.shared.lock().issuer.clone_from(&self.issuer);
        self
    }

    /// Changes the behaviour.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().behaviour);
    }

    /// How often a user has submitted the login form.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.shared.lock().logins
    }

    /// How often a refresh token was used.
    #[must_use]
    pub fn refreshes(&self) -> usize {
        self.shared.lock().refreshes
    }

    /// How often the keys were requested.
    #[must_use]
    pub fn key_requests(&self) -> usize {
        self.shared.lock().key_requests
    }

    /// How often a client has revoked a token (RFC 7009).
    #[must_use]
    pub fn revocations(&self) -> usize {
        self.shared.lock().revocations
    }

    /// How often the token endpoint was called.
    #[must_use]
    pub fn token_requests(&self) -> usize {
        self.shared.lock().token_requests
    }

    /// A parameter of the last authorization request.
    #[must_use]
    pub fn authorization_parameter(&self, name: &str) -> Option<String> {
        self.shared.lock().authorization.get(name).cloned()
    }

    /// A parameter of the last token request.
    #[must_use]
    pub fn token_parameter(&self, name: &str) -> Option<String> {
        self.shared.lock().token.get(name).cloned()
    }

    /// Issues a refresh token without a sign-in, for clients that cannot sign in here.
    #[must_use]
    pub fn issue_refresh_token(&self) -> String {
        let token = secret();
        let entry = RefreshToken { nonce: secret(), user: USER, used: None, revoked: false };
        self.shared.lock().refresh_tokens.insert(token.clone(), entry);
        token
    }

    /// Ends every session.
    pub fn revoke_all(&self) {
        for token in self.shared.lock().refresh_tokens.values_mut() {
            token.revoked = true;
        }
    }
}

fn serve(listener: TcpListener, routes: Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            panic!("the provider's server ended: {error}");
        }
    })
}

impl Shared {
    /// Whether the response to this renewal gets lost.
    fn loses_response(&self) -> bool {
        let mut state = self.lock();
        let lost = state.behaviour.lost_responses;
        state.behaviour.lost_responses = lost.saturating_sub(1);
        lost > 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    Query(request): Query<BTreeMap<String, String>>,
) -> Response {
    let parameter = |name: &str| request.get(name).map_or("", String::as_str);
    if let Some((status, page)) = shared.lock().behaviour.page {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        return (status, Html(page)).into_response();
    }
    let error = match () {
        () if parameter("client_id") != CLIENT_ID => "unknown client",
        () if !parameter("redirect_uri").starts_with("http://localhost:") => "redirect_mismatch",
        () if parameter("response_type") != "code" => "unsupported_response_type",
        () if parameter("code_challenge_method") != "S256" => "PKCE with S256 is required",
        () if shared.vendor == Vendor::Google && parameter("scope").contains("offline_access") => {
            "Error 400: invalid_scope"
        }
        () if immediate_error(&shared, parameter("prompt")).is_some() => {
            let (error, description) = immediate_error(&shared, parameter("prompt")).unwrap_or_default();
            let Ok(mut redirect) = parameter("redirect_uri").parse::<Url>() else {
                return (StatusCode::BAD_REQUEST, "redirect_mismatch").into_response();
            };
            redirect
                .query_pairs_mut()
                .append_pair("state", parameter("state"))
                .append_pair("error", error)
                .append_pair("error_description", description);
            return Redirect::to(redirect.as_str()).into_response();
        }
        () => {
            let id = secret();
            let form = format!(
                "<!DOCTYPE html><title>Lab sign-in</title><h1>Lab sign-in</h1><form method=post action=/login>\
                 <input type=hidden name=request value={id}>\
                 <label>User <input name=username autocomplete=username></label>\
                 <label>Password <input name=password type=password></label><button>Sign in</button></form>"
            );
            let mut state = shared.lock();
            state.authorization.clone_from(&request);
            state.requests.insert(id, request);
            drop(state);
            return Html(form).into_response();
        }
    };
    (StatusCode::BAD_REQUEST, error).into_response()
}

/// Why the browser is redirected before it shows a page: the provider refuses, or must not show one (Core 1.0, 3.1.2.6).
fn immediate_error(shared: &Shared, prompt: &str) -> Option<(&'static str, &'static str)> {
    let silent = prompt.split(' ').any(|word| word == "none");
    shared.lock().behaviour.refusal.or(silent.then_some(("login_required", "no user is signed in")))
}

async fn login(State(shared): State<Arc<Shared>>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    let mut state = shared.lock();
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    let Some(request) = state.requests.get(field("request")).cloned() else {
        return (StatusCode::BAD_REQUEST, "the form has expired").into_response();
    };
    if (field("username"), field("password")) != (USER, PASSWORD) {
        return (StatusCode::FORBIDDEN, "wrong user or password").into_response();
    }
    state.logins += 1;
    let mut redirect: Url = match request["redirect_uri"].parse() {
        Ok(url) => url,
        Err(_) => return (StatusCode::BAD_REQUEST, "redirect_mismatch").into_response(),
    };
    let mut pairs = redirect.query_pairs_mut();
    pairs.append_pair("state", request.get("state").map_or("", String::as_str));
    match state.behaviour.fault {
        Some(ProviderFault::WrongIssuerInResponse) => {
            pairs.append_pair("iss", "https://elsewhere.example");
        }
        Some(ProviderFault::NoIssuerInResponse) => {}
        Some(_) | None if shared.vendor.names_issuer() => {
            pairs.append_pair("iss", &state.issuer);
        }
        Some(_) | None => {}
    }
    if state.behaviour.fault == Some(ProviderFault::NoCode) {
        // Only the state.
    } else if state.behaviour.deny {
        let (error, description) = state.behaviour.denial;
        pairs.append_pair("error", error).append_pair("error_description", description);
    } else {
        let code = secret();
        pairs.append_pair("code", &code);
        state.codes.insert(code, request);
    }
    drop(pairs);
    Redirect::to(redirect.as_str()).into_response()
}

fn secret() -> String {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).expect("there is randomness");
    BASE64.encode(bytes)
}
