//! Releases of a signed repository: repositories of python-tuf, each broken in one way, and what a device makes of them.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::device::Device;
use e2e::feed::sample_app;
use e2e::process::Process;
use net::http::{Http, Network, Payload};
use policy_schema::Code;
use policy_schema::settings::ProxyMode;
use serde_json::{Value, json};

use super::external_provider::OrderedServer;
use super::fixture::movable_clock;

const DAY: u32 = 24 * 60;

/// A device that follows a signed repository, with a clock that can be moved.
struct SignedDevice<Clock> {
    device: Device,
    repository: OrderedServer,
    minutes: Clock,
    _agent: Process,
}

/// With version 1.0.0 published and installed.
async fn signed_device() -> SignedDevice<impl Fn(u32)> {
    let mut device = Device::new();
    let minutes = movable_clock(&mut device);
    let repository = OrderedServer::start(&device, "tuf_repository.py").await;
    publish(&device, &repository, json!({ "version": "1.0.0" })).await;
    let roots = order(&repository, &json!({ "do": "roots" })).await["roots"].as_str().unwrap().to_owned();
    device.push("50.toml", &policy(&repository, &roots));
    let agent = device.start_agent().await;
    let fixture = SignedDevice { device, repository, minutes, _agent: agent };
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{printed}");
    fixture
}

fn policy(repository: &OrderedServer, roots: &str) -> String {
    format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nUpdateMode = \"automatic\"\nUpdateFeed = \"{}\"\n\
         UpdateTrustedRoots = \"{roots}\"\n",
        repository.address
    )
}

async fn order(repository: &OrderedServer, order: &Value) -> Value {
    let http = Http::new(&Network::of(ProxyMode::Direct)).unwrap();
    let url = repository.address.parse().unwrap();
    let bytes = order.to_string().into_bytes();
    let payload = Payload { kind: "application/json", gzip: false, header: None, bytes };
    let response = http.post(&url, None, payload, 10_000).await.unwrap();
    assert_eq!(response.status, 200, "{order}");
    serde_json::from_slice(&response.body).unwrap()
}

/// Publishes a version of the sample app in both repositories, with more in the order.
async fn publish(device: &Device, repository: &OrderedServer, mut what: Value) {
    let version = what["version"].as_str().unwrap().to_owned();
    let file = device.path(&format!("lab-notes-{version}.tar.gz"));
    fs_err::write(&file, sample_app(&version, None, "")).unwrap();
    what["do"] = json!("release");
    what["file"] = json!(file);
    order(repository, &what).await;
}

impl<Clock: Fn(u32)> SignedDevice<Clock> {
    async fn update(&self) -> String {
        self.device.printed(&["update"]).await
    }

    async fn publish(&self, what: Value) {
        publish(&self.device, &self.repository, what).await;
    }

    async fn order(&self, what: Value) -> Value {
        order(&self.repository, &what).await
    }

