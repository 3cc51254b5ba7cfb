//! The lab's app that operating systems install, in any version: as a package of Debian or of rpm, as a program of NSIS and as a
//! package of Windows Installer, each built by a tool of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::program;

/// What a version does when it is installed or started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// What it should.
    Works,
    /// It is installed, and does not start.
    DoesNotStart,
    /// It is installed, its check of itself succeeds, and it fails when a user starts it (Debian).
    Crashes,
    /// Its installer refuses before it changes anything.
    Refuses,
    /// Its installer fails after it has changed something (Debian, NSIS).
    Breaks,
    /// Its installer takes its time, and writes outside of the app's own folder (Debian).
    WritesElsewhere,
    /// It is installed, and needs a restart of the device (NSIS).
    NeedsRestart,
    /// Another installation is under way when it is started for the first time (NSIS).
    IsBusyOnce,
}

/// Who signs the installers of the lab.
pub const PUBLISHER: &str = "Lab Publisher, Inc.";

/// A folder to build in. The certificate of the lab's publisher lies there as well.
pub struct Workshop(tempfile::TempDir);

impl Default for Workshop {
    fn default() -> Self {
        Self::new()
    }
}

impl Workshop {
    /// Makes one.
    ///
    /// # Panics
    /// The disk is full.
    #[must_use]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("the disk has room"))
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(name);
        drop(fs_err::remove_dir_all(&folder));
        fs_err::create_dir_all(&folder).expect("the disk has room");
        folder
    }

    /// A package of Debian. One that refuses needs another package before it is unpacked; one that breaks, after that.
    ///
    /// # Panics
    /// `dpkg-deb` is missing, or the sample app was not built.
    #[must_use]
    pub fn deb(&self, version: &str, behavior: Behavior) -> Vec<u8> {
        let folder = self.folder("deb");
        app_in(&folder.join("opt/lab-memo"), version, behavior);
        let needs = match behavior {
            Behavior::Refuses => "Pre-Depends: lab-missing\n",
            Behavior::Breaks => "Depends: lab-missing\n",
            Behavior::Works
            | Behavior::DoesNotStart
            | Behavior::Crashes
            | Behavior::WritesElsewhere
            | Behavior::NeedsRestart
            | Behavior::IsBusyOnce => "",
        };
        let version = version.replacen('-', "~", 1);
        write(
            &folder.join("DEBIAN/control"),
            &format!(
                "Package: lab-memo\nVersion: 1:{version}-1\nArchitecture: all\nMaintainer: Lab <lab@example.com>\n\
                 Description: sample app\n{needs}"
            ),
        );
        if behavior == Behavior::WritesElsewhere {
            let script = folder.join("DEBIAN/postinst");
            write(&script, "#!/bin/sh\nsleep 5\ntouch /usr/share/lab-memo-was-here\n");
            fs_err::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("it was just written");
        }
        let package = self.0.path().join("memo.deb");
        let mut command = Command::new("dpkg-deb");
        command.args(["--root-owner-group", "-Znone", "--build"]).arg(&folder).arg(&package);
        built(&mut command, &package)
    }

    /// A package of rpm. One that refuses needs another package.
    ///
    /// # Panics
    /// `rpmbuild` is missing, or the sample app was not built.
    #[must_use]
    pub fn rpm(&self, version: &str, behavior: Behavior) -> Vec<u8> {
        let folder = self.folder("rpm");
        app_in(&folder.join("root/opt/lab-memo"), version, behavior);
        let needs = if behavior == Behavior::Refuses { "Requires: lab-missing\n" } else { "" };
        let specification = folder.join("memo.spec");
        write(
            &specification,
            &format!(
                "Name: lab-memo\nVersion: {version}\nRelease: 1\nSummary: sample app\nLicense: MIT\nBuildArch: noarch\n\
                 AutoReqProv: no\n{needs}%description\nsample app\n%install\ncp -a {0}/root/. %{{buildroot}}/\n%files\n/opt/lab-memo\n",
                folder.display()
            ),
        );
        let package = folder.join(format!("noarch/lab-memo-{version}-1.noarch.rpm"));
        let mut command = Command::new("rpmbuild");
        command.args(["--quiet", "-bb", "--define", "_binaries_in_noarch_packages_terminate_build 0"]);
        command.args(["--define", "__os_install_post %{nil}", "--define", "_build_id_links none"]);
        for (name, path) in [("_topdir", ""), ("_rpmdir", ""), ("_dbpath", "db")] {
            command.arg("--define").arg(format!("{name} {}", folder.join(path).display()));
        }
        built(command.arg(&specification), &package)
    }

    /// A program of NSIS, signed by a publisher.
    ///
    /// # Panics
    /// `makensis` or `osslsigncode` is missing.
    #[must_use]
    pub fn nsis(&self, version: &str, behavior: Behavior, publisher: Option<&str>) -> Vec<u8> {
        let folder = self.folder("nsis");
        let installer = folder.join("memo.exe");
        let behavior = match behavior {
            Behavior::Works | Behavior::Crashes | Behavior::WritesElsewhere => "works",
            Behavior::DoesNotStart => "does-not-start",
            Behavior::Refuses => "refuses",
            Behavior::Breaks => "breaks",
            Behavior::NeedsRestart => "needs-restart",
            Behavior::IsBusyOnce => "busy-once",
        };
        let mut command = Command::new("makensis");
        command.args(["-V1", "-NOCD", &format!("-DVERSION={version}"), &format!("-DBEHAVIOR={behavior}")]);
        for (name, path) in [("APP", &self.windows_app()), ("OUT", &installer)] {
            command.arg(format!("-D{name}={}", path.display()));
        }
        built(command.arg(fixture("lab-memo.nsi")), &installer);
        self.signed(&installer, publisher)
    }

    /// A package of Windows Installer, signed by a publisher.
    ///
    /// # Panics
    /// `wixl` or `osslsigncode` is missing.
    #[must_use]
    pub fn msi(&self, version: &str, behavior: Behavior, publisher: Option<&str>) -> Vec<u8> {
        let folder = self.folder("msi");
        write(&folder.join("broken"), "");
        fs_err::copy(self.windows_app(), folder.join("lab-memo.exe")).expect("the disk has room");
        let component = "<Component Id=\"Broken\" Guid=\"2f0e6a51-6d1c-4f0b-9a53-6a1d5c1e0b12\" Win64=\"yes\">\
                         <File Id=\"Broken\" Name=\"broken\" Source=\"broken\" KeyPath=\"yes\"/></Component>";
        let starts = behavior != Behavior::DoesNotStart;
        let condition = "<Condition Message=\"This device is not supported.\">0</Condition>";
        let source = fs_err::read_to_string(fixture("lab-memo.wxs")).expect("it is in the repository");
        let source = source
            .replace("{version}", version)
            .replace("{condition}", if behavior == Behavior::Refuses { condition } else { "" })
            .replace("{broken}", if starts { "" } else { component })
            .replace("{reference}", if starts { "" } else { "<ComponentRef Id=\"Broken\"/>" });
        write(&folder.join("memo.wxs"), &source);
        let package = folder.join("memo.msi");
        let mut command = Command::new("wixl");
        // It takes no whole paths.
        command.args(["--arch", "x64", "--output", "memo.msi", "memo.wxs"]).current_dir(&folder);
        built(&mut command, &package);
        self.signed(&package, publisher)
    }

    /// The sample app for Windows.
    fn windows_app(&self) -> PathBuf {
        let app = self.0.path().join("lab-memo.exe");
        if !app.exists() {
            let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
            built(compiler.args(["-Os", "-s", "-o"]).arg(&app).arg(fixture("lab-memo.c")), &app);
        }
        app
    }

    fn signed(&self, file: &Path, publisher: Option<&str>) -> Vec<u8> {
        let Some(publisher) = publisher else { return fs_err::read(file).expect("it was just built") };
        let folder = self.folder("signer");
        let (key, certificate, signed) =
            (folder.join("key.pem"), folder.join("certificate.pem"), folder.join("signed"));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-utf8", "-subj"]);
        command.arg(format!("/O=Lab/CN={publisher}")).args(["-addext", "extendedKeyUsage=codeSigning"]);
        built(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate), &certificate);
        let mut command = Command::new("osslsigncode");
        command.arg("sign").arg("-certs").arg(&certificate).arg("-key").arg(&key);
        built(command.arg("-in").arg(file).arg("-out").arg(&signed), &signed)
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/windows").join(name)
}

/// What the packages for Linux hold.
fn app_in(folder: &Path, version: &str, behavior: Behavior) {
    fs_err::create_dir_all(folder.join("bin")).expect("the disk has room");
    fs_err::copy(program("lab-notes"), folder.join("bin/lab-memo")).expect("it is built");
    write(&folder.join("VERSION"), version);
    if behavior == Behavior::DoesNotStart {
        write(&folder.join("broken"), "");
    }
    if behavior == Behavior::Crashes {
        write(&folder.join("crashes"), "");
    }
}

fn write(path: &Path, text: &str) {
    fs_err::create_dir_all(path.parent().expect("it is in a folder")).expect("the disk has room");
    fs_err::write(path, text).expect("the disk has room");
}

fn built(command: &mut Command, package: &Path) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs_err::read(package).expect("it was just built")
}
