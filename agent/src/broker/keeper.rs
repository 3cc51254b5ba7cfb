//! What the broker does without being asked: it renews what is used before it ends, at once what was cut off, and saves
//! what could not be saved. It sleeps until there is something to do.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::accounts::{Accounts, FIRST_SAVE};
use super::configuration::Configuration;
use super::renewal::end_of;
use super::session::{Freshness, Want};
use super::{Broker, locked};
use crate::clock;
use crate::health::model::Kept;

/// The longest pause between attempts to save what could not be saved, and before the next renewal of what has ended,
/// in seconds.
const LONG_PAUSE: u32 = 3600;

/// What the keeper has to do.
#[derive(Debug, PartialEq, Eq)]
enum Duty {
    Renew(String),
    Save(String),
}

impl Broker {
    /// Does so until the broker ends.
    pub(super) async fn keep(self: Arc<Self>) {
        // The store is left alone until somebody asks, unless a renewal was cut off: that cannot wait.
        if self.vault.lock().await.was_interrupted() {
            self.load().await;
        }
        loop {
            let now = clock::now();
            let duties = match self.configuration() {
                Ok(configuration) => locked(&self.accounts).duties(&configuration, now),
                Err(_) => Vec::new(),
            };
            let next = duties.into_iter().min_by_key(|(due, _)| *due);
            let Some((due, duty)) = next else {
                self.changed.notified().await;
                continue;
            };
            if due > now {
                // The clock of the wall may be set meanwhile; a question notices what has ended, this only hurries.
                tokio::select! {
                    () = tokio::time::sleep(clock::until(now, due)) => {}
                    () = self.changed.notified() => {}
                }
                continue;
            }
            self.fulfil(duty).await;
        }
    }

    async fn fulfil(self: &Arc<Self>, duty: Duty) {
        let Ok(configuration) = self.configuration() else { return };
        match duty {
            Duty::Renew(id) => {
                // How it ended is told where it ended.
                drop(end_of(self.renew(&configuration, &id, &Want::default(), true)).await);
            }
            Duty::Save(id) => {
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
                    Err(problem) => Some(problem),
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
    fn duties(&self, configuration: &Configuration, now: Timestamp) -> Vec<(Timestamp, Duty)> {
        let mut duties = Vec::new();
        for account in self.known.iter().filter(|account| account.session.is_of(configuration)) {
            let id = account.id.clone();
            if let Some((due, _)) = account.save_again {
                duties.push((due, Duty::Save(id.clone())));
            }
            let freshness = account.session.freshness(configuration, &Want::default(), now);
            let due = match (account.interrupted, &freshness) {
                (_, Freshness::Over(_)) => None,
                (true, _) => Some(now),
                (false, _) => account.session.renewal_due(account.used, account.spread),
            };
            // What has ended anyway does not hurry: whoever needs it asks.
            let ended = freshness == Freshness::Expired && !account.interrupted;
            let rest = SignedDuration::from_secs(if ended { i64::from(LONG_PAUSE) } else { 0 });
            let rested =
                account.pauses.get(&Want::default()).and_then(|pause| pause.until.checked_add(rest).ok());
            if let Some(due) = due {
                duties.push((rested.map_or(due, |rested| due.max(rested)), Duty::Renew(id)));
            }
        }
        duties
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::accounts::{Account, Pause};
    use crate::broker::session::Session;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn account() -> Account {
        let mut session = Session::sample();
        session.issued[0].until = at(3600);
        Account { used: true, spread: 0, ..Account::new(session, Kept::File, None) }
    }

    fn due(account: Account, now: i64) -> Vec<(i64, Duty)> {
        let accounts = Accounts { known: vec![account], ..Accounts::default() };
        let configuration = crate::broker::session::tests::configuration("");
        let duties = accounts.duties(&configuration, at(now)).into_iter();
        duties.map(|(due, duty)| (due.as_second(), duty)).collect()
    }

    #[test]
    fn what_is_used_is_renewed_in_time_what_was_cut_off_at_once_and_what_failed_after_its_pause() {
        let renew = || Duty::Renew(Session::sample().id());
        assert_eq!(due(account(), 10), [(3300, renew())]);
        assert_eq!(due(Account { used: false, ..account() }, 10), [(24 * 3600, renew())]);
        assert_eq!(due(Account { interrupted: true, ..account() }, 10), [(10, renew())]);
        let problem = crate::broker::nobody();
        let pause =
            || [(Want::default(), Pause { until: at(3400), failures: 1, problem: problem.clone() })].into();
        assert_eq!(due(Account { pauses: pause(), ..account() }, 3390), [(3400, renew())]);
        // Once it has ended, whoever needs it asks; the broker alone tries once in an hour.
        assert_eq!(due(Account { pauses: pause(), ..account() }, 3700), [(7000, renew())]);
        assert_eq!(due(Account { pauses: pause(), interrupted: true, ..account() }, 3390), [(3400, renew())]);
    }

    #[test]
    fn a_session_that_is_over_or_belongs_elsewhere_is_left_alone_and_one_in_memory_is_saved() {
        let mut elsewhere = account();
        elsewhere.session = Session { issuer: "https://b.example".to_owned(), ..Session::sample() }.into();
        assert_eq!(due(elsewhere, 10), []);
        let mut ended = account();
        ended.session = Session { refresh_token: None, ..Session::sample() }.into();
        assert_eq!(due(ended, 10), []);
        let unsaved = Account { save_again: Some((at(70), 60)), ..account() };
        assert_eq!(due(unsaved, 10)[0], (70, Duty::Save(Session::sample().id())));
    }
}
