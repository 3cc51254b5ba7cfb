//! PURE: how an installer is started, and what its exit code means. Called by [`super::Installer`].

use std::ffi::OsString;
use std::path::Path;

/// The kinds of installers, which their files' names tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Nullsoft Scriptable Install System.
    Nsis,
    /// Windows Installer.
    Msi,
    /// A package of macOS.
    Pkg,
    /// A package of Debian.
    Deb,
    /// A package of the RPM Package Manager.
    Rpm,
}

/// What the disk and systemd say when something fails that is no fault of the installer's.
const FAULTS: [&str; 4] = [
    "No space left on device",
    "Read-only file system",
    "Failed to connect to bus",
    "Failed to start transient service",
];
/// So many lines of what an installer said are shown, and so many characters.
const LINES: usize = 4;
const LONGEST_SUMMARY: usize = 400;

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done,
    /// Done, but for a restart of the device.
    RestartNeeded,
    /// Something else is being installed.
    Busy,
    /// A fault of the device that may pass by itself, and which.
    Hindered(String),
    /// Why it failed.
    Failed(String),
}

impl Format {
    /// By the name of a file.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        [("exe", Self::Nsis), ("msi", Self::Msi), ("pkg", Self::Pkg), ("deb", Self::Deb), ("rpm", Self::Rpm)]
            .into_iter()
            .find(|(known, _)| ending.eq_ignore_ascii_case(known))
            .map(|(_, format)| format)
    }

    /// The ending of such a file.
    pub(super) const fn ending(self) -> &'static str {
        match self {
            Self::Nsis => "exe",
            Self::Msi => "msi",
            Self::Pkg => "pkg",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// Installs without a question. A version that is there, or a newer one, is no obstacle. `log` is where Windows Installer
    /// writes its own; `root` is where packages of Linux are installed, if not at the root.
    pub(super) fn install(self, file: &Path, root: Option<&Path>, log: &Path) -> CommandLine {
        match self {
            // NSIS Users Manual, section 3.2.
            Self::Nsis => CommandLine { program: file.into(), arguments: vec!["/S".into()] },
            // Microsoft, "Command-Line Options" of msiexec.
            Self::Msi => {
                let mut line = with("msiexec.exe", &["/i"]);
                line.arguments.push(file.into());
                line.arguments.extend(["/qn", "/norestart", "/l*v"].map(OsString::from));
                line.arguments.push(log.into());
                line
            }
            // installer(8)
            Self::Pkg => {
                let mut line = with("/usr/sbin/installer", &["-pkg"]);
                line.arguments.push(file.into());
                line.arguments.extend(["-target", "/"].map(OsString::from));
                line
            }
            // dpkg(1). Where an administrator changed a configuration file, it stays.
            Self::Deb => {
                let mut line = with("dpkg", &["--force-confdef", "--force-confold"]);
                line.arguments.extend(root.map(|root| joined("--root=", root)));
                line.arguments.push("--install".into());
                line.arguments.push(file.into());
                line
            }
            // rpm(8)
            Self::Rpm => {
                let mut line = with("rpm", &["--upgrade", "--oldpackage", "--replacepkgs"]);
                line.arguments.extend(root.map(|root| joined("--root=", root)));
                line.arguments.push(file.into());
                line
            }
        }
    }

    /// Removes what an installer installed. `uninstaller` is the program for that where there is one, `package` the name of the
    /// package. `None` if nothing is known to.
    pub(super) fn remove(
        self,
        file: &Path,
        root: Option<&Path>,
        uninstaller: Option<&Path>,
        package: Option<&str>,
    ) -> Option<CommandLine> {
        let of_package = |program, verb: &str| {
            let mut line = with(program, &[]);
            line.arguments.extend(root.map(|root| joined("--root=", root)));
            line.arguments.extend([verb, package?].map(OsString::from));
            Some(line)
        };
        match self {
            Self::Nsis => uninstaller
                .map(|program| CommandLine { program: program.into(), arguments: vec!["/S".into()] }),
            Self::Msi => {
                let mut line = with("msiexec.exe", &["/x"]);
                line.arguments.push(file.into());
                line.arguments.extend(["/qn", "/norestart"].map(OsString::from));
                Some(line)
            }
            Self::Pkg => None,
            Self::Deb => of_package("dpkg", "--remove"),
            Self::Rpm => of_package("rpm", "--erase"),
        }
    }

    /// What an exit code means; `said` is the end of what the installer said.
    pub(super) fn exit(self, code: Option<i32>, said: &str) -> Exit {
        if code != Some(0) && FAULTS.iter().any(|fault| said.contains(fault)) {
            return Exit::Hindered(said.to_owned());
        }
        // As when the device shuts down.
        let Some(code) = code else {
            return Exit::Hindered("the installer was ended before it had finished".to_owned());
        };
        match self {
            Self::Nsis | Self::Msi => of_windows(self, code),
            Self::Deb => match code {
                0 => Exit::Done,
                // The lock of another package manager, with the number of its process.
                2 if said.contains("lock") => Exit::Busy,
                code => failed("dpkg", code, said),
            },
            Self::Rpm => match code {
                0 => Exit::Done,
                // It waits for its lock by itself, but not for ever.
                _ if said.contains("transaction lock") => Exit::Busy,
                code => failed("rpm", code, said),
            },
            Self::Pkg => match code {
                0 if said.contains("requires restarting now") => Exit::RestartNeeded,
                0 => Exit::Done,
                code => failed("installer", code, said),
            },
        }
    }
}

