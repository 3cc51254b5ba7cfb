//! Collectors of others that read what the agent leaves or prints: Prometheus' own tools, and the scripts of Jamf Pro.

use std::path::Path;

use e2e::device::Device;
use e2e::process::{Process, program};
use e2e::wait::until;
use policy_schema::Code;

use super::fixture::free_port;

const FOLDER: &str = "var/lib/prometheus/node-exporter";

fn policy() -> String {
    format!("App = \"lab-notes\"\nProxyMode = \"direct\"\nReportTextfile = \"/{FOLDER}/steward.prom\"\n")
}

/// Debian's `node_exporter` with its textfile collector alone.
fn node_exporter(device: &Device) -> (Process, String) {
    let address = format!("127.0.0.1:{}", free_port());
    let folder = device.path(FOLDER).display().to_string();
    let arguments = [
        "--collector.disable-defaults",
        "--collector.textfile",
        "--collector.textfile.directory",
        &folder,
        "--web.listen-address",
        &address,
    ];
    let exporter = device.start(Path::new("/usr/bin/prometheus-node-exporter"), &arguments);
    (exporter, format!("http://{address}/metrics"))
}

async fn scraped_where(device: &Device, url: &str, what: &str) -> String {
    until(what, async || {
        let output = device.run(Path::new("/usr/bin/curl"), &["--silent", url]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains(what) { Ok(text) } else { Err(text) }
    })
    .await
}

async fn file_is(file: &Path, there: bool) {
    until("the file of metrics", async || if file.exists() == there { Ok(()) } else { Err(!there) }).await;
}

#[tokio::test]
async fn textfile_is_read_by_node_exporter_follows_changes_and_goes_with_its_setting() {
    let device = Device::new();
    fs_err::create_dir_all(device.path(FOLDER)).unwrap();
    device.push("50.toml", &policy());
    let _agent = device.start_agent().await;
    let (_exporter, url) = node_exporter(&device);
    let state = |state: &str| format!("steward_component_state{{component=\"policy\",state=\"{state}\"}} 1");
    let passing = scraped_where(&device, &url, &state("pass")).await;
    assert!(passing.contains("node_textfile_scrape_error 0"), "{passing}");
    let file = device.path(FOLDER).join("steward.prom");
    let check = format!("promtool check metrics < '{}'", file.display());
    let checked = device.run(Path::new("/bin/sh"), &["-c", &check]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let printed = device.printed(&["report", "--format", "prometheus"]).await;
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(ToOwned::to_owned).collect()
    };
    assert_eq!(names(&printed), names(&fs_err::read_to_string(&file).unwrap()));

    device.push("60.toml", "UpdateMode = \"sometimes\"\n");
    scraped_where(&device, &url, &state("fail")).await;
    let files: Vec<_> = fs_err::read_dir(device.path(FOLDER)).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");

    // Nothing would update it: a collector would read for ever how the device is now.
    device.push("50.toml", "App = \"lab-notes\"\n");
    file_is(&file, false).await;
}

#[tokio::test]
async fn textfile_that_cannot_be_written_is_a_problem_and_that_of_another_run_is_removed() {
    let device = Device::new();
    device.push("50.toml", &policy());
    let agent = device.start_agent().await;
    let problem = device.problem(Code::ReportTextfileUnwritable).await;
    assert!(problem.hint.as_ref().unwrap().contains("create the folder"), "{problem}");
    assert_eq!(problem.key.as_deref(), Some("ReportTextfile"));
    fs_err::create_dir_all(device.path(FOLDER)).unwrap();
    device.push("60.toml", "OrganizationName = \"Example Corp\"\n");
    let file = device.path(FOLDER).join("steward.prom");
    file_is(&file, true).await;
    device.machine_status_where("no problem", |status| status.problems.is_empty()).await;

    agent.kill().await;
    device.push("50.toml", "App = \"lab-notes\"\n");
    let agent = device.start_agent().await;
    file_is(&file, false).await;
    device.push("50.toml", &policy());
    file_is(&file, true).await;
    agent.kill().await;
    let removed = device.printed(&["cleanup"]).await;
    assert!(!file.exists() && removed.contains("steward.prom"), "{removed}");
}

/// As Jamf Pro runs them: each prints a result on every device, whatever there is.
#[tokio::test]
async fn extension_attribute_of_each_key_prints_one_result_with_and_without_an_agent() {
    let device = Device::new();
    device.push("50.toml", "App = \"lab-notes\"\nUpdateMode = \"sometimes\"\n");
    let _agent = device.start_agent().await;
    device.problem(Code::PolicyInvalidValue).await;
    let out = device.path("out");
    device.printed(&["export", "--format", "jamf", "--output", &out.display().to_string()]).await;
    let scripts: Vec<_> = fs_err::read_dir(out.join("jamf/extension-attributes")).unwrap().collect();
    assert_eq!(scripts.len(), policy_schema::export::compliance::FACTS.len());
    let wrapper = device.path("steward.sh");
    let (steward, root) = (program("steward"), device.root_text());
    fs_err::write(&wrapper, format!("#!/bin/sh\nexec '{}' --root '{root}' \"$@\"\n", steward.display()))
        .unwrap();
    fs_err::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for script in scripts {
        let script = script.unwrap().path();
        let text = fs_err::read_to_string(&script).unwrap();
        let name = script.file_stem().unwrap().to_str().unwrap().to_owned();
        for (script_text, is_there) in [(text.clone(), false), (with_program(&text, &wrapper), true)] {
            fs_err::write(&script, script_text).unwrap();
            let pipe = "tee /dev/stderr | xmllint --xpath 'string(/result)' -";
            let command = format!("set -o pipefail; sh '{}' | {pipe}", script.display());
            let output = device.run(Path::new("/bin/bash"), &["-c", &command]).await;
            let printed = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() && printed.lines().count() == 1, "{name}: {printed}");
            let value = String::from_utf8(output.stdout).unwrap();
            let value = value.trim();
            assert!(is_there || value != "pass", "{name} is {value} without an agent");
            match name.as_str() {
                "PolicyState" => assert_eq!(value, if is_there { "fail" } else { "unknown" }),
                "ProblemCodes" => assert_eq!(value == "policy.invalid-value", is_there, "{value}"),
                _ => {}
            }
        }
    }
    let unknown = device.steward(&["report", "--format", "jamf", "--key", "policystate"]).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("PolicyState"), "{unknown:?}");
    let elsewhere = device.steward(&["report", "--format", "intune", "--key", "PolicyState"]).await;
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("--format jamf"), "{elsewhere:?}");
}

/// The script with the program of the lab in place of the installed one.
fn with_program(script: &str, program: &Path) -> String {
    let installed = "/Library/Application Support/Steward/bin/steward";
    assert!(script.contains(installed), "{script}");
    script.replace(installed, &program.display().to_string())
}
