//! A device to install packages and apps on, which has one service manager and one Windows Installer.

use std::path::PathBuf;

use super::{PROGRAMS, Windows, given};

/// The list of installed programs.
pub const UNINSTALL: &str = r"Software\Microsoft\Windows\CurrentVersion\Uninstall";

impl Windows {
    /// Makes a device to install the package on: with a service manager and a registry of its own, for one scenario at a time.
    /// What an earlier one left is removed.
    ///
    /// # Panics
    /// Wine is missing.
    pub async fn for_package() -> Self {
        let device = Self::start("STEWARD_WINE_PACKAGES", format!(r"{PROGRAMS}\steward.exe"), true);
        device.uninstall_everything().await;
        device
    }

    /// Makes a device to install apps on: with the registry and the folders of `C:` where installers put things, for one
    /// scenario at a time. What an earlier one left is removed.
    ///
    /// # Panics
    /// Wine or the Windows build is missing.
    pub async fn for_apps() -> Self {
        let steward = PathBuf::from(given("STEWARD_WINDOWS")).join("steward.exe");
        let device = Self::start("STEWARD_WINE_PACKAGES", steward.display().to_string(), true);
        device.uninstall_everything().await;
        for _ in 0..3 {
            // Versions of Windows Installer, by their product codes, which change.
            let installed = device.registry(UNINSTALL).await;
            let entries = installed.split("HKEY_").filter(|entry| entry.contains("Lab Memo"));
            for code in
                entries.filter_map(|entry| Some(entry.split_once("MsiExec.exe /I{")?.1.split_once('}')?.0))
            {
                device.wine(&["msiexec", "/x", &format!("{{{code}}}"), "/qn"]).await;
            }
        }
        device.wine(&["reg", "delete", &format!("HKLM\\{UNINSTALL}\\LabMemo"), "/f"]).await;
        device.wine(&["cmd", "/c", "rmdir", "/s", "/q", r"C:\Program Files\Lab Memo"]).await;
        device
    }

    /// Installs, upgrades or removes with Windows Installer: `/i` or `/x` and a version, and properties. Gives the exit code, of
    /// which Wine keeps the low byte.
    pub async fn msiexec(&self, verb: &str, version: &str, properties: &[&str]) -> Option<i32> {
        let package = format!("{}/steward-{version}-x64.msi", given("STEWARD_PACKAGES"));
        let package = format!("Z:{package}").replace('/', "\\");
        let log = self.path(&format!("msi-{version}.log"));
        let arguments = [&["msiexec", verb, &package, "/qn", "/l*v", &log], properties].concat();
        self.wine(&arguments).await.status.code()
    }

    /// A program for Windows that is the agent as a newer version, 2.0.0, without what only a debugger needs.
    ///
    /// # Panics
    /// It was not built.
    #[must_use]
    pub fn next_version() -> Vec<u8> {
        let folder = tempfile::tempdir().expect("the disk has room");
        let (built, stripped) = (
            PathBuf::from(given("STEWARD_WINDOWS")).join("examples/next-version.exe"),
            folder.path().join("steward.exe"),
        );
        let mut strip = std::process::Command::new("x86_64-w64-mingw32-strip");
        assert!(strip.arg("-o").arg(&stripped).arg(built).status().is_ok_and(|status| status.success()));
        fs_err::read(&stripped).expect("it is ours")
    }

    /// What Windows Installer logged about a version.
    #[must_use]
    pub fn installer_log(&self, version: &str) -> String {
        fs_err::read_to_string(self.device.path(&format!("msi-{version}.log"))).unwrap_or_default()
    }

    /// Removes every version, with state and policy.
    async fn uninstall_everything(&self) {
        let packages = fs_err::read_dir(given("STEWARD_PACKAGES")).expect("the packages were built");
        for package in packages.flatten() {
            let name = package.file_name().to_string_lossy().into_owned();
            if let Some(version) =
                name.strip_prefix("steward-").and_then(|name| name.strip_suffix("-x64.msi"))
            {
                self.msiexec("/x", version, &[]).await;
            }
        }
        for key in
            [r"HKLM\SOFTWARE\Policies\Steward", r"HKLM\SOFTWARE\Policies\Amazon", r"HKLM\SOFTWARE\Steward"]
        {
            self.wine(&["reg", "delete", key, "/f"]).await;
        }
        for folder in [r"%ProgramData%\Steward", r"C:\Steward", r"%LOCALAPPDATA%\Steward"] {
            // A scenario may have left a file there.
            self.wine(&["cmd", "/c", "del", "/q", folder]).await;
            self.wine(&["cmd", "/c", "rmdir", "/s", "/q", folder]).await;
        }
    }
}
