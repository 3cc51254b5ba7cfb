//! The accounts that are signed in on this device, as the broker knows them. Data; what happens to it is decided in
//! `renewal`, `scheduler` and `sign_in`.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use policy_schema::Problem;
use tokio::sync::Mutex as AsyncMutex;

use super::configuration::Configuration;
use super::provider::ProviderError;
use super::session::Session;
use super::token_error::TokenError;
use super::tokens::TokenKey;
use super::vault::{Loaded, VaultError};
use platform::clock;
use protocol::session::Kept;

/// The pause after a first failure, and the longest, in seconds.
const FIRST_PAUSE: u32 = 1;
const LONGEST_PAUSE: u32 = 300;
/// The longest pause that a provider can ask for (`Retry-After`), in seconds.
const LONGEST_WAIT: u32 = 3600;
/// Pauses that are over are forgotten when there are so many.
const MAXIMUM_PAUSES: usize = 64;
/// When to try again to save a session that could not be saved, in seconds.
pub(super) const FIRST_SAVE: u32 = 60;
/// By how much renewals of a fleet are spread, in seconds.
const SPREAD: u8 = 60;

/// All accounts that are signed in on this device.
#[derive(Default)]
pub(super) struct Accounts {
    /// Whether the vault was loaded.
    pub(super) loaded: bool,
    pub(super) known: Vec<Account>,
    /// What cannot be opened in the vault, by account.
    pub(super) vault_errors: Vec<(String, VaultError)>,
    /// Until when the vault is left alone after it could not be opened.
    pub(super) load_again: Option<Timestamp>,
    /// How the last sign-in or renewal went wrong.
    pub(super) problem: Option<Problem>,
}

/// One account.
pub(super) struct Account {
    /// [`Session::id`], which is asked for often and takes a digest.
    pub(super) id: String,
    pub(super) session: Arc<Session>,
    pub(super) kept: Kept,
    /// What is wrong with how it is kept.
    pub(super) kept_problem: Option<Problem>,
    /// Whether a renewal was cut off, so that the next must not wait.
    pub(super) interrupted: bool,
    /// Whether its token was requested since it was renewed.
    pub(super) used: bool,
    /// Held while it is renewed, signed out or signed in again.
    pub(super) turn: Arc<AsyncMutex<()>>,
    /// Until when it is not renewed after a failure, for each token.
    pub(super) pauses: HashMap<TokenKey, Pause>,
    /// Until when the provider is not asked for an ID token that it does not give.
    pub(super) no_id_token_until: Option<Timestamp>,
    /// When it was renewed because a server did not take its token.
    pub(super) rejected_at: Option<Timestamp>,
    /// When to try again to save it.
    pub(super) save_again: Option<(Timestamp, u32)>,
    /// By how many seconds it is renewed early.
    pub(super) spread: i64,
}

#[derive(Clone)]
pub(super) struct Pause {
    pub(super) until: Timestamp,
    pub(super) failures: u32,
    pub(super) error: TokenError,
}

impl Accounts {
    /// The account that is meant: the one of that name, else the one that signed in last.
    pub(super) fn pick(&self, configuration: &Configuration, name: Option<&str>) -> Option<&Account> {
        let candidates = self.known.iter().filter(|account| match name {
            Some(name) => account.session.is_named(name),
            None => true,
        });
        // Policy may name another client by now; then its sessions are over, which is worth saying.
        candidates.max_by_key(|account| (account.session.is_of(configuration), account.session.signed_in_at))
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.known.iter().map(|account| account.session.as_ref())
    }

