//! Updates where something goes wrong on a server or with a file ([`super::update_crashes`] has crashes). In each case the old version works or the new one does, the
//! status tells the truth, and the next check goes on.
//!
//! | fault | where | scenario |
//! |---|---|---|
//! | the connection ends, a part is wrong or a lie | download | [`download_goes_on_where_it_ended`] |
//! | a web page, a redirect, an overload, no end | download | [`server_that_misbehaves_costs_no_attempt_and_leaves_the_old_version`] |
//! | the feed moves on during the download | download | [`feed_that_moves_on_is_no_wrong_file`] |
//! | the same file fails again and again | installation | [`file_that_fails_is_tried_three_times_and_once_more_if_an_administrator_says_so`] |
//! | the app is open | before the installation | [`update_waits_until_the_app_is_closed`] |
//! | the release is withdrawn, or another one comes | waiting | [`offer_that_is_withdrawn_while_it_waits_is_no_failure`] |

use std::time::Duration;

use e2e::feed::Fault;
use e2e::release_server::Serving;
use policy_schema::{Code, Severity};
use protocol::agent::UPDATE_HISTORY;
use protocol::endpoint::Nothing;
use protocol::status::Status;
use protocol::update::Happened::{Held, Installed, Offered, Released, RolledBack};
use protocol::update::{Happened, Stage};

use super::update::{AUTOMATIC, UpdateDevice, update_device};

pub(super) async fn device_with(version: &str, more: &str) -> UpdateDevice {
    let fixture = update_device(&format!("{AUTOMATIC}{more}")).await;
    fixture.feed.publish(version);
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some(version), "{printed}");
    fixture
}

impl UpdateDevice {
    /// The requests for archives of a version: where each part began.
    fn downloads(&self, version: &str) -> Vec<Option<usize>> {
        let name = format!("lab-notes-{version}.tar.gz");
        let requests = self.feed.server.requests().into_iter();
        requests.filter(|request| request.name == name).map(|request| request.from).collect()
    }

    async fn history(&self) -> Vec<Happened> {
        let history = self.device.call_agent(&UPDATE_HISTORY, &Nothing {}).await.expect("the agent responds");
        history.entries.into_iter().filter_map(|entry| entry.happened.known()).collect()
    }

    /// Waits until a version is installed and nothing is under way any more.
    pub(super) async fn installed_becomes(&self, version: &str) -> Status {
        e2e::wait::until("the installation", async || match self.installed() {
            Some(installed) if installed == version => Ok(()),
            other => Err(other),
        })
        .await;
        self.device.machine_status_where("rest", |status| !status.update.running).await
    }

    async fn push(&self, text: &str) {
        self.device.push("60.toml", text);
        self.device.printed(&["policy", "reload"]).await;
    }

    async fn stage(&self) -> Option<Stage> {
        self.device.machine_status().await.update.progress?.stage.known()
    }
}

#[tokio::test]
async fn download_goes_on_where_it_ended() {
    let fixture = device_with("1.0.0", "").await;
    for (number, second) in [Serving::Well, Serving::IgnoresParts, Serving::WrongPart, Serving::LiesAboutPart]
        .into_iter()
        .enumerate()
    {
        let version = format!("2.0.{number}");
        fixture.feed.publish(&version);
        fixture.feed.server.serve(Serving::DropsAfter(100_000));
        let printed = fixture.update().await;
        assert!(printed.contains("update.download-failed") && printed.contains("broke off"), "{printed}");
        assert_eq!(fixture.stage().await, Some(Stage::Downloading));
        fixture.feed.server.serve(second.clone());
        let mut printed = fixture.update().await;
        if second == Serving::LiesAboutPart {
            // Found out at the end: the download begins again, and only the wrong one was an attempt.
            assert!(printed.contains("update.hash-mismatch"), "{printed}");
            printed = fixture.update().await;
        }
        assert_eq!(fixture.installed().as_deref(), Some(version.as_str()), "{second:?}: {printed}");
        assert!(fixture.app_starts().await && fixture.leftovers().is_empty(), "{second:?}");
        let parts = fixture.downloads(&version);
        assert!(parts[0].is_none() && parts[1].is_some_and(|from| from > 0), "{second:?}: {parts:?}");
        // Where the part was wrong and said so, the whole was requested at once.
        let again = matches!(second, Serving::WrongPart | Serving::LiesAboutPart);
        let expected = if again { vec![None] } else { vec![] };
        assert_eq!(parts[2..], expected, "{second:?}");
    }
}

