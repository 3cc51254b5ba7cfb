//! Does what the journal asks for, one action after the other, and tells it what came of each.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use net::chain;
use net::http::Http;
use platform::clock;
use platform::paths::Paths;
use platform::zone;
use policy_schema::Problem;
use policy_schema::settings::{UpdateAppClose, UpdateMode};
use protocol::update::Command;
use semver::Version;
use updates::journal::{Action, Event, Offer};
use updates::{Decision, Device, Reason, Release, Rules, Situation, Verdict, decide};
use url::Url;

use super::download::{self, DownloadError, Places, Verified};
use super::journals::JournalFile;
use super::outcome::{self, Outcome, UpdateError};
use super::publisher;
use super::target::{InstallError, Target};
use super::{AGENT, FailedStart, Job, fetch, seed};
use crate::app::descriptor::{self, System};
use crate::health::sources::posture;
use crate::state::private_folder;

/// One run: what it works with, and how it went so far.
pub(super) struct Run<'a> {
    paths: &'a Paths,
    system: &'a System,
    target: Target<'a>,
    journal: JournalFile,
    /// The download, from its verification to its installation.
    verified: Option<Verified>,
    /// What went wrong last.
    failure: Option<UpdateError>,
    /// A version is installed, and has not shown yet whether it works.
    undecided: bool,
}

/// What a download needs besides the offer.
struct Online<'a> {
    job: &'a Job,
    http: &'a Http,
    feed: &'a Url,
    /// Policy, with what a signed repository adds.
    rules: &'a Rules,
    releases: &'a [Release],
}

impl<'a> Run<'a> {
    pub(super) fn new(paths: &'a Paths, app: &str) -> Result<Self, UpdateError> {
        let known = if app == AGENT { Some(descriptor::agent()) } else { descriptor::find(app) };
        let known = known.ok_or(UpdateError::NoInstallation)?;
        let (Some(system), Some(target)) = (known.system(), Target::of(paths, known)) else {
            return Err(UpdateError::NoInstallation);
        };
        let journal = JournalFile::load(paths, app)?;
        Ok(Self { paths, system, target, journal, verified: None, failure: None, undecided: false })
    }

    /// Finishes what a crash interrupted.
    pub(super) async fn finish(&mut self) {
        self.drive(Event::Resumed, None).await;
    }

    /// Does what an administrator asked for.
    pub(super) async fn command(&mut self, command: Command) {
        let previous = self.journal.journal().previous.as_ref();
        // Without the previous version there is nothing to roll back to, and an app that is open is not touched.
        let can_go_back = previous.is_some_and(|previous| self.target.is_there(previous))
            && !(self.target.replaces_files() && self.app_is_open());
        let installed = self.target.installed_version();
        let installed = installed.filter(|_| command != Command::RollBack || can_go_back);
        self.drive(Event::Commanded { command, installed }, None).await;
    }

    /// What went wrong, if nothing is to be checked.
    pub(super) fn problem(&self) -> Option<Problem> {
        self.failure.as_ref().map(|failure| failure.problem(None))
    }

    /// Checks the feed, and does what policy allows.
    pub(super) async fn check(mut self, job: &Job) -> Outcome {
        // Between two versions nothing else is begun.
        if let Some(on_probation) = self.on_probation() {
            return outcome::on_probation(&on_probation, seed());
        }
        if self.journal.journal().is_committed_to_finish() {
            let failure = self.failure.unwrap_or(UpdateError::Unfinished);
            return outcome::failed(job.feeds.first(), failure, seed());
        }
        // What was wrong with what is finished now.
        self.failure = None;
        let before = self.journal.journal().clone();
        let failed = match &job.failed_start {
            Some(failed) => self.first_start_failed(failed).await,
            None => None,
        };
        let checked = match failed {
            Some(failed) => Err(failed),
            None => self.check_feed(job).await,
        };
        if let Some(on_probation) = self.on_probation() {
            return outcome::on_probation(&on_probation, seed());
        }
        let failure = self.failure.take();
        outcome::Checked { before, after: self.journal.journal().clone(), result: checked, failure }.outcome(
            job.feeds.first(),
            clock::now(),
            seed(),
        )
    }

