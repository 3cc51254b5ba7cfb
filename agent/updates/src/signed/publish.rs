//! Makes metadata of signed repositories (TUF 1.0.34, section 4) and signs it. In: what is to be said, until when, and who signs. Out: the
//! bytes of a file.

use jiff::Timestamp;
use ring::digest;
use serde_json::{Map, Value, json};
use sigstore_tuf::Key;
use sigstore_tuf::canonical_json::to_canonical_bytes;

use super::{Error, SIGNED_AT};

/// The version of the specification that is followed.
const SPECIFICATION: &str = "1.0.34";

/// Who signs, with Ed25519 (RFC 8032).
pub trait Signer {
    /// The public key.
    fn public(&self) -> [u8; 32];

    /// The signature of a message.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
}

/// Whose signatures a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// The name of the role.
    pub role: &'static str,
    /// The public keys.
    pub keys: Vec<[u8; 32]>,
    /// How many of them have to sign.
    pub threshold: usize,
}

/// A file of metadata, as another one names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its version.
    pub version: u64,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// A target, by its content: how long it is, and its hashes.
#[must_use]
pub fn target(length: u64, sha256: &[u8], sha512: &[u8], custom: &Value) -> Value {
    json!({
        "length": length,
        "hashes": { "sha256": hexadecimal(sha256), "sha512": hexadecimal(sha512) },
        "custom": { "steward": custom },
    })
}

/// What a root says.
///
/// # Errors
/// A key has no identifier.
pub fn root(version: u64, expires: Timestamp, roles: &[RoleKeys]) -> Result<Value, Error> {
    let (mut keys, mut named) = (Map::new(), Map::new());
    for RoleKeys { role, keys: public, threshold } in roles {
        let mut ids = Vec::new();
        for public in public {
            let (id, key) = key(public)?;
            keys.insert(id.clone(), key);
            ids.push(id);
        }
        named.insert((*role).to_owned(), json!({ "keyids": ids, "threshold": threshold }));
    }
    Ok(header(
        "root",
        version,
        expires,
        [("consistent_snapshot", true.into()), ("keys", keys.into()), ("roles", named.into())],
    ))
}

/// What the list of targets says. `members`: more than TUF knows.
#[must_use]
pub fn targets(
    version: u64,
    expires: Timestamp,
    targets: Map<String, Value>,
    members: Map<String, Value>,
) -> Value {
    let mut list = header("targets", version, expires, [("targets", targets.into())]);
    if let Some(list) = list.as_object_mut() {
        list.extend(members);
    }
    list
}

/// What a snapshot says.
#[must_use]
pub fn snapshot(version: u64, expires: Timestamp, targets: &File) -> Value {
    header("snapshot", version, expires, [("meta", json!({ "targets.json": named(targets) }))])
}

/// What a timestamp says, and when it was signed.
#[must_use]
pub fn timestamp(version: u64, expires: Timestamp, snapshot: &File, signed_at: Timestamp) -> Value {
    let meta = json!({ "snapshot.json": named(snapshot) });
    header("timestamp", version, expires, [("meta", meta), (SIGNED_AT, date(signed_at).into())])
}

/// The file of what is said, with signatures.
///
/// # Errors
/// It has a part that canonical JSON has no form for.
pub fn sign(said: &Value, signers: &[&dyn Signer]) -> Result<Vec<u8>, Error> {
    super::crypto::install();
    let message = to_canonical_bytes(said)?;
    let mut signatures = Vec::new();
    for signer in signers {
        let (id, _) = key(&signer.public())?;
        signatures.push(json!({ "keyid": id, "sig": hexadecimal(&signer.sign(&message)) }));
    }
    let mut bytes = serde_json::to_vec_pretty(&json!({ "signed": said, "signatures": signatures }))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn header<const COUNT: usize>(
    kind: &str,
    version: u64,
    expires: Timestamp,
    members: [(&str, Value); COUNT],
) -> Value {
    let mut said = Map::new();
    said.insert("_type".to_owned(), kind.into());
    said.insert("spec_version".to_owned(), SPECIFICATION.into());
    said.insert("version".to_owned(), version.into());
    said.insert("expires".to_owned(), date(expires).into());
    said.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    said.into()
}

/// A time without parts of a second, as TUF writes it.
fn date(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn named(File { version, bytes }: &File) -> Value {
    let sha256 = digest::digest(&digest::SHA256, bytes);
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": hexadecimal(sha256.as_ref()) } })
}

/// The identifier of a public key, and the key as metadata names it.
fn key(public: &[u8; 32]) -> Result<(String, Value), Error> {
    super::crypto::install();
    let value =
        json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": hexadecimal(public) } });
    let key: Key = serde_json::from_value(value.clone())?;
    Ok((key.key_id()?, value))
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()).collect()
}