#[tokio::test]
async fn server_that_misbehaves_costs_no_attempt_and_leaves_the_old_version() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish("2.0.0");
    let elsewhere = "http://127.0.0.1:9/lab-notes-2.0.0.tar.gz".to_owned();
    for (serving, code, expected) in [
        (Serving::WebPage, Code::UpdateDownloadFailed, "a web page came instead of the file"),
        (Serving::RedirectsTo(elsewhere), Code::UpdateDownloadFailed, "redirects to http://127.0.0.1:9"),
        (
            Serving::RedirectsTo("/lab-notes-2.0.0.tar.gz".to_owned()),
            Code::UpdateDownloadFailed,
            "one server after another",
        ),
        (Serving::Busy(2000), Code::UpdateDownloadFailed, "asks to come back in 2000 seconds"),
        (Serving::DropsAfter(0), Code::UpdateDownloadFailed, "broke off"),
    ] {
        fixture.feed.server.serve(serving.clone());
        let printed = fixture.update().await;
        assert!(printed.contains(code.as_str()) && printed.contains(expected), "{serving:?}: {printed}");
        assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{serving:?}");
        assert!(fixture.app_starts().await, "{serving:?}");
        let status = fixture.device.machine_status().await;
        let soon = status.update.next.unwrap().duration_since(status.update.checked_at.unwrap());
        let least = if matches!(serving, Serving::Busy(_)) { 2000 } else { 900 };
        assert!((least..least + 1800).contains(&soon.as_secs()), "{serving:?}: {soon:?}");
    }
    // That one is another file, which counts.
    fixture.feed.server.serve(Serving::Endlessly);
    let printed = fixture.update().await;
    assert!(printed.contains("update.size-mismatch") && printed.contains("more arrived"), "{printed}");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
    fixture.feed.server.serve(Serving::Well);
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.0 was installed"), "{printed}");
}

/// A release is published between the request for the feed and that for its file. Where the file has the same address in each
/// release, it is not the one that the feed described; that is nobody's fault.
#[tokio::test]
async fn feed_that_moves_on_is_no_wrong_file() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish_faulty("2.0.0", Fault::OtherContent);
    fixture.feed.publish_during_next_download("2.0.1");
    let printed = fixture.update().await;
    assert!(printed.contains("update.file-moved"), "{printed}");
    assert_eq!(fixture.device.problem(Code::UpdateFileMoved).await.severity, Severity::Warning);
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.1 was installed"), "{printed}");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

#[tokio::test]
async fn file_that_fails_is_tried_three_times_and_once_more_if_an_administrator_says_so() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish_faulty("2.0.0", Fault::NoProgram);
    for _ in 0..3 {
        let printed = fixture.update().await;
        assert!(printed.contains("update.install-failed"), "{printed}");
    }
    assert_eq!(fixture.downloads("2.0.0").len(), 3);
    for _ in 0..2 {
        let printed = fixture.update().await;
        assert!(printed.contains("2.0.0 was tried 3 times"), "{printed}");
        assert!(printed.contains("the archive has no program bin/lab-notes"), "{printed}");
    }
    assert_eq!(fixture.downloads("2.0.0").len(), 3, "it was not downloaded again");
    assert_eq!(fixture.device.problem(Code::UpdateGivenUp).await.severity, Severity::Error);
    let output = fixture.device.steward(&["update", "release"]).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("update.install-failed"), "{printed}");
    assert_eq!(fixture.downloads("2.0.0").len(), 4);
    assert!(fixture.app_starts().await);
}