    /// The version that has to show whether it works.
    fn on_probation(&self) -> Option<Version> {
        self.journal.journal().version().filter(|_| self.undecided).cloned()
    }

    async fn check_feed(&mut self, job: &Job) -> Result<outcome::Found, UpdateError> {
        if job.rules.mode == UpdateMode::Off {
            // The feed is not read, and what waits is not wanted any more.
            let off = Decision { verdict: Verdict::Stay, release: None, reason: Reason::Off };
            self.drive(Event::Decided(off), None).await;
            let installed = self.target.installed_version();
            let (verdict, reason, unknown) = (Verdict::Stay, Reason::Off, Vec::new());
            let refused = Vec::new();
            return Ok(outcome::Found { offered: None, installed, verdict, reason, unknown, refused });
        }
        let http = Http::new(&job.network).map_err(fetch::FetchError::Unreachable)?;
        let offering = fetch::fetch(&http, &source(self.paths, self.system, job)).await?;
        let fetch::Offering { url, feed, downgrades, mut refused } = offering;
        let mut rules = job.rules.clone();
        refused.extend(rules.lead_back(downgrades));
        let offered = feed.releases.first().map(|release| release.version.clone());
        let installed = self.target.installed_version();
        let decision = self.decide(job, &rules, &feed.releases);
        let Decision { verdict, reason, .. } = decision.clone();
        let online = Online { job, http: &http, feed: &url, rules: &rules, releases: &feed.releases };
        self.drive(Event::Decided(decision), Some(&online)).await;
        Ok(outcome::Found { offered, installed, verdict, reason, unknown: feed.unknown, refused })
    }

