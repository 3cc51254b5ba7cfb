//! `cargo demo`: the whole product on loopback, told as it happens.
//!
//! Everything is real: the two steward processes, an OpenID provider, a release feed, a report receiver, the sample
//! app. Only the person at the browser is a program. Nothing outside a temporary folder is touched.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it tells a story")]

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use e2e::device::{Device, problem, program};
use e2e::feed::{Fault, Feed};
use e2e::provider::{CLIENT_ID, PASSWORD, Provider, USER};
use e2e::receiver::Receiver;
use e2e::wait::until;
use serde_json::Value;
use tokio::time::Instant;

/// The whole product on loopback, in less than a minute.
#[derive(Parser)]
struct Arguments {
    /// Stay up afterwards, and say how to play with it.
    #[arg(long)]
    keep: bool,
}

/// Numbers the steps and times them.
struct Story {
    step: usize,
    begun: Instant,
}

impl Story {
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
            println!("             \x1b[2m|\x1b[0m {line}");
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { keep } = Arguments::parse();
    let mut story = Story { step: 0, begun: Instant::now() };
    let begun = Instant::now();
    let mut device = Device::new();
    let (provider, feed, receiver) = (Provider::start().await, Feed::start().await, Receiver::start().await);
    println!("Steward on this device alone: everything below is on loopback and in {}.", device.root_text());

    story.next(
        "An identity provider, a release feed and a report receiver run; so do the two steward processes",
    );
    story.say(&format!("identity provider {}", provider.issuer()));
    story.say(&format!("release feed      {}", feed.url()));
    story.say(&format!("report receiver   {}", receiver.url()));
    feed.publish("1.0.0");
    let agent = device.start_agent().await;
    story.say(&format!("steward agent     process {}, knows no policy yet", agent.id()));
    let broker = device.start_broker().await;
    story.say(&format!("steward broker    process {}, in the person's session", broker.id()));

    story.next("The administrator pushes policy: one TOML file");
    let policy = policy(&provider, &feed, &receiver);
    Story::quote(&policy);
    device.push("50-acme.toml", &policy);
    let managed =
        until("the app's configuration", async || device.managed_configuration().ok_or("none")).await;
    story.say("the app's managed configuration is on disk:");
    Story::quote(&serde_json::to_string_pretty(&managed)?);

    story.next("The agent prepares the app: version 1.0.0 from the feed, size and SHA-512 checked");
    let status =
        device.status_where("version 1.0.0", |status| status["status"]["app"]["version"] == "1.0.0").await;
    story.say(text(&status["status"]["update"]["message"]));

    story.next(
        "A person starts the app for the first time, and types nothing but user and password at the provider",
    );
    story.say(&start_app(&device).await?);
    story.next("The second time it is silent");
    story.say(&start_app(&device).await?);
    story.say(&format!("passwords typed so far: {}", provider.logins()));

    story.next("The dashboard has heard of it");
    let report =
        receiver.report_where("a report", |report| report["status"]["app"]["version"] == "1.0.0").await;
    story.say(&format!("report {} of device {}", report["sequence"], text(&report["device_id"])));
    story.say(&format!(
        "health {}, policy {}",
        text(&report["health"]["state"]),
        text(&report["status"]["policy"]["hash"])
    ));

    story.next("The vendor releases 1.1.0; a damaged copy of it comes first");
    feed.publish_faulty("1.1.0", Fault::Exchanged);
    Story::quote(&device.printed(&["update"]).await);
    story.say("nothing was installed. Now the right one:");
    feed.publish("1.1.0");
    Story::quote(&device.printed(&["update"]).await);
    story.say(&start_app(&device).await?);

    story.next("The administrator makes a typing mistake");
    device.push("60-typo.toml", "UpdateMode = \"Automatik\"\n");
    let status =
        device.status_where("the mistake", |status| problem(status, "policy.invalid-value").is_some()).await;
    story.say("the agent says so, and goes on with what was right before:");
    Story::quote(&device.printed(&["policy", "explain", "UpdateMode"]).await);
    story.say(&format!(
        "the device is reported as `{}` until it is repaired",
        text(&status["health"]["state"])
    ));
    device.push("60-typo.toml", "UpdateMode = \"automatic\"\n");
    device.status_where("the repair", |status| status["health"]["state"] == "pass").await;
    story.say("repaired, and all is well:");
    println!();
    println!("{}", device.printed(&["status"]).await);
    println!("Told in {:.1} s.", begun.elapsed().as_secs_f64());

    if keep {
        play(&mut device, &provider).await?;
    } else {
        println!("`cargo demo -- --keep` stays up to play with.");
    }
    broker.stop().await;
    agent.stop().await;
    Ok(())
}

fn policy(provider: &Provider, feed: &Feed, receiver: &Receiver) -> String {
    format!(
        "OrganizationName = \"Example Corp\"\nSupportContact = \"it-help@example.com\"\nApp = \"lab-notes\"\n\n\
         Issuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nAllowedEmailDomains = [\"example.com\"]\n\
         VaultFallback = \"encrypted-file\"   # this demo has no keyring\n\n\
         UpdateMode = \"automatic\"\nUpdateFeed = \"{}\"\nAppSelfUpdate = \"none\"\n\n\
         ReportUrl = \"{}\"\nReportEnrollmentToken = \"demo\"\n",
        provider.issuer(),
        feed.url(),
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
    let user = nix::unistd::geteuid();
    (
        device.path("opt/lab-notes/current/bin/lab-notes"),
        device.path("etc/opt/lab-notes/managed.json").display().to_string(),
        device.path(&format!("run/user/{user}/steward/broker.sock")).display().to_string(),
    )
}

async fn play(device: &mut Device, provider: &Provider) -> anyhow::Result<()> {
    let steward = format!("{} --root {}", shown(&program("steward")), device.root_text());
    let (app, configuration, socket) = app(device);
    println!(
        "Still up. Try:\n\
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

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}
