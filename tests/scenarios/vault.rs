//! Where sessions are kept: what is there after a start, and what is left behind.

use e2e::device::Device;
use e2e::keyring::Keyring;
use e2e::provider::EMAIL;

use super::office::{FILE_VAULT, office, office_on};

#[tokio::test]
async fn without_a_secret_store_policy_decides_and_the_person_is_told() {
    let mut strict = office("").await;
    strict.device.printed(&["login"]).await;
    let facts = strict.sign_in_facts().await;
    assert_eq!((&facts["state"], &facts["kept"]), (&"signed-in".into(), &"memory".into()));
    assert_eq!(facts["problems"][0]["code"], "vault.unavailable");
    assert!(facts["problems"][0]["hint"].as_str().unwrap().contains("VaultFallback"));
    strict.restart_broker().await;
    assert!(strict.token().await.unwrap_err().contains("nobody is signed in"));

    let mut lenient = office(FILE_VAULT).await;
    lenient.device.printed(&["login"]).await;
    let facts = lenient.sign_in_facts().await;
    assert_eq!((&facts["kept"], &facts["problems"][0]["code"]), (&"file".into(), &"vault.degraded".into()));
    lenient.restart_broker().await;
    lenient.token().await.unwrap();
    assert_eq!(lenient.provider.logins(), 1);
}

/// A keyring that goes away is no sign-out: the saved session waits for it.
#[tokio::test]
async fn a_keyring_that_is_missing_for_a_while_costs_no_session() {
    let mut device = Device::new();
    let keyring = Keyring::start(&mut device).await;
    let mut office = office_on(device, "").await;
    office.device.printed(&["login"]).await;
    keyring.stop().await;
    office.restart_broker().await;
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("the saved session is kept"), "{refused}");
    let _keyring = Keyring::start(&mut office.device).await;
    office.restart_broker().await;
    office.token().await.unwrap();
    assert_eq!(office.provider.logins(), 1);
}

/// Rotation needs room on disk. Without it, the old refresh token is not used up: nothing is lost, and the person is
/// told what to do.
#[tokio::test]
async fn a_full_disk_costs_no_session() {
    let mut office = office(FILE_VAULT).await;
    office.provider.behave(|behaviour| behaviour.lifetime = 10);
    let user = nix::unistd::geteuid();
    let folder = office.device.path(&format!("home/{user}/.local/state/steward"));
    let disk = SmallDisk::mount(&folder);
    office.restart_broker().await;
    office.device.printed(&["login"]).await;
    office.token().await.unwrap();
    let filler = folder.join("filler");
    let mut room = fs_err::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut room, &[0; 512]).is_ok() {}
    drop(room);
    let before = office.provider.refreshes();
    let refused = office.token().await.unwrap_err();
    assert!(refused.contains("cannot be saved") && refused.contains("make room"), "{refused}");
    assert_eq!(office.provider.refreshes(), before, "the refresh token was not used up");
    let facts = office.sign_in_facts().await;
    assert_eq!(facts["state"], "signed-in", "{facts}");
    // Also after a new start.
    office.restart_broker().await;
    assert!(office.token().await.is_err());
    fs_err::remove_file(&filler).unwrap();
    e2e::wait::until("a token", async || office.token().await).await;
    assert_eq!(office.provider.logins(), 1);
    office.broker.kill().await;
    drop(disk);
}

/// A small file system of its own.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(place: &std::path::Path) -> Self {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=128k", "steward-lab"])
            .arg(place)
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "mounting needs root");
        Self(place.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still holds it gives it back when it ends.
        let gone = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Two brokers would use up each other's refresh tokens, also when the socket of the first has been deleted.
#[tokio::test]
async fn a_second_broker_and_a_second_agent_do_not_start() {
    let office = office(FILE_VAULT).await;
    for (role, sockets) in
        [("broker", vec![office.socket()]), ("agent", vec!["run/steward/agent.sock".to_owned()])]
    {
        for socket in sockets {
            fs_err::remove_file(office.device.path(&socket)).unwrap();
        }
        let said = office.device.printed(&[role]).await;
        assert!(said.contains("runs already; stop it first: process "), "{said}");
    }
}

/// A new sign-in gets a new key, and nothing stays behind: neither old keys nor, after a sign-out, anything at all.
#[tokio::test]
async fn keys_change_with_each_sign_in_and_go_with_the_session() {
    let office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let first = office.vault();
    assert!(first.len() == 2 && first[0].ends_with("-a.key") && first[1].ends_with(".sealed"), "{first:?}");
    office.device.printed(&["login"]).await;
    let second = office.vault();
    assert!(second.len() == 2 && second[0].ends_with("-b.key") && second[1] == first[1], "{second:?}");
    assert_eq!(office.provider.revocations(), 0);
    office.device.printed(&["logout"]).await;
    assert_eq!(office.vault(), Vec::<String>::new());
    assert_eq!(office.provider.revocations(), 1, "the provider knows that it is over");
}

/// Found by review: a sign-in as the first question after a start hid everybody else who was signed in, and a sign-out of
/// all left them behind.
#[tokio::test]
async fn a_sign_in_after_a_start_hides_nobody_and_a_sign_out_of_all_leaves_nothing() {
    let mut office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    office.restart_broker().await;
    office.provider.behave(|behaviour| behaviour.user = "grace");
    office.device.printed(&["login"]).await;
    office.device.printed(&["token", "--account", EMAIL]).await;
    let said = office.device.printed(&["whoami"]).await;
    assert!(said.contains("--account ada@example.com"), "{said}");
    // One that cannot be opened goes as well, and does not come back.
    let folder = office.device.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()));
    let key = office.vault().into_iter().find(|name| name.contains(".key")).unwrap();
    fs_err::remove_file(folder.join(key)).unwrap();
    office.restart_broker().await;
    office.device.printed(&["logout", "--all"]).await;
    assert_eq!(office.vault(), Vec::<String>::new());
}

/// Found by review: a sign-in that could not be saved had already written over the key of what was saved.
#[tokio::test]
async fn a_sign_in_that_cannot_be_saved_harms_nothing_that_is() {
    let mut office = office(FILE_VAULT).await;
    office.device.printed(&["login"]).await;
    let before = office.vault();
    office.restart_broker().await;
    let folder = office.device.path(&format!("home/{}/.local/state/steward", nix::unistd::geteuid()));
    let sealed = before.iter().find(|name| name.contains(".sealed")).unwrap();
    // Nothing can be written in its place: a folder lies there.
    let place = folder.join(sealed.replace(".sealed", ".next"));
    fs_err::create_dir_all(place.join("in the way")).unwrap();
    let said = office.device.printed(&["login"]).await;
    assert!(said.contains("the session cannot be saved"), "{said}");
    fs_err::remove_dir_all(&place).unwrap();
    office.restart_broker().await;
    office.token().await.unwrap();
    assert_eq!(office.provider.logins(), 2);
}
