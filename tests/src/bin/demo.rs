//! `cargo demo`: the whole product on loopback, with an explanation of each step.
//!
//! Everything is real: the two Steward processes, an OpenID provider, a signed repository, a report receiver, the sample
//! app. Only the user at the browser is a program. Nothing outside a temporary folder is touched.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it explains what it does")]

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use e2e::device::{Device, problem};
use e2e::process::program;

use e2e::provider::{CLIENT_ID, PASSWORD, Provider, USER};
use e2e::publisher::Publisher;
use e2e::receiver::Receiver;
use e2e::wait::until;
use policy_schema::Code;
use protocol::health::State;
use semver::Version;
use tokio::time::Instant;

/// The whole product on loopback, in less than a minute.
#[derive(Parser)]
struct Arguments {
    /// Keep everything running afterwards, and print what to try.
    #[arg(long)]
    keep: bool,
}

/// Numbers the steps and times them.
struct Narration {
    step: usize,
    begun: Instant,
}

impl Narration {
    fn next(&mut self, title: &str) {
        self.step += 1;
        println!("\n\x1b[1m{}. {title}\x1b[0m", self.step);
        self.begun = Instant::now();
    }

    fn say(&self, text: &str) {
        println!("   {:>5} ms  {text}", self.begun.elapsed().as_millis());
    }

    fn quote(text: &str) {
        for line in text.trim_end().lines() {
            println!("             | {line}");
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { keep } = Arguments::parse();
    let mut narration = Narration { step: 0, begun: Instant::now() };
    let begun = Instant::now();
    let (publisher, printed) = Publisher::new(Device::new(), &[]).await;
    let device = &publisher.device;
    let (provider, receiver) = (Provider::start().await, Receiver::start().await);
    println!("Everything below runs on this device only, on loopback and in {}.", device.root_text());

    narration.next(
        "An identity provider, a signed repository and a report receiver run; so do the two Steward processes",
    );
    narration.say(&format!("identity provider {}", provider.issuer()));
    narration.say(&format!("repository        {}, made by `steward repo init`", publisher.server.base()));
    narration.say(&format!("report receiver   {}", receiver.url()));
    let added = publisher.add("1.0.0", &[]).await;
    narration.say(&format!("`steward repo add` {}", added.trim()));
    let agent = device.start_agent().await;
    narration.say(&format!("steward agent     process {}, has no policy yet", agent.id()));
    let broker = device.start_broker().await;
    narration.say(&format!("steward broker    process {}, in the user's session", broker.id()));

    narration.next("The administrator pushes policy: one TOML file");
    let policy = policy(&provider, &publisher.settings(&printed), &receiver);
    Narration::quote(&policy);
    device.push("50-acme.toml", &policy);
    let managed =
        until("the app's configuration", async || device.managed_configuration().ok_or("none")).await;
    narration.say("the app's managed configuration is on disk:");
    Narration::quote(&serde_json::to_string_pretty(&managed)?);

    narration.next(
        "The agent prepares the app: version 1.0.0, which two signed lists name, size and SHA-512 checked",
    );
    let first = Some(Version::new(1, 0, 0));
    let status = device.machine_status_where("version 1.0.0", |status| status.app.version == first).await;
    narration.say(status.update.message.as_deref().unwrap_or("-"));

    narration
        .next("A user starts the app for the first time, and types only user and password at the provider");
    narration.say(&start_app(device).await?);
    narration.next("The second time it is silent");
    narration.say(&start_app(device).await?);
    narration.say(&format!("passwords typed until now: {}", provider.logins()));

    narration.next("The dashboard gets a report");
    let report = receiver.report_where("a report", |report| report.status.app.version == first).await;
    narration.say(&format!("report {} of device {}", report.sequence, report.device_id));
    narration.say(&format!("health {}, policy {}", report.health.state(), report.status.policy.hash));

    narration.next("The administrator adds 1.1.0; somebody changes the file on the web server");
    publisher.add("1.1.0", &[]).await;
    let files = publisher.server.files();
    let (name, bytes) =
        files.iter().find(|(name, _)| name.contains("lab-notes-1.1.0")).context("it is served")?;
    publisher.server.put(name, vec![0; bytes.len()]);
    Narration::quote(&device.printed(&["update"]).await);
    narration.say("nothing was installed. Now the right one:");
    publisher.serve();
    Narration::quote(&device.printed(&["update"]).await);
    narration.say(&start_app(device).await?);

    narration.next("The administrator makes a typing mistake");
    device.push("60-typo.toml", "UpdateMode = \"Automatik\"\n");
    let mistake = |overview: &_| problem(overview, Code::PolicyInvalidValue).is_some();
    let overview = device.status_where("the mistake", mistake).await;
    narration.say("the agent reports it, and keeps the last good value:");
    Narration::quote(&device.printed(&["policy", "explain", "UpdateMode"]).await);
    narration.say(&format!("the device is reported as `{}` until it is repaired", overview.health.state()));
    device.push("60-typo.toml", "UpdateMode = \"automatic\"\n");
    device.status_where("the repair", |overview| overview.health.state == State::Pass).await;
    narration.say("repaired, and all is well:");
    println!();
    println!("{}", device.printed(&["status"]).await);
    println!("Done in {:.1} s.", begun.elapsed().as_secs_f64());

    if keep {
        keep_running(device, &provider).await?;
    } else {
        println!("`cargo demo -- --keep` keeps everything running, to try more.");
    }
    broker.stop().await;
    agent.stop().await;
    Ok(())
}

fn policy(provider: &Provider, updates: &str, receiver: &Receiver) -> String {
    format!(
        "OrganizationName = \"Example Corp\"\nSupportContact = \"it-help@example.com\"\nApp = \"lab-notes\"\n\n\
         Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nAllowedEmailDomains = [\"example.com\"]\n\
         VaultFallback = \"encrypted-file\"   # this demo has no keyring\n\n\
         UpdateMode = \"automatic\"\n{updates}AppSelfUpdate = \"none\"\n\n\
         ReportUrl = \"{}\"\nReportEnrollmentToken = \"demo\"\n",
        provider.issuer(),
        receiver.url()
    )
}

async fn start_app(device: &Device) -> anyhow::Result<String> {
    let (app, configuration, socket) = app(device);
    let output = device.run(&app, &[&configuration, &socket]).await;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The installed app, and its two arguments.
fn app(device: &Device) -> (std::path::PathBuf, String, String) {
    (
        device.path("opt/lab-notes/current/bin/lab-notes"),
        device.configuration_file().display().to_string(),
        device.broker_socket().display().to_string(),
    )
}

async fn keep_running(device: &Device, provider: &Provider) -> anyhow::Result<()> {
    let steward = format!("{} --root {}", shown(&program("steward")), device.root_text());
    let (app, configuration, socket) = app(device);
    println!(
        "Everything still runs. Try:\n\
         \x20 {steward} status\n\
         \x20 {steward} policy show\n\
         \x20 $EDITOR {}/50-acme.toml\n\
         \x20 {steward} logout; {steward} login --no-browser\n\
         \x20     (opens {} in your browser: user `{USER}`, password `{PASSWORD}`)\n\
         \x20 {steward} token --json\n\
         \x20 {steward} report --format prometheus\n\
         \x20 {} {configuration} {socket}\n\
         Ctrl-C ends it and removes {}.",
        device.policy_folder().display(),
        provider.issuer(),
        shown(&app),
        device.root_text(),
    );
    tokio::signal::ctrl_c().await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
