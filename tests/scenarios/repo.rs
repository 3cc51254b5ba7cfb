//! `steward repo`: what an administrator does with a signed repository, what devices make of it, and what another implementation of The
//! Update Framework (python-tuf) reads in it.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::path::{Path, PathBuf};

use e2e::device::Device;
use e2e::feed::{Fault, Feed, sample_app};
use e2e::process::{Process, program};
use e2e::publisher::{PASSPHRASE, Publisher};
use policy_schema::Code;
use policy_schema::roots::{TrustedRoot, TrustedRoots};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tokio::process::Command;

use super::external_provider::{python, script};
use super::fixture::movable_clock;

/// What python-tuf reads of a target.
async fn read_by_python(publisher: &Publisher, part: &str, path: &str) -> Value {
    let base = publisher.server.base();
    let output = Command::new(python())
        .arg(script("tuf_client.py"))
        .arg(publisher.folder.join(format!("public/{part}/1.root.json")))
        .args([format!("{base}/{part}/"), format!("{base}/image/targets/")])
        .arg(publisher.device.path(&format!("python-{part}")))
        .arg(path)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn administrator_publishes_a_rollout_a_way_back_and_a_minimum() {
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    assert!(printed.contains("UpdateFeed = ") && printed.contains("keep copies of all"), "{printed}");
    let _agent = publisher.follow(&printed).await;
    publisher.add("1.0.0", &["--system", "linux", "--architecture", std::env::consts::ARCH]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    publisher.add("2.0.0", &["--rollout", "0"]).await;
    let (installed, printed) = publisher.installs().await;
    assert!(installed == "1.0.0" && printed.contains("0 %"), "{printed}");
    publisher.target(&["--version", "2.0.0", "--rollout", "100"]).await;
    assert_eq!(publisher.installs().await.0, "2.0.0");
    publisher.target(&["--downgrade", "2.0.0 to 1.0.0"]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    publisher.target(&["--downgrade", ""]).await;
    publisher.target(&["--version", "2.0.0", "--withdraw"]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    publisher.target(&["--version", "2.0.0", "--offer", "--channel", "beta"]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    publisher.target(&["--minimum", "3.0.0"]).await;
    let (installed, _) = publisher.installs().await;
    assert_eq!(installed, "1.0.0");
    publisher.device.problem(Code::UpdateFeedUntrusted).await;

    // Whoever was interrupted after the first of two lists does it again.
    let director = publisher.folder.join("public/director");
    let kept = publisher.device.path("kept");
    copy(&director, &kept);
    publisher.add("4.0.0", &[]).await;
    copy(&kept, &director);
    let printed = publisher.add("4.0.0", &[]).await;
    assert!(printed.contains("Added lab-notes/4.0.0/lab-notes-4.0.0.tar.gz"), "{printed}");

    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
    let custom = read_by_python(&publisher, "image", "lab-notes/1.0.0/lab-notes-1.0.0.tar.gz").await;
    assert_eq!(custom["steward"]["system"], "linux");
    let custom = read_by_python(&publisher, "director", "lab-notes/2.0.0/lab-notes-2.0.0.tar.gz").await;
    assert_eq!(custom["steward"]["channel"], "beta");
    assert_eq!(custom["steward"]["rolloutPermyriad"], 10_000);

    // A file that was changed on the server's disk.
    let folder = publisher.folder.join("public/image/targets/lab-notes/1.0.0");
    let file = fs_err::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    fs_err::write(&file, "other").unwrap();
    let printed = publisher.repo(&["verify"]).await;
    assert!(printed.contains("has another length or hash"), "{printed}");
}

#[tokio::test]
async fn repository_says_what_expires_and_is_signed_again() {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    let (publisher, printed) = Publisher::new(device, &["--root-keys", "3", "--threshold", "2"]).await;
    publisher.add("1.0.0", &[]).await;
    let status: Value = publisher
        .device
        .json(&["repo", "status", &publisher.folder.display().to_string(), "--json"])
        .await
        .unwrap();
    assert!(printed.contains(status["roots"].as_str().unwrap()));
    assert_eq!(status["roles"].as_array().unwrap().len(), 8);
    let root = fs_err::read_to_string(publisher.folder.join("public/image/1.root.json")).unwrap();
    let root: Value = serde_json::from_str(&root).unwrap();
    assert_eq!(root["signed"]["roles"]["root"]["threshold"], 2);
    minutes(10 * 24 * 60);
    let printed = publisher.repo(&["status"]).await;
    assert!(printed.contains("for 3 days") && printed.contains("steward repo renew"), "{printed}");
    minutes(15 * 24 * 60);
    assert!(publisher.repo(&["status"]).await.contains("expired"));
    assert!(publisher.repo(&["verify"]).await.contains("has expired: its timestamp"));
    publisher.repo(&["renew"]).await;
    assert!(publisher.repo(&["verify"]).await.contains("as a device expects"));
    let units = publisher.repo(&["renew", "--units"]).await;
    assert!(units.contains("OnCalendar=daily") && units.contains("repo renew"), "{units}");
}

/// What can go wrong at a desk.
#[tokio::test]
async fn mistakes_of_whoever_publishes_change_nothing() {
    let (publisher, _) = Publisher::new(Device::new(), &[]).await;
    publisher.add("1.0.0", &[]).await;
    let before = snapshot(&publisher.folder.join("public"));
    let other = publisher.device.path("else/lab-notes-1.0.0.tar.gz");
    fs_err::create_dir_all(other.parent().unwrap()).unwrap();
    fs_err::write(&other, sample_app("9.0.0", None, "")).unwrap();
    let other = other.display().to_string();
    let missing = publisher.device.path("missing").display().to_string();
    for (arguments, words) in [
        (vec!["init"], "has a repository already"),
        (vec!["add", &other, "--app", "lab-notes", "--version", "1.0.0"], "is there already"),
        (vec!["add", &missing, "--app", "lab-notes", "--version", "2.0.0"], "missing"),
        (vec!["add", &other, "--app", "../x", "--version", "2.0.0"], "not the name of an app"),
        (vec!["add", &other, "--app", "lab-notes", "--version", "2"], "invalid value '2'"),
        (
            vec!["add", &other, "--app", "lab-notes", "--version", "2.0.0", "--rollout", "101"],
            "not from 0 to 100",
        ),
        (vec!["target", "--app", "lab-notes"], "nothing is to be changed"),
        (vec!["target", "--app", "lab-notes", "--rollout", "5"], "say which version"),
        (vec!["target", "--app", "lab-notes", "--version", "7.0.0", "--rollout", "5"], "was not added"),
        (vec!["target", "--app", "lab-notes", "--downgrade", "2.0.0"], "not a downgrade"),
        (
            vec!["target", "--app", "lab-notes", "--minimum", "1.0.0", "--downgrade", "bogus"],
            "not a downgrade",
        ),
        (vec!["target", "--app", "typo", "--minimum", "1.0.0"], "no version of `typo` was added"),
        (vec!["replace-key", "root-9"], "there is no key `root-9`"),
    ] {
        let printed = publisher.repo(&arguments).await;
        assert!(printed.contains(words), "{arguments:?}: {printed}");
    }
    assert_eq!(snapshot(&publisher.folder.join("public")), before);

    // A key that is kept somewhere else, a wrong passphrase, and files of keys that others can read.
    let key = publisher.folder.join("keys/director.pem");
    let pem = fs_err::read(&key).unwrap();
    assert!(pem.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let openssl = Command::new("openssl")
        .args(["pkey", "-noout", "-text", "-passin", &format!("pass:{PASSPHRASE}"), "-in"])
        .arg(&key)
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&openssl.stdout).contains("ED25519"), "{openssl:?}");
    fs_err::remove_file(&key).unwrap();
    let printed = publisher.target(&["--version", "1.0.0", "--rollout", "5"]).await;
    assert!(printed.contains("the key `director` is needed"), "{printed}");
    fs_err::write(&key, "no key").unwrap();
    assert!(publisher.target(&["--version", "1.0.0", "--rollout", "5"]).await.contains("no key in PEM"));
    fs_err::write(&key, pem).unwrap();
    let Publisher { mut device, folder, .. } = publisher;
    let folder = folder.display().to_string();
    for (passphrase, words) in [("another passphrase", "does not open it"), ("tiny", "shorter than 12")] {
        device.set("STEWARD_REPO_PASSPHRASE", passphrase);
        let printed = device.printed(&["repo", "renew", &folder]).await;
        assert!(printed.contains(words) && !printed.contains(passphrase), "{printed}");
    }
    device.set("STEWARD_REPO_PASSPHRASE", "");
    let printed = device.printed(&["repo", "renew", &folder]).await;
    assert!(printed.contains("set STEWARD_REPO_PASSPHRASE"), "{printed}");
}

#[tokio::test]
async fn keys_that_were_lost_or_stolen_are_replaced_and_devices_follow() {
    let (publisher, printed) = Publisher::new(Device::new(), &["--root-keys", "2"]).await;
    let _agent = publisher.follow(&printed).await;
    publisher.add("1.0.0", &[]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    let keys = publisher.folder.join("keys");
    let old: Vec<Vec<u8>> = ["online", "image", "director", "root-2"]
        .map(|name| {
            let file = keys.join(format!("{name}.pem"));
            let bytes = fs_err::read(&file).unwrap();
            fs_err::remove_file(&file).unwrap();
            bytes
        })
        .into();
    for (number, name) in ["online", "image", "director", "root-2"].into_iter().enumerate() {
        let printed = publisher.repo(&["replace-key", name]).await;
        assert!(printed.contains("Replaced and signed again"), "{name}: {printed}");
        let new = fs_err::read(keys.join(format!("{name}.pem"))).unwrap();
        assert_ne!(new, old[number], "{name}");
    }
    publisher.repo(&["renew", "--all"]).await;
    publisher.add("1.1.0", &[]).await;
    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
    // The online key needs neither of the others, and another one none that is not there.
    let image = fs_err::read(keys.join("image.pem")).unwrap();
    fs_err::remove_file(keys.join("image.pem")).unwrap();
    assert!(publisher.repo(&["replace-key", "online"]).await.contains("Replaced"));
    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
    fs_err::write(keys.join("image.pem"), image).unwrap();
    let online = fs_err::read(keys.join("online.pem")).unwrap();
    fs_err::remove_file(keys.join("online.pem")).unwrap();
    let before = snapshot(&publisher.folder.join("public"));
    assert!(publisher.repo(&["replace-key", "director"]).await.contains("the key `online` is needed"));
    assert_eq!(snapshot(&publisher.folder.join("public")), before);
    assert!(!keys.join("director.next.pem").exists());
    fs_err::write(keys.join("online.pem"), online).unwrap();
    publisher.serve();
    assert_eq!(publisher.installs().await.0, "1.1.0");
    let custom = read_by_python(&publisher, "image", "lab-notes/1.1.0/lab-notes-1.1.0.tar.gz").await;
    assert_eq!(custom["steward"]["version"], "1.1.0");

    // A root key that is there, but stolen; and whoever is interrupted between the two repositories.
    let next = keys.join("root-1.next.pem");
    let (director, kept) = (publisher.folder.join("public/director"), publisher.device.path("kept"));
    copy(&director, &kept);
    let stolen = fs_err::read(keys.join("root-1.pem")).unwrap();
    assert!(publisher.repo(&["replace-key", "root-1"]).await.contains("Replaced"));
    fs_err::remove_dir_all(&director).unwrap();
    copy(&kept, &director);
    fs_err::rename(keys.join("root-1.pem"), &next).unwrap();
    fs_err::write(keys.join("root-1.pem"), &stolen).unwrap();
    assert!(publisher.repo(&["renew", "--all"]).await.contains("was interrupted"));
    assert!(publisher.repo(&["replace-key", "root-1"]).await.contains("Replaced"));
    assert!(!next.exists() && fs_err::read(keys.join("root-1.pem")).unwrap() != stolen);
    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
    publisher.repo(&["renew", "--all"]).await;
    publisher.add("1.1.5", &[]).await;
    assert_eq!(publisher.installs().await.0, "1.1.5");

    // Whoever has the old key of the director signs in vain.
    fs_err::write(keys.join("director.pem"), &old[2]).unwrap();
    publisher.add("1.2.0", &[]).await;
    let (installed, printed) = publisher.installs().await;
    assert!(installed == "1.1.5" && printed.contains("director"), "{printed}");
    assert!(publisher.repo(&["replace-key", "root-7"]).await.contains("no key"));
    for file in ["root-1.pem", "root-2.pem"] {
        fs_err::remove_file(keys.join(file)).unwrap();
    }
    let printed = publisher.repo(&["replace-key", "director"]).await;
    assert!(printed.contains("0 of the keys of the roots are here, and 1 have to sign"), "{printed}");
}

/// Found by trial: the timer that renews a repository came while a version was added, which was lost.
#[tokio::test]
async fn commands_in_one_repository_wait_for_each_other() {
    let (publisher, _) = Publisher::new(Device::new(), &[]).await;
    let files: Vec<String> = (1..5).map(|number| publisher.archive(&format!("1.{number}.0"))).collect();
    let folder = publisher.folder.display().to_string();
    let running: Vec<Process> = files
        .iter()
        .enumerate()
        .flat_map(|(number, file)| {
            let version = format!("1.{}.0", number + 1);
            let add = ["repo", "add", &folder, file, "--app", "lab-notes", "--version", &version];
            let renew = ["repo", "renew", &folder];
            [
                publisher.device.start(&program("steward"), &add),
                publisher.device.start(&program("steward"), &renew),
            ]
        })
        .collect();
    for mut process in running {
        process.wait_for_exit().await;
    }
    let status = publisher.repo(&["status"]).await;
    for number in 1..5 {
        assert!(status.contains(&format!("lab-notes/1.{number}.0/")), "{status}");
    }
    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
}

/// A machine that signs with its clock in the future would stop the fleet: devices take what was signed then for the time.
#[tokio::test]
async fn timestamp_of_the_future_is_named_and_can_be_replaced() {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    let (publisher, printed) = Publisher::new(device, &[]).await;
    publisher.add("1.0.0", &[]).await;
    minutes(24 * 60);
    publisher.repo(&["renew"]).await;
    minutes(0);
    let refused = publisher.repo(&["renew"]).await;
    assert!(refused.contains("later than now") && refused.contains("replace-key online"), "{refused}");
    assert!(publisher.repo(&["verify"]).await.contains("replace-key online"));
    publisher.repo(&["replace-key", "online"]).await;
    assert_eq!(publisher.repo(&["verify"]).await.trim(), "All of it is as a device expects it.");
    publisher.serve();
    let _agent = publisher.follow(&printed).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
}

/// As a hardware security module or a service for keys would: the private key is with OpenSSL only.
#[tokio::test]
async fn command_signs_in_place_of_a_key() {
    let device = Device::new();
    let (key, signer) = (device.path("hsm.pem"), device.path("image.toml"));
    let run = async |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let key_text = key.display().to_string();
    run(&["genpkey", "-algorithm", "ed25519", "-out", &key_text]).await;
    let public = run(&["pkey", "-in", &key_text, "-pubout", "-outform", "DER"]).await;
    let public = platform::random::hex(&public[public.len() - 32..]);
    // OpenSSL signs no message with this key that comes through a pipe.
    let script = format!(
        "f=$(mktemp) && cat > $f && openssl pkeyutl -sign -rawin -inkey {key_text} -in $f | base64; rm $f"
    );
    let description =
        |script: &str| format!("public = \"{public}\"\ncommand = [\"sh\", \"-c\", '{script}']\n");
    fs_err::write(&signer, description(&script)).unwrap();
    let given = format!("image={}", signer.display());
    let (publisher, printed) = Publisher::new(device, &["--signer", &given]).await;
    let _agent = publisher.follow(&printed).await;
    publisher.add("1.0.0", &[]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    assert!(!publisher.folder.join("keys/image.pem").exists());
    let before = snapshot(&publisher.folder.join("public"));
    for (script, words) in [("exit 3", "it ended with exit status: 3"), ("echo AAAA", "is no signature")] {
        fs_err::write(publisher.folder.join("keys/image.toml"), description(script)).unwrap();
        let printed = publisher.target(&["--minimum", "1.0.0"]).await;
        assert!(printed.contains(words), "{printed}");
    }
    assert_eq!(snapshot(&publisher.folder.join("public")), before);
}

#[tokio::test]
async fn repository_is_published_to_a_web_server_and_carried_in_an_archive() {
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    publisher.add("1.0.0", &[]).await;
    let (web, archive) = (publisher.device.path("web"), publisher.device.path("fleet.tar"));
    let printed_count = publisher.repo(&["publish", &web.display().to_string()]).await;
    assert!(printed_count.contains("Copied 14 files"), "{printed_count}");
    assert!(publisher.repo(&["publish", &web.display().to_string()]).await.contains("Copied 0 files"));
    publisher.add("1.1.0", &[]).await;
    publisher.repo(&["publish", &web.display().to_string()]).await;
    publisher.repo(&["bundle", &archive.display().to_string()]).await;
    let unpacked = publisher.device.path("unpacked");
    fs_err::create_dir(&unpacked).unwrap();
    let output =
        Command::new("tar").arg("-xvf").arg(&archive).arg("-C").arg(&unpacked).output().await.unwrap();
    let order = String::from_utf8_lossy(&output.stdout).into_owned();
    let place = |name: &str| order.lines().position(|line| line == name).unwrap();
    assert!(place("image/timestamp.json") < place("director/1.root.json"), "{order}");
    assert!(order.ends_with("director/timestamp.json\n"), "{order}");
    for folder in [&web, &unpacked] {
        assert_eq!(snapshot(folder).len(), snapshot(&publisher.folder.join("public")).len());
    }
    // An old backup is not published over what is newer.
    let kept = publisher.device.path("kept");
    for part in ["image", "director"] {
        copy(&publisher.folder.join("public").join(part), &kept.join(part));
    }
    publisher.add("1.2.0", &[]).await;
    publisher.repo(&["publish", &web.display().to_string()]).await;
    let newest = snapshot(&web);
    for part in ["image", "director"] {
        copy(&kept.join(part), &publisher.folder.join("public").join(part));
    }
    let printed_refusal = publisher.repo(&["publish", &web.display().to_string()]).await;
    assert!(printed_refusal.contains("it is an old backup; nothing was copied"), "{printed_refusal}");
    assert_eq!(snapshot(&web), newest);
    // What devices make of the copy.
    fs_err::remove_dir_all(publisher.folder.join("public")).unwrap();
    fs_err::rename(&unpacked, publisher.folder.join("public")).unwrap();
    publisher.serve();
    let _agent = publisher.follow(&printed).await;
    assert_eq!(publisher.installs().await.0, "1.1.0");
}

#[tokio::test]
async fn version_is_taken_from_the_vendors_feed_once() {
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    let vendor = Feed::start().await;
    vendor.publish("1.4.0");
    let url = vendor.url();
    let mirror =
        ["mirror", "--app", "lab-notes", "--system", "linux", "--architecture", "any", "--feed", &url];
    assert!(publisher.repo(&mirror).await.contains("Added lab-notes/1.4.0/"));
    assert!(publisher.repo(&mirror).await.contains("It is there already."));
    publisher.serve();
    let _agent = publisher.follow(&printed).await;
    assert_eq!(publisher.installs().await.0, "1.4.0");
    let before = snapshot(&publisher.folder.join("public"));
    vendor.publish_faulty("1.5.0", Fault::OtherContent);
    let printed = publisher.repo(&mirror).await;
    assert!(printed.contains("is not the file that the feed describes"), "{printed}");
    let quick =
        ["mirror", "--app", "amazon-quick", "--system", "windows", "--architecture", "any", "--feed", &url];
    assert!(publisher.repo(&quick).await.contains("the feed offers no"), "{printed}");
    let missing = publisher.repo(&[&mirror[..], &["--version", "9.9.9"]].concat()).await;
    assert!(missing.contains("does not have version 9.9.9"), "{missing}");
    assert_eq!(snapshot(&publisher.folder.join("public")), before);
}

/// Copies the files of a folder over those of another.
fn copy(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs_err::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// All files with their content, but for what nothing names.
fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for part in ["image", "director"] {
        for entry in fs_err::read_dir(folder.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                found.push((path.clone(), fs_err::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Ten thousand devices ask every few hours.
#[tokio::test]
async fn check_without_news_is_one_request_and_everything_new_is_seen() {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    let (publisher, printed) = Publisher::new(device, &[]).await;
    let _agent = publisher.follow(&printed).await;
    publisher.add("1.0.0", &[]).await;
    assert_eq!(publisher.installs().await.0, "1.0.0");
    let asked = async || {
        let before = publisher.server.asked().len();
        publisher.installs().await;
        publisher.server.asked().split_off(before)
    };
    let one = ["director/timestamp.json"];
    assert_eq!(asked().await, one);
    let one_key = ["image", "director", "online", "root-1"];
    let changes: Vec<Vec<&str>> = [vec!["renew"], vec!["target", "--app", "lab-notes", "--minimum", "1.0.0"]]
        .into_iter()
        .chain(one_key.iter().map(|key| vec!["replace-key", key]))
        .chain([vec!["renew", "--all"]])
        .collect();
    for change in changes {
        publisher.repo(&change).await;
        publisher.serve();
        let after = asked().await;
        assert!(after.contains(&"image/timestamp.json".to_owned()), "{change:?}: {after:?}");
        assert_eq!(asked().await, one, "{change:?}");
    }
    // Policy names later roots of the same repository.
    let last = |part: &str| {
        let file = |version| publisher.folder.join(format!("public/{part}/{version}.root.json"));
        let version = (1..99).take_while(|version| file(*version).exists()).last().unwrap();
        let sha256 = digest(&SHA256, &fs_err::read(file(version)).unwrap()).as_ref().try_into().unwrap();
        TrustedRoot { version, sha256 }
    };
    let roots = TrustedRoots { image: last("image"), director: last("director") };
    assert!(roots.image.version > 2 && roots.director.version > 2, "{roots}");
    let policy = publisher.settings(&format!("UpdateTrustedRoots = \"{roots}\""));
    let policy = format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateMode = \"automatic\"\n{policy}");
    publisher.device.push("50.toml", &policy);
    publisher.device.printed(&["policy", "reload"]).await;
    let before = publisher.server.asked().len();
    assert_eq!(publisher.installs().await.1.trim(), "1.0.0 is up to date");
    assert!(publisher.server.asked()[before..].iter().all(|name| name == one[0]));
    // What has expired is expired, also where nothing has changed.
    minutes(15 * 24 * 60);
    let (_, printed) = publisher.installs().await;
    assert!(printed.contains("has expired"), "{printed}");
    publisher.device.problem(Code::UpdateFeedExpired).await;
}
