//! Health for an OpAMP server, over both of its transports, read with OpenTelemetry's own messages.
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use e2e::device::Device;
use e2e::process::Process;
use e2e::wait::until;
use policy_schema::Code;
use serde_json::{Value, json};

use super::external_provider::OrderedServer;
use super::fixture::movable_clock;

/// A server for both transports.
struct Server {
    ordered: OrderedServer,
    post: String,
    web_socket: String,
}

impl Server {
    async fn start(device: &Device) -> Self {
        let ordered = OrderedServer::start(device, "opamp.py").await;
        let (post, web_socket) = ordered.address.split_once(' ').unwrap();
        Self {
            post: format!("http://127.0.0.1:{post}/v1/opamp?key=secret"),
            web_socket: format!("ws://127.0.0.1:{web_socket}/v1/opamp?key=secret"),
            ordered,
        }
    }

    /// Its addresses for both transports.
    fn both(&self) -> [(&'static str, &String); 2] {
        [("http", &self.post), ("ws", &self.web_socket)]
    }

    fn order(&self, orders: &Value) {
        self.ordered.order(orders);
    }

    fn push(&self, pushed: &Value) {
        self.ordered.write("push.json", pushed);
    }

    /// Messages, without the connections that were refused.
    fn received(&self) -> Vec<Value> {
        let mut arrived = self.ordered.arrived();
        arrived.retain(|line| line.get("message").is_some());
        arrived
    }

    async fn message_where(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let received = self.received();
            received.iter().find(|one| condition(one)).cloned().ok_or_else(|| format!("{received:#?}"))
        })
        .await
    }

    /// Waits until the device has told what it is like, and everything was looked at.
    async fn settled(&self, device: &Device) {
        device.machine_status_where("what the provider says", |_| true).await;
        let state = device.report().await.health.state().to_owned();
        self.message_where("the state of the device", |one| {
            one["message"]["health"]["status"] == state.as_str()
        })
        .await;
    }
}

fn policy(address: &str) -> String {
    format!(
        "App = \"lab-notes\"\nProxyMode = \"direct\"\nOpampUrl = \"{address}\"\nOpampToken = \"lab-token\"\n"
    )
}

async fn device_of(address: &str, mut device: Device) -> (Device, Process, impl Fn(u32) + use<>) {
    let minutes = movable_clock(&mut device);
    device.push("50.toml", &policy(address));
    let agent = device.start_agent().await;
    (device, agent, minutes)
}

fn is_whole(line: &Value) -> bool {
    ["agent_description", "remote_config_status", "package_statuses"]
        .iter()
        .all(|part| line["message"].get(part).is_some())
}

/// A message that only says that the device is there.
fn is_heartbeat(line: &Value) -> bool {
    let message = line["message"].as_object().unwrap();
    message.keys().all(|key| ["instance_uid", "sequence_num", "capabilities"].contains(&key.as_str()))
}

fn number(line: &Value) -> Option<u64> {
    line["message"]["sequence_num"].as_str()?.parse().ok()
}