    /// What is wrong with sign-in, the latest failure first.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let kept = self.known.iter().filter_map(|account| account.kept_problem.clone());
        let vault = self.vault_errors.iter().map(|(_, error)| error.problem());
        self.problem.clone().into_iter().chain(vault).chain(kept)
    }

    /// The account of an identity.
    pub(super) fn get(&mut self, id: &str) -> Option<&mut Account> {
        self.known.iter_mut().find(|account| account.id == id)
    }

    /// Forgets an account.
    pub(super) fn remove(&mut self, id: &str) {
        self.known.retain(|account| account.id != id);
        self.vault_errors.retain(|(account, _)| account != id);
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
        let [spread] = platform::random::bytes();
        let save_again = (kept == Kept::Memory).then(|| (clock::after(clock::now(), 60), FIRST_SAVE));
        Self {
            id: session.id(),
            session: Arc::new(session),
            kept,
            kept_problem,
            interrupted: false,
            used: false,
            turn: Arc::default(),
            pauses: HashMap::new(),
            no_id_token_until: None,
            rejected_at: None,
            save_again,
            spread: i64::from(spread % SPREAD),
        }
    }

    /// The pause that applies to a token: its own, or the one of a provider that cannot be reached at all.
    pub(super) fn paused(&self, key: &TokenKey, now: Timestamp) -> Option<&Pause> {
        // A clock that was set back must not make a pause of years.
        let longest = SignedDuration::from_secs(LONGEST_WAIT.into());
        let holds = |pause: &&Pause| now < pause.until && now.duration_until(pause.until) <= longest;
        let unreachable =
            |pause: &&Pause| matches!(&pause.error, TokenError::Provider(error) if error.is_of_all());
        let of_all = self.pauses.values().filter(unreachable).find(holds);
        self.pauses.get(key).filter(holds).or(of_all)
    }

    /// Whether the provider refused to renew the session when it was asked last.
    pub(super) fn is_refused(&self) -> bool {
        let last = self.pauses.get(&TokenKey::default());
        last.is_some_and(|pause| matches!(pause.error, TokenError::RenewalRefused(_)))
    }

    /// Sends no request for a while, longer with each failure.
    pub(super) fn pause(&mut self, key: &TokenKey, error: &TokenError, now: Timestamp) {
        if self.pauses.len() >= MAXIMUM_PAUSES {
            self.pauses.retain(|_, pause| now < pause.until);
        }
        let failures = self.pauses.get(key).map_or(0, |pause| pause.failures) + 1;
        // As the provider said, within limits.
        let asked = if let TokenError::Provider(ProviderError::Failing { retry_after, .. }) = error {
            retry_after.map(|seconds| u32::try_from(seconds).unwrap_or(LONGEST_WAIT))
        } else {
            None
        };
        let seconds = asked.map_or_else(
            || doubled(FIRST_PAUSE, failures - 1, LONGEST_PAUSE),
            |seconds| seconds.clamp(FIRST_PAUSE, LONGEST_WAIT),
        );
        let until = clock::after(now, seconds.into());
        self.pauses.insert(key.clone(), Pause { until, failures, error: error.clone() });
    }
}

fn doubled(first: u32, times: u32, longest: u32) -> u32 {
    first.saturating_mul(1 << times.min(20)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Refusal;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<u32> = (0..12).map(|times| doubled(1, times, 300)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(doubled(1, u32::MAX, 300), 300);
    }

    /// Found by review: one app that asked for a scope of its own invention kept everybody from renewing.
    #[test]
    fn refused_scope_of_one_app_pauses_no_other_app() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let (main, own) = (TokenKey::default(), TokenKey::new(Some("forbidden"), None));
        let mut account = Account::new(Session::sample(), Kept::File, None);
        account.pause(
            &own,
            &TokenError::Provider(ProviderError::Refused(Refusal::new("invalid_scope", None))),
            now,
        );
        assert!(account.paused(&own, now).is_some() && account.paused(&main, now).is_none());
        account.pause(
            &own,
            &TokenError::Provider(ProviderError::Unreachable {
                reason: "no network".to_owned(),
                arrived: false,
            }),
            now,
        );
        assert!(account.paused(&main, now).is_some(), "no app gets a token then");
    }

    #[test]
    fn clock_set_back_makes_no_pause_of_years() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let error = TokenError::NotSignedIn;
        let key = TokenKey::default();
        let pauses = [(key.clone(), Pause { until: at(1_000_010), failures: 1, error })].into();
        let account = Account { pauses, ..Account::new(Session::sample(), Kept::File, None) };
        assert!(account.paused(&key, at(1_000_000)).is_some());
        assert!(account.paused(&key, at(1_000_010)).is_none());
        assert!(account.paused(&key, at(10)).is_none());
    }

    #[test]
    fn latest_sign_in_at_the_provider_of_policy_is_picked_unless_one_is_named() {
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
        let configuration = crate::session::tests::configuration("");
        let picked =
            |name| accounts.pick(&configuration, name).map(|account| account.session.subject.as_str());
        assert_eq!(picked(None), Some("last"));
        assert_eq!(picked(Some("first")), Some("first"));
        assert_eq!(picked(Some("nobody")), None);
    }
}