/// What an installer said, in one line: the end of it, without what says nothing. `folder` is where the installers are.
pub(super) fn summary(said: &[String], folder: &Path) -> String {
    const NOISE: [&str; 7] = [
        "(Reading database",
        "Preparing to unpack",
        "Selecting previously",
        "Unpacking",
        "Setting up",
        "Errors were encountered",
        "installer: Package name is",
    ];
    let folder = folder.to_string_lossy();
    let says_nothing =
        |line: &str| line.starts_with(&*folder) || NOISE.iter().any(|noise| line.starts_with(noise));
    let word = |word: &str| if word.contains(&*folder) { "the package".to_owned() } else { word.to_owned() };
    let lines = said.iter().filter(|line| !says_nothing(line));
    let lines: Vec<String> =
        lines.map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect();
    let text = lines[lines.len().saturating_sub(LINES)..].join("; ");
    text.chars().take(LONGEST_SUMMARY).collect()
}

/// The codes of Windows Installer, which other installers use as well (Microsoft, "Error codes" of Windows Installer).
fn of_windows(format: Format, code: i32) -> Exit {
    let text = match (format, code) {
        (_, 0) => return Exit::Done,
        // The second says that the restart has begun.
        (_, 3010 | 1641) => return Exit::RestartNeeded,
        (_, 1618) => return Exit::Busy,
        (_, 112) => return Exit::Hindered("the disk is full".to_owned()),
        (_, 1601) => return Exit::Hindered("the Windows Installer service does not answer".to_owned()),
        // NSIS Users Manual, appendix D.1.
        (Format::Nsis, 1) => "a user cancelled it, or it cancelled itself",
        (Format::Nsis, 2) => "its script ended it",
        (_, 1602) => "a user cancelled it",
        (_, 1603) => "it failed, and Windows Installer undid what it had done",
        (_, 1612) => "the source of the version that is installed is not there",
        (_, 1613) => "it needs a newer Windows Installer",
        (_, 1619 | 1620) => "the package cannot be opened",
        (_, 1625) => "a policy of Windows forbids it",
        (_, 1633) => "it is for another kind of processor",
        (_, 1638) => "another version is installed, which it does not replace",
        (_, 1639) => "it does not accept its arguments",
        _ => "it failed",
    };
    Exit::Failed(format!("{text} (exit code {code})"))
}

fn failed(program: &str, code: i32, said: &str) -> Exit {
    let more = if said.is_empty() { String::new() } else { format!(": {said}") };
    Exit::Failed(format!("{program} ended with exit code {code}{more}"))
}