    fn installed(&self) -> Option<String> {
        let target = fs_err::read_link(self.device.path("opt/lab-notes/current")).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Nothing new is installed, and it is said why. What is installed runs on.
    async fn stays(&self, case: &str, code: Code, words: &str) {
        self.stays_at("1.0.0", case, code, words).await;
    }

    async fn stays_at(&self, version: &str, case: &str, code: Code, words: &str) {
        let printed = self.update().await;
        assert_eq!(self.installed().as_deref(), Some(version), "{case}: {printed}");
        let problem = self.device.problem(code).await;
        assert!(problem.to_string().contains(words), "{case}: {problem}");
        let program = self.device.path("opt/lab-notes/current/bin/lab-notes");
        assert!(self.device.run(&program, &["--self-check"]).await.status.success(), "{case}");
    }
}

#[tokio::test]
async fn release_that_both_repositories_name_is_installed_and_news_cost_one_request_each() {
    let fixture = signed_device().await;
    let requests = || fs_err::read_to_string(fixture.repository.file("requests")).unwrap();
    let before = requests();
    fixture.update().await;
    let more = requests().strip_prefix(&before).unwrap().to_owned();
    let mut asked: Vec<_> = more.lines().collect();
    asked.sort_unstable();
    let wanted =
        ["/director/2.root.json", "/director/timestamp.json", "/image/2.root.json", "/image/timestamp.json"];
    assert_eq!(asked, wanted, "nothing is new");

    // Conditions of the director.
    fixture.publish(json!({ "version": "1.1.0", "conditions": { "channel": "beta" } })).await;
    fixture.publish(json!({ "version": "1.2.0", "conditions": { "withdrawn": true } })).await;
    fixture.publish(json!({ "version": "1.3.0", "conditions": { "rolloutPermyriad": 0 } })).await;
    fixture.publish(json!({ "version": "1.4.0", "identity": { "system": "windows" } })).await;
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.0.0"), "{printed}");
    assert!(printed.contains("1.3.0") && printed.contains("0 %"), "{printed}");
    fixture.publish(json!({ "version": "1.3.0", "conditions": { "rolloutPermyriad": 10_000 } })).await;
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.3.0"));

    // An older version only where the director leads to it.
    fixture.publish(json!({ "version": "1.0.1" })).await;
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.3.0"));
    let downgrades = json!({ "lab-notes": ["1.3.0 to 1.0.1"] });
    fixture
        .order(
            json!({ "do": "member", "of": "director", "name": "x-steward-downgrades", "value": downgrades }),
        )
        .await;
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.0.1"));
    let explained = fixture.device.printed(&["policy", "explain", "UpdateFeed"]).await;
    assert!(explained.contains("trust      a signed repository"), "{explained}");
    let plan = fixture.device.printed(&["update", "plan", "--installed", "1.3.0"]).await;
    assert!(plan.contains("a downgrade leads from 1.3.0 to 1.0.1"), "{plan}");
    // One that policy would not take either.
    let circle = json!({ "lab-notes": ["1.3.0 to 1.0.1", "0.9.0 to 0.9.0"] });
    fixture
        .order(json!({ "do": "member", "of": "director", "name": "x-steward-downgrades", "value": circle }))
        .await;
    fixture.stays_at("1.0.1", "a circle", Code::UpdateFeedUntrusted, "not older than the first").await;
}

/// A fault, how it is made, and what a device says.
type Case = (&'static str, Vec<Value>, Code, &'static str);

/// An order with a member more.
fn with(mut order: Value, name: &str, value: Value) -> Value {
    order[name] = value;
    order
}

fn release(name: &str, value: Value) -> Value {
    with(json!({ "version": "2.0.0" }), name, value)
}

fn good() -> Value {
    json!({ "version": "2.0.0" })
}

fn steal(repository: &str, role: &str) -> Value {
    json!({ "do": "steal", "of": repository, "role": role })
}

/// What somebody can do who has keys.
fn stolen_keys() -> Vec<Case> {
    let untrusted = Code::UpdateFeedUntrusted;
    let minimum = json!({ "lab-notes": "1.0.0" });
    let old = json!({ "version": "0.9.0", "path": "lab-notes/lab-notes-9.tar.gz" });
    vec![
        (
            "the director names what nobody vouches for",
            vec![release("in", json!(["director"]))],
            untrusted,
            "does not have it",
        ),
        (
            "the director names other content",
            vec![release("other", json!(true))],
            untrusted,
            "another length or hash",
        ),
        (
            "the director gives an old version another name",
            vec![
                old,
                json!({ "do": "member", "of": "image", "name": "x-steward-minimum", "value": minimum }),
            ],
            untrusted,
            "below 1.0.0",
        ),
        (
            "the image repository does not say what it is",
            vec![release("identity", json!({ "version": null }))],
            untrusted,
            "does not say what it is",
        ),
        (
            "a path that leads out",
            vec![release("path", json!("lab-notes/../../x/lab-notes-2.0.0.tar.gz"))],
            untrusted,
            "its path",
        ),
        (
            "timestamp of the image repository",
            vec![good(), steal("image", "timestamp")],
            untrusted,
            "threshold",
        ),
        ("targets of the image repository", vec![good(), steal("image", "targets")], untrusted, "threshold"),
        ("snapshot of the director", vec![good(), steal("director", "snapshot")], untrusted, "threshold"),
        (
            "the director's words have another name",
            vec![release("custom", json!("Steward"))],
            untrusted,
            "cannot be read",
        ),
        (
            "the image repository says more than is known",
            vec![release("identity", json!({ "minimumSystem": "99" }))],
            untrusted,
            "may keep it from some devices",
        ),
        (
            "one root key of two",
            vec![good(), json!({ "do": "rotate", "of": "image", "role": "timestamp", "alone": true })],
            untrusted,
            "threshold",
        ),
    ]
}

/// What somebody can do who has a mirror, or the network.
fn mirrors() -> Vec<Case> {
    let untrusted = Code::UpdateFeedUntrusted;
    let replaced = |more: Value| {
        let mut order = json!({ "do": "replace", "of": "image", "name": "timestamp.json" });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let mixed = json!({ "name": "4.snapshot.json", "with": "3.snapshot.json", "of": "director" });
    vec![
        ("file is longer", vec![release("longer", json!(9))], Code::UpdateSizeMismatch, "more arrived"),
        (
            "replay",
            vec![good(), json!({ "do": "restore", "of": "director", "names": ["timestamp.json"] })],
            untrusted,
            "rollback",
        ),
        ("mix and match", vec![good(), replaced(mixed)], untrusted, "integrity"),
        (
            "endless",
            vec![good(), replaced(json!({ "text": "x", "times": 50_000_000 }))],
            Code::UpdateFeedUnreachable,
            "more than",
        ),
        (
            "page of a network",
            vec![good(), replaced(json!({ "text": "<h1>Welcome</h1>" }))],
            untrusted,
            "JSON",
        ),
        (
            "director that expired",
            vec![good(), json!({ "do": "publish", "of": "director", "expires": { "targets": -1 } })],
            Code::UpdateFeedExpired,
            "director repository has expired: its targets",
        ),
    ]
}

#[tokio::test]
async fn stolen_keys_lead_to_nothing_new() {
    nothing_new(stolen_keys()).await;
}

#[tokio::test]
async fn hostile_mirror_leads_to_nothing_new() {
    nothing_new(mirrors()).await;
}

async fn nothing_new(cases: Vec<Case>) {
    for (case, orders, code, words) in cases {
        let fixture = signed_device().await;
        for repository in ["image", "director"] {
            fixture.order(json!({ "do": "keep", "of": repository })).await;
            fixture.order(json!({ "do": "publish", "of": repository })).await;
        }
        // What the device has seen.
        fixture.update().await;
        for order in orders {
            if order.get("do").is_some() {
                fixture.order(order).await;
            } else {
                fixture.publish(order).await;
            }
        }
        fixture.stays(case, code, words).await;
    }
}

/// Whoever holds back what is new is found out by the clock; so is a clock that is wrong, and what runs goes on running.
#[tokio::test]
async fn frozen_repository_expires_and_a_clock_that_is_set_back_brings_nothing_old_back() {
    let fixture = signed_device().await;
    (fixture.minutes)(8 * DAY);
    fixture.stays("frozen", Code::UpdateFeedExpired, "its timestamp was valid until").await;
    // It is signed again.
    fixture.publish(json!({ "version": "1.1.0" })).await;
    let day = |days: i64| (platform::clock::now() + jiff::SignedDuration::from_hours(24 * days)).to_string();
    for of in ["image", "director"] {
        let renewed = json!({ "do": "publish", "of": of, "roles": ["timestamp"], "expires": { "timestamp": 17 }, "signed_at": day(10) });
        fixture.order(renewed).await;
    }
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.1.0"));
    // A clock of years ago does not make old what is not: the time that was signed is known.
    fixture.publish(json!({ "version": "1.2.0" })).await;
    fixture.order(json!({ "do": "publish", "of": "director", "roles": ["timestamp"], "expires": { "timestamp": 5 }, "signed_at": day(4) })).await;
    (fixture.minutes)(0);
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.1.0"), "{printed}");
    let problem = fixture.device.problem(Code::UpdateFeedExpired).await;
    assert!(problem.message.contains("director"), "{problem}");
    // A clock that is years ahead stops new versions, and a right one lets them go on.
    (fixture.minutes)(3650 * DAY);
    fixture.update().await;
    fixture.device.problem(Code::UpdateFeedExpired).await;
    (fixture.minutes)(0);
    fixture.order(json!({ "do": "publish", "of": "director", "roles": ["timestamp"], "expires": { "timestamp": 30 }, "signed_at": day(11) })).await;
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.2.0"));
}

/// Keys are changed while a device is away for years; a timestamp key that was stolen, and that named a time years ahead, is replaced.
#[tokio::test]
async fn device_follows_rotations_of_root_keys_and_forgets_the_time_of_a_stolen_key() {
    let fixture = signed_device().await;
    let ahead = "2035-01-01T00:00:00Z";
    let expires = json!({ "timestamp": 3640 });
    fixture.order(json!({ "do": "publish", "of": "image", "roles": ["timestamp"], "expires": expires, "signed_at": ahead })).await;
    // What it says of the time is believed from then on.
    fixture.update().await;
    fixture.stays("a time years ahead", Code::UpdateFeedExpired, "2035").await;
    fixture.stays("and it is kept", Code::UpdateFeedExpired, "2035").await;
    fixture.order(json!({ "do": "rotate", "of": "image", "role": "timestamp" })).await;
    fixture.order(json!({ "do": "rotate", "of": "image", "role": "root", "times": 40 })).await;
    fixture.order(json!({ "do": "publish", "of": "image", "roles": ["timestamp"], "signed_at": "2026-11-01T00:00:00Z" })).await;
    fixture.publish(json!({ "version": "2.0.0" })).await;
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("2.0.0"), "{printed}");
}

/// What was learned must be kept, and another root is another repository.
#[tokio::test]
async fn state_that_cannot_be_kept_and_another_root_stop_new_versions() {
    let fixture = signed_device().await;
    let folder = fixture.device.path("var/lib/steward/private/repositories");
    fs_err::remove_dir_all(&folder).unwrap();
    fs_err::write(&folder, "in the way").unwrap();
    fixture.publish(json!({ "version": "2.0.0" })).await;
    fixture
        .stays("no room for what it says", Code::AgentStateUnwritable, "cannot be kept on this device")
        .await;
    fs_err::remove_file(&folder).unwrap();
    let other = format!("1:{}+1:{}", "a".repeat(64), "b".repeat(64));
    fixture.device.push("50.toml", &policy(&fixture.repository, &other));
    fixture.device.printed(&["policy", "reload"]).await;
    fixture.stays("another root", Code::UpdateFeedUntrusted, "1.root.json is not the one").await;
    // A value that cannot be understood is no reason to trust whatever comes: not even a feed that others would take.
    let archive = "lab-notes-3.0.0.tar.gz";
    let bytes = sample_app("3.0.0", None, "");
    fs_err::write(fixture.repository.file(archive), &bytes).unwrap();
    fs_err::write(fixture.repository.file("index.html"), e2e::feed::text("3.0.0", archive, &bytes, ""))
        .unwrap();
    fixture.device.push("50.toml", &policy(&fixture.repository, "none"));
    fixture.device.printed(&["policy", "reload"]).await;
    fixture.device.problem(Code::PolicyInvalidValue).await;
    // The last good value: that other root.
    fixture.stays("no roots", Code::UpdateFeedUntrusted, "1.root.json is not the one").await;
    // Whoever has no roots follows that feed.
    let plain = policy(&fixture.repository, "").replace("UpdateTrustedRoots = \"\"\n", "");
    fixture.device.push("50.toml", &plain);
    fixture.device.printed(&["policy", "reload"]).await;
    fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("3.0.0"));
}

