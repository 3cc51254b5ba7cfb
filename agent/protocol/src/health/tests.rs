use policy_schema::Problem;

use super::assess::roll_up;
use super::*;
use crate::session::{Kept, SessionState, SessionStatus};
use crate::status::{SignInStatus, Status, sample_status};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn session(state: SessionState, problems: Vec<Problem>) -> SessionStatus {
    SessionStatus {
        state: state.into(),
        account: None,
        other_accounts: Vec::new(),
        issuer: None,
        signed_in_at: None,
        token_expires_at: None,
        kept: (state == SessionState::SignedIn).then_some(Kept::SecretStore.into()),
        lasting: false,
        problems,
        extra: Extra::default(),
    }
}

fn part(health: &ComponentHealth, name: ComponentName) -> State {
    health.components.iter().find(|part| part.name == name).unwrap().known_state()
}

fn with(problems: Vec<Problem>) -> Status {
    Status { problems, ..sample_status() }
}

/// The table of the module's documentation, row by row.
#[test]
fn device_has_the_state_of_the_decisive_component() {
    use State as S;
    let cases: [(&[S], S); 14] = [
        (&[], S::Unknown),
        (&[S::Pass], S::Pass),
        (&[S::NotApplicable], S::Pass),
        (&[S::Pending, S::Pass], S::Pass),
        (&[S::Pass, S::Unknown], S::Unknown),
        (&[S::Pending, S::Unknown], S::Unknown),
        (&[S::NotApplicable, S::Unknown], S::Unknown),
        (&[S::Unknown, S::Stale], S::Stale),
        (&[S::Stale, S::Error], S::Error),
        (&[S::Error, S::Fail], S::Fail),
        (&[S::Fail, S::Error, S::Stale, S::Unknown, S::Pass], S::Fail),
        (&[S::Error, S::Unknown, S::Pass], S::Error),
        (&[S::Stale, S::Pass, S::Pending], S::Stale),
        (&[S::Pass, S::Pass, S::NotApplicable, S::Pending], S::Pass),
    ];
    for (states, expected) in cases {
        let parts =
            states.iter().map(|state| ComponentHealth::new(ComponentName::App, *state, "x", NOW)).collect();
        assert_eq!(roll_up(parts, NOW).known_state(), expected, "{states:?}");
    }
}

#[test]
fn state_of_newer_version_makes_device_unknown_and_survives_round_trip() {
    let mut newer = ComponentHealth::new(ComponentName::App, State::Pass, "x", NOW);
    newer.state = Open::Unknown("hibernating".to_owned());
    let health = roll_up(vec![ComponentHealth::new(ComponentName::Agent, State::Pass, "x", NOW), newer], NOW);
    assert_eq!(health.known_state(), State::Unknown);
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json["components"][1]["state"], "hibernating");
    assert_eq!(serde_json::from_value::<ComponentHealth>(json).unwrap(), health);
}

#[test]
fn device_without_users_passes_and_its_sign_in_is_not_applicable() {
    let health = assess(Some(&sample_status()), true, Brokers::default(), NOW);
    assert_eq!(health.known_state(), State::Pass);
    assert_eq!(part(&health, ComponentName::SignIn), State::NotApplicable);
    assert_eq!(part(&health, ComponentName::Report), State::NotApplicable);
}

#[test]
fn broker_that_does_not_answer_makes_device_unknown() {
    let signed_in = [session(SessionState::SignedIn, Vec::new())];
    let health = assess(Some(&sample_status()), true, Brokers { sessions: &signed_in, silent: 1 }, NOW);
    assert_eq!(
        (health.known_state(), part(&health, ComponentName::SignIn)),
        (State::Unknown, State::Unknown)
    );
    let health = assess(Some(&sample_status()), true, Brokers { sessions: &signed_in, silent: 0 }, NOW);
    assert_eq!((health.known_state(), part(&health, ComponentName::SignIn)), (State::Pass, State::Pass));
}

#[test]
fn feed_that_was_not_checked_makes_device_unknown() {
    let mut status = sample_status();
    status.update.message = None;
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    assert_eq!(
        (health.known_state(), part(&health, ComponentName::Update)),
        (State::Unknown, State::Unknown)
    );
}

