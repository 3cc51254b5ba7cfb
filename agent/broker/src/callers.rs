//! Which programs may have tokens, and which asked. A caller is the file that its process runs, as the operating system
//! knows it, not a name that it gives itself.
//!
//! The managed app, Steward itself and what `AllowedApplications` names may. The interpreter of a script is not the
//! script: to allow it is to allow every script.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use platform::ipc::Peer;
use platform::paths::Paths;
use platform::program::Program;
use policy_schema::{Code, Problem};
use protocol::broker::CallerRecord;

use super::configuration::Configuration;
use platform::clock;

/// More applications than this are not remembered; the one that has been silent for longest goes.
const MAXIMUM_APPLICATIONS: usize = 100;
/// How many refusals are shown as problems, and for how long.
const MAXIMUM_PROBLEMS: usize = 5;
const PROBLEM_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// Who asked since the broker started.
pub(super) struct Callers {
    /// Steward's own program.
    own: Option<PathBuf>,
    records: Mutex<Vec<CallerRecord>>,
}

/// What a program that may send requests may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// Steward's own.
    Own,
    /// The managed app, or one that policy names.
    Named,
    /// One that policy names, with its path: it gets tokens once the user has confirmed it.
    OnceConfirmed(String),
}

/// Policy does not let a program have tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{application} may not have tokens: {reason}")]
pub(super) struct CallerRefused {
    application: String,
    reason: String,
}

impl CallerRefused {
    /// The problem to show.
    pub(super) fn problem(&self) -> Problem {
        Problem::new(Code::BrokerCallerRefused, self.to_string())
            .key("AllowedApplications")
            .hint("an administrator can add its absolute path to `AllowedApplications`".to_owned())
    }
}

impl Callers {
    pub(super) fn new() -> Self {
        Self { own: std::env::current_exe().ok(), records: Mutex::default() }
    }

    /// Admits a caller or not, and remembers it.
    ///
    /// # Errors
    /// It is not one that policy allows.
    pub(super) fn check(
        &self,
        configuration: &Configuration,
        paths: &Paths,
        peer: &Peer,
        admitted: &AtomicU64,
        route: &str,
    ) -> Result<Permission, CallerRefused> {
        let program = peer.program();
        // The decision is valid for this connection, as long as policy and program stay what they are.
        let decided = admitted.load(Ordering::Relaxed);
        if decided >> 1 == configuration.number
            && program.as_ref().is_ok_and(|program| !program.is_removed())
            && self.count(peer, route)
        {
            return Ok(if decided & 1 == 1 { Permission::Own } else { Permission::Named });
        }
        let own = program.as_ref().is_ok_and(|program| self.is_own(program, paths));
        let decision = match &program {
            Ok(_) if own => Ok(Permission::Own),
            Ok(program) => decide(configuration, paths, program),
            Err(error) => Err(format!("the system does not tell which program it runs: {error}")),
        };
        // What the user has to confirm is looked up at each request.
        if let Ok(Permission::Own | Permission::Named) = decision {
            admitted.store(configuration.number << 1 | u64::from(own), Ordering::Relaxed);
        }
        let reason = decision.as_ref().err().cloned();
        let application =
            program.map_or_else(|_| "an unknown program".to_owned(), |program| shown(&program.path));
        let refusal = reason.clone().map(|reason| CallerRefused { application: application.clone(), reason });
        let new = self.remember(CallerRecord {
            application: application.clone(),
            route: route.to_owned(),
            allowed: reason.is_none(),
            reason,
            requests: 1,
            process: peer.process(),
            first_at: clock::now(),
            last_at: clock::now(),
        });
        // Once for each application: one that asks in a loop must not fill the log.
        if let Some(refusal) = refusal.as_ref().filter(|_| new) {
            tracing::warn!("{}: {refusal}", Code::BrokerCallerRefused.as_str());
        }
        decision.map_err(|reason| CallerRefused { application, reason })
    }

    /// Counts one more request of a process that was admitted before. Whether it was.
    fn count(&self, peer: &Peer, route: &str) -> bool {
        let mut asked = self.lock();
        let known = asked
            .iter_mut()
            .find(|known| known.process == peer.process() && known.allowed && known.route == route);
        known.is_some_and(|known| {
            known.requests += 1;
            known.last_at = clock::now();
            true
        })
    }

    /// Until it is started again, a broker is of another version than what calls it after an update.
    fn is_own(&self, program: &Program, paths: &Paths) -> bool {
        self.own.as_ref().is_some_and(|own| program.is(own)) || program.is_stewards(paths)
    }

