//! `steward agent`: the machine service, or a later version of it that this program supervises; and which version of this program the
//! other verbs are.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use platform::file::Access;
use platform::lock::Lock;
use platform::paths::Paths;
use updates::versions::{Launch, Versions};
use watchdog::child::{self, Word};

use super::{Arguments, Verb};
use crate::service::{self, Ended, Launched, StartError};
use crate::state::private_folder;
use crate::version;

/// Runs the machine service, in this version or a later one, until `stop` ends. Before anything else that could fail, it is decided which
/// version that is.
pub(super) async fn keep(paths: &Paths, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    if let Some(starts) = child::supervised() {
        let wanted = child::listen();
        let stop = async {
            tokio::select! {
                () = stop => {}
                () = wanted.stop.notified() => {}
            }
        };
        let launched = Launched { starts, supervised: Some(wanted.session_changed.clone()) };
        let ended = Box::pin(service::run(paths.clone(), stop, launched)).await;
        match &ended {
            Ok(Ended::MakesWay) => child::say(Word::Restart),
            Err(StartError::Running(_)) => child::say(Word::Busy),
            Ok(Ended::Stopped) | Err(_) => {}
        }
        return ended.map(drop);
    }
    let mut stop = pin!(stop);
    // Whoever finds a machine service running says so and counts nothing.
    let lock = private_folder(paths).join("watchdog.lock");
    let counts = platform::file::create_folder(&paths.state(), Access::Public).is_ok()
        && platform::file::create_folder(&private_folder(paths), Access::Private).is_ok();
    let Some(_lock) = Lock::take(&lock, Access::Private).ok().filter(|_| counts) else {
        return Box::pin(service::run(paths.clone(), stop, Launched::default())).await.map(drop);
    };
    loop {
        let launch = watchdog::launch(paths, version::own());
        let ended = if launch.version.is_some() {
            watchdog::supervise(paths, &launch, &arguments(paths), stop.as_mut()).await
        } else {
            run_here(paths, &launch, stop.as_mut()).await?
        };
        if ended == watchdog::Ended::Stopped {
            return Ok(());
        }
    }
}

/// Runs the machine service in this process.
async fn run_here(
    paths: &Paths,
    launch: &Launch,
    stop: impl Future<Output = ()>,
) -> Result<watchdog::Ended, StartError> {
    let launched = Launched { starts: launch.starts, supervised: None };
    let ended = Box::pin(service::run(paths.clone(), stop, launched)).await?;
    Ok(match ended {
        Ended::Stopped => {
            if let Err(error) = watchdog::change(paths, Versions::stopped) {
                tracing::warn!("a stop cannot be counted: {error}");
            }
            watchdog::Ended::Stopped
        }
        Ended::MakesWay => watchdog::Ended::Next,
    })
}

/// With what a version is started that is supervised.
fn arguments(paths: &Paths) -> Vec<OsString> {
    let root = paths.root().map(|root| [OsString::from("--root"), root.as_os_str().to_owned()]);
    root.into_iter().flatten().chain([OsString::from("agent")]).collect()
}

/// Runs the version of this program that has shown that it works in place of this one, if it is newer. The machine service itself
/// decides that another way. A newer version may understand more than this one: the command line needs not be valid here.
pub(super) fn run_newer(read: &Result<Arguments, clap::Error>) -> Option<ExitCode> {
    let root = match read {
        Ok(Arguments { verb: Verb::Agent { verb: None } | Verb::Service | Verb::SelfUpdate(_), .. }) => {
            return None;
        }
        Ok(arguments) => arguments.root.clone(),
        Err(_) => root_of(std::env::args_os().skip(1)),
    };
    let root = root.map(fs_err::canonicalize).transpose().ok()?;
    let program = watchdog::newer(&Paths::new(root), version::own())?;
    // What cannot be run must not keep this one from its work.
    platform::install::run_instead(&program).ok()
}

/// What follows `--root`.
fn root_of(mut arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--root" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(root) = text.strip_prefix("--root=") {
            return Some(root.into());
        }
    }
    None
}
