//! The package for macOS, as far as that goes without a Mac: its files and its own scripts, on a file system of their own. launchd,
//! the list of receipts and the list of processes are stand-ins that keep what they were told; a person runs
//! `packaging/macos/verify.sh` on a real Mac.

use e2e::container::{Container, Ran};

const CURRENT: &str = env!("CARGO_PKG_VERSION");
const HOME: &str = "/Library/Application Support/Steward";
const AGENT: &str = "/jobs/system/dev.steward.agent";
const BROKER: &str = "/jobs/gui/501/dev.steward.broker";

/// `launchctl`: jobs are files in `/jobs`; it says in `/jobs/log` what it did.
const LAUNCHCTL: &str = r#"#!/bin/sh
job() { echo "/jobs/$1/$(basename "$2" .plist)"; }
case $1 in
print) [ -e "/jobs/$2" ] ;;
print-disabled) cat "/jobs/disabled" 2>/dev/null ;;
bootstrap) [ -r "$3" ] && mkdir -p "/jobs/$2" && touch "$(job "$2" "$3")" && echo "start $2 $3" >>/jobs/log ;;
bootout) [ -e "/jobs/$2" ] && rm "/jobs/$2" && echo "stop $2" >>/jobs/log ;;
*) exit 64 ;;
esac
"#;
/// `pkgutil`: `/jobs/receipt` has the version of the receipt.
const PKGUTIL: &str = r#"#!/bin/sh
case "$*" in
*"--pkg-info dev.steward.agent") [ -e /jobs/receipt ] && printf 'package-id: dev.steward.agent\nversion: %s\n' "$(cat /jobs/receipt)" ;;
"--forget dev.steward.agent") rm -f /jobs/receipt ;;
*) exit 64 ;;
esac
"#;
/// `ps`: a user is logged in, and so is the window of the login itself.
const PS: &str = "#!/bin/sh\nprintf '    0 /sbin/launchd\\n  501 /System/Library/CoreServices/loginwindow.app/Contents/MacOS/loginwindow\\n   88 /x/loginwindow\\n'\n";

struct Mac(Container);

impl Mac {
    async fn new() -> Option<Self> {
        let device = Container::boot().await?;
        let bin = device.shared().join("bin");
        fs_err::create_dir_all(&bin).expect("the disk has room");
        for (name, text) in [("launchctl", LAUNCHCTL), ("pkgutil", PKGUTIL), ("ps", PS)] {
            fs_err::write(bin.join(name), text).expect("the disk has room");
        }
        device.must("chmod 0755 /shared/bin/* && mkdir -p /jobs").await;
        let packages =
            platform::environment::variable("STEWARD_PACKAGES").expect("it is set with the container");
        let package = format!("{packages}/steward-{CURRENT}.pkg");
        let unpack = format!(
            "mkdir -p pkg payload scripts && bsdtar -xf '{package}' -C pkg && bsdtar -xf pkg/steward.pkg/Payload -C payload \
             && bsdtar -xf pkg/steward.pkg/Scripts -C scripts"
        );
        let mut command = tokio::process::Command::new("sh");
        let status = command.args(["-c", &unpack]).current_dir(device.shared()).status().await;
        assert!(status.expect("sh starts").success(), "{unpack}");
        Some(Self(device))
    }

    async fn run(&self, line: &str) -> Ran {
        self.0.run(&format!("export PATH=/shared/bin:$PATH; {line}")).await
    }

    async fn must(&self, line: &str) -> String {
        let ran = self.run(line).await;
        assert!(ran.success, "{line}: {ran:?}");
        ran.text
    }

    /// What Installer does: the script before, the files, the receipt, the script after.
    async fn install(&self) -> Ran {
        let before = self.run("/shared/scripts/preinstall steward.pkg / /").await;
        if !before.success {
            return before;
        }
        // There, /etc is a link to /private/etc.
        let copy = "cp -r /shared/payload/Library / && cp -r /shared/payload/private/etc/. /etc";
        self.must(&format!("{copy} && echo {CURRENT} >/jobs/receipt")).await;
        self.run("/shared/scripts/postinstall steward.pkg / /").await
    }

    async fn has(&self, path: &str) -> bool {
        self.run(&format!("test -e '{path}' || test -L '{path}'")).await.success
    }
}

