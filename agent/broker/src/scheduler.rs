//! The renewal scheduler: what the broker does without a request. It renews sessions before they expire, at once if a
//! renewal was cut off, and saves what could not be saved. Which task is due when is decided purely ([`Accounts::tasks`]);
//! between tasks it sleeps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::accounts::{Accounts, FIRST_SAVE};
use super::configuration::Configuration;
use super::renewal::end_of;
use super::session::Freshness;
use super::tokens::TokenKey;
use super::{Broker, locked};
use platform::clock::{self, Moment};
use protocol::session::Kept;

/// The longest pause between attempts to save what could not be saved, and before the next renewal of what has ended,
/// in seconds.
const LONG_PAUSE: u32 = 3600;

/// What the scheduler has to do.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Renew(String),
    Save(String),
}

impl Broker {
    /// Runs the scheduler until the broker stops.
    pub(super) async fn run_scheduler(self: Arc<Self>) {
        // The store is left alone until somebody asks, unless a renewal was cut off: that cannot wait.
        if self.vault.lock().await.was_interrupted() {
            self.load().await;
        }
        while !self.stopping.load(Ordering::Relaxed) {
            let moment = clock::moment();
            let now = moment.wall;
            let tasks = match self.configuration() {
                Ok(configuration) => locked(&self.accounts).tasks(&configuration, &moment),
                Err(_) => Vec::new(),
            };
            let next = tasks.into_iter().min_by_key(|(due, _)| *due);
            let Some((due, task)) = next else {
                self.changed.notified().await;
                continue;
            };
            if due > now {
                // The system's clock may be set meanwhile. A request notices what has expired; this only renews early.
                tokio::select! {
                    () = tokio::time::sleep(clock::until(now, due)) => {}
                    () = self.changed.notified() => {}
                }
                continue;
            }
            self.perform(task).await;
        }
    }

    async fn perform(self: &Arc<Self>, task: Task) {
        let Ok(configuration) = self.configuration() else { return };
        match task {
            Task::Renew(id) => {
                // The renewal itself has logged how it ended.
                drop(end_of(self.renew(&configuration, &id, &TokenKey::default(), true)).await);
            }
            Task::Save(id) => {
                let turn = locked(&self.accounts).get(&id).map(|known| Arc::clone(&known.turn));
                let Some(turn) = turn else { return };
                let _turn = turn.lock().await;
                let Some(session) = locked(&self.accounts).get(&id).map(|known| known.session.clone()) else {
                    return;
                };
                let problem = match self.prepare(&session, false, &configuration).await {
                    Ok(prepared) => {
                        self.keep_session(Some(prepared), session.as_ref().clone()).await;
                        None
                    }
                    Err(error) => Some(error.problem()),
                };
                if let Some(account) = locked(&self.accounts).get(&id)
                    && account.kept == Kept::Memory
                {
                    let pause = account.save_again.map_or(FIRST_SAVE, |(_, pause)| pause);
                    let next = (pause * 2).min(LONG_PAUSE);
                    account.save_again = Some((clock::after(clock::now(), next.into()), next));
                    account.kept_problem = problem.or(account.kept_problem.take());
                }
            }
        }
    }
}

impl Accounts {
    /// What is to be done, and when.
    fn tasks(&self, configuration: &Configuration, moment: &Moment) -> Vec<(Timestamp, Task)> {
        let (mut tasks, now) = (Vec::new(), moment.wall);
        for account in self.known.iter().filter(|account| account.session.is_of(configuration)) {
            let id = account.id.clone();
            if let Some((due, _)) = account.save_again {
                tasks.push((due, Task::Save(id.clone())));
            }
            let freshness = account.session.freshness(configuration, &TokenKey::default(), moment);
            let due = match (account.interrupted, &freshness) {
                (_, Freshness::Over(_)) => None,
                (true, _) => Some(now),
                (false, _) => account.session.renewal_due(account.used, account.spread),
            };
            // What has expired does not hurry: a request renews it.
            let ended = freshness == Freshness::Expired && !account.interrupted;
            let rest = SignedDuration::from_secs(if ended { i64::from(LONG_PAUSE) } else { 0 });
            let rested =
                account.pauses.get(&TokenKey::default()).and_then(|pause| pause.until.checked_add(rest).ok());
            if let Some(due) = due {
                tasks.push((rested.map_or(due, |rested| due.max(rested)), Task::Renew(id)));
            }
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Account, Pause};
    use crate::session::Session;
    use crate::token_error::TokenError;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn account() -> Account {
        let mut session = Session::sample();
        session.access_tokens[0].expires_at = at(3600);
        Account { used: true, spread: 0, ..Account::new(session, Kept::File, None) }
    }

    fn due(account: Account, now: i64) -> Vec<(i64, Task)> {
        let accounts = Accounts { known: vec![account], ..Accounts::default() };
        let configuration = crate::session::tests::configuration("");
        let tasks = accounts.tasks(&configuration, &at(now).into()).into_iter();
        tasks.map(|(due, task)| (due.as_second(), task)).collect()
    }

    #[test]
    fn used_session_is_renewed_in_time_interrupted_one_at_once_and_failed_one_after_its_pause() {
        let renew = || Task::Renew(Session::sample().id());
        assert_eq!(due(account(), 10), [(3300, renew())]);
        assert_eq!(due(Account { used: false, ..account() }, 10), [(24 * 3600, renew())]);
        assert_eq!(due(Account { interrupted: true, ..account() }, 10), [(10, renew())]);
        let error = TokenError::NotSignedIn;
        let pause =
            || [(TokenKey::default(), Pause { until: at(3400), failures: 1, error: error.clone() })].into();
        assert_eq!(due(Account { pauses: pause(), ..account() }, 3390), [(3400, renew())]);
        // Once it has expired, a request renews it; the scheduler tries only once an hour.
        assert_eq!(due(Account { pauses: pause(), ..account() }, 3700), [(7000, renew())]);
        assert_eq!(due(Account { pauses: pause(), interrupted: true, ..account() }, 3390), [(3400, renew())]);
    }

    #[test]
    fn ended_or_foreign_session_is_left_alone_and_unsaved_one_is_saved() {
        let mut elsewhere = account();
        elsewhere.session = Session { issuer: "https://b.example".to_owned(), ..Session::sample() }.into();
        assert_eq!(due(elsewhere, 10), []);
        let mut ended = account();
        ended.session = Session { refresh_token: None, ..Session::sample() }.into();
        assert_eq!(due(ended, 10), []);
        let unsaved = Account { save_again: Some((at(70), 60)), ..account() };
        assert_eq!(due(unsaved, 10)[0], (70, Task::Save(Session::sample().id())));
    }
}