#[test]
fn problem_fails_its_own_component_only_and_is_named_at_the_root() {
    let status = with(vec![Problem::new(Code::UpdateHashMismatch, "another SHA-512")]);
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    assert_eq!(
        (health.known_state(), part(&health, ComponentName::Update), part(&health, ComponentName::Policy)),
        (State::Fail, State::Fail, State::Pass)
    );
    assert_eq!(health.code, Some(Code::UpdateHashMismatch.into()));
    assert_eq!(health.reason, "update: another SHA-512");
}

#[test]
fn failed_observation_is_an_error_and_not_a_failure() {
    let status = with(vec![Problem::new(Code::PolicyUnreadable, "permission denied")]);
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    assert_eq!((health.known_state(), part(&health, ComponentName::Policy)), (State::Error, State::Error));
    assert_eq!(health.code, Some(Code::PolicyUnreadable.into()));
}

#[test]
fn error_of_newer_version_never_passes() {
    let mut problem = Problem::new(Code::PolicyConflict, "x");
    problem.code = Open::Unknown("quantum.decohered".to_owned());
    problem.severity = Open::Unknown("catastrophe".to_owned());
    let health = assess(Some(&with(vec![problem.clone()])), true, Brokers::default(), NOW);
    assert_eq!((health.known_state(), part(&health, ComponentName::Agent)), (State::Fail, State::Fail));
    let sessions = [session(SessionState::SignedIn, vec![problem])];
    let health = assess(Some(&sample_status()), true, Brokers { sessions: &sessions, silent: 0 }, NOW);
    assert_eq!(part(&health, ComponentName::SignIn), State::Fail);
}

#[test]
fn facts_of_an_agent_that_does_not_run_are_stale_and_never_pass() {
    let health = assess(Some(&sample_status()), false, Brokers::default(), NOW);
    assert_eq!(health.known_state(), State::Fail);
    assert_eq!(part(&health, ComponentName::Policy), State::Stale);
    assert_eq!(assess(None, false, Brokers::default(), NOW).known_state(), State::Unknown);
}

/// Whether policy configures sign-in, when it worked, the sessions, and the states of sign-in and device.
type Case<'c> = (bool, Option<Timestamp>, &'c [SessionStatus], State, State);

/// Found by trial: a device passed on which nobody could sign in.
#[test]
fn sign_in_that_nobody_has_tried_is_unknown_and_one_that_worked_is_pending() {
    let with = |configured, proven_at| {
        let sign_in = SignInStatus { configured, proven_at, ..SignInStatus::default() };
        Status { sign_in: Some(sign_in), ..sample_status() }
    };
    let signed_in = [session(SessionState::SignedIn, Vec::new())];
    let signed_out = [session(SessionState::SignedOut, Vec::new())];
    let cases: [Case<'_>; 6] = [
        (false, None, &[], State::NotApplicable, State::Pass),
        (true, None, &[], State::Unknown, State::Unknown),
        (true, None, &signed_out, State::Unknown, State::Unknown),
        (true, None, &signed_in, State::Pass, State::Pass),
        (true, Some(NOW), &signed_out, State::Pending, State::Pass),
        (true, Some(NOW), &[], State::Pending, State::Pass),
    ];
    for (configured, proven_at, sessions, expected, root) in cases {
        let health = assess(Some(&with(configured, proven_at)), true, Brokers { sessions, silent: 0 }, NOW);
        let states = (part(&health, ComponentName::SignIn), health.known_state());
        assert_eq!(states, (expected, root), "{configured} {proven_at:?} {}", sessions.len());
    }
    let mut unreachable = with(true, Some(NOW));
    unreachable.problems.push(Problem::new(Code::SignInProviderUnreachable, "no route"));
    let health = assess(Some(&unreachable), true, Brokers::default(), NOW);
    assert_eq!((part(&health, ComponentName::SignIn), health.known_state()), (State::Error, State::Error));
}

#[test]
fn device_on_which_the_agent_has_not_run_has_every_component_and_all_are_unknown() {
    let health = assess(None, false, Brokers::default(), NOW);
    assert_eq!(health.components.len(), 7);
    assert!(health.components.iter().all(|part| part.known_state() == State::Unknown), "{health:#?}");
}

#[test]
fn app_that_is_not_installed_fails_only_if_policy_asks_for_it() {
    let mut status = sample_status();
    status.app.installed = None;
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    assert_eq!(
        (part(&health, ComponentName::App), health.known_state()),
        (State::NotApplicable, State::Pass)
    );
    status.problems.push(Problem::new(Code::AppNotInstalled, "Lab Notes is not installed"));
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    assert_eq!((part(&health, ComponentName::App), health.known_state()), (State::Fail, State::Fail));
}

