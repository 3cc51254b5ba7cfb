//! Who may have tokens, and who asked. A caller is the program that its process runs: the very file, as the kernel has
//! it, not a name that it gives itself.
//!
//! The managed app, Steward itself and what `AllowedApplications` names may. The interpreter of a script is not the
//! script: whoever allows it allows every script.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_platform::ipc::Peer;
use agent_platform::paths::Paths;
use agent_platform::program::Program;
use jiff::{SignedDuration, Timestamp};
use policy_schema::{Code, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use crate::clock;

/// More applications than this are not remembered; the one that has been silent for longest goes.
const MAXIMUM_APPLICATIONS: usize = 100;
/// How many refusals are told as problems, and for how long.
const MAXIMUM_TOLD: usize = 5;
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Who asked since the broker started.
pub(super) struct Callers {
    /// Steward's own program.
    own: Option<PathBuf>,
    asked: Mutex<Vec<Asked>>,
}

/// One application that asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Asked {
    /// The path of its program.
    pub(crate) application: String,
    /// What it asked for, as a route.
    pub(crate) route: String,
    pub(crate) allowed: bool,
    /// Why it was refused.
    pub(crate) reason: Option<String>,
    /// How often it asked.
    pub(crate) questions: u64,
    /// The process that asked last.
    pub(crate) process: Option<u32>,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
}

impl Callers {
    pub(super) fn new() -> Self {
        Self { own: std::env::current_exe().ok(), asked: Mutex::default() }
    }

    /// Lets a caller through or not, and remembers it.
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
    ) -> Result<(), Problem> {
        let program = peer.program();
        // What was decided holds for this connection, as long as policy and program stay what they are.
        if admitted.load(Ordering::Relaxed) == configuration.number
            && program.as_ref().is_ok_and(|program| !program.is_removed())
            && self.count(peer, route)
        {
            return Ok(());
        }
        let reason = match &program {
            Ok(program) => self.reason_to_refuse(configuration, paths, program),
            Err(error) => Some(format!("the system does not say which program it runs: {error}")),
        };
        if reason.is_none() {
            admitted.store(configuration.number, Ordering::Relaxed);
        }
        let application =
            program.map_or_else(|_| "an unknown program".to_owned(), |program| shown(&program.path));
        let refusal = reason.as_deref().map(|reason| refusal(&application, reason));
        let new = self.remember(Asked {
            application,
            route: route.to_owned(),
            allowed: reason.is_none(),
            reason,
            questions: 1,
            process: peer.process(),
            first_at: clock::now(),
            last_at: clock::now(),
        });
        match refusal {
            None => Ok(()),
            Some(refusal) => {
                // Once for each application: one that asks in a loop must not fill the log.
                if new {
                    tracing::warn!("{}: {}", refusal.code.as_str(), refusal.message);
                }
                Err(refusal)
            }
        }
    }

    /// Counts one more question of a process that was let through before; whether it was.
    fn count(&self, peer: &Peer, route: &str) -> bool {
        let mut asked = self.lock();
        let known = asked
            .iter_mut()
            .find(|known| known.process == peer.process() && known.allowed && known.route == route);
        known.is_some_and(|known| {
            known.questions += 1;
            known.last_at = clock::now();
            true
        })
    }

    /// Whether it is Steward's own program that asks.
    pub(super) fn is_own(&self, peer: &Peer) -> bool {
        let own = |program: Program| self.own.as_ref().is_some_and(|own| program.is(own));
        peer.program().is_ok_and(own)
    }

    /// Who asked, the latest first.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let mut asked = self.lock().clone();
        asked.sort_by_key(|asked| std::cmp::Reverse(asked.last_at));
        asked
    }

    /// The refusals of late, as problems.
    pub(super) fn problems(&self, now: Timestamp) -> Vec<Problem> {
        let asked = self.asked();
        let late = |asked: &&Asked| asked.last_at.duration_until(now) < TOLD_FOR;
        asked
            .iter()
            .filter(late)
            .filter_map(|asked| Some(refusal(&asked.application, asked.reason.as_deref()?)))
            .take(MAXIMUM_TOLD)
            .collect()
    }

    fn reason_to_refuse(
        &self,
        configuration: &Configuration,
        paths: &Paths,
        program: &Program,
    ) -> Option<String> {
        let own = self.own.as_ref().is_some_and(|own| program.is(own));
        let folder = |folder: &String| program.is_inside(&paths.under_root(folder.as_ref()));
        let named = |path: &String| program.is(path.as_ref());
        if own || configuration.app_folders.iter().any(folder) || configuration.applications.iter().any(named)
        {
            return None;
        }
        if program.is_replaced() {
            return Some("its program was replaced or removed since it started; start it anew".to_owned());
        }
        let script = configuration.applications.iter().find(|path| is_script(path.as_ref()));
        let script = script.map_or_else(String::new, |script| {
            format!(
                "; `AllowedApplications` names {script}, which is a script: a script is run by its interpreter, which \
                 runs others as well, so a script can never be allowed"
            )
        });
        Some(format!("it is neither the managed app nor one of `AllowedApplications`{script}"))
    }

    /// Whether it was not known yet.
    fn remember(&self, question: Asked) -> bool {
        let mut asked = self.lock();
        let known = asked.iter_mut().find(|known| {
            (&known.application, &known.route, known.allowed)
                == (&question.application, &question.route, question.allowed)
        });
        if let Some(known) = known {
            *known = Asked { questions: known.questions + 1, first_at: known.first_at, ..question };
            return false;
        }
        if asked.len() == MAXIMUM_APPLICATIONS
            && let Some(oldest) = (0..asked.len()).min_by_key(|&index| asked[index].last_at)
        {
            asked.swap_remove(oldest);
        }
        asked.push(question);
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn refusal(application: &str, reason: &str) -> Problem {
    Problem::new(Code::BrokerCallerRefused, format!("{application} may not have tokens: {reason}"))
        .key("AllowedApplications")
        .hint("an administrator can add its absolute path to `AllowedApplications`".to_owned())
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

    fn question(application: &str, second: i64, allowed: bool) -> Asked {
        Asked {
            application: application.to_owned(),
            route: "/v1/token".to_owned(),
            allowed,
            reason: (!allowed).then(|| "because".to_owned()),
            questions: 1,
            process: Some(1),
            first_at: Timestamp::from_second(second).unwrap(),
            last_at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn callers_are_counted_and_the_most_silent_is_forgotten_first() {
        let callers = Callers::new();
        assert!(callers.remember(question("/a", 1, true)));
        assert!(!callers.remember(question("/a", 5, true)));
        assert_eq!((callers.asked()[0].questions, callers.asked()[0].first_at.as_second()), (2, 1));
        for number in 0..200 {
            callers.remember(question(&format!("/{number}"), 10 + number, false));
        }
        let asked = callers.asked();
        assert_eq!((asked.len(), asked[0].application.as_str()), (MAXIMUM_APPLICATIONS, "/199"));
        let now = Timestamp::from_second(10 + 199).unwrap();
        assert_eq!(callers.problems(now).len(), MAXIMUM_TOLD);
        assert!(callers.problems(now + SignedDuration::from_hours(25)).is_empty());
    }

    #[test]
    fn the_name_of_a_caller_cannot_speak_to_a_terminal() {
        assert_eq!(shown(Path::new("/tmp/\u{1b}[2J")), "/tmp/\u{fffd}[2J");
    }
}
