//! Patches: a device that has an earlier version downloads what has changed, and the whole file wherever that does not work.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::crash_point::CrashPoint;
use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::publisher::Publisher;
use ring::digest::{SHA512, digest};
use serde_json::Value;
use tokio::process::Command;

/// A publisher of an app that is one program, and a device that has its version 1.0.0.
struct Fixture {
    publisher: Publisher,
    app: Vec<u8>,
    agent: Process,
}

impl Fixture {
    async fn new() -> Self {
        let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
        let stripped = publisher.device.path("stripped");
        let done = Command::new("strip").arg("-o").arg(&stripped).arg(program("lab-notes")).status().await;
        assert!(done.unwrap().success());
        let app = fs_err::read(&stripped).unwrap();
        let agent = publisher.follow(&printed).await;
        let fixture = Self { publisher, app, agent };
        fixture.publish("1.0.0", &[]).await;
        assert_eq!(fixture.publisher.installs().await.0, "1.0.0");
        fixture
    }

    /// A version of the app: what follows its program is not looked at.
    fn version(&self, version: &str) -> Vec<u8> {
        let mut bytes = self.app.clone();
        for line in 0..2000 {
            bytes.extend(format!("{line} of {version}, or any\n").as_bytes());
        }
        bytes
    }

    /// Adds a version and serves it; gives what was printed.
    async fn publish(&self, version: &str, more: &[&str]) -> String {
        let file = self.publisher.device.path(&format!("lab-notes-{version}.AppImage"));
        fs_err::write(&file, self.version(version)).unwrap();
        let file = file.display().to_string();
        let arguments = ["add", &file, "--app", "lab-notes", "--version", version];
        let printed = self.publisher.repo(&[&arguments[..], more].concat()).await;
        self.publisher.serve();
        printed
    }

    /// The files that were requested since, without the hashes before their names.
    fn requested(&self, since: usize) -> Vec<String> {
        let requests = self.publisher.server.requests().split_off(since);
        let name = |name: &str| {
            let (_, name) = name.rsplit('/').next()?.split_once('.')?;
            // Before the ending of a patch is a part of a hash.
            let patch = name.strip_suffix(".patch").and_then(|patch| patch.rsplit_once('-'));
            Some(patch.map_or(name, |(patch, _)| patch).to_owned())
        };
        requests.iter().filter_map(|request| name(&request.name)).collect()
    }

    fn program(&self) -> std::path::PathBuf {
        self.publisher.device.path("opt/lab-notes/current/bin/lab-notes")
    }

    /// Looks for a version, which has to be there then with its own content. Gives what was requested for that.
    async fn update_to(&self, version: &str) -> Vec<String> {
        let since = self.publisher.server.requests().len();
        let (installed, printed) = self.publisher.installs().await;
        assert_eq!(installed, version, "{printed}");
        assert!(fs_err::read(self.program()).unwrap() == self.version(version), "it has another content");
        self.requested(since)
    }

    /// Changes the file of a patch on the server.
    fn replace(&self, patch: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        let files = self.publisher.server.files();
        let (name, bytes) = files.into_iter().find(|(name, _)| name.contains(patch)).unwrap();
        self.publisher.server.put(&name, change(bytes));
    }
}

#[tokio::test]
async fn device_downloads_what_has_changed_since_any_of_the_last_versions() {
    let fixture = Fixture::new().await;
    let printed = fixture.publish("1.1.0", &[]).await;
    assert!(printed.contains("\nA patch from 1.0.0 has "), "{printed}");
    assert_eq!(fixture.update_to("1.1.0").await, ["lab-notes-1.1.0.AppImage.from-1.0.0"]);

    // Two files of one version, and whoever was interrupted between the two lists and does it again.
    let archive = fixture.publisher.archive("1.1.5");
    let arguments = ["add", &archive, "--app", "lab-notes", "--version", "1.1.5"];
    fixture.publisher.repo(&arguments).await;
    let director = fixture.publisher.folder.join("public/director");
    let kept = fixture.publisher.device.path("kept");
    let copy = async |from: &Path, to: &Path| {
        let done = Command::new("cp").args(["-rT"]).arg(from).arg(to).status().await;
        assert!(done.unwrap().success());
    };
    copy(&director, &kept).await;
    fixture.publish("1.1.5", &[]).await;
    fs_err::remove_dir_all(&director).unwrap();
    copy(&kept, &director).await;
    fixture.publish("1.1.5", &[]).await;

    // Two versions at once, and what administrators see of it.
    fixture.publish("1.2.0", &["--patches", "1"]).await;
    let printed = fixture.publish("1.3.0", &["--json"]).await;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let patches = printed["patches"].as_array().unwrap();
    let from: Vec<&str> = patches.iter().map(|patch| patch["from"].as_str().unwrap()).collect();
    assert_eq!(from, ["1.2.0", "1.1.5", "1.1.0", "1.0.0"]);
    assert!(patches.iter().all(|patch| patch["size"].as_u64().unwrap() < 100_000), "{printed}");
    assert_eq!(fixture.update_to("1.3.0").await, ["lab-notes-1.3.0.AppImage.from-1.1.0"]);
    assert!(fixture.publisher.repo(&["verify"]).await.contains("as a device expects"));
    let log = fixture.agent.log();
    assert!(log.contains("was made from a patch of"), "{log}");
}

