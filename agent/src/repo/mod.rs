//! Makes and serves a signed repository, for `steward repo`: the files of an image repository and of a director below one folder, as any
//! web server can serve it. What metadata says is made by [`updates::signed::publish`].
//!
//! Keys, each in a file that is encrypted: `root-1`, `root-2` ... sign the roots, `image` says what is authentic, `director` which device
//! may have it, and `online` signs what has to be signed again all the time.

mod keys;
mod mirror;
mod patches;
mod publish;
mod roots;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use platform::clock;
use platform::file::{self, Access};
use platform::lock::Lock;
use platform::random::hex;
use policy_schema::roots::{TrustedRoot, TrustedRoots};
use ring::digest::{self, Context, SHA256, SHA512};
use serde_json::{Map, Value};
use updates::signed::SIGNED_AT;
use updates::signed::publish::{self as metadata, File, RoleKeys, Signer};

use keys::{Key, Keys, SigningCommand};

pub(crate) use mirror::verify;
pub(crate) use patches::{Placed, VERSIONS, drop_old};

/// For how many days what is signed is valid.
const ROOT: i64 = 365;
const TARGETS: i64 = 365;
const SNAPSHOT: i64 = 30;
const TIMESTAMP: i64 = 14;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 * 1024;
/// How long to wait for another `steward repo` in the same folder, and how often to look.
const LONGEST_WAIT: Duration = Duration::from_mins(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Clocks of two machines may differ by so much.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// More root keys than anybody looks after.
const MAXIMUM_ROOT_KEYS: u32 = 9;

/// The keys besides those of the roots.
const ROLES: [&str; 3] = ["image", "director", "online"];

/// One of the two repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is authentic.
    Image,
    /// Which device may have it.
    Director,
}

impl Part {
    pub(crate) const ALL: [Self; 2] = [Self::Image, Self::Director];

    /// Its folder, and the key that signs its list of targets.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Director => "director",
        }
    }
}

/// A repository on disk.
pub(crate) struct Repository {
    folder: PathBuf,
    /// Held while it is changed or copied: the timer that renews it may come at any time.
    lock: Option<Lock>,
}

/// A list of targets.
#[derive(Default)]
pub(crate) struct List {
    /// What it names, by path.
    pub(crate) targets: Map<String, Value>,
    /// What it says besides, for devices with Steward.
    pub(crate) members: Map<String, Value>,
}

/// A file of metadata, as it says of itself.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) version: u64,
    pub(crate) expires: Timestamp,
    /// What is signed.
    said: Value,
    bytes: Vec<u8>,
}

