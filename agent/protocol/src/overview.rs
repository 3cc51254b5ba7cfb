//! The overview that `steward status --json` prints. Made by the command line. Part of the published JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::health::ComponentHealth;
use crate::session::SessionStatus;
use crate::status::Status;

/// What `steward status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Whether the machine service responds. If not, `status` is the last that it wrote.
    pub agent_running: bool,
    /// The status of the machine service; `null` if there is none.
    pub status: Option<Status>,
    /// The session of the current user; `null` if the user's broker does not run.
    pub sign_in: Option<SessionStatus>,
    /// The health of the device.
    pub health: ComponentHealth,
}