/// Whoever has the keys of an online machine can sign a snapshot, and must not take back what was seen.
#[tokio::test]
async fn older_list_of_targets_is_not_taken_although_its_snapshot_is_signed() {
    let fixture = signed_device().await;
    fixture.publish(json!({ "version": "2.0.0" })).await;
    fixture.order(json!({ "do": "publish", "of": "image" })).await;
    let minimum = json!({ "lab-notes": "9.0.0" });
    let raised = json!({ "do": "member", "of": "image", "name": "x-steward-minimum", "value": minimum });
    fixture.order(raised).await;
    fixture.stays("below the minimum", Code::UpdateFeedUntrusted, "below 9.0.0").await;
    // A timestamp whose snapshot is not there makes the device forget the snapshot that it has.
    fixture.order(json!({ "do": "take-back", "of": "image", "targets": 4 })).await;
    let snapshot = fixture.repository.file("image/6.snapshot.json");
    fs_err::rename(&snapshot, fixture.repository.file("aside")).unwrap();
    fixture.stays("no snapshot", Code::UpdateFeedUnreachable, "6.snapshot.json not found").await;
    fs_err::rename(fixture.repository.file("aside"), &snapshot).unwrap();
    for _ in 0..2 {
        fixture.stays("taken back", Code::UpdateFeedUntrusted, "of the snapshot that was seen").await;
    }
    // A later root in policy is no way around that.
    let later = fixture.order(json!({ "do": "rotate", "of": "image", "role": "root" })).await;
    fixture.update().await;
    let later = later["later_roots"].as_str().unwrap();
    fixture.device.push("50.toml", &policy(&fixture.repository, later));
    fixture.device.printed(&["policy", "reload"]).await;
    fixture.order(json!({ "do": "take-back", "of": "image", "targets": 4 })).await;
    fixture.stays("taken back, with a later root", Code::UpdateFeedUntrusted, "rollback").await;
}