#[tokio::test]
async fn scripts_of_the_package_start_stop_and_refuse_as_an_administrator_expects() {
    let Some(mac) = Mac::new().await else { return };
    let installed = mac.install().await;
    assert!(installed.success && installed.errors.is_empty(), "{installed:?}");
    assert!(mac.has(AGENT).await && mac.has(BROKER).await);
    // A user of Homebrew may own /usr/local, and could replace there what root runs or removes.
    let everything =
        mac.must("find /shared/payload /jobs -path '*usr*'; find /usr/local -name '*steward*'").await;
    assert_eq!(everything, "");
    assert!(!include_str!("../../mdm-profiles/README.md").contains("/usr/local/bin/steward"));
    let path = mac.must("cat /etc/paths.d/steward").await;
    assert_eq!(path, format!("{HOME}/bin\n"));
    assert!(!mac.has("/jobs/gui/88").await, "a broker for a user of the system");

    // The same version again: the service ends before its files change, and starts after; the broker goes on.
    mac.must("rm /jobs/log").await;
    assert!(mac.install().await.success);
    assert_eq!(
        mac.must("cat /jobs/log").await,
        "stop system/dev.steward.agent\nstart system /Library/LaunchDaemons/dev.steward.agent.plist\n"
    );

    // An older version is refused, and disturbs nothing. Versions are numbers, not texts.
    let before = format!("{CURRENT}-beta.1");
    for (newer, refused) in [("99.0.0", true), ("0.10.0", true), ("0.0.9", false), (before.as_str(), false)] {
        mac.must(&format!("echo {newer} >/jobs/receipt; : >/jobs/log")).await;
        let ran = mac.install().await;
        assert_eq!(!ran.success, refused, "{newer}: {ran:?}");
        if refused {
            assert!(ran.errors.contains("Nothing was changed."), "{ran:?}");
            assert_eq!(mac.must("cat /jobs/log").await, "");
        }
    }

    // What an administrator disabled stays off.
    mac.must("launchctl bootout system/dev.steward.agent; echo '\"dev.steward.agent\" => disabled' >/jobs/disabled").await;
    assert!(mac.install().await.success);
    assert!(!mac.has(AGENT).await);
    mac.must("rm /jobs/disabled").await;
    assert!(mac.install().await.success && mac.has(AGENT).await);

    // On another volume than that of the system nothing runs.
    mac.must(
        "rm -r /jobs/system /jobs/gui; mkdir -p /Volumes/Other && cp -r /shared/payload/. /Volumes/Other/",
    )
    .await;
    assert!(mac.run("/shared/scripts/postinstall steward.pkg /Volumes/Other /Volumes/Other").await.success);
    assert!(!mac.has(AGENT).await);
}

#[tokio::test]
async fn uninstall_keeps_the_state_unless_told_to_purge() {
    let Some(mac) = Mac::new().await else { return };
    let uninstall = format!("'{HOME}/bin/uninstall'");
    assert!(mac.install().await.success);
    mac.must(&format!("mkdir -p '{HOME}/private' /Library/Logs/Steward; touch '{HOME}/private/state'")).await;
    let by_user = mac.0.as_user(&uninstall).await;
    assert!(!by_user.success && by_user.errors.contains("as an administrator"), "{by_user:?}");
    let mistyped = mac.run(&format!("{uninstall} --prune")).await;
    assert!(!mistyped.success && mistyped.errors.contains("usage"), "{mistyped:?}");
    assert!(mac.has(AGENT).await);

    assert_eq!(mac.must(&uninstall).await, "Steward is removed.\n");
    assert!(!mac.has(AGENT).await && !mac.has(BROKER).await && !mac.has("/jobs/receipt").await);
    let left = "find /Library/LaunchDaemons /Library/LaunchAgents /etc/paths.d ! -type d -name '*steward*'";
    assert_eq!(mac.must(left).await, "");
    assert!(mac.has(&format!("{HOME}/private/state")).await);
    assert!(!mac.has(&format!("{HOME}/bin")).await && !mac.has(&format!("{HOME}/share")).await);

    assert!(mac.install().await.success);
    mac.must(&format!("{uninstall} --purge")).await;
    assert!(!mac.has(HOME).await && !mac.has("/Library/Logs/Steward").await);
}
