//! The keys of a signed repository: Ed25519 in encrypted PKCS #8 (RFC 5958), which OpenSSL reads as well; or a command that signs with
//! a key that never leaves a hardware security module or a service for keys.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::der::Decode as _;
use pkcs8::{EncryptedPrivateKeyInfoOwned, LineEnding, PrivateKeyInfoRef, pkcs5};
use platform::file::{self, Access};
use platform::random;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use updates::signed::publish::{Signer, bytes_of};

/// Whoever guesses passphrases has to compute for so long for each: 2^14, of 8 blocks. OpenSSL does not read more without being told to.
const SCRYPT_COST: u8 = 14;
/// A shorter passphrase does not protect a key that lies on a share.
const SHORTEST: usize = 12;
/// No signature of Ed25519 is longer, in whatever form a command prints it.
const LONGEST_SIGNATURE: u64 = 1024;

/// A key with its name.
pub(super) enum Key {
    Pair(Ed25519KeyPair),
    Command(SigningCommand),
}

/// A command that signs: the message is at its standard input, and the signature of 64 bytes at its standard output, as it is or in base64.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningCommand {
    /// The public key, in hexadecimal digits.
    public: String,
    /// The program, and its arguments.
    command: Vec<String>,
}

impl Signer for Key {
    fn public(&self) -> [u8; 32] {
        match self {
            Self::Pair(pair) => {
                pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes (RFC 8032)")
            }
            Self::Command(command) => bytes_of(&command.public).expect("it was read so"),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Pair(pair) => Ok(pair.sign(message).as_ref().to_owned()),
            Self::Command(command) => {
                let name = command.command.join(" ");
                let signed = command.run(message).map_err(|error| format!("`{name}`: {error:#}"))?;
                let public = UnparsedPublicKey::new(&ED25519, self.public());
                let verified = public.verify(message, &signed);
                verified.map_err(|_| format!("what `{name}` printed is no signature with its public key"))?;
                Ok(signed)
            }
        }
    }
}

impl SigningCommand {
    /// Reads the description of a command.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(file)?;
        let read: Self = toml::from_str(&text).with_context(|| {
            format!("{}: expected `public`, 64 hexadecimal digits, and `command`, a list", file.display())
        })?;
        let is_right = bytes_of(&read.public).is_some() && !read.command.is_empty();
        ensure!(is_right, "{}: `public` has 64 hexadecimal digits, and `command` a program", file.display());
        Ok(read)
    }

    fn run(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (program, arguments) = self.command.split_first().context("there is no program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read everything says why by how it ends.
            drop(stdin.write_all(message));
        }
        let mut said = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST_SIGNATURE).read_to_end(&mut said)?;
        }
        let ended = child.wait()?;
        ensure!(ended.success(), "it ended with {ended}");
        if said.len() == 64 {
            return Ok(said);
        }
        let text = String::from_utf8_lossy(&said).split_whitespace().collect::<String>();
        Ok(STANDARD.decode(text).unwrap_or(said))
    }
}

/// The folder with keys.
pub(super) struct Keys {
    folder: PathBuf,
    passphrase: String,
}

impl Keys {
    pub(super) fn new(folder: &Path, passphrase: String) -> anyhow::Result<Self> {
        ensure!(
            passphrase.chars().count() >= SHORTEST,
            "the passphrase is shorter than {SHORTEST} characters, which protects no key"
        );
        Ok(Self { folder: folder.join("keys"), passphrase })
    }

    fn path(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }

