//! The keys of a signed repository: Ed25519 in encrypted PKCS #8 (RFC 5958), which OpenSSL reads as well.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use pkcs8::der::Decode as _;
use pkcs8::{EncryptedPrivateKeyInfoOwned, LineEnding, PrivateKeyInfoRef, pkcs5};
use platform::file::{self, Access};
use platform::random;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use updates::signed::publish::Signer;

/// Whoever guesses passphrases has to compute for so long for each: 2^14, of 8 blocks. OpenSSL does not read more without being told to.
const SCRYPT_COST: u8 = 14;
/// A shorter passphrase does not protect a key that lies on a share.
const SHORTEST: usize = 12;

/// A key with its name.
pub(super) struct Key(Ed25519KeyPair);

impl Signer for Key {
    fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes (RFC 8032)")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_owned()
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

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// Makes a key and keeps it.
    pub(super) fn make(&self, name: &str) -> anyhow::Result<Key> {
        let path = self.path(name);
        ensure!(!path.exists(), "{} is there already", path.display());
        file::create_folder(&self.folder, Access::Private)?;
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

    /// Reads a key.
    pub(super) fn load(&self, name: &str) -> anyhow::Result<Key> {
        let path = self.path(name);
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
        Ok(Key(pair))
    }
}
