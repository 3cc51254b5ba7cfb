//! The log: one line per event on standard error, which the service manager keeps. Its level follows policy.

use std::sync::OnceLock;

use policy_schema::settings::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;

static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log. Called once, by the processes that stay.
pub(crate) fn start() {
    let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
    // The service manager adds its own time, and colours are for terminals.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time();
    tracing_subscriber::registry().with(filter).with(lines).init();
    drop(LEVEL.set(handle));
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
