//! Running a package manager outside of the agent's unit: it needs rights that the unit does not have, and lives on when the
//! unit is stopped, as the package that it installs may ask for.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use tokio::process::Command;

use crate::paths::Paths;
use crate::random::{self, hex};

/// Where systemd runs (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// Where package managers look for what they need, whatever this process was started with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command for it: in a unit of its own where systemd runs (systemd-run(1)).
pub(crate) fn command(
    paths: &Paths,
    name: &str,
    program: &OsStr,
    arguments: &[OsString],
    log: &Path,
) -> Command {
    if paths.root().is_some() || !nix::unistd::geteuid().is_root() || !Path::new(SYSTEMD).exists() {
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).env("PATH", PATH);
        return command;
    }
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--wait", "--collect", "--service-type=exec"]);
    // A name of its own each time: that of one that has just ended may still be taken.
    command.arg(format!("--unit=steward-install-{name}-{}", hex(&random::bytes::<4>())));
    command.arg("--description=Installs a version of an app for Steward");
    for output in ["StandardOutput", "StandardError"] {
        let mut property = OsString::from(format!("--property={output}=append:"));
        property.push(log);
        command.arg(property);
    }
    command.args(["--setenv=LC_ALL=C", "--setenv=DEBIAN_FRONTEND=noninteractive", "--"]);
    command.arg(program).args(arguments);
    command
}