fn with(program: &str, arguments: &[&str]) -> CommandLine {
    CommandLine { program: program.into(), arguments: arguments.iter().map(OsString::from).collect() }
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &CommandLine) -> String {
        let arguments = line.arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        [line.program.to_string_lossy().into_owned()]
            .into_iter()
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn installers_ask_nothing() {
        for (name, expected) in [
            ("a.exe", "a.exe /S"),
            ("a.msi", "msiexec.exe /i a.msi /qn /norestart /l*v log"),
            ("a.pkg", "/usr/sbin/installer -pkg a.pkg -target /"),
            ("a.deb", "dpkg --force-confdef --force-confold --install a.deb"),
            ("a.rpm", "rpm --upgrade --oldpackage --replacepkgs a.rpm"),
        ] {
            let line = Format::of(name).unwrap().install(Path::new(name), None, Path::new("log"));
            assert_eq!(shown(&line), expected);
        }
        assert_eq!(Format::of("A.EXE"), Some(Format::Nsis));
        assert_eq!((Format::of("a.tar.gz"), Format::of("exe")), (None, None));
    }

    #[test]
    fn every_format_but_pkg_has_a_command_that_removes_the_app() {
        let removed = |format: Format| {
            format.remove(Path::new("a"), None, Some(Path::new("u.exe")), Some("app")).as_ref().map(shown)
        };
        assert_eq!(removed(Format::Nsis).as_deref(), Some("u.exe /S"));
        assert_eq!(removed(Format::Msi).as_deref(), Some("msiexec.exe /x a /qn /norestart"));
        assert_eq!(removed(Format::Deb).as_deref(), Some("dpkg --remove app"));
        assert_eq!(removed(Format::Rpm).as_deref(), Some("rpm --erase app"));
        assert_eq!(removed(Format::Pkg), None);
        assert_eq!(Format::Deb.remove(Path::new("a"), None, None, None), None);
    }

    #[test]
    fn summary_is_the_end_of_what_was_said_without_what_says_nothing() {
        let said = "Selecting previously unselected package lab-memo.\n(Reading database ... 0 files installed.)\n\
                    dpkg: regarding /private/x.deb containing lab-memo, pre-dependency problem:\n\
                    lab-memo pre-depends on lab-missing\nlab-missing is not installed.\n\
                    dpkg: error processing archive /private/x.deb (--install):\n\
                    pre-dependency problem - not installing lab-memo\nErrors were encountered while processing:\n/private/x.deb";
        let lines: Vec<String> = said.lines().map(ToOwned::to_owned).collect();
        assert_eq!(
            summary(&lines, Path::new("/private")),
            "lab-memo pre-depends on lab-missing; lab-missing is not installed.; dpkg: error processing archive the package \
             (--install):; pre-dependency problem - not installing lab-memo"
        );
        assert_eq!(summary(&[], Path::new("x")), "");
        assert_eq!(summary(&["\u{e9}".repeat(900)], Path::new("x")).chars().count(), LONGEST_SUMMARY);
    }

    #[test]
    fn exit_code_says_whether_to_restart_to_wait_or_to_give_up() {
        use Format::{Deb, Msi, Nsis, Pkg, Rpm};
        let lock = "dpkg: error: dpkg frontend lock was locked by another process with pid 77";
        let upgrade =
            "installer: The upgrade was successful.; installer: The install requires restarting now.";
        for (format, code, said, expected) in [
            (Nsis, 0, "", Exit::Done),
            (Msi, 0, "", Exit::Done),
            (Msi, 3010, "", Exit::RestartNeeded),
            (Nsis, 3010, "", Exit::RestartNeeded),
            (Msi, 1641, "", Exit::RestartNeeded),
            (Msi, 1618, "", Exit::Busy),
            (Nsis, 1618, "", Exit::Busy),
            (Msi, 112, "", Exit::Hindered("the disk is full".to_owned())),
            (Pkg, 0, "installer: The upgrade was successful.", Exit::Done),
            (Pkg, 0, upgrade, Exit::RestartNeeded),
            (Deb, 0, "", Exit::Done),
            (Deb, 2, lock, Exit::Busy),
            (Rpm, 0, "", Exit::Done),
            (Rpm, 1, "error: can't create transaction lock on /var/lib/rpm/.rpm.lock", Exit::Busy),
        ] {
            assert_eq!(format.exit(Some(code), said), expected, "{format:?} {code} {said}");
        }
        for (format, code, said, expected) in [
            (Msi, Some(1638), "", "another version is installed, which it does not replace (exit code 1638)"),
            (Msi, Some(1603), "", "Windows Installer undid what it had done (exit code 1603)"),
            (Nsis, Some(2), "", "its script ended it (exit code 2)"),
            (
                Deb,
                Some(1),
                "subprocess returned error exit status 3",
                "dpkg ended with exit code 1: subprocess",
            ),
            (Deb, Some(2), "unknown option", "dpkg ended with exit code 2: unknown option"),
            (
                Pkg,
                Some(1),
                "installer: The install failed.",
                "installer ended with exit code 1: installer: The",
            ),
        ] {
            let exit = format.exit(code, said);
            assert!(matches!(&exit, Exit::Failed(text) if text.contains(expected)), "{exit:?}");
        }
        let full = Deb.exit(Some(1), "dpkg-deb: error: No space left on device");
        assert!(matches!(full, Exit::Hindered(_)), "{full:?}");
        for (format, code, said) in [
            (Rpm, None, ""),
            (Nsis, None, ""),
            (Deb, Some(1), "Failed to connect to bus: No such file or directory"),
        ] {
            assert!(matches!(format.exit(code, said), Exit::Hindered(_)), "{format:?} {code:?}");
        }
    }
}
