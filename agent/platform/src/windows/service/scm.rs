//! The service control manager: it starts and stops the machine service, and says when users log on to the device.
//!
//! [`dispatch`] hands this process to it. From then on the state of the service follows what the agent reports
//! ([`ready`], [`stopping`]); what it demands ends the [`StopSignal`] or wakes [`session_change`].

use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept, ServiceExitCode,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceStartType, ServiceState, ServiceStatus,
    ServiceType, SessionChangeReason,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};

use super::StopSignal;
use crate::role::Startup;

/// The name of the service.
pub(super) const NAME: &str = "Steward";

/// How long a start, and a stop, may take before Windows gives up.
const PATIENCE: Duration = Duration::from_mins(1);
/// When Windows starts a service again that has ended unexpectedly.
const RESTARTS: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_mins(2)];
/// Failures are forgotten after this time without one.
const FORGET: Duration = Duration::from_hours(24);
/// There is no such service (winerror.h).
const ERROR_SERVICE_DOES_NOT_EXIST: i32 = 1060;

type Body = Box<dyn FnOnce(StopSignal) -> bool + Send>;

/// What the service does, until the service control manager calls for it.
static BODY: Mutex<Option<Body>> = Mutex::new(None);
static SERVICE: OnceLock<Service> = OnceLock::new();

/// A running service.
struct Service {
    handle: ServiceStatusHandle,
    stop: Arc<Notify>,
    session_change: Notify,
}

/// Hands this process to the service control manager, which runs the body on a thread of its own, and waits until the service
/// has ended. The body says whether it ended well.
///
/// # Errors
/// The service control manager did not start this process.
pub fn dispatch(body: impl FnOnce(StopSignal) -> bool + Send + 'static) -> io::Result<()> {
    *BODY.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(body));
    service_dispatcher::start(NAME, service_main).map_err(io_error)
}

define_windows_service!(service_main, run);

/// Runs the body. Called by the service control manager, once.
fn run(_arguments: Vec<OsString>) {
    let Some(body) = BODY.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let stop = Arc::new(Notify::new());
    let control = {
        let stop = Arc::clone(&stop);
        move |control| handle(&stop, control)
    };
    // Without a handle nothing can be reported, not even that.
    let Ok(handle) = service_control_handler::register(NAME, control) else { return };
    let service =
        SERVICE.get_or_init(|| Service { handle, stop: Arc::clone(&stop), session_change: Notify::new() });
    service.report(ServiceState::StartPending, ServiceExitCode::NO_ERROR);
    set_recovery();
    let went_well = body(StopSignal::of_service(Arc::clone(&service.stop)));
    let code = if went_well { ServiceExitCode::NO_ERROR } else { ServiceExitCode::ServiceSpecific(1) };
    service.report(ServiceState::Stopped, code);
}

/// What the service control manager demands.
#[expect(clippy::wildcard_enum_match_arm, reason = "of what a newer Windows may demand, nothing is known")]
fn handle(stop: &Notify, control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => stop.notify_one(),
        ServiceControl::SessionChange(change) => {
            let matters = matches!(
                change.reason,
                SessionChangeReason::SessionLogon | SessionChangeReason::SessionLogoff
            );
            if let Some(service) = SERVICE.get().filter(|_| matters) {
                service.session_change.notify_one();
            }
        }
        ServiceControl::Interrogate => {}
        _ => return ServiceControlHandlerResult::NotImplemented,
    }
    ServiceControlHandlerResult::NoError
}

impl Service {
    fn report(&self, state: ServiceState, exit_code: ServiceExitCode) {
        let pending = matches!(state, ServiceState::StartPending | ServiceState::StopPending);
        let accepted = if state == ServiceState::Running {
            ServiceControlAccept::STOP
                | ServiceControlAccept::PRESHUTDOWN
                | ServiceControlAccept::SESSION_CHANGE
        } else {
            ServiceControlAccept::empty()
        };
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted: accepted,
            exit_code,
            checkpoint: u32::from(pending),
            wait_hint: if pending { PATIENCE } else { Duration::ZERO },
            process_id: None,
        };
        // Where the service control manager does not listen, nobody can be told.
        drop(self.handle.set_service_status(status));
    }
}

/// Reports that the service runs, if this process is one.
pub(super) fn ready() {
    if let Some(service) = SERVICE.get() {
        service.report(ServiceState::Running, ServiceExitCode::NO_ERROR);
    }
}

/// Reports that the service is about to end, if this process is one.
pub(super) fn stopping() {
    if let Some(service) = SERVICE.get() {
        service.report(ServiceState::StopPending, ServiceExitCode::NO_ERROR);
    }
}

/// Waits until a user has logged on to the device or off.
pub async fn session_change() {
    match SERVICE.get() {
        Some(service) => service.session_change.notified().await,
        None => std::future::pending().await,
    }
}

/// Makes Windows start the service again after a crash, whoever installed it. The installer has asked for the same; where an
/// administrator's choice or an old system forbids it, that stays as it is.
fn set_recovery() {
    let access = ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let Ok(manager) = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT) else {
        return;
    };
    let Ok(service) = manager.open_service(NAME, access) else { return };
    let chosen = service.get_failure_actions().ok().and_then(|actions| actions.actions);
    if chosen.is_some_and(|actions| !actions.is_empty()) {
        return;
    }
    let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
    drop(service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET),
        reboot_msg: None,
        command: None,
        actions: Some(RESTARTS.map(restart).to_vec()),
    }));
    drop(service.set_failure_actions_on_non_crash_failures(true));
}

/// How Windows starts the service.
pub(super) fn startup() -> Startup {
    let asked = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .and_then(|manager| manager.open_service(NAME, ServiceAccess::QUERY_CONFIG))
        .and_then(|service| service.query_config());
    match asked.map(|config| config.start_type) {
        Ok(ServiceStartType::AutoStart | ServiceStartType::SystemStart | ServiceStartType::BootStart) => {
            Startup::Automatic
        }
        Ok(ServiceStartType::OnDemand | ServiceStartType::Disabled) => Startup::Disabled,
        Err(error) => {
            let error = io_error(error);
            match error.raw_os_error() {
                Some(ERROR_SERVICE_DOES_NOT_EXIST) => Startup::NotInstalled,
                _ => Startup::Unknown(error.to_string()),
            }
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest are mistakes of this program")]
fn io_error(error: windows_service::Error) -> io::Error {
    match error {
        windows_service::Error::Winapi(error) => error,
        other => io::Error::other(other),
    }
}