/// The bytes of a hash, as JSON has them.
fn base64_of(hexadecimal: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = (0..hexadecimal.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn server_is_told_everything_once_and_then_what_changes() {
    for transport in [0, 1] {
        let device = Device::new();
        let server = Server::start(&device).await;
        let (name, address) = server.both()[transport];
        let (device, agent, minutes) = device_of(address, device).await;
        server.settled(&device).await;
        let report = device.report().await;
        let received = server.received();
        let first = &received[0];
        assert!(is_whole(first) && first["transport"] == name, "{first}");
        assert_eq!(first["uid"], report.device_id.replace('-', ""));
        assert_eq!(first["headers"]["authorization"], "Bearer lab-token");
        assert_eq!(first["message"]["sequence_num"], "1");
        let description = first["message"]["agent_description"].to_string();
        assert!(description.contains(&report.device_id) && description.contains("os.type"), "{description}");
        let host = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(!description.contains(&format!("\"{}\"", host.trim())), "{description}");
        let policy = &first["message"]["remote_config_status"];
        assert_eq!(policy["last_remote_config_hash"], base64_of(&report.status.policy.hash));
        let steward = &first["message"]["package_statuses"]["packages"]["steward"];
        assert_eq!(steward["agent_has_version"], report.status.agent_version.as_str());

        // Only what changes.
        device.push("60.toml", "UpdateMode = \"sometimes\"\n");
        let failed = server
            .message_where("a device that fails", |one| one["message"]["health"]["status"] == "fail")
            .await;
        assert!(
            !is_whole(&failed)
                && failed["message"]["remote_config_status"]["status"] == "RemoteConfigStatuses_FAILED"
        );
        let health = &failed["message"]["health"];
        assert!(health["last_error"].as_str().unwrap().contains("policy is fail"), "{health}");
        // What is false has no field.
        assert_eq!(
            (health.get("healthy"), health["component_health_map"]["policy"].get("healthy")),
            (None, None)
        );
        assert_eq!(health["component_health_map"]["agent"]["healthy"], true, "{health}");
        device.push("60.toml", "UpdateMode = \"off\"\n");
        server
            .message_where("an end of that", |one| {
                number(one) > number(&failed)
                    && one["message"]["remote_config_status"]["status"] == "RemoteConfigStatuses_APPLIED"
            })
            .await;
        server.settled(&device).await;

        // And nothing but that it is there, after the interval of policy.
        device.quiet().await;
        server.ordered.forget_arrived();
        minutes(65);
        device.printed(&["policy", "reload"]).await;
        let heartbeat = server.message_where("a heartbeat", is_heartbeat).await;
        assert!(heartbeat["size"].as_u64().unwrap() <= 64, "{heartbeat}");
        // The last message says that it goes, unless one is under way.
        device.quiet().await;
        agent.stop().await;
        server.message_where("a farewell", |one| one["message"].get("agent_disconnect").is_some()).await;
        if name == "ws" {
            assert!(server.received().iter().all(|one| one["connection"] == 1), "one connection for all");
        }
    }
}

/// What a server must not decide: a configuration, a version, a restart, an address.
#[tokio::test]
async fn server_asks_for_everything_gives_another_identifier_and_decides_nothing_else() {
    for transport in [0, 1] {
        let device = Device::new();
        let server = Server::start(&device).await;
        let (_, address) = server.both()[transport];
        let new = "00112233445566778899aabbccddeeff";
        server.order(&json!({ "flags": 1, "new_uid": new, "heartbeat": 3600, "restart": true }));
        let (device, agent, _minutes) = device_of(address, device).await;
        server.message_where("its new identifier", |one| one["uid"] == new && is_whole(one)).await;
        let hash = device.report().await.status.policy.hash;
        device.quiet().await;
        // It asks for everything with each response, and gets everything once for each thing that there is to say.
        assert!(server.received().len() <= 8, "{:#?}", server.received());
        assert_eq!(device.report().await.status.policy.hash, hash);
        let preview = device.printed(&["report", "--show"]).await;
        assert!(preview.contains("OpampUrl") && !preview.contains("secret"), "{preview}");
        agent.stop().await;

        // It is kept over a start of the agent.
        server.ordered.forget_arrived();
        server.order(&json!({}));
        let _agent = device.start_agent().await;
        let first = server.message_where("the first message", |_| true).await;
        assert_eq!(first["uid"], new);
        // Another server has not given it.
        let elsewhere = Device::new();
        let other = Server::start(&elsewhere).await;
        device.push("50.toml", &policy(other.both()[transport].1));
        let first = other.message_where("the first message", |_| true).await;
        assert_eq!(first["uid"], device.report().await.device_id.replace('-', ""));
        server.message_where("a farewell", |one| one["message"].get("agent_disconnect").is_some()).await;
    }
}

#[tokio::test]
async fn connection_that_ends_is_opened_again_and_what_an_old_one_says_is_not_heard() {
    let device = Device::new();
    let server = Server::start(&device).await;
    let (device, _agent, minutes) = device_of(&server.web_socket, device).await;
    server.settled(&device).await;
    device.quiet().await;
    server.push(&json!({ "close": true }));
    let on = |number: u32| move |one: &Value| one["connection"] == number && is_whole(one);
    // After a pause: all devices of a fleet may have lost it.
    let comes_back = async |number: u32, after: u32| {
        until("a pause", async || if device.is_quiet().await { Err(()) } else { Ok(()) }).await;
        minutes(after);
        until("another connection", async || {
            device.printed(&["policy", "reload"]).await;
            let received = server.received();
            if received.iter().any(on(number)) { Ok(()) } else { Err(format!("{received:#?}")) }
        })
        .await;
    };
    comes_back(2, 2).await;
    // A server that has lost its data asks for it on the open connection.
    server.ordered.forget_arrived();
    server.push(&json!({ "flags": 1 }));
    server.message_where("everything", on(2)).await;
    // One that never stops is hung up on, and called again later.
    server.push(&json!({ "times": 150 }));
    device.problem(Code::ReportUndelivered).await;
    comes_back(3, 40).await;
}

/// A connection can be dead without anybody noticing: a new one is tried at once, and only then something is wrong.
#[tokio::test]
async fn server_that_is_silent_is_called_once_more_and_then_is_a_problem() {
    let device = Device::new();
    let server = Server::start(&device).await;
    let (device, _agent, _minutes) = device_of(&server.web_socket, device).await;
    server.settled(&device).await;
    server.ordered.forget_arrived();
    server.order(&json!({ "silent": true }));
    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    server.message_where("another connection", |one| one["connection"] == 2 && is_whole(one)).await;
    let problem = device.problem(Code::ReportUndelivered).await;
    assert!(problem.message.contains("did not respond within 20 seconds"), "{problem}");
}

#[tokio::test]
async fn server_that_fails_is_left_alone_and_one_that_refuses_is_an_error() {
    let undelivered = Code::ReportUndelivered;
    for (transport, orders, code, words) in [
        (0, json!({ "status": 503, "retry_after": 7200 }), undelivered, "status 503"),
        (1, json!({ "status": 503, "headers": { "Retry-After": "7200" } }), undelivered, "come back in 7200"),
        (0, json!({ "error": 2, "retry_after": 7200 }), undelivered, "too much to do: as ordered"),
        (1, json!({ "error": 2, "retry_after": 7200 }), undelivered, "too much to do: as ordered"),
        (0, json!({ "raw": "<h1>Welcome to the hotel</h1>" }), undelivered, "not one of OpAMP"),
        (1, json!({ "raw": "Welcome" }), undelivered, "a text arrived"),
        (0, json!({ "status": 401 }), Code::ReportRejected, "status 401"),
        (1, json!({ "status": 401 }), Code::ReportRejected, "status 401"),
        (0, json!({ "error": 1 }), Code::ReportRejected, "cannot take the message: as ordered"),
    ] {
        let device = Device::new();
        let server = Server::start(&device).await;
        server.order(&orders);
        let (device, agent, minutes) = device_of(server.both()[transport].1, device).await;
        let problem = device.problem(code).await;
        assert!(problem.key.as_deref() == Some("OpampUrl") && problem.message.contains(words), "{problem}");
        assert!(!problem.to_string().contains("secret"), "{problem}");
        let is_busy = orders.get("retry_after").is_some() || orders.get("headers").is_some();
        if is_busy {
            // Whatever changes, it is not called before the time that it named.
            let attempts = server.ordered.arrived().len();
            assert!(attempts > 0);
            device.push("60.toml", "OrganizationName = \"Example Corp\"\n");
            device.settings_become(5).await;
            minutes(90);
            device.printed(&["policy", "reload"]).await;
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            assert_eq!(server.ordered.arrived().len(), attempts);
        }
        server.order(&json!({}));
        minutes(125);
        device.printed(&["policy", "reload"]).await;
        device.machine_status_where("no problem", |status| status.problems.is_empty()).await;
        // What the server heard last is that nothing is wrong any more.
        until("the end of it", async || {
            let received = server.received();
            let health = received.iter().rev().find_map(|one| one["message"].get("health"));
            let report = health.map(|health| health["component_health_map"]["report"].to_string());
            if report.as_ref().is_some_and(|text| text.contains("\"healthy\":true")) {
                Ok(())
            } else {
                Err(report)
            }
        })
        .await;
        agent.stop().await;
    }
}