    /// Who asked, the latest first.
    pub(super) fn records(&self) -> Vec<CallerRecord> {
        let mut asked = self.lock().clone();
        asked.sort_by_key(|asked| std::cmp::Reverse(asked.last_at));
        asked
    }

    /// The refusals of late, as problems.
    pub(super) fn problems(&self, now: Timestamp) -> Vec<Problem> {
        let asked = self.records();
        let late = |asked: &&CallerRecord| asked.last_at.duration_until(now) < PROBLEM_LIFETIME;
        asked
            .iter()
            .filter(late)
            .filter_map(|asked| {
                let (application, reason) = (asked.application.clone(), asked.reason.clone()?);
                Some(CallerRefused { application, reason }.problem())
            })
            .take(MAXIMUM_PROBLEMS)
            .collect()
    }

    /// Whether it was not known yet.
    fn remember(&self, record: CallerRecord) -> bool {
        let mut asked = self.lock();
        let known = asked.iter_mut().find(|known| {
            (&known.application, &known.route, known.allowed)
                == (&record.application, &record.route, record.allowed)
        });
        if let Some(known) = known {
            *known = CallerRecord { requests: known.requests + 1, first_at: known.first_at, ..record };
            return false;
        }
        if asked.len() == MAXIMUM_APPLICATIONS
            && let Some(oldest) = (0..asked.len()).min_by_key(|&index| asked[index].last_at)
        {
            asked.swap_remove(oldest);
        }
        asked.push(record);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<CallerRecord>> {
        self.records.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether policy allows a program, or why not.
fn decide(configuration: &Configuration, paths: &Paths, program: &Program) -> Result<Permission, String> {
    let folder = |folder: &String| program.is_inside(&paths.under_root(folder.as_ref()));
    let named = |path: &String| program.is(path.as_ref());
    // What stands in policy twice is to be confirmed. A file is known by the path that policy has, whatever path the
    // program sees; within a folder its own path leads to it.
    if let Some(path) = configuration.applications_to_confirm.iter().find(|path| named(path)) {
        return Ok(Permission::OnceConfirmed(path.clone()));
    }
    if configuration.folders_to_confirm.iter().any(folder) {
        return Ok(Permission::OnceConfirmed(shown(&program.path)));
    }
    // A path costs one system call, a folder one for each of its parts.
    if configuration.applications.iter().any(named) || configuration.app_folders.iter().any(folder) {
        return Ok(Permission::Named);
    }
    if program.is_replaced() {
        return Err("its program was replaced or removed since it started; start it again".to_owned());
    }
    let every = || configuration.applications.iter().chain(&configuration.applications_to_confirm);
    let script = every().find(|path| is_script(path.as_ref()));
    let script = script.map_or_else(String::new, |script| {
        format!(
            "; `AllowedApplications` names {script}, which is a script: a script is run by its interpreter, which runs \
             others as well, so a script can never be allowed"
        )
    });
    Err(format!("it is neither the managed app nor one of `AllowedApplications`{script}"))
}

/// A path comes from the caller's own view of the file system: nothing in it reaches a terminal as a command.
fn shown(path: &Path) -> String {
    let plain = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    path.to_string_lossy().chars().map(plain).take(1000).collect()
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = fs_err::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"#!"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(application: &str, second: i64, allowed: bool) -> CallerRecord {
        CallerRecord {
            application: application.to_owned(),
            route: "/v1/token".to_owned(),
            allowed,
            reason: (!allowed).then(|| "because".to_owned()),
            requests: 1,
            process: Some(1),
            first_at: Timestamp::from_second(second).unwrap(),
            last_at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn callers_are_counted_and_the_longest_silent_is_forgotten_first() {
        let callers = Callers::new();
        assert!(callers.remember(record("/a", 1, true)));
        assert!(!callers.remember(record("/a", 5, true)));
        assert_eq!((callers.records()[0].requests, callers.records()[0].first_at.as_second()), (2, 1));
        for number in 0..200 {
            callers.remember(record(&format!("/{number}"), 10 + number, false));
        }
        let asked = callers.records();
        assert_eq!((asked.len(), asked[0].application.as_str()), (MAXIMUM_APPLICATIONS, "/199"));
        let now = Timestamp::from_second(10 + 199).unwrap();
        assert_eq!(callers.problems(now).len(), MAXIMUM_PROBLEMS);
        assert!(callers.problems(now + SignedDuration::from_hours(25)).is_empty());
    }

    #[test]
    fn control_characters_in_the_name_of_a_caller_are_replaced() {
        assert_eq!(shown(Path::new("/tmp/\u{1b}[2J")), "/tmp/\u{fffd}[2J");
    }
}
