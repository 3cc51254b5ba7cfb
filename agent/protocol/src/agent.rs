//! The endpoints of the machine service's local API. Every local user may read. Only an administrator may change
//! something.

use crate::endpoint::{Endpoint, Nothing};
use crate::policy::ResolvedPolicy;
use crate::report::Preview;
use crate::status::Status;
use crate::update::{History, UpdateRequest};

/// The status of the device.
pub const STATUS: Endpoint<Nothing, Status> =
    Endpoint::get("/v1/status", "status", "The status of the device.");

/// The resolved policy.
pub const POLICY: Endpoint<Nothing, ResolvedPolicy> =
    Endpoint::get("/v1/policy", "policy", "Every setting with its value and where it comes from.");

/// Reads policy now; for administrators.
pub const RELOAD_POLICY: Endpoint<Nothing, ResolvedPolicy> =
    Endpoint::post("/v1/policy/reload", "reloadPolicy", "Reads policy now. For administrators.");

/// Checks the release feed now; for administrators.
pub const CHECK_FOR_UPDATE: Endpoint<UpdateRequest, Status> = Endpoint::post(
    "/v1/update/check",
    "checkForUpdate",
    "Does what the command says, if there is one, then checks the release feed and installs what policy allows. For administrators.",
);

/// What happened in updates of the app.
pub const UPDATE_HISTORY: Endpoint<Nothing, History> = Endpoint::get(
    "/v1/update/history",
    "updateHistory",
    "What happened in updates of the app, the newest last.",
);

/// The next report, to whom it goes, when, and what it leaves out. Only an administrator sees how it names users.
pub const REPORT: Endpoint<Nothing, Preview> = Endpoint::get(
    "/v1/report",
    "report",
    "The next report as it would be sent now, to whom, when, and what it leaves out. Only an administrator sees how it names users.",
);

/// A broker reports that the state of its user's session has changed, so that the machine service sends a report at
/// once. The machine service does not trust the caller: it reads the sessions from the brokers.
pub const SESSION_CHANGED: Endpoint<Nothing, Nothing> =
    Endpoint::post("/v1/session/changed", "sessionChanged", "The state of the caller's session has changed.");
