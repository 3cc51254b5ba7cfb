//! The user's confirmation of programs: policy may let a program have tokens only after the user has agreed to it, on a page
//! in the browser.
//!
//! In: the program that requests a token ([`super::callers`]). Out: nothing, or why it gets none. Called by the route for
//! tokens. What the user agreed to is kept until the last account signs out. What the user declined, or left open, is
//! not asked again for a while, so that a program in a loop opens one window only.
//!
//! The page is served on a port of its own, to the user's own programs only, at an address that nobody can guess.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::loopback::{self, Handler, Request, Response};
use platform::file::Access;
use platform::paths::Paths;
use platform::state::StateFile;
use platform::{port, random};
use policy_schema::{Code, Extra, Problem};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::configuration::Configuration;
use super::page::{Choice, Page};
use super::{Broker, browser, locked};

/// How long the user may take.
const LIMIT: Duration = Duration::from_mins(2);
/// How long a program that was not confirmed is refused without another page.
const PAUSE: Duration = Duration::from_mins(10);
/// How many programs may wait for the user at once.
const MAXIMUM_PAGES: usize = 4;
/// How long the server stays open after the user has decided, so that the last page arrives whole.
const LINGER: Duration = Duration::from_millis(300);

/// How the user can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interaction {
    /// Not at all: the request is made in the background.
    None,
    /// On a page in the browser.
    Browser,
    /// The browser would open in another session of the user.
    OtherSession,
}

/// Why a program gets no token although policy names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program} gets no token: {reason}")]
pub(super) struct NotConfirmed {
    program: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("policy wants the user to confirm it first")]
    NotAsked,
    #[error("the user declined it")]
    Declined,
    #[error("the user did not confirm it within {} minutes", LIMIT.as_secs() / 60)]
    NoAnswer,
    #[error("the user could not be asked to confirm it: {0}")]
    NoPage(String),
    #[error("the user did not confirm it when asked a moment ago")]
    Paused,
}

impl NotConfirmed {
    /// The problem to show.
    pub(super) fn problem(&self) -> Problem {
        let hint = match self.reason {
            Reason::NotAsked => {
                "request the token with `\"interactive\": true`, which opens a page for the user"
            }
            Reason::Declined | Reason::NoAnswer | Reason::Paused => {
                "the user is asked again at a request that comes some minutes later"
            }
            Reason::NoPage(_) => {
                "where no browser can be used, an administrator can name the program without `confirm:`"
            }
        };
        Problem::new(Code::BrokerConfirmationNeeded, self.to_string())
            .key("AllowedApplications")
            .hint(hint.to_owned())
    }
}

/// What the user decided, as soon as that is known.
type Answer = watch::Receiver<Option<Result<(), Reason>>>;

/// What users agreed to.
pub(super) struct Confirmations {
    file: StateFile<Confirmed>,
    state: Mutex<State>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Confirmed {
    programs: BTreeSet<String>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Default)]
struct State {
    /// What is on disk, once it was read.
    confirmed: Option<Confirmed>,
    /// The pages that are open, by program.
    asking: HashMap<String, Answer>,
    /// When programs were not confirmed.
    refused_at: HashMap<String, Instant>,
}

impl Confirmations {
    pub(super) fn new(paths: &Paths) -> Self {
        let file = StateFile::new(paths.session_folder().join("confirmed.json"), Access::Private);
        Self { file, state: Mutex::default() }
    }

    /// What to say to a program that has to be confirmed before it may do anything else than request a token.
    pub(super) fn check(&self, program: &str) -> Result<(), NotConfirmed> {
        if self.is_confirmed(program) {
            return Ok(());
        }
        Err(NotConfirmed { program: program.to_owned(), reason: Reason::NotAsked })
    }

    fn is_confirmed(&self, program: &str) -> bool {
        let mut state = locked(&self.state);
        let confirmed = state.confirmed.get_or_insert_with(|| {
            let loaded = self.file.load().unwrap_or_else(|error| {
                tracing::warn!("users are asked again which programs they confirm: {error}");
                None
            });
            loaded.unwrap_or_default()
        });
        confirmed.programs.contains(program)
    }

