//! The accounts that are signed in on this device, as the broker knows them. Data; what happens to it is in
//! [`super::renewal`], [`super::keeper`] and [`super::sign_in`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use policy_schema::Problem;
use tokio::sync::Mutex as AsyncMutex;

use super::configuration::Configuration;
use super::session::Session;
use super::vault::Loaded;
use crate::clock;
use crate::health::model::Kept;

/// The longest pause after failures, in seconds.
pub(super) const LONGEST_PAUSE: u32 = 300;
/// When to try again to save a session that could not be saved, in seconds.
pub(super) const FIRST_SAVE: u32 = 60;
/// By how much renewals of a fleet are spread, in seconds.
const SPREAD: u8 = 60;

/// Everybody who is signed in on this device.
#[derive(Default)]
pub(super) struct Accounts {
    /// Whether the vault was looked into, with success.
    pub(super) loaded: bool,
    pub(super) known: Vec<Account>,
    /// What cannot be opened in the vault.
    pub(super) vault_problems: Vec<Problem>,
    /// How the last sign-in or renewal went wrong.
    pub(super) problem: Option<Problem>,
}

/// One account.
pub(super) struct Account {
    pub(super) session: Arc<Session>,
    pub(super) kept: Kept,
    /// What is wrong with how it is kept.
    pub(super) kept_problem: Option<Problem>,
    /// Whether a renewal was cut off, so that the next must not wait.
    pub(super) interrupted: bool,
    /// Whether somebody asked for its token since it was renewed.
    pub(super) used: bool,
    /// Held while it is renewed, signed out or signed in anew.
    pub(super) turn: Arc<AsyncMutex<()>>,
    /// Until when it is not renewed after a failure, how often it failed, and how.
    pub(super) pause: Option<Pause>,
    /// When to try again to save it.
    pub(super) save_again: Option<(Timestamp, u32)>,
    /// By how many seconds it is renewed early.
    pub(super) spread: i64,
}

#[derive(Clone)]
pub(super) struct Pause {
    pub(super) until: Timestamp,
    pub(super) failures: u32,
    pub(super) problem: Problem,
}

impl Accounts {
    /// The account that is meant: the one of that name, else the one that signed in last.
    pub(super) fn pick(&self, configuration: &Configuration, name: Option<&str>) -> Option<&Account> {
        let candidates = self.known.iter().filter(|account| match name {
            Some(name) => account.session.is_called(name),
            None => true,
        });
        // Policy may name another client by now; then its sessions are over, which is worth saying.
        candidates.max_by_key(|account| (account.session.is_of(configuration), account.session.signed_in_at))
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.known.iter().map(|account| account.session.as_ref())
    }

    /// What is wrong with sign-in, the latest failure first.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let kept = self.known.iter().filter_map(|account| account.kept_problem.as_ref());
        self.problem.iter().chain(&self.vault_problems).chain(kept)
    }

    /// The account of an identity.
    pub(super) fn get(&mut self, id: &str) -> Option<&mut Account> {
        self.known.iter_mut().find(|account| account.session.id() == id)
    }

    pub(super) fn add_loaded(&mut self, loaded: Loaded) {
        let Loaded { session, kept, interrupted } = loaded;
        if self.get(&session.id()).is_none() {
            self.known.push(Account { interrupted, ..Account::new(session, kept, None) });
        }
    }
}

impl Account {
    pub(super) fn new(session: Session, kept: Kept, kept_problem: Option<Problem>) -> Self {
        let [spread] = clock::random();
        let save_again = (kept == Kept::Memory).then(|| (clock::after(clock::now(), 60), FIRST_SAVE));
        Self {
            session: Arc::new(session),
            kept,
            kept_problem,
            interrupted: false,
            used: false,
            turn: Arc::default(),
            pause: None,
            save_again,
            spread: i64::from(spread % SPREAD),
        }
    }

    pub(super) fn paused(&self, now: Timestamp) -> Option<&Pause> {
        // A clock that was set back must not make a pause of years.
        let longest = SignedDuration::from_secs(LONGEST_PAUSE.into());
        self.pause.as_ref().filter(|pause| now < pause.until && now.duration_until(pause.until) <= longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_pause_of_years() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let problem = crate::broker::nobody();
        let pause = Some(Pause { until: at(1_000_010), failures: 1, problem });
        let account = Account { pause, ..Account::new(Session::sample(), Kept::File, None) };
        assert!(account.paused(at(1_000_000)).is_some());
        assert!(account.paused(at(1_000_010)).is_none());
        assert!(account.paused(at(10)).is_none());
    }

    #[test]
    fn the_last_sign_in_at_the_provider_of_policy_is_meant_unless_one_is_named() {
        let session = |subject: &str, issuer: &str, second| Session {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            email: None,
            signed_in_at: Timestamp::from_second(second).unwrap(),
            ..Session::sample()
        };
        let mut accounts = Accounts::default();
        for session in [
            session("first", "https://a.example", 10),
            session("last", "https://a.example", 20),
            session("elsewhere", "https://b.example", 30),
        ] {
            accounts.known.push(Account::new(session, Kept::Memory, None));
        }
        let configuration = crate::broker::session::tests::configuration("");
        let picked =
            |name| accounts.pick(&configuration, name).map(|account| account.session.subject.as_str());
        assert_eq!(picked(None), Some("last"));
        assert_eq!(picked(Some("first")), Some("first"));
        assert_eq!(picked(Some("nobody")), None);
    }
}