#[test]
fn notes_and_warnings_fail_nothing() {
    let status =
        with(vec![Problem::new(Code::PolicyConflict, "x"), Problem::new(Code::ReportUndelivered, "x")]);
    assert_eq!(assess(Some(&status), true, Brokers::default(), NOW).known_state(), State::Pass);
}

#[test]
fn vault_is_as_its_sessions_are_stored_and_fails_without_sign_in() {
    let stored = |kept: Option<Kept>| SessionStatus {
        kept: kept.map(Open::Known),
        ..session(SessionState::SignedIn, Vec::new())
    };
    let cases = [
        (vec![], State::NotApplicable),
        (vec![session(SessionState::SignedOut, Vec::new())], State::NotApplicable),
        (vec![stored(Some(Kept::SecretStore)), stored(Some(Kept::File))], State::Pass),
        (vec![stored(Some(Kept::SecretStore)), stored(Some(Kept::Memory))], State::Pending),
        (vec![stored(Some(Kept::SecretStore)), stored(None)], State::Unknown),
    ];
    for (sessions, expected) in cases {
        let health = assess(Some(&sample_status()), true, Brokers { sessions: &sessions, silent: 0 }, NOW);
        assert_eq!(part(&health, ComponentName::Vault), expected, "{sessions:?}");
    }
    let corrupt = [session(SessionState::SignedIn, vec![Problem::new(Code::VaultCorrupt, "x")])];
    let health = assess(Some(&sample_status()), true, Brokers { sessions: &corrupt, silent: 0 }, NOW);
    assert_eq!(
        (part(&health, ComponentName::Vault), part(&health, ComponentName::SignIn), health.known_state()),
        (State::Fail, State::Pass, State::Fail)
    );
}

#[test]
fn each_session_is_a_part_of_sign_in_under_the_name_that_it_may_have() {
    let named = SessionStatus {
        account: Some("954aac2924b621ac".to_owned()),
        signed_in_at: Some(NOW),
        ..session(SessionState::SignedIn, Vec::new())
    };
    let failing = session(SessionState::SignedOut, vec![Problem::new(Code::SignInDenied, "x")]);
    let sessions = [named, failing];
    let health = assess(Some(&sample_status()), true, Brokers { sessions: &sessions, silent: 0 }, NOW);
    let sign_in = health.components.iter().find(|part| part.name == ComponentName::SignIn).unwrap();
    let users: Vec<_> =
        sign_in.components.iter().map(|user| (user.instance.as_deref(), user.known_state())).collect();
    assert_eq!(users, [(Some("954aac2924b621ac"), State::Pass), (None, State::Fail)]);
    assert_eq!((sign_in.components[0].since, sign_in.known_state()), (Some(NOW), State::Fail));
}

#[test]
fn component_of_an_agent_that_does_not_run_keeps_what_it_was() {
    let health = assess(Some(&sample_status()), false, Brokers::default(), NOW);
    let app = health.components.iter().find(|part| part.name == ComponentName::App).unwrap();
    assert_eq!((app.known_state(), app.last_state.clone()), (State::Stale, Some(State::Pass.into())));
}

#[test]
fn history_of_the_status_tells_since_when_and_shows_the_worst_of_what_flaps() {
    let failing = with(vec![Problem::new(Code::UpdateFeedUnreachable, "no route")]);
    let mut status = sample_status();
    for minute in 0..7 {
        let now = Timestamp::from_second(minute * 60).unwrap();
        let observed = if minute % 2 == 0 { sample_status() } else { failing.clone() };
        status = Status { history: status.history, ..observed };
        status.history = next_history(&status, Brokers::default(), now);
    }
    let health = assess(Some(&status), true, Brokers::default(), NOW);
    let update = health.components.iter().find(|part| part.name == ComponentName::Update).unwrap();
    assert_eq!((update.known_state(), update.flaps), (State::Fail, Some(6)));
    assert_eq!((health.known_state(), health.since), (State::Fail, Timestamp::from_second(300).ok()));
    status.history = status.history.calm(NOW);
    assert_eq!(assess(Some(&status), true, Brokers::default(), NOW).known_state(), State::Pass);
}