#[tokio::test]
async fn whole_file_is_downloaded_where_a_patch_does_not_help() {
    let fixture = Fixture::new().await;
    let whole = |version: &str| format!("lab-notes-{version}.AppImage");
    let patch = |version: &str, from: &str| format!("lab-notes-{version}.AppImage.from-{from}");

    fixture.publish("1.1.0", &[]).await;
    fixture.replace("from-1.0.0-", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    assert_eq!(fixture.update_to("1.1.0").await, [patch("1.1.0", "1.0.0"), whole("1.1.0")]);

    fixture.publish("1.2.0", &[]).await;
    fixture.replace("1.2.0.AppImage.from-1.1.0-", |bytes| bytes[..100].to_vec());
    assert_eq!(fixture.update_to("1.2.0").await, [patch("1.2.0", "1.1.0"), whole("1.2.0")]);

    // Endless, and not what was promised.
    fixture.publish("1.3.0", &[]).await;
    fixture.replace("1.3.0.AppImage.from-1.2.0-", |bytes| [bytes, vec![0; 9_000_000]].concat());
    assert_eq!(fixture.update_to("1.3.0").await, [patch("1.3.0", "1.2.0"), whole("1.3.0")]);

    // Somebody has changed the file that it would lead from: it is not even downloaded.
    fixture.publish("1.4.0", &[]).await;
    let mut changed = fs_err::read(fixture.program()).unwrap();
    changed.push(b'!');
    fs_err::remove_file(fixture.program()).unwrap();
    fs_err::write(fixture.program(), changed).unwrap();
    assert_eq!(fixture.update_to("1.4.0").await, [whole("1.4.0")]);

    fixture.publish("1.5.0", &["--patches", "0"]).await;
    assert_eq!(fixture.update_to("1.5.0").await, [whole("1.5.0")]);
}

/// An archive is compressed and is gone once it was unpacked, and another processor has other files.
#[tokio::test]
async fn no_patch_is_made_where_none_can_help() {
    let (publisher, _) = Publisher::new(Device::new(), &[]).await;
    publisher.add("1.0.0", &[]).await;
    let printed = publisher.add("1.1.0", &[]).await;
    assert!(!printed.contains("patch"), "{printed}");

    let file = publisher.device.path("tool.AppImage");
    let add = async |version: &str, content: &str, architecture: &str| {
        fs_err::write(&file, content).unwrap();
        let arguments = ["add", &file.display().to_string(), "--app", "lab-notes", "--version", version];
        publisher.repo(&[&arguments[..], &["--architecture", architecture]].concat()).await
    };
    let text = |word: &str| (0..20_000).map(|line| format!("{line} {word}\n")).collect::<Vec<_>>().concat();
    add("2.0.0", &text("two"), "x86_64").await;
    let printed = add("2.1.0", &text("twelve"), "aarch64").await;
    assert!(!printed.contains("patch"), "{printed}");
    let printed = add("2.2.0", &text("twelve"), "x86_64").await;
    assert!(printed.contains("A patch from 2.0.0"), "{printed}");
    let noise = (0..40_000_u32).flat_map(|number| digest(&SHA512, &number.to_le_bytes()).as_ref().to_vec());
    fs_err::write(&file, noise.collect::<Vec<u8>>()).unwrap();
    let arguments = ["add", &file.display().to_string(), "--app", "lab-notes", "--version", "2.3.0"];
    let printed = publisher.repo(&[&arguments[..], &["--architecture", "x86_64"]].concat()).await;
    assert!(printed.contains("No patches were made: the file is compressed"), "{printed}");
    // An older version after a newer one.
    let printed = add("2.1.5", &text("thirteen"), "x86_64").await;
    assert!(printed.contains("A patch from 2.0.0") && !printed.contains("2.2.0"), "{printed}");
}

/// Killed, or without room, wherever the patch or what it makes is written: the old version works, and the next run goes on.
#[tokio::test]
async fn patch_that_is_cut_off_leaves_the_old_version_until_the_new_one_is_whole() {
    let mut fixture = Fixture::new().await;
    let staging = fixture.publisher.device.path("var/lib/steward/private/downloads/lab-notes");
    let (mut cut_off, mut number) = (0, 0);
    for (call, when, error) in [
        ("openat", 1, None),
        ("write", 1, None),
        ("write", 9, None),
        ("fdatasync", 1, None),
        ("openat", 1, Some("ENOSPC")),
        ("write", 1, Some("ENOSPC")),
        ("write", 9, Some("ENOSPC")),
        ("fdatasync", 1, Some("ENOSPC")),
    ] {
        for is_patch in [true, false] {
            number += 1;
            let version = format!("2.{number}.0");
            fixture.publish(&version, &["--patches", "1"]).await;
            let hash = digest(&SHA512, &fixture.version(&version));
            let name: String =
                STANDARD.encode(hash).chars().filter(char::is_ascii_alphanumeric).take(32).collect();
            let file = staging.join(if is_patch { "source" } else { &name });
            let before = fs_err::read(fixture.program()).unwrap();
            let agent = fixture.agent.id();
            let fault = match error {
                None => CrashPoint::set(agent, call, when, &[&file]).await.unwrap(),
                Some(error) => CrashPoint::fail(agent, call, error, when, &[&file]).await.unwrap(),
            };
            let ended = !fixture.publisher.device.steward(&["update"]).await.status.success();
            fault.remove().await.unwrap();
            let what = format!("{call} {when} {error:?} of the patch: {is_patch}");
            if ended {
                cut_off += 1;
                assert!(fs_err::read(fixture.program()).unwrap() == before, "{what}");
            }
            if error.is_none() && ended {
                fixture.agent.wait_for_exit().await;
                let restarted = fixture.publisher.device.start_agent().await;
                drop(std::mem::replace(&mut fixture.agent, restarted));
            }
            fixture.update_to(&version).await;
        }
    }
    assert!(cut_off >= 10, "only {cut_off} were cut off: are these the right files?");
}

/// Each device reads the whole list, so it does not grow with every version that there ever was.
#[tokio::test]
async fn patches_to_old_versions_leave_the_list() {
    let (publisher, _) = Publisher::new(Device::new(), &[]).await;
    let file = publisher.device.path("tool.AppImage");
    for version in 1..9 {
        let text =
            (0..5000).map(|line| format!("{line} in version {version}\n")).collect::<Vec<_>>().concat();
        fs_err::write(&file, text).unwrap();
        let version = format!("{version}.0.0");
        let file = file.display().to_string();
        publisher.repo(&["add", &file, "--app", "lab-notes", "--version", &version, "--patches", "2"]).await;
    }
    let lists = fs_err::read_dir(publisher.folder.join("public/image")).unwrap().flatten();
    let lists =
        lists.map(|entry| entry.path()).filter(|path| path.display().to_string().ends_with(".targets.json"));
    let number = |path: &std::path::PathBuf| {
        path.file_name().unwrap().to_string_lossy().split_once('.').unwrap().0.parse::<u64>().unwrap()
    };
    let newest = lists.max_by_key(number).unwrap();
    let list: Value = serde_json::from_slice(&fs_err::read(newest).unwrap()).unwrap();
    let targets = list["signed"]["targets"].as_object().unwrap();
    let of = |version: &str| {
        let named =
            targets[&format!("lab-notes/{version}/tool.AppImage")]["custom"]["steward"]["patches"].as_array();
        let placed = targets
            .keys()
            .filter(|path| path.starts_with(&format!("lab-notes/{version}/")) && path.contains(".from-"));
        (named.map_or(0, Vec::len), placed.count())
    };
    assert_eq!(["2.0.0", "3.0.0", "4.0.0", "8.0.0"].map(of), [(0, 0), (0, 0), (2, 2), (2, 2)]);
    assert!(publisher.repo(&["verify"]).await.contains("as a device expects"));
}