#[tokio::test]
async fn offer_that_is_withdrawn_while_it_waits_is_no_failure() {
    let fixture = device_with("1.0.0", "").await;
    fixture.push(&closed_window()).await;
    fixture.feed.publish("2.0.0");
    let printed = fixture.update().await;
    assert!(printed.starts_with("2.0.0 is out; waits for the window that opens"), "{printed}");
    assert_eq!(fixture.stage().await, Some(Stage::Waiting));
    assert_eq!(fixture.leftovers().len(), 1, "it is downloaded already");
    fixture.feed.publish("1.0.0");
    assert_eq!(fixture.update().await, "1.0.0 is up to date\n");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
    assert!(
        fixture.device.machine_status().await.problems.iter().all(|problem| !problem.severity.is_error())
    );
    assert_eq!(fixture.history().await.last(), Some(&Happened::Withdrawn));
}

/// A window that is closed for some hours from now on, in UTC, which is the time of a device without a time zone.
fn closed_window() -> String {
    let hour = |from_now: i64| {
        let time = platform::clock::now() + jiff::SignedDuration::from_hours(from_now);
        time.strftime("%H:00").to_string()
    };
    format!("UpdateWindow = \"{}-{}\"\n", hour(6), hour(8))
}

#[tokio::test]
async fn update_is_downloaded_at_once_and_installed_when_the_window_is_open() {
    let fixture = device_with("1.0.0", "").await;
    fixture.push(&closed_window()).await;
    fixture.feed.publish("2.0.0");
    fixture.update().await;
    let status = fixture.device.machine_status().await.update;
    let progress = status.progress.unwrap();
    assert_eq!((progress.stage, progress.downloaded), (Stage::Waiting.into(), progress.size));
    let opens = progress.until.unwrap();
    assert!(status.next.unwrap() <= opens, "it looks again when the window opens at the latest");
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert_eq!(fixture.downloads("2.0.0").len(), 1);
    // The administrator removes the window.
    fixture.device.withdraw("60.toml");
    fixture.installed_becomes("2.0.0").await;
    assert_eq!(fixture.downloads("2.0.0").len(), 1, "it was not downloaded again");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

/// Found by review: a download took minutes, and what was decided before it was done after it, whatever had been said meanwhile.
#[tokio::test]
async fn hold_during_a_download_ends_it_and_nothing_is_installed() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish("2.0.0");
    let size = fixture.feed.server.files()["lab-notes-2.0.0.tar.gz"].len();
    fixture.feed.server.serve(Serving::Slowly { bytes: size / 40 + 1, pause: Duration::from_millis(500) });
    let hold = async {
        e2e::wait::until("a download", async || match fixture.stage().await {
            Some(Stage::Downloading) => Ok(()),
            other => Err(other),
        })
        .await;
        fixture.device.steward(&["update", "hold"]).await
    };
    let (_, output) = tokio::join!(fixture.device.steward(&["update"]), hold);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(printed.contains("held on this device by an administrator"), "{printed}");
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert_eq!(fixture.downloads("2.0.0"), [None], "it ended at once");
    fixture.feed.server.serve(Serving::Well);
    let printed = fixture.device.printed(&["update", "release"]).await;
    assert!(printed.contains("version 2.0.0 was installed"), "{printed}");
    assert!(fixture.downloads("2.0.0")[1].is_some_and(|from| from > 0), "it went on where it was");
}

/// Found by review: a version whose folder somebody had removed counted as up to date.
#[tokio::test]
async fn version_that_is_gone_is_installed_again() {
    let fixture = device_with("1.0.0", "").await;
    fs_err::remove_dir_all(fixture.device.path("opt/lab-notes/versions/1.0.0")).unwrap();
    let printed = fixture.update().await;
    assert!(printed.contains("version 1.0.0 was installed"), "{printed}");
    assert!(fixture.app_starts().await);
}

