use updates::feed::FeedError;

use super::*;

fn outcome(result: Result<Found, UpdateError>) -> Outcome {
    let feed: Url = "https://updates.example.com/latest.yml".parse().unwrap();
    let (before, after) = (Journal::default(), Journal::default());
    Checked { before, after, result, failure: None }.outcome(Some(&feed), Timestamp::UNIX_EPOCH, 0)
}

fn download(source: DownloadError) -> Result<Found, UpdateError> {
    Err(UpdateError::Download { url: "https://updates.example.com/a.tar.gz".parse().unwrap(), source })
}

fn found(verdict: Verdict, reason: Reason) -> Found {
    Found { offered: None, installed: None, verdict, reason, unknown: Vec::new(), refused: Vec::new() }
}

fn two() -> Version {
    Version::new(2, 0, 0)
}

#[test]
fn failure_of_network_or_disk_is_retried_soon_and_wrong_artifact_is_not() {
    let server = |seconds| HttpError::Later { host: "a".to_owned(), seconds };
    let hours = 60 * 60;
    let up_to_date = || Ok(found(Verdict::Stay, Reason::UpToDate { installed: two() }));
    for (result, seconds) in [
        (Err(UpdateError::Fetch(FetchError::Unreachable(HttpError::ProxyMissing))), RETRY),
        (download(DownloadError::Http(HttpError::ProxyMissing)), RETRY),
        (download(DownloadError::Write(io::Error::other("the disk is full"))), RETRY),
        (download(DownloadError::Moved), RETRY),
        (download(DownloadError::WebPage), RETRY),
        (download(DownloadError::Http(server(3 * hours))), 3 * hours),
        (Err(UpdateError::Fetch(FetchError::Unreachable(server(1)))), RETRY),
        (Err(UpdateError::Fetch(FetchError::Unreachable(server(1000 * hours)))), 24 * hours),
        (up_to_date(), INTERVAL.into()),
        (Err(UpdateError::Fetch(FetchError::Feed(FeedError::TooMany))), INTERVAL.into()),
        (download(DownloadError::Hash), INTERVAL.into()),
        (download(DownloadError::TooShort { promised: 5 }), INTERVAL.into()),
    ] {
        let shown = format!("{result:?}");
        assert_eq!(outcome(result).next.as_second(), i64::try_from(seconds).unwrap(), "{shown}");
    }
}

#[test]
fn next_check_is_when_the_window_opens() {
    let opens = Timestamp::from_second(1000).unwrap();
    let local = jiff::civil::DateTime::ZERO;
    let reason = || Reason::Window { version: two(), opens, local, same_day: true };
    assert_eq!(outcome(Ok(found(Verdict::Prepare, reason()))).next, opens);
    // One that has opened meanwhile, and one after the next check.
    let past = Reason::Deadline { version: two(), at: Timestamp::UNIX_EPOCH, local, same_day: true };
    assert_eq!(outcome(Ok(found(Verdict::Prepare, past))).next.as_second(), 1);
    let far = Reason::Window { version: two(), opens: Timestamp::MAX, local, same_day: true };
    assert_eq!(outcome(Ok(found(Verdict::Prepare, far))).next.as_second(), i64::from(INTERVAL));
}

#[test]
fn each_failure_has_its_code_and_names_its_cause_once() {
    let source = || io::Error::other("a library is missing");
    let program = "/opt/app/current/app".into();
    let back = Some(Ok(Some(Version::new(1, 0, 0))));
    let cases = [
        (download(DownloadError::Hash), Code::UpdateHashMismatch, "SHA-512"),
        (download(DownloadError::Write(source())), Code::UpdateDownloadFailed, "a library is missing"),
        (download(DownloadError::Moved), Code::UpdateFileMoved, "the feed has changed"),
        (
            Err(UpdateError::Install {
                source: FolderError::Switch { version: two(), folder: "/opt/app".into(), source: source() }
                    .into(),
                back: None,
            }),
            Code::UpdateInstallFailed,
            "a library is missing",
        ),
        (
            Err(UpdateError::DoesNotStart { version: two(), program, back, source: source() }),
            Code::UpdateRolledBack,
            "version 2.0.0 does not start: a library is missing",
        ),
    ];
    for (result, code, text) in cases {
        let problem = outcome(result).problem.unwrap();
        assert_eq!(problem.code, code);
        assert_eq!(problem.message.matches(text).count(), 1, "{problem}");
    }
}

#[test]
fn release_that_is_not_installed_is_reported_where_somebody_has_to_act() {
    let last = "x".to_owned();
    for (verdict, reason, code) in [
        (Verdict::Announce, Reason::Available { version: two() }, Code::UpdateAvailable),
        (
            Verdict::Stay,
            Reason::Quarantined { version: two(), at: None, why: String::new() },
            Code::UpdateRolledBack,
        ),
        (
            Verdict::Stay,
            Reason::Exhausted { version: two(), attempts: 3, last, until: None },
            Code::UpdateGivenUp,
        ),
        (Verdict::Stay, Reason::Held { until: None }, Code::UpdateHeld),
        (
            Verdict::Stay,
            Reason::NewerThanPin { pin: "1".parse().unwrap(), installed: two() },
            Code::UpdateNewerThanPin,
        ),
    ] {
        let problem = outcome(Ok(found(verdict, reason))).problem.unwrap();
        assert!(problem.code == code && problem.hint.is_some(), "{problem}");
    }
    let reason = Reason::Rollout { version: two(), percent: 5 };
    assert_eq!(outcome(Ok(found(Verdict::Stay, reason))).problem, None);
}