    fn settle(&self, program: &str, outcome: &Result<(), Reason>) {
        let mut state = locked(&self.state);
        state.asking.remove(program);
        match outcome {
            Ok(()) => {
                let confirmed = state.confirmed.get_or_insert_default();
                confirmed.programs.insert(program.to_owned());
                self.save(confirmed);
            }
            Err(Reason::Declined | Reason::NoAnswer) => {
                state.refused_at.retain(|_, at| at.elapsed() < PAUSE);
                state.refused_at.insert(program.to_owned(), Instant::now());
            }
            // Nobody was asked.
            Err(Reason::NoPage(_) | Reason::NotAsked | Reason::Paused) => {}
        }
    }

    /// Forgets what users agreed to. What they declined is not asked again any sooner.
    pub(super) fn clear(&self) {
        let mut state = locked(&self.state);
        let confirmed = state.confirmed.get_or_insert_default();
        confirmed.programs.clear();
        if self.file.path().exists() {
            self.save(confirmed);
        }
    }

    /// What cannot be saved holds until the broker ends.
    fn save(&self, confirmed: &Confirmed) {
        if let Err(error) = self.file.save(confirmed) {
            tracing::warn!("which programs the user confirmed was not saved: {error}");
        }
    }
}

impl Broker {
    /// Waits until the user has confirmed a program, if that has not happened yet. Only an interactive request opens a page.
    pub(super) async fn confirm(
        self: &Arc<Self>,
        configuration: &Configuration,
        program: &str,
        interaction: Interaction,
    ) -> Result<(), NotConfirmed> {
        if self.confirmations.is_confirmed(program) {
            return Ok(());
        }
        let refused = |reason| NotConfirmed { program: program.to_owned(), reason };
        match interaction {
            Interaction::None => return Err(refused(Reason::NotAsked)),
            Interaction::OtherSession => {
                let reason = "the broker runs in another session of the user, where its browser would open";
                return Err(refused(Reason::NoPage(reason.to_owned())));
            }
            Interaction::Browser => {}
        }
        let mut answer = self.ask(configuration, program).map_err(refused)?;
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone().map_err(refused),
            Ok(None) | Err(_) => Err(refused(Reason::NoAnswer)),
        }
    }

    /// Asks the user in a task of its own, which no caller can cancel; or joins the question that is open.
    fn ask(self: &Arc<Self>, configuration: &Configuration, program: &str) -> Result<Answer, Reason> {
        let mut state = locked(&self.confirmations.state);
        if let Some(answer) = state.asking.get(program) {
            return Ok(answer.clone());
        }
        if state.refused_at.get(program).is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Reason::Paused);
        }
        if state.asking.len() >= MAXIMUM_PAGES {
            return Err(Reason::NoPage("other programs wait for the user already".to_owned()));
        }
        let (tell, answer) = watch::channel(None);
        state.asking.insert(program.to_owned(), answer.clone());
        drop(state);
        let question = Question::new(configuration, program);
        let (broker, program) = (Arc::clone(self), program.to_owned());
        tokio::spawn(async move {
            // Whatever happens to the question, a panic included, the program can be asked about again.
            let outcome = tokio::spawn(question.ask()).await.unwrap_or(Err(Reason::NoAnswer));
            broker.confirmations.settle(&program, &outcome);
            tell.send_replace(Some(outcome));
        });
        Ok(answer)
    }
}

/// The page for one program.
struct Question {
    program: String,
    organization: Option<String>,
    support: Option<String>,
}

impl Question {
    fn new(configuration: &Configuration, program: &str) -> Self {
        Self {
            program: program.to_owned(),
            organization: configuration.organization.clone(),
            support: configuration.support_contact.clone(),
        }
    }