/// An open app is not touched. The update goes on by itself once it is closed.
#[tokio::test]
async fn update_waits_until_the_app_is_closed() {
    let fixture = device_with("1.0.0", "").await;
    let program = fixture.device.path("opt/lab-notes/versions/1.0.0/bin/window");
    fs_err::copy("/bin/sleep", &program).unwrap();
    let app = fixture.device.start(&program, &["600"]);
    fixture.feed.publish("2.0.0");
    let printed = fixture.update().await;
    assert!(printed.starts_with("2.0.0 is ready; waits until the app is closed\n"), "{printed}");
    assert_eq!(fixture.device.problem(Code::UpdateWaitsForApp).await.severity, Severity::Note);
    assert_eq!(
        (fixture.installed().as_deref(), fixture.stage().await),
        (Some("1.0.0"), Some(Stage::Waiting))
    );
    app.kill().await;
    fixture.installed_becomes("2.0.0").await;
    assert_eq!(fixture.downloads("2.0.0").len(), 1);
    let problems = fixture.device.machine_status().await.problems;
    assert!(problems.iter().all(|problem| problem.code != Code::UpdateWaitsForApp), "{problems:?}");
}

/// Whoever makes the download wait for hours must not lose it when the device is restarted, nor install another file.
#[tokio::test]
async fn download_that_was_exchanged_while_it_waited_is_not_installed() {
    let mut fixture = device_with("1.0.0", "").await;
    fixture.push(&closed_window()).await;
    fixture.feed.publish("2.0.0");
    fixture.update().await;
    let folder = fixture.device.path("var/lib/steward/private/downloads/lab-notes");
    let download = fs_err::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs_err::read(&download).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&download, bytes).unwrap();
    fixture.stop().await;
    fixture.start().await;
    fixture.device.withdraw("60.toml");
    fixture.installed_becomes("2.0.0").await;
    assert!(fixture.app_starts().await);
    assert_eq!(fixture.downloads("2.0.0").len(), 2, "it was downloaded again");
}