impl Repository {
    /// Opens one that is there, to look at it.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let repository = Self { folder: folder.to_owned(), lock: None };
        let folder = folder.display();
        let is_whole = repository.path(Part::Director, "timestamp.json").exists();
        ensure!(
            is_whole || !repository.folder.join("keys").exists(),
            "`steward repo init` was interrupted in {folder}; remove that folder, and try again"
        );
        ensure!(is_whole, "{folder} has no repository; `steward repo init` makes one");
        Ok(repository)
    }

    /// Opens one, to change or to copy it: nobody else does meanwhile. `waits`: called once, if somebody else does that now.
    pub(crate) fn open_alone(folder: &Path, waits: impl FnOnce()) -> anyhow::Result<Self> {
        let mut repository = Self::open(folder)?;
        let deadline = clock::monotonic() + LONGEST_WAIT;
        let mut waits = Some(waits);
        repository.lock = loop {
            match Lock::only_one(&folder.join(".lock"), Access::Public) {
                Ok(lock) => break lock,
                Err(held) if clock::monotonic() > deadline => {
                    return Err(held).context("another `steward repo` works there");
                }
                Err(_) => {
                    if let Some(waits) = waits.take() {
                        waits();
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
            }
        };
        Ok(repository)
    }

    /// Makes one, with new keys.
    pub(crate) fn init(
        folder: &Path,
        (keys, threshold): (u32, u32),
        commands: &[(String, PathBuf)],
        passphrase: String,
    ) -> anyhow::Result<Self> {
        ensure!(
            (1..=MAXIMUM_ROOT_KEYS).contains(&keys) && (1..=keys).contains(&threshold),
            "{threshold} of {keys} root keys cannot sign; there are 1 to {MAXIMUM_ROOT_KEYS}, and the threshold is not above that"
        );
        let repository = Self { folder: folder.to_owned(), lock: None };
        if repository.public().exists() || folder.join("keys").exists() {
            Self::open(folder)?;
            bail!("{} has a repository already", folder.display());
        }
        // A web server may run as another user, who sees no keys.
        file::create_folder(folder, Access::Public)?;
        let store = Keys::new(folder, passphrase)?;
        let names: Vec<String> = (1..=keys).map(|number| format!("root-{number}")).collect();
        let is_key = |name: &str| names.iter().any(|known| known == name) || ROLES.contains(&name);
        let mut signing = BTreeMap::new();
        for (name, file) in commands {
            ensure!(
                is_key(name),
                "there is no key `{name}`; there are {}, {}",
                names.join(", "),
                ROLES.join(", ")
            );
            signing.insert(name.as_str(), SigningCommand::read(file)?);
        }
        let make = |name: &str| store.make(name, signing.get(name));
        let roots: Vec<Key> = names.iter().map(|name| make(name)).collect::<Result<_, _>>()?;
        let online = make("online")?;
        for part in Part::ALL {
            let own = make(part.name())?;
            let role = |role: &str, keys: &[&Key], threshold| RoleKeys {
                role: role.to_owned(),
                keys: keys.iter().map(|key| key.public()).collect(),
                threshold,
            };
            let roles = [
                role("root", &roots.iter().collect::<Vec<_>>(), usize::try_from(threshold)?),
                role("targets", &[&own], 1),
                role("snapshot", &[&online], 1),
                role("timestamp", &[&online], 1),
            ];
            let said = metadata::root(1, in_days(ROOT), &roles)?;
            let signers: Vec<&dyn Signer> = roots.iter().map(|key| key as &dyn Signer).collect();
            repository.write(part, "1.root.json", &metadata::sign(&said, &signers)?)?;
            repository.publish(part, Some((List::default(), &own)), &online)?;
        }
        Ok(repository)
    }

    /// What a web server serves.
    pub(crate) fn public(&self) -> PathBuf {
        self.folder.join("public")
    }

    pub(crate) fn path(&self, part: Part, name: &str) -> PathBuf {
        self.public().join(part.name()).join(name)
    }

    /// What policy says to trust it.
    pub(crate) fn roots(&self) -> anyhow::Result<TrustedRoots> {
        let root = |part| -> anyhow::Result<TrustedRoot> {
            let bytes = fs_err::read(self.path(part, "1.root.json"))?;
            let sha256 = digest::digest(&SHA256, &bytes).as_ref().try_into()?;
            Ok(TrustedRoot { version: 1, sha256 })
        };
        Ok(TrustedRoots { image: root(Part::Image)?, director: root(Part::Director)? })
    }

    /// Its roles as they are now, root first.
    pub(crate) fn roles(&self, part: Part) -> anyhow::Result<[Role; 4]> {
        let mut version = 1;
        while self.path(part, &format!("{}.root.json", version + 1)).exists() {
            version += 1;
        }
        let root = self.role(part, "root", &format!("{version}.root.json"))?;
        let timestamp = self.role(part, "timestamp", "timestamp.json")?;
        let named = |said: &Value, name: &str| {
            let version = said.get("meta").and_then(|meta| meta.get(name)?.get("version")?.as_u64());
            version.with_context(|| format!("{name} is not named in the {} repository", part.name()))
        };
        let version = named(&timestamp.said, "snapshot.json")?;
        let snapshot = self.role(part, "snapshot", &format!("{version}.snapshot.json"))?;
        let version = named(&snapshot.said, "targets.json")?;
        let targets = self.role(part, "targets", &format!("{version}.targets.json"))?;
        Ok([root, targets, snapshot, timestamp])
    }

    fn role(&self, part: Part, name: &'static str, file: &str) -> anyhow::Result<Role> {
        self.role_at(name, &self.path(part, file))
    }

    #[expect(clippy::unused_self, reason = "it reads a file of a repository")]
    fn role_at(&self, name: &'static str, path: &Path) -> anyhow::Result<Role> {
        #[derive(serde::Deserialize)]
        struct Envelope {
            signed: Value,
        }
        let bytes = fs_err::read(path)?;
        let wrong = || format!("{} is no metadata of a repository", path.display());
        let Envelope { signed } = serde_json::from_slice(&bytes).with_context(wrong)?;
        let version = signed.get("version").and_then(Value::as_u64).with_context(wrong)?;
        let expires = signed.get("expires").and_then(|text| text.as_str()?.parse().ok());
        Ok(Role { name, version, expires: expires.with_context(wrong)?, said: signed, bytes })
    }

    /// The list of a repository.
    pub(crate) fn list(&self, part: Part) -> anyhow::Result<List> {
        let [_, role, ..] = self.roles(part)?;
        let Value::Object(mut members) = role.said else { bail!("the list of targets is no object") };
        let Some(Value::Object(targets)) = members.remove("targets") else {
            bail!("there is no list of targets")
        };
        members.retain(|name, _| name.starts_with("x-"));
        Ok(List { targets, members })
    }

    /// Signs snapshot and timestamp, and the list of targets if there is another one. Each file is complete before one names it.
    fn publish(&self, part: Part, list: Option<(List, &Key)>, online: &Key) -> anyhow::Result<()> {
        if let Some(at) = self.signed_in_future(part)? {
            bail!(
                "the timestamp of the {} repository says that it was signed on {at}, which is later than now; set the clock of this machine, \
                 or, if that one was wrong, `steward repo replace-key online`",
                part.name()
            );
        }
        self.publish_anyway(part, list, online)
    }

    /// When the last timestamp was signed, if that is later than now. Devices take this for the time, and what is signed now for old.
    pub(crate) fn signed_in_future(&self, part: Part) -> anyhow::Result<Option<Timestamp>> {
        if !self.path(part, "timestamp.json").exists() {
            return Ok(None);
        }
        let timestamp = self.role(part, "timestamp", "timestamp.json")?;
        let at = timestamp.said.get(SIGNED_AT).and_then(|text| text.as_str()?.parse::<Timestamp>().ok());
        let latest = clock::now().checked_add(CLOCKS_DIFFER).unwrap_or(Timestamp::MAX);
        Ok(at.filter(|at| *at > latest))
    }

    fn publish_anyway(&self, part: Part, list: Option<(List, &Key)>, online: &Key) -> anyhow::Result<()> {
        let before = if self.path(part, "timestamp.json").exists() { Some(self.roles(part)?) } else { None };
        let next = |role: usize| before.as_ref().map_or(1, |roles| roles[role].version + 1);
        let targets = match (list, &before) {
            (Some((List { targets, members }, key)), _) => {
                let said = metadata::targets(next(1), in_days(TARGETS), targets, members);
                self.write_new(part, "targets", next(1), metadata::sign(&said, &[key])?)?
            }
            (None, Some([_, targets, ..])) => File { version: targets.version, bytes: targets.bytes.clone() },
            (None, None) => bail!("there is no list of targets"),
        };
        let said = metadata::snapshot(next(2), in_days(SNAPSHOT), &targets);
        let snapshot = self.write_new(part, "snapshot", next(2), metadata::sign(&said, &[online])?)?;
        // So that a device without news has one question to ask.
        let image = match part {
            Part::Image => None,
            Part::Director => Some(fs_err::read(self.path(Part::Image, "timestamp.json"))?),
        };
        let said =
            metadata::timestamp(next(3), in_days(TIMESTAMP), &snapshot, clock::now(), image.as_deref());
        self.write(part, "timestamp.json", &metadata::sign(&said, &[online])?)
    }

    /// Writes a file that has its version in its name, and that nobody has written yet.
    fn write_new(&self, part: Part, role: &str, version: u64, bytes: Vec<u8>) -> anyhow::Result<File> {
        let name = format!("{version}.{role}.json");
        // One of a run that was interrupted was never named by anything, unless somebody else publishes at this moment.
        self.write(part, &name, &bytes)?;
        Ok(File { version, bytes })
    }

    fn write(&self, part: Part, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(part, name);
        fs_err::create_dir_all(platform::paths::folder_of(&path))?;
        Ok(file::replace(&path, bytes, Access::Public)?)
    }

    /// Whether all keys that a change needs are here and open: better said before anything is done.
    pub(crate) fn check_keys(&self, names: &[&str], passphrase: &str) -> anyhow::Result<()> {
        let keys = Keys::new(&self.folder, passphrase.to_owned())?;
        names.iter().try_for_each(|name| keys.load(name).map(drop))
    }

    /// The keys whose replacement was interrupted.
    pub(crate) fn interrupted_replacements(&self) -> Vec<String> {
        Keys::waiting(&self.folder)
    }

    /// Changes the list of one repository, and publishes it.
    pub(crate) fn change(
        &self,
        part: Part,
        passphrase: &str,
        change: impl FnOnce(&mut List) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let keys = Keys::new(&self.folder, passphrase.to_owned())?;
        let (own, online) = (keys.load(part.name())?, keys.load("online")?);
        let mut list = self.list(part)?;
        change(&mut list)?;
        self.publish(part, Some((list, &own)), &online)?;
        self.follow(part, &online)
    }

    /// The timestamp of the director says which one the image repository has, so it follows.
    fn follow(&self, part: Part, online: &Key) -> anyhow::Result<()> {
        match part {
            Part::Image => self.publish(Part::Director, None, online),
            Part::Director => Ok(()),
        }
    }

    /// Signs again what expires soon.
    pub(crate) fn renew(&self, passphrase: &str) -> anyhow::Result<()> {
        let online = Keys::new(&self.folder, passphrase.to_owned())?.load("online")?;
        Part::ALL.iter().try_for_each(|part| self.publish(*part, None, &online))
    }

    /// Puts a file where devices fetch it, for its path in the list. Gives its length and its hashes.
    pub(crate) fn place(&self, file: &Path, path: &str) -> anyhow::Result<(u64, Hashes)> {
        let (folder, name) = path.rsplit_once('/').context("a path has a folder")?;
        let beside = self.path(Part::Image, "targets/.new");
        fs_err::create_dir_all(platform::paths::folder_of(&beside))?;
        copy_public(file, &beside)?;
        // What is hashed is what is served.
        let (length, hashes) = hashes(&beside)?;
        let named = format!("targets/{folder}/{}.{name}", hex(&hashes.sha256));
        let target = self.path(Part::Image, &named);
        fs_err::create_dir_all(platform::paths::folder_of(&target))?;
        fs_err::rename(&beside, &target)?;
        Ok((length, hashes))
    }
}

/// Copies a file durably into a new one that every user may read, whatever the access of the first.
fn copy_public(from: &Path, to: &Path) -> anyhow::Result<()> {
    file::remove(to)?;
    let mut from = fs_err::File::open(from)?;
    let mut new = file::create_program(to, false)?;
    std::io::copy(&mut from, &mut new)?;
    Ok(new.sync_all()?)
}

/// The path of a file in the lists: the app, the version, and its own name.
pub(crate) fn path_of(file: &Path, app: &str, version: &str) -> anyhow::Result<String> {
    let name = file.file_name().and_then(|name| name.to_str()).context("the name of the file is no text")?;
    ensure!(
        !name.contains(|letter: char| letter.is_control() || letter == '\\'),
        "the name of the file has characters that no path can have"
    );
    Ok(format!("{app}/{version}/{name}"))
}

/// The hashes of a file.
pub(crate) struct Hashes {
    pub(crate) sha256: Vec<u8>,
    pub(crate) sha512: Vec<u8>,
}

/// Reads a file piece by piece.
pub(crate) fn hashes(path: &Path) -> anyhow::Result<(u64, Hashes)> {
    let mut file = fs_err::File::open(path)?;
    let (mut sha256, mut sha512, mut length) = (Context::new(&SHA256), Context::new(&SHA512), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            let of = |context: Context| context.finish().as_ref().to_owned();
            return Ok((length, Hashes { sha256: of(sha256), sha512: of(sha512) }));
        }
        sha256.update(&piece[..count]);
        sha512.update(&piece[..count]);
        length += u64::try_from(count)?;
    }
}

fn in_days(days: i64) -> Timestamp {
    clock::now().checked_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX)
}
