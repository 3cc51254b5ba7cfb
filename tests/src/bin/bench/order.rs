//! Which functions the two services run, and `steward token`, which runs often: the order in which the linker places them, so
//! that what is never run shares no page with what is (`cargo xtask dist`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::provider::{CLIENT_ID, Provider};
use e2e::receiver::Receiver;
use nix::sys::signal::Signal;
use protocol::endpoint::Nothing;

/// Runs agent and broker under Callgrind through a sign-in, tokens, changes of policy and reports, and `steward token` at last;
/// prints the functions that ran, by their symbols, those of `steward token` first.
pub(super) async fn print() -> anyhow::Result<()> {
    let (provider, receiver, device) = (Provider::start().await, Receiver::start().await, Device::new());
    let own = std::env::current_exe()?.display().to_string();
    let policy = |number: usize| {
        format!(
            "App = \"lab-notes\"\nIssuer = \"{}\"\nClientId = \"{CLIENT_ID}\"\nVaultFallback = \"encrypted-file\"\n\
             RedirectUri = \"http://localhost:18081\"\nAllowedApplications = [{own:?}, \"/usr/libexec/valgrind/callgrind-amd64-linux\"]\nProxyMode = \"direct\"\n\
             ReportUrl = \"{}\"\nOrganizationName = \"{number}\"\n",
            provider.issuer(),
            receiver.url()
        )
    };
    device.push("50.toml", &policy(0));
    let mut services = Vec::new();
    for service in ["agent", "broker"] {
        services.push(under_callgrind(&device, service));
        let socket = if service == "agent" { device.agent_socket() } else { device.broker_socket() };
        e2e::wait::until("a service that listens", async || std::os::unix::net::UnixStream::connect(&socket))
            .await;
    }
    e2e::wait::until("the agent's response", async || {
        device.call_agent(&protocol::agent::STATUS, &Nothing {}).await
    })
    .await;
    let login = device.steward(&["login"]).await;
    anyhow::ensure!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
    let socket = device.broker_socket();
    for number in 1..4 {
        super::request_token(&mut super::connect(&socket).await?).await?;
        device.printed(&["token"]).await;
        device.printed(&["status"]).await;
        let before = device.machine_status().await.policy.hash;
        device.push("50.toml", &policy(number));
        device.machine_status_where("the new policy", |status| status.policy.hash != before).await;
    }
    receiver.report_where("a report of the session", |report| report.health.components.len() > 1).await;
    let mut first = BTreeSet::new();
    let command = callgrind(&device, "token");
    let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    let output = device.run(Path::new(VALGRIND), &arguments).await;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    executed(&fs_err::read_to_string(device.path("token.callgrind"))?, &mut first);
    let mut ran = BTreeSet::new();
    for (service, mut process) in ["agent", "broker"].into_iter().zip(services) {
        process.signal(Signal::SIGTERM);
        process.wait_for_exit().await;
        executed(&fs_err::read_to_string(device.path(&format!("{service}.callgrind")))?, &mut ran);
    }
    anyhow::ensure!(ran.len() > 1000, "Callgrind saw {} functions only", ran.len());
    for symbol in first.iter().chain(ran.difference(&first)) {
        println!("{symbol}");
    }
    Ok(())
}

fn under_callgrind(device: &Device, service: &str) -> Process {
    let command = callgrind(device, service);
    device.start(Path::new(VALGRIND), &command.iter().map(String::as_str).collect::<Vec<_>>())
}

const VALGRIND: &str = "/usr/bin/valgrind";

/// The arguments of Valgrind for a verb of Steward.
fn callgrind(device: &Device, verb: &str) -> [String; 7] {
    let out = format!("--callgrind-out-file={}", device.path(&format!("{verb}.callgrind")).display());
    let steward = program("steward").display().to_string();
    let [tool, names, root] = ["--tool=callgrind", "--demangle=no", "--root"].map(ToOwned::to_owned);
    [tool, names, out, steward, verb.to_owned(), root, device.root_text()]
}

/// The functions of our program that a profile has (Callgrind's format: `ob=` names the object that the next lines are
/// about, a name stands beside its number once).
fn executed(profile: &str, ran: &mut BTreeSet<String>) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut objects: BTreeMap<&str, &str> = BTreeMap::new();
    let mut object = "";
    for line in profile.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (number, name) = value.split_once(' ').unwrap_or((value, ""));
        let table = match key {
            "ob" | "cob" => &mut objects,
            "fn" | "cfn" => &mut names,
            _ => continue,
        };
        if !name.is_empty() {
            table.insert(number, name);
        }
        match key {
            "ob" => object = objects.get(number).copied().unwrap_or_default(),
            "fn" if object.ends_with("/steward") => {
                // A function that calls itself has its depth behind its name, and some have only an address.
                let name = names.get(number).and_then(|name| name.split('\'').next());
                let name = name.filter(|name| !name.starts_with(['(', '0']));
                ran.extend(name.map(ToOwned::to_owned));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_steward_that_ran_are_found_once_and_no_others() {
        let profile = "ob=(1) /lib/libc.so.6\nfn=(1) malloc\n1 5\nob=(2) /x/steward\nfn=(2) _ZN1a\n0 1\ncob=(1)\n\
                       cfn=(3) free\ncalls=1 0\n0 2\ncfn=(4) _ZN1b'2\ncalls=1 0\n\nfn=(4)\n0 1\nfn=(5) 0x00ab\n\
                       fn=(6) (below main)\nfn=(2)\n";
        let mut ran = BTreeSet::new();
        executed(profile, &mut ran);
        assert_eq!(Vec::from_iter(ran), ["_ZN1a", "_ZN1b"]);
    }
}