#[tokio::test]
async fn administrator_holds_rolls_back_and_releases_updates() {
    let fixture = device_with("1.0.0", "").await;
    let run = async |arguments: &[&str]| {
        let output = fixture.device.steward(&[&["update"], arguments].concat()).await;
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(
        run(&["rollback"]).await,
        (
            false,
            "No version was put back: either none is kept, or the app is open; then close it first.\n"
                .to_owned()
        )
    );
    fixture.feed.publish("2.0.0");
    let (_, printed) = run(&["hold", "--days", "3"]).await;
    assert!(
        printed.contains("held on this device by an administrator until") && printed.contains("update.held"),
        "{printed}"
    );
    assert!(fixture.update().await.contains("held on this device"));
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert!(fixture.device.machine_status().await.update.hold.unwrap().until.is_some());
    let (_, printed) = run(&["release"]).await;
    assert!(printed.contains("version 2.0.0 was installed, 1.0.0 before"), "{printed}");
    assert_eq!(run(&["rollback"]).await, (true, "Version 2.0.0 was rolled back.\n".to_owned()));
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert!(fixture.app_starts().await);
    assert!(fixture.update().await.contains("2.0.0 is quarantined: rolled back on"));
    let (_, printed) = run(&["release", "2.0.0"]).await;
    assert!(printed.contains("version 2.0.0 was installed"), "{printed}");
    // Somebody has cleaned up: a link to nothing would be worse than no rollback.
    let previous = fixture.device.path("opt/lab-notes/versions/1.0.0");
    fs_err::rename(&previous, fixture.device.path("moved")).unwrap();
    let (success, printed) = run(&["rollback"]).await;
    assert!(!success && printed.contains("No version was put back"), "{printed}");
    assert!(fixture.app_starts().await);
    assert_eq!(
        fixture.history().await,
        [Offered, Installed, Held, Released, Offered, Installed, RolledBack, Released, Offered, Installed]
    );
    let (_, printed) = run(&["history"]).await;
    assert!(
        printed.contains("rolled back  2.0.0") && printed.ends_with("10 events of lab-notes\n"),
        "{printed}"
    );
}

#[tokio::test]
async fn plan_says_what_an_administrators_policy_and_feed_lead_to() {
    let fixture = device_with("1.0.0", "").await;
    let (policy, feed) = (fixture.device.path("planned.toml"), fixture.device.path("latest.yml"));
    fixture.feed.publish("2.0.0");
    fs_err::write(&feed, &fixture.feed.server.files()["latest.yml"]).unwrap();
    let plan = async |text: &str, arguments: &[&str]| {
        let url = fixture.feed.url();
        let app = if text.contains("App = ") { "" } else { "App = \"lab-notes\"\n" };
        fs_err::write(&policy, format!("{app}UpdateFeed = \"{url}\"\n{AUTOMATIC}{text}")).unwrap();
        let (policy, feed) = (policy.display().to_string(), feed.display().to_string());
        let files = ["update", "plan", "--policy", &policy, "--feed", &feed];
        let output = fixture.device.steward(&[&files[..], arguments].concat()).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let windowed =
        "UpdateWindow = \"22:00-05:00\"\nUpdateRolloutPercent = 30\nUpdateMinimumVersion = \"0.5.0\"\n";
    let printed = plan("UpdateWindow = \"22:00-05:00\"\n", &["--at", "2026-11-26T12:00"]).await;
    assert!(printed.contains("downloads it now, installs it later"), "{printed}");
    assert!(printed.contains("waits for the window that opens at 22:00"), "{printed}");
    let printed = plan("UpdateWindow = \"22:00-05:00\"\n", &["--at", "2026-11-26T23:00"]).await;
    assert!(printed.contains("installs it now"), "{printed}");
    let printed = plan(windowed, &["--devices", "1000", "--at", "2026-11-26T12:00"]).await;
    assert!(printed.contains("2026-11-26 22:00") && printed.contains('\u{2588}'), "{printed}");
    assert!(printed.contains("rolled out to 30 % of devices"), "{printed}");
    let printed = plan(windowed, &["--devices", "1000", "--at", "2026-11-26T12:00", "--json"]).await;
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let updated = document["steps"].as_array().unwrap().last().unwrap()["total"].as_u64().unwrap();
    assert!((240..360).contains(&updated), "{document}");
    assert_eq!(document["others"][0]["devices"].as_u64(), Some(1000 - updated));
    let printed = plan("UpdatePinnedVersion = \"1.x\"\n", &[]).await;
    assert!(
        printed.contains("the policy has errors") && printed.contains("UpdatePinnedVersion"),
        "{printed}"
    );
    let printed = plan("App = \"amazon-quick\"\n", &["--system", "windows"]).await;
    assert!(printed.contains("the feed offers no .exe file"), "{printed}");
    let printed = plan("", &["--at", "tomorrow"]).await;
    assert!(printed.contains("`tomorrow` is no time"), "{printed}");
    // Nothing was changed.
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"));
    assert!(fixture.leftovers().is_empty());
}

/// A share of the administrator's, and a folder with a wrong file before it.
#[tokio::test]
async fn file_comes_from_a_source_of_the_administrators_before_the_feed() {
    let root = tempfile::tempdir().unwrap();
    let (wrong, right) = (root.path().join("wrong"), root.path().join("right"));
    for folder in [&wrong, &right] {
        fs_err::create_dir_all(folder).unwrap();
    }
    let more = format!("UpdateSources = [\"{}\", \"{}\"]\n", wrong.display(), right.display());
    let fixture = device_with("1.0.0", &more).await;
    assert_eq!(fixture.downloads("1.0.0").len(), 1, "the sources have nothing");
    fixture.feed.publish("2.0.0");
    fixture.feed.save(&right);
    fs_err::write(wrong.join("lab-notes-2.0.0.tar.gz"), "something else").unwrap();
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.0 was installed"), "{printed}");
    assert_eq!(fixture.downloads("2.0.0"), []);
    // What a source has is not mixed with what has come from the feed.
    fixture.feed.publish("2.0.2");
    let size = fixture.feed.server.files()["lab-notes-2.0.2.tar.gz"].len();
    fixture.feed.server.serve(Serving::DropsAfter(size / 2));
    fixture.update().await;
    fs_err::write(wrong.join("lab-notes-2.0.2.tar.gz"), vec![0; size]).unwrap();
    fixture.feed.server.serve(Serving::Well);
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.2 was installed"), "{printed}");
    assert!(fixture.downloads("2.0.2")[1].is_some_and(|from| from > 0), "{:?}", fixture.downloads("2.0.2"));
    // A pipe would be read for ever.
    fixture.feed.publish("2.0.3");
    nix::unistd::mkfifo(&wrong.join("lab-notes-2.0.3.tar.gz"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let printed = fixture.update().await;
    assert!(printed.contains("version 2.0.3 was installed"), "{printed}");
    assert_eq!(fixture.downloads("2.0.3").len(), 1);
}

#[tokio::test]
async fn progress_of_a_slow_download_is_shown() {
    let fixture = device_with("1.0.0", "").await;
    fixture.feed.publish("2.0.0");
    let size = fixture.feed.server.files()["lab-notes-2.0.0.tar.gz"].len();
    fixture.feed.server.serve(Serving::Slowly { bytes: size / 8 + 1, pause: Duration::from_secs(1) });
    let printed = fixture.update().await;
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("downloading 2.0.0: ")).collect();
    assert!(lines.len() >= 2, "{printed}");
    assert!(lines.iter().any(|line| line.contains(" a second")), "{printed}");
    assert!(printed.ends_with("version 2.0.0 was installed, 1.0.0 before\n"), "{printed}");
}

/// Other settings than those of the first version of this agent: a channel with a feed of its own, and a pin to a series.
#[tokio::test]
async fn channel_and_series_choose_among_the_releases_of_a_feed() {
    let fixture = device_with("1.0.0", "").await;
    // The feed of a channel may have what is stable.
    fixture.feed.publish("1.1.0");
    fixture.feed.server.put("beta.yml", fixture.feed.server.files()["latest.yml"].clone());
    fixture.feed.publish("1.0.0");
    fixture.push("UpdateChannel = \"beta\"\n").await;
    fixture.installed_becomes("1.1.0").await;
    fixture.feed.publish("2.0.0-beta.1");
    fixture.feed.server.put("beta.yml", fixture.feed.server.files()["latest.yml"].clone());
    fixture.feed.publish("1.0.0");
    fixture.push("UpdateChannel = \"stable\"\n").await;
    assert_eq!(fixture.update().await, "1.1.0 is up to date\n");
    fixture.device.push("60.toml", "UpdateChannel = \"beta\"\n");
    fixture.installed_becomes("2.0.0-beta.1").await;
    let policy = "UpdatePinnedVersion = \"1\"\nAppSelfUpdate = \"none\"\n";
    fixture.device.push("60.toml", policy);
    let problem = fixture.device.problem(Code::UpdateNewerThanPin).await;
    assert!(problem.message.contains("pinned to 1, but 2.0.0-beta.1 is installed"), "{problem}");
    fixture.device.push("60.toml", &format!("{policy}UpdateDowngrades = [\"2.0.0-beta.1 to 1.0.0\"]\n"));
    fixture.installed_becomes("1.0.0").await;
    assert!(fixture.app_starts().await);
}