    /// Decides for this moment.
    fn decide<'r>(&self, job: &Job, rules: &Rules, releases: &'r [Release]) -> Decision<'r> {
        let installed = self.target.installed_version();
        let (system, zone) = (posture::kernel(), zone::local(self.paths));
        let device = Device { id: &job.device_id, app: &job.app, system: system.as_deref() };
        let (journal, now) = (self.journal.journal(), clock::now());
        let boot = platform::posture::boot_id();
        let situation = Situation {
            boot: boot.as_deref(),
            installed: installed.as_ref(),
            own_updater: job.own_updater,
            journal,
            now,
            zone: &zone,
        };
        decide(rules, releases, &device, &situation)
    }

    /// Steps from an event to rest. Each journal is durable before what it asks for is done; where it cannot be made durable,
    /// nothing is done.
    async fn drive(&mut self, event: Event<'_>, online: Option<&Online<'_>>) {
        let mut actions = match self.journal.step(event) {
            Ok(actions) => VecDeque::from(actions),
            Err(error) => return self.failure = Some(UpdateError::Journal(error)),
        };
        while let Some(action) = actions.pop_front() {
            let Some(event) = self.perform(action, online).await else { continue };
            match self.journal.step(event) {
                Ok(next) => actions.extend(next),
                Err(error) => return self.failure = Some(UpdateError::Journal(error)),
            }
        }
    }

    async fn perform(&mut self, action: Action, online: Option<&Online<'_>>) -> Option<Event<'static>> {
        match action {
            Action::Fetch { offer, offset, etag } => {
                let online = online?;
                let fetched = self.fetch(online, &offer, (offset, etag)).await;
                Some(match fetched {
                    Ok(verified) => {
                        let refusal = self.refusal(verified, &online.job.publishers).await;
                        Event::Fetched { wait: refusal.or_else(|| self.reason_to_wait(online)) }
                    }
                    Err(source) => {
                        let (reason, lasting) = (chain(&source), source.is_other_file());
                        self.failure = Some(UpdateError::Download { url: offer.url, source });
                        Event::FetchFailed { reason, lasting }
                    }
                })
            }
            Action::Check => {
                let offer = self.journal.journal().offer().cloned();
                let is_open = self.app_is_open() && !self.close_app(online?.job, offer.as_ref()).await;
                Some(match offer.filter(|_| is_open) {
                    Some(offer) => Event::NotReady(app_open(&offer, online?.job)),
                    None => Event::Ready { installed: self.target.installed_version() },
                })
            }
            Action::Install { offer } => {
                Some(match self.install(&offer, online.map(|online| &*online.job.publishers)).await {
                    Ok(true) => Event::RestartNeeded { boot: platform::posture::boot_id() },
                    Ok(false) => Event::Installed,
                    Err(error) => {
                        let (reason, lasting) = (chain(&error), error.is_lasting());
                        let (unfinished, damage) = (error.is_unfinished(), error.is_damage());
                        self.failure = Some(UpdateError::Install { source: error, back: None });
                        if unfinished {
                            return None;
                        }
                        let previous = self.journal.journal().replaced();
                        // Where the previous version cannot come back, the new one is tried again.
                        if damage && previous.is_none_or(|previous| self.target.is_there(previous)) {
                            Event::Damaged { reason }
                        } else {
                            Event::InstallFailed { reason, lasting }
                        }
                    }
                })
            }
            Action::Confirm { version } => {
                if let Err(error) = self.target.make_current(&version) {
                    // Not judged: the journal stays as it is, and the next run tries again.
                    self.failure = Some(UpdateError::Install { source: error, back: None });
                    return None;
                }
                Some(match self.target.confirm(&version).await {
                    Ok(true) => Event::Confirmed,
                    Ok(false) => {
                        self.undecided = true;
                        return None;
                    }
                    Err(source) => {
                        let reason = chain(&source);
                        let program = self.target.program();
                        self.failure =
                            Some(UpdateError::DoesNotStart { version, program, source, back: None });
                        Event::DoesNotStart { reason }
                    }
                })
            }
            Action::RollBack { previous } => {
                let rolled_back = self.target.roll_back(previous.as_ref()).await;
                let failed = rolled_back.as_ref().err().map(|error| {
                    let lasting = error.kind() == std::io::ErrorKind::NotFound;
                    Event::NotRolledBack { reason: chain(error), lasting }
                });
                if let Some(UpdateError::DoesNotStart { back, .. } | UpdateError::Install { back, .. }) =
                    &mut self.failure
                {
                    *back = Some(rolled_back.map(|()| previous));
                } else if let Err(source) = rolled_back {
                    self.failure = Some(UpdateError::NotRolledBack(source));
                }
                Some(failed.unwrap_or(Event::RolledBack))
            }
            Action::Discard => {
                self.verified = None;
                download::discard(&self.staging());
                None
            }
            Action::CleanUp { keep } => {
                self.target.clean_up(&keep);
                None
            }
        }
    }

    /// A download may take hours: why what it brought is not installed now.
    fn reason_to_wait(&self, online: &Online<'_>) -> Option<Reason> {
        let Decision { verdict, reason, .. } = self.decide(online.job, online.rules, online.releases);
        (verdict != Verdict::Install).then_some(reason)
    }

    async fn fetch(
        &mut self,
        online: &Online<'_>,
        offer: &Offer,
        part: (u64, Option<String>),
    ) -> Result<Verified, DownloadError> {
        let Online { job, http, feed, .. } = online;
        let stop = super::stop_file(self.paths);
        let old = self.target.single_file();
        let release = online.releases.iter().find(|release| release.artifact.digest() == offer.sha512);
        let patches = release.map(|release| release.patches.as_slice());
        let places = Places {
            http,
            stop: &stop,
            feed,
            hosts: &job.hosts,
            sources: &job.sources,
            patches: old.as_deref().zip(patches),
            bandwidth: job.kilobytes_per_second.map(|kilobytes| u64::from(kilobytes) * 1000),
        };
        let source = source(self.paths, self.system, job);
        let (staging, journal) = (self.staging(), &mut self.journal);
        let checkpoint = |offset, etag| journal.step(Event::Progress { offset, etag }).map(drop);
        let mut fetched = download::download(&places, offer, &staging, part, checkpoint).await;
        // What led to this download may not hold any more.
        if fetched.is_ok() && stop.exists() {
            fetched = Err(DownloadError::Interrupted);
        }
        match fetched {
            Err(error) if error.is_other_file() => {
                // Feed and file are published one after the other, and this may have been in between.
                let again = fetch::fetch(http, &source).await;
                let same = |offering: fetch::Offering| {
                    let digests = offering.feed.releases.into_iter().map(|release| release.artifact.digest());
                    digests.into_iter().any(|digest| digest == offer.sha512)
                };
                Err(if again.is_ok_and(same) { error } else { DownloadError::Moved })
            }
            fetched => fetched,
        }
    }

    async fn install(&mut self, offer: &Offer, publishers: Option<&[String]>) -> Result<bool, InstallError> {
        let previous = self.journal.journal().replaced().cloned();
        let verified = if let Some(verified) = self.verified.take() {
            Some(verified)
        } else {
            // An installer, or after a crash.
            if let Some(ended) = self.target.install_again(offer, previous.as_ref()).await {
                return ended;
            }
            let again = download::verify_again(&self.staging(), offer).await;
            again.inspect_err(|error| tracing::warn!("{}", chain(error))).ok()
        };
        // Who may have made it is known once policy is: the next check goes on.
        let publishers = publishers.or((!self.target.has_publishers()).then_some(&[]));
        let (Some(verified), Some(publishers)) = (verified, publishers) else {
            return Err(InstallError::Gone { version: offer.version.clone(), folder: self.staging() });
        };
        self.target.install(verified, publishers, previous.as_ref()).await
    }

    /// Closes the app, if policy says so and the time has come. Gives whether it is closed.
    async fn close_app(&self, job: &Job, offer: Option<&Offer>) -> bool {
        let is_it = offer.is_some_and(|offer| job.close_now.as_ref() == Some(&offer.version));
        if !is_it || job.app_close != UpdateAppClose::ForceAtDeadline {
            return false;
        }
        tracing::info!("{} is closed for an update whose deadline has passed", job.app);
        self.system.app_processes(self.paths).end().await
    }

    /// The version that was installed last failed when a user started it: the one before comes back, if it is there. Gives what to
    /// report.
    async fn first_start_failed(&mut self, failed: &FailedStart) -> Option<UpdateError> {
        let FailedStart { version, reason } = failed.clone();
        let previous = self.journal.journal().previous.as_ref();
        if !previous.is_some_and(|previous| self.target.is_there(previous)) || self.app_is_open() {
            return None;
        }
        let (before, program) = (self.journal.journal().state.clone(), self.target.program());
        let source = io::Error::other(reason.clone());
        self.failure =
            Some(UpdateError::DoesNotStart { version: version.clone(), program, source, back: None });
        self.drive(Event::FirstStartFailed { version, reason }, None).await;
        let failure = self.failure.take();
        failure.filter(|_| self.journal.journal().state != before)
    }

    fn app_is_open(&self) -> bool {
        self.system.app_processes(self.paths).running_since().is_some()
    }

    /// Why a download is not accepted, if it is not. It stays, and is looked at again with the next check: policy may name its
    /// publisher by then.
    async fn refusal(&mut self, verified: Verified, publishers: &[String]) -> Option<Reason> {
        let version = verified.version().clone();
        if !self.target.has_publishers() {
            self.verified = Some(verified);
            return None;
        }
        // Windows reads a signature only where nobody can write, not even this process. The installation verifies it again.
        let source = publisher::check(verified.into_path(), publishers.to_owned()).await.err()?;
        let fault = source.fault();
        self.failure = Some(UpdateError::Publisher { version: version.clone(), source });
        Some(Reason::Publisher { version, fault })
    }

    fn staging(&self) -> PathBuf {
        private_folder(self.paths).join("downloads").join(self.journal.app())
    }
}

/// Where the releases are.
fn source<'j>(paths: &Paths, system: &'j System, job: &'j Job) -> fetch::Source<'j> {
    fetch::Source {
        feeds: &job.feeds,
        roots: job.roots.as_ref(),
        folder: Some(super::repositories(paths, &job.app)),
        hosts: &job.hosts,
        channel: job.rules.channel.as_deref(),
        app: &job.app,
        system,
    }
}

/// Why an update is not installed while the app is open.
fn app_open(offer: &Offer, job: &Job) -> Reason {
    let deadline = job.rules.deadline_hours.filter(|_| job.app_close == UpdateAppClose::ForceAtDeadline);
    let deadline = deadline.and_then(|hours| offer.deadline(hours));
    Reason::AppOpen { version: offer.version.clone(), deadline }
}
