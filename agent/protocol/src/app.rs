//! What the machine service asks the broker of a user about the app, when an update waits until it is closed: to tell the user, to
//! close it, to start it again. Endpoints of the broker's local API, for administrators.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// Tells the user of an update.
pub const APP_TELL: Endpoint<AppNotice, AppState> = Endpoint::post(
    "/v1/app/tell",
    "appTell",
    "Tells the user that an update waits until the app is closed, if the user has it open. For administrators.",
);

/// Closes the app.
pub const APP_CLOSE: Endpoint<App, AppState> = Endpoint::post(
    "/v1/app/close",
    "appClose",
    "Asks the user's app to close, for an update. For administrators.",
);

/// Ends what the other two began.
pub const APP_RESUME: Endpoint<App, AppResumed> = Endpoint::post(
    "/v1/app/resume",
    "appResume",
    "Takes the notice back, and starts the app again if it was closed for an update. For administrators.",
);

/// An app, as the user's session knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct App {
    /// Its name in policy.
    pub name: String,
    /// As users know it.
    pub title: String,
    /// Its processes: names of programs, or folders (with a separator in them) that they lie in.
    pub processes: Vec<String>,
    /// What is started: a program, on macOS also a bundle.
    pub program: String,
}

/// An update that waits until the app is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AppNotice {
    /// The app.
    pub app: App,
    /// The version that is ready, as users read it.
    pub version: String,
    /// When the app is closed for it; `null` if the user decides.
    pub closes_at: Option<Timestamp>,
    /// Whether a user who was told the same already is to be left alone.
    pub once: bool,
}

/// How the app is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppState {
    /// Whether the user has it open.
    pub open: bool,
    /// Whether a notice is on the user's screen.
    pub told: bool,
}

/// What became of the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppResumed {
    /// Whether it was started again, because this broker had closed it.
    pub started: bool,
    /// How it ended right after that, if it did.
    pub ended: Option<String>,
}