/// A file for each kind of package, as publishers make them: the one that comes first in the app's description.
#[tokio::test]
async fn release_in_several_formats_is_one_release() {
    let fixture = signed_device().await;
    fixture.publish(json!({ "version": "1.1.0", "path": "lab-notes/1.1.0/lab-notes-1.1.0.zip" })).await;
    fixture.publish(json!({ "version": "1.1.0" })).await;
    fixture.publish(json!({ "version": "1.2.0", "path": "other-app/1.2.0/lab-notes-1.2.0.tar.gz" })).await;
    let printed = fixture.update().await;
    assert_eq!(fixture.installed().as_deref(), Some("1.1.0"), "{printed}");
    fixture.publish(json!({ "version": "1.3.0" })).await;
    fixture.publish(json!({ "version": "1.3.0", "path": "lab-notes/again/lab-notes-1.3.0.tar.gz" })).await;
    fixture.stays_at("1.1.0", "two files", Code::UpdateFeedUntrusted, "another file of version 1.3.0").await;
}

/// What a repository says of patches may be anything: a release is a release without them as well.
#[tokio::test]
async fn patches_that_cannot_be_used_keep_no_release_away() {
    let fixture = signed_device().await;
    let hash = "ab".repeat(64);
    let named = json!([
        5,
        { "from": "no hash", "path": "lab-notes/1.0.0/lab-notes-1.0.0.tar.gz" },
        { "from": hash, "path": "lab-notes/gone" },
        { "from": hash, "path": "other-app/1.0.0/file" },
        { "from": hash, "path": "" },
        { "from": hash, "path": "lab-notes/1.0.0/lab-notes-1.0.0.tar.gz", "more": 1 },
    ]);
    for (version, patches) in [("1.1.0", named), ("1.2.0", json!("none")), ("1.3.0", json!(vec![7; 9000]))] {
        fixture.publish(json!({ "version": version, "identity": { "patches": patches } })).await;
        let printed = fixture.update().await;
        assert_eq!(fixture.installed().as_deref(), Some(version), "{printed}");
    }
}