    async fn ask(self) -> Result<(), Reason> {
        let no_page = |error: std::io::Error| Reason::NoPage(error.to_string());
        let listener = port::listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).map_err(no_page)?;
        let host = listener.local_addr().map_err(no_page)?.to_string();
        let path = format!("/confirm/{}", random::hex(&random::bytes::<16>()));
        let address = format!("http://{host}{path}");
        let (decide, mut decided) = mpsc::channel(1);
        let handler: Handler = Arc::new(move |request| {
            let response = self.respond(&request, &host, &path, &decide);
            Box::pin(async move { response })
        });
        // Its server ends when this is dropped.
        let mut server = JoinSet::new();
        server.spawn(loopback::serve(listener, handler));
        let no_browser = async {
            match browser::open(address).await {
                Ok(()) => std::future::pending().await,
                Err(reason) => reason,
            }
        };
        let outcome = tokio::select! {
            allowed = decided.recv() => match allowed {
                Some(true) => Ok(()),
                Some(false) | None => Err(Reason::Declined),
            },
            reason = no_browser => Err(Reason::NoPage(format!("no browser could be opened: {reason}"))),
            () = tokio::time::sleep(LIMIT) => Err(Reason::NoAnswer),
        };
        if matches!(outcome, Ok(()) | Err(Reason::Declined)) {
            tokio::time::sleep(LINGER).await;
        }
        outcome
    }

    fn respond(&self, request: &Request, host: &str, path: &str, decide: &mpsc::Sender<bool>) -> Response {
        let rest = request.path.strip_prefix(path);
        // A page of another host, whose name resolves to this device (DNS rebinding), has another `Host`.
        let (Some(rest), Some(true)) = (rest, request.host.as_ref().map(|named| named == host)) else {
            return Page::over("This address belongs to no question. Close this window.");
        };
        let page = |heading: &str, text: String| Page {
            organization: self.organization.clone(),
            heading: heading.to_owned(),
            text,
            choice: None,
            support: self.support.clone(),
        };
        let program = &self.program;
        match (request.method.as_str(), rest) {
            ("GET", "") => {
                let text = format!(
                    "{program} requests access in your name. Allow it only if you started this program yourself and \
                     expected the question. What you allow holds until you sign out."
                );
                let choice = Choice { allow: format!("{path}/allow"), decline: format!("{path}/decline") };
                Page { choice: Some(choice), ..page("Allow this program?", text) }.response(200)
            }
            ("POST", "/allow") => {
                let _second_click = decide.try_send(true);
                page("Allowed", format!("{program} may go on. Close this window.")).response(200)
            }
            ("POST", "/decline") => {
                let _second_click = decide.try_send(false);
                page("Declined", format!("{program} gets no access. Close this window.")).response(200)
            }
            (_, _) => Page::over("This address belongs to no question. Close this window."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, host: &str) -> Request {
        Request { method: method.to_owned(), path: path.to_owned(), query: None, host: Some(host.to_owned()) }
    }

    #[test]
    fn only_a_post_to_the_secret_address_and_the_right_host_decides() {
        let (decide, mut decided) = mpsc::channel(1);
        let question = Question { program: "/opt/<b>".to_owned(), organization: None, support: None };
        let mut respond = |method: &str, path: &str, host: &str| {
            let response =
                question.respond(&request(method, path, host), "127.0.0.1:1", "/confirm/a", &decide);
            (response.status, response.body, decided.try_recv().ok())
        };
        let (status, body, decision) = respond("GET", "/confirm/a", "127.0.0.1:1");
        assert_eq!((status, decision), (200, None));
        assert!(body.contains("/confirm/a/allow") && !body.contains("/opt/<b>"), "{body}");
        for (method, path, host) in [
            ("GET", "/confirm/a/allow", "127.0.0.1:1"),
            ("POST", "/confirm/a", "127.0.0.1:1"),
            ("POST", "/confirm/b/allow", "127.0.0.1:1"),
            ("POST", "/confirm/a/allow", "evil.example:1"),
        ] {
            let (status, _, decision) = respond(method, path, host);
            assert_eq!((status, decision), (410, None), "{method} {path} {host}");
        }
        assert_eq!(respond("POST", "/confirm/a/decline", "127.0.0.1:1").2, Some(false));
        assert_eq!(respond("POST", "/confirm/a/allow", "127.0.0.1:1").2, Some(true));
    }

    #[test]
    fn confirmation_survives_a_restart_and_ends_when_it_is_cleared() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let before = Confirmations::new(&paths);
        before.settle("/opt/a", &Ok(()));
        before.settle("/opt/b", &Err(Reason::Declined));
        let after = Confirmations::new(&paths);
        assert!(after.is_confirmed("/opt/a") && !after.is_confirmed("/opt/b"));
        after.clear();
        assert!(!after.is_confirmed("/opt/a") && !Confirmations::new(&paths).is_confirmed("/opt/a"));
    }
}
