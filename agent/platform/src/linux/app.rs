//! Which version of an app is installed, as the operating system knows it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::installed::App;
use crate::paths::Paths;

/// Where dpkg keeps what it has installed (dpkg(1), FILES).
const DPKG: &str = "/var/lib/dpkg/status";
/// More of it is not read.
const MAXIMUM_LINES: usize = 2_000_000;

/// Where rpm keeps the same, in the places of its versions.
const RPM: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];

/// The version of a package. Where the app's programs lie, and its title, say no version here.
#[must_use]
pub fn installed_version(paths: &Paths, app: &App<'_>) -> Option<String> {
    let package = app.package?;
    dpkg_version(paths, package).or_else(|| rpm_version(paths, package))
}

/// What rpm says (rpm(8)).
fn rpm_version(paths: &Paths, package: &str) -> Option<String> {
    RPM.iter().any(|folder| paths.under_root(folder.as_ref()).is_dir()).then_some(())?;
    // A database that is locked may never answer.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "10", "rpm"]);
    if let Some(root) = paths.root() {
        command.arg("--root").arg(root);
    }
    command.args(["--query", "--queryformat", "%{VERSION}-%{RELEASE}\n", "--", package]).stdin(Stdio::null());
    let output = command.output().ok()?;
    let said = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    // Several versions of one package may be there, the newest last.
    said.lines().last().map(ToOwned::to_owned)
}

/// What dpkg says.
fn dpkg_version(paths: &Paths, package: &str) -> Option<String> {
    let file = fs_err::File::open(paths.under_root(DPKG.as_ref())).ok()?;
    let own = format!("Package: {package}");
    let (mut is_own, mut is_installed, mut version) = (false, false, None);
    // Descriptions of old packages may be in another encoding.
    for line in BufReader::new(file).split(b'\n').take(MAXIMUM_LINES) {
        let line = String::from_utf8_lossy(&line.ok()?).into_owned();
        if line.is_empty() {
            if is_own && is_installed {
                break;
            }
            (is_own, is_installed, version) = (false, false, None);
        } else if line == own {
            is_own = true;
        } else if let Some(status) = line.strip_prefix("Status: ") {
            is_installed = status.ends_with(" installed");
        } else if let Some(found) = line.strip_prefix("Version: ") {
            version = Some(found.to_owned());
        }
    }
    version.filter(|_| is_own && is_installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_package_is_found_if_it_is_installed() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(root.path().to_owned()));
        let version = |package| installed_version(&paths, &App { package: Some(package), ..App::default() });
        assert_eq!(version("notes"), None);
        fs_err::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        let status = "Package: notes-data\nStatus: install ok installed\nVersion: 9\n\n\
                      Package: old\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                      Package: notes\nStatus: install ok installed\nArchitecture: all\nVersion: 2:1.4.0-1\nDescription: x\n y\n";
        let latin1 = [b"Package: ancient\nDescription: caf\xe9\n\n", status.as_bytes()].concat();
        fs_err::write(root.path().join("var/lib/dpkg/status"), latin1).unwrap();
        assert_eq!(version("notes").as_deref(), Some("2:1.4.0-1"));
        assert_eq!(version("old"), None, "only its configuration is left");
        assert_eq!((version("none"), installed_version(&paths, &App::default())), (None, None));
    }
}
