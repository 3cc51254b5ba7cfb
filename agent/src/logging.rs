//! The log: one line per event on standard error, which the service manager keeps, or an entry with fields in systemd's journal; where
//! nobody keeps it, also in a file of its own, and what went wrong with the machine service in the system's event log. Its level
//! follows policy.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use platform::file::{self, Access};
use platform::log_file::LogFile;
use platform::paths::Paths;
use platform::role::{Role, Severity};
use platform::{clock, service};
use policy_schema::settings::LogLevel;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::state::private_folder;

/// The target of changes of the state of components.
pub(crate) const STATES: &str = "steward::states";

static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log. Called once, by the processes that stay.
pub(crate) fn start(paths: &Paths, role: Role) {
    let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
    let journal = service::journal();
    // Colours are for terminals. The journal would have each line twice.
    let lines = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .with_target(false)
            .with_timer(Time { shown: !service::log_has_times() })
    });
    let opened = service::log_file(paths, role).map(|path| {
        if role == Role::Agent {
            // Whose they are is checked before anything is written into them.
            file::create_folder(&paths.state(), Access::Public)?;
            file::create_folder(&private_folder(paths), Access::Private)?;
        }
        LogFile::open(&path)
    });
    let (file, refused) = match opened {
        None => (None, None),
        Some(Ok(file)) => (Some(file), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let file = file.map(|file| {
        tracing_subscriber::fmt::layer()
            .with_writer(move || file.clone())
            .with_ansi(false)
            .with_target(false)
            .with_timer(Time { shown: true })
    });
    let events = (role == Role::Agent).then_some(EventLog);
    tracing_subscriber::registry().with(filter).with(journal).with(lines).with(file).with(events).init();
    drop(LEVEL.set(handle));
    if let Some(error) = refused {
        tracing::warn!("there is no log file: {error}");
    }
}

/// Changes the level.
pub(crate) fn set_level(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    if let Some(Err(error)) = LEVEL.get().map(|handle| handle.reload(level)) {
        tracing::warn!("the log level could not be changed: {error}");
    }
}

/// The time of an entry in UTC, where nobody else adds one.
struct Time {
    shown: bool,
}

impl FormatTime for Time {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        if self.shown {
            write!(writer, "{}", clock::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
        } else {
            Ok(())
        }
    }
}

/// Tells the system's event log what went wrong.
struct EventLog;

impl<S: Subscriber> Layer<S> for EventLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            // Who reads that something has failed wants to read that it works again.
            Level::INFO if event.metadata().target() == STATES => Severity::Information,
            _ => return,
        };
        let mut text = Text(String::new());
        event.record(&mut text);
        service::report_event(severity, &text.0);
    }
}

/// The message of an event, and its other fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a text does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