    /// Makes a key and keeps it, or keeps the description of a command that signs with one.
    pub(super) fn make(&self, name: &str, command: Option<&SigningCommand>) -> anyhow::Result<Key> {
        let path = self.path(name, if command.is_some() { "toml" } else { "pem" });
        ensure!(!path.exists(), "{} is there already", path.display());
        file::create_folder(&self.folder, Access::Private)?;
        if let Some(command) = command {
            file::replace(&path, toml::to_string(command)?.as_bytes(), Access::Private)?;
            return self.load(name);
        }
        let random = ring::rand::SystemRandom::new();
        let plain = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| anyhow!("no key can be made"))?;
        let cost =
            pkcs5::scrypt::Params::new(SCRYPT_COST, 8, 1).map_err(|error| anyhow!("scrypt: {error}"))?;
        let (salt, vector) = (random::bytes::<16>(), random::bytes::<16>());
        let protection = pkcs5::pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, vector)
            .map_err(|error| anyhow!("the key cannot be encrypted: {error}"))?;
        let whole =
            PrivateKeyInfoRef::from_der(plain.as_ref()).map_err(|error| anyhow!("the key: {error}"))?;
        // With the public key in it (version 2), OpenSSL 3.0 does not read it.
        let key = PrivateKeyInfoRef::new(whole.algorithm, whole.private_key);
        let encrypted = key
            .encrypt_with_params(protection, &self.passphrase)
            .map_err(|error| anyhow!("the key cannot be encrypted: {error}"))?;
        let pem = encrypted
            .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .map_err(|error| anyhow!("the key cannot be written: {error}"))?;
        file::replace(&path, pem.as_bytes(), Access::Private)?;
        self.load(name)
    }

    /// Whether there is a key of a name here: those of the roots may be at other places.
    pub(super) fn has(&self, name: &str) -> bool {
        ["pem", "toml"].iter().any(|ending| self.path(name, ending).exists())
    }

    /// The keys below a folder that wait to take the place of another: somebody was interrupted.
    pub(super) fn waiting(folder: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(folder.join("keys")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Some(name.split_once(".next.")?.0.to_owned())).collect()
    }

    /// Lets a key take the place of another, which is kept beside it.
    pub(super) fn exchange(&self, name: &str, new: &str, version: u64) -> anyhow::Result<()> {
        for ending in ["pem", "toml"] {
            let old = self.path(name, ending);
            if old.exists() {
                fs_err::rename(&old, self.path(&format!("{name}-until-root-{version}"), ending))?;
            }
        }
        for ending in ["pem", "toml"] {
            let new = self.path(new, ending);
            if new.exists() {
                fs_err::rename(&new, self.path(name, ending))?;
            }
        }
        Ok(file::sync_folder(&self.path(name, "pem"))?)
    }

    /// Reads a key.
    pub(super) fn load(&self, name: &str) -> anyhow::Result<Key> {
        ensure!(
            name.contains('.') || !self.has(&format!("{name}.next")),
            "the replacement of the key `{name}` was interrupted: `steward repo replace-key` finishes it"
        );
        self.load_old(name)
    }

    /// Reads a key that another one is about to replace.
    pub(super) fn load_old(&self, name: &str) -> anyhow::Result<Key> {
        let command = self.path(name, "toml");
        if command.exists() {
            return Ok(Key::Command(SigningCommand::read(&command)?));
        }
        let path = self.path(name, "pem");
        let pem = fs_err::read_to_string(&path).with_context(|| {
            format!("the key `{name}` is needed; put its file back for as long as this takes")
        })?;
        let wrong = |what: &str| anyhow!("{}: {what}", path.display());
        let (label, der) = pkcs8::SecretDocument::from_pem(&pem).map_err(|_| wrong("it is no key in PEM"))?;
        ensure!(label == "ENCRYPTED PRIVATE KEY", wrong("it is not an encrypted key (PKCS #8)"));
        let encrypted = EncryptedPrivateKeyInfoOwned::try_from(der.as_bytes())
            .map_err(|_| wrong("it is not an encrypted key (PKCS #8)"))?;
        let plain =
            encrypted.decrypt(&self.passphrase).map_err(|_| wrong("the passphrase does not open it"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(plain.as_bytes())
            .map_err(|_| wrong("it is not an Ed25519 key"))?;
        Ok(Key::Pair(pair))
    }
}
