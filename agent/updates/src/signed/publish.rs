//! Makes metadata of signed repositories (TUF 1.0.34, section 4) and signs it. In: what is to be said, until when, and who signs. Out: the
//! bytes of a file.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sigstore_tuf::Key;
use sigstore_tuf::canonical_json::to_canonical_bytes;

use super::{Error, IMAGE, SIGNED_AT, sha256};

/// The version of the specification that is followed.
const SPECIFICATION: &str = "1.0.34";

/// Who signs, with Ed25519 (RFC 8032).
pub trait Signer {
    /// The public key.
    fn public(&self) -> [u8; 32];

    /// The signature of a message.
    ///
    /// # Errors
    /// There is none, and why.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String>;
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// What is said has a part that canonical JSON has no form for.
    #[error(transparent)]
    Form(#[from] Error),
    /// Somebody did not sign.
    #[error("{0}")]
    Signer(String),
}

/// Whose signatures a role needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// The name of the role.
    pub role: String,
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
        named.insert(role.clone(), json!({ "keyids": ids, "threshold": threshold }));
    }
    Ok(header(
        "root",
        version,
        expires,
        [("consistent_snapshot", true.into()), ("keys", keys.into()), ("roles", named.into())],
    ))
}

/// Whose signatures the roles of a root need.
///
/// # Errors
/// It has a key of another kind, or is no root.
pub fn roles(root: &Value) -> Result<Vec<RoleKeys>, Error> {
    let wrong = |what: &str| Error::Malformed(format!("the root: {what}"));
    let keys = root.get("keys").and_then(Value::as_object).ok_or_else(|| wrong("it has no keys"))?;
    let roles = root.get("roles").and_then(Value::as_object).ok_or_else(|| wrong("it has no roles"))?;
    let public = |id: &Value| {
        let key = id.as_str().and_then(|id| keys.get(id));
        let text = key.and_then(|key| key.get("keyval")?.get("public")?.as_str());
        text.and_then(bytes_of).ok_or_else(|| wrong("a key is no Ed25519 key"))
    };
    let role = |(name, role): (&String, &Value)| {
        let ids = role.get("keyids").and_then(Value::as_array).ok_or_else(|| wrong("a role has no keys"))?;
        let threshold = role.get("threshold").and_then(Value::as_u64);
        let threshold = threshold.and_then(|threshold| usize::try_from(threshold).ok());
        Ok(RoleKeys {
            role: name.clone(),
            keys: ids.iter().map(public).collect::<Result<_, _>>()?,
            threshold: threshold.ok_or_else(|| wrong("a role has no threshold"))?,
        })
    };
    roles.iter().map(role).collect()
}

/// The bytes of a public key in hexadecimal digits.
#[must_use]
pub fn bytes_of(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
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

/// What a timestamp says, and when it was signed. `image`: the timestamp of the image repository, for that of the director.
#[must_use]
pub fn timestamp(
    version: u64,
    expires: Timestamp,
    snapshot: &File,
    signed_at: Timestamp,
    image: Option<&[u8]>,
) -> Value {
    let meta = json!({ "snapshot.json": named(snapshot) });
    let mut said =
        header("timestamp", version, expires, [("meta", meta), (SIGNED_AT, date(signed_at).into())]);
    if let (Some(image), Some(said)) = (image, said.as_object_mut()) {
        said.insert(IMAGE.to_owned(), sha256(image).into());
    }
    said
}

/// The file of what is said, with signatures.
///
/// # Errors
/// It has no form, or somebody did not sign.
pub fn sign(said: &Value, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    super::crypto::install();
    let message = to_canonical_bytes(said)?;
    let mut signatures = Vec::new();
    for signer in signers {
        let (id, _) = key(&signer.public())?;
        let signature = signer.sign(&message).map_err(SignError::Signer)?;
        signatures.push(json!({ "keyid": id, "sig": hexadecimal(&signature) }));
    }
    let mut bytes = serde_json::to_vec_pretty(&json!({ "signed": said, "signatures": signatures }))
        .map_err(Error::from)?;
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
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } })
}

/// The identifier of a public key, and the key as metadata names it.
fn key(public: &[u8; 32]) -> Result<(String, Value), Error> {
    super::crypto::install();
    let value =
        json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": hexadecimal(public) } });
    let key: Key = serde_json::from_value(value.clone())?;
    Ok((key.key_id()?, value))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()).collect()
}
