//! The vault: which sessions are there after a restart, and what is left behind.

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::EMAIL;
use e2e::wait::until;
use policy_schema::Code;
use protocol::session::{Kept, SessionState};

use super::fixture::{FILE_VAULT, sign_in_device, sign_in_device_on};

#[tokio::test]
async fn session_without_secret_store_is_kept_as_vault_fallback_says() {
    let mut refusing = sign_in_device("").await;
    refusing.login().await;
    let session = refusing.session().await;
    assert_eq!(session.state, SessionState::SignedIn);
    assert_eq!(session.kept, Some(Kept::Memory.into()));
    assert_eq!(session.problems[0].code, Code::VaultUnavailable);
    assert!(session.problems[0].hint.as_ref().unwrap().contains("VaultFallback"));
    refusing.restart_broker().await;
    assert!(refusing.token().await.unwrap_err().contains("nobody is signed in"));

    let mut lenient = sign_in_device(FILE_VAULT).await;
    lenient.login().await;
    let session = lenient.session().await;
    assert_eq!(session.kept, Some(Kept::File.into()));
    assert_eq!(session.problems[0].code, Code::VaultDegraded);
    lenient.restart_broker().await;
    lenient.token().await.unwrap();
    assert_eq!(lenient.provider.logins(), 1);
}

/// A keyring that is missing for a while is no sign-out: the saved session waits for it.
#[tokio::test]
async fn missing_keyring_keeps_saved_session() {
    let mut device = Device::new();
    let keyring = Keyring::start(&mut device).await;
    let mut fixture = sign_in_device_on(device, "").await;
    fixture.login().await;
    keyring.stop().await;
    fixture.restart_broker().await;
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("the saved session is kept"), "{refused}");
    let _keyring = Keyring::start(&mut fixture.device).await;
    fixture.restart_broker().await;
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.logins(), 1);
}

/// Rotation needs room on disk. Without it, the old refresh token is not used: nothing is lost, and the user is told what
/// to do.
#[tokio::test]
async fn full_disk_keeps_session_and_refresh_token() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.provider.behave(|behaviour| behaviour.lifetime = 10);
    let folder = fixture.device.session_folder();
    let disk = SmallDisk::mount(&folder);
    fixture.restart_broker().await;
    fixture.login().await;
    fixture.token().await.unwrap();
    let filler = folder.join("filler");
    let mut file = fs_err::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    drop(file);
    let before = fixture.provider.refreshes();
    let refused = fixture.token().await.unwrap_err();
    assert!(refused.contains("cannot be saved") && refused.contains("make room"), "{refused}");
    assert_eq!(fixture.provider.refreshes(), before, "the refresh token was not used");
    assert_eq!(fixture.session().await.state, SessionState::SignedIn);
    // Also after a restart.
    fixture.restart_broker().await;
    assert!(fixture.token().await.is_err());
    fs_err::remove_file(&filler).unwrap();
    until("a token", async || fixture.token().await).await;
    assert_eq!(fixture.provider.logins(), 1);
    fixture.broker.kill().await;
    drop(disk);
}

/// A small file system.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(folder: &std::path::Path) -> Self {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k", "steward-lab"])
            .arg(folder)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting needs root");
        Self(folder.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It is removed once no process uses it any more.
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Two brokers would use each other's refresh tokens, also when the socket of the first has been deleted.
#[tokio::test]
async fn second_broker_and_second_agent_do_not_start() {
    let fixture = sign_in_device(FILE_VAULT).await;
    for (role, socket) in
        [("broker", fixture.device.broker_socket()), ("agent", fixture.device.agent_socket())]
    {
        fs_err::remove_file(socket).unwrap();
        let printed = fixture.device.printed(&[role]).await;
        assert!(printed.contains("runs already; stop it first: process "), "{printed}");
    }
}

/// A new sign-in gets a new key, and nothing is left behind: no old keys, and after a sign-out nothing at all.
#[tokio::test]
async fn vault_key_changes_with_sign_in_and_is_removed_at_logout() {
    let fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let first = fixture.vault();
    assert!(first.len() == 2 && first[0].ends_with("-a.key") && first[1].ends_with(".sealed"), "{first:?}");
    fixture.login().await;
    let second = fixture.vault();
    assert!(second.len() == 2 && second[0].ends_with("-b.key") && second[1] == first[1], "{second:?}");
    assert_eq!(fixture.provider.revocations(), 0);
    fixture.device.printed(&["logout"]).await;
    assert_eq!(fixture.vault(), Vec::<String>::new());
    assert_eq!(fixture.provider.revocations(), 1, "the provider was told");
}

/// Found by review: a sign-in as the first request after a start hid all other accounts, and a sign-out of all accounts
/// left them behind.
#[tokio::test]
async fn sign_in_after_restart_keeps_other_accounts_and_logout_all_removes_them() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    fixture.restart_broker().await;
    fixture.provider.behave(|behaviour| behaviour.user = "grace");
    fixture.login().await;
    fixture.device.printed(&["token", "--account", EMAIL]).await;
    let printed = fixture.device.printed(&["whoami"]).await;
    assert!(printed.contains("--account ada@example.com"), "{printed}");
    // One that cannot be opened is removed as well, and does not come back.
    let key = fixture.vault().into_iter().find(|name| name.contains(".key")).unwrap();
    fs_err::remove_file(fixture.device.session_folder().join(key)).unwrap();
    fixture.restart_broker().await;
    fixture.device.printed(&["logout", "--all"]).await;
    assert_eq!(fixture.vault(), Vec::<String>::new());
}

/// Found by review: a sign-in that could not be saved had already replaced the key of the saved session.
#[tokio::test]
async fn sign_in_that_cannot_be_saved_keeps_saved_session() {
    let mut fixture = sign_in_device(FILE_VAULT).await;
    fixture.login().await;
    let before = fixture.vault();
    fixture.restart_broker().await;
    let sealed = before.iter().find(|name| name.contains(".sealed")).unwrap();
    // A folder where the new file would be written.
    let obstacle = fixture.device.session_folder().join(sealed.replace(".sealed", ".next"));
    fs_err::create_dir_all(obstacle.join("not empty")).unwrap();
    let printed = fixture.login().await;
    assert!(printed.contains("the session cannot be saved"), "{printed}");
    fs_err::remove_dir_all(&obstacle).unwrap();
    fixture.restart_broker().await;
    fixture.token().await.unwrap();
    assert_eq!(fixture.provider.logins(), 2);
}
