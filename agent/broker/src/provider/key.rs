//! Keys of a provider: the library's, which knows P-521 but cannot verify with it. ES512 is among the algorithms that
//! the app's vendor names.

use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeyType, CoreJsonWebKeyUse, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyId, SignatureVerificationError};
use p521::ecdsa::signature::Verifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The fewest bits of an RSA modulus (NIST SP 800-131A, revision 2, section 3; RFC 7518, section 3.3), and the most:
/// to verify with longer ones takes long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;

/// Signatures are RS, PS or ES with 256, 384 or 512; HS and `none` are refused.
const ALGORITHMS: [(&str, CoreJwsSigningAlgorithm); 9] = [
    ("RS256", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
    ("RS384", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384),
    ("RS512", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512),
    ("PS256", CoreJwsSigningAlgorithm::RsaSsaPssSha256),
    ("PS384", CoreJwsSigningAlgorithm::RsaSsaPssSha384),
    ("PS512", CoreJwsSigningAlgorithm::RsaSsaPssSha512),
    ("ES256", CoreJwsSigningAlgorithm::EcdsaP256Sha256),
    ("ES384", CoreJwsSigningAlgorithm::EcdsaP384Sha384),
    ("ES512", CoreJwsSigningAlgorithm::EcdsaP521Sha512),
];

/// Whether signatures with this algorithm are accepted, by its name (RFC 7518, section 3.1).
#[must_use]
pub fn accepts(name: &str) -> bool {
    algorithm(name).is_some()
}

/// The algorithm of that name, if it is accepted.
pub(super) fn algorithm(name: &str) -> Option<CoreJwsSigningAlgorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm.clone())
}

/// A public key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Key(CoreJsonWebKey);

impl JsonWebKey for Key {
    type KeyUse = CoreJsonWebKeyUse;
    type SigningAlgorithm = CoreJwsSigningAlgorithm;

    fn key_id(&self) -> Option<&JsonWebKeyId> {
        self.0.key_id()
    }

    fn key_type(&self) -> &CoreJsonWebKeyType {
        self.0.key_type()
    }

    fn key_use(&self) -> Option<&CoreJsonWebKeyUse> {
        self.0.key_use()
    }

    fn signing_alg(&self) -> JsonWebKeyAlgorithm<&CoreJwsSigningAlgorithm> {
        self.0.signing_alg()
    }

    fn new_symmetric(key: Vec<u8>) -> Self {
        Self(CoreJsonWebKey::new_symmetric(key))
    }

    fn verify_signature(
        &self,
        algorithm: &CoreJwsSigningAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureVerificationError> {
        if *algorithm != CoreJwsSigningAlgorithm::EcdsaP521Sha512 {
            return self.0.verify_signature(algorithm, message, signature);
        }
        // Whether the key may be used for this algorithm was asked before (use, type, alg).
        let key = self
            .p521()
            .ok_or_else(|| SignatureVerificationError::InvalidKey("it is not a P-521 key".to_owned()))?;
        let bad = |_| SignatureVerificationError::CryptoError("the signature is wrong".to_owned());
        key.verify(message, &Signature::from_slice(signature).map_err(bad)?).map_err(bad)
    }

    fn hash_bytes(&self, bytes: &[u8], algorithm: &CoreJwsSigningAlgorithm) -> Result<Vec<u8>, String> {
        self.0.hash_bytes(bytes, algorithm)
    }
}

impl Key {
    /// Reads a key that can verify a signature. Members that are not needed for that are not looked at.
    ///
    /// # Errors
    /// It cannot; the reason is a part of a sentence.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let kind = text("kty").ok_or("it does not say of which kind it is (kty)")?;
        if let Some(other) = text("use").filter(|usage| *usage != "sig") {
            return Err(format!("it is not for signatures (use: {other})"));
        }
        let operations = value.get("key_ops").and_then(Value::as_array);
        if operations.is_some_and(|listed| !listed.iter().any(|one| one == "verify")) {
            return Err("it is not for verifying (key_ops)".to_owned());
        }
        if let Some(other) = text("alg").filter(|name| algorithm(name).is_none()) {
            return Err(format!("its algorithm {other} is not accepted"));
        }
        let needed: &[&str] = match kind {
            "RSA" => &["n", "e"],
            "EC" => &["crv", "x", "y"],
            other => return Err(format!("keys of the kind {other} are not accepted")),
        };
        let mut members = Map::new();
        for name in ["kty", "kid", "alg"].iter().chain(needed) {
            match text(name) {
                // Some pad what must not be padded.
                Some(text) => {
                    members.insert((*name).to_owned(), text.trim_end_matches('=').into());
                }
                None if needed.contains(name) => return Err(format!("it has no {name}")),
                None => {}
            }
        }
        if kind == "RSA" {
            let modulus = super::base64(members["n"].as_str().unwrap_or_default());
            let modulus = modulus.ok_or("its modulus is not Base64")?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            let first = modulus.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
            let bits = ((modulus.len() - zeros) * 8).saturating_sub(first);
            if !RSA_BITS.contains(&bits) {
                return Err(format!(
                    "{bits} bits, where RSA needs {} to {}",
                    RSA_BITS.start(),
                    RSA_BITS.end()
                ));
            }
        } else if !["P-256", "P-384", "P-521"].contains(&text("crv").unwrap_or_default()) {
            return Err("its curve is not accepted".to_owned());
        }
        serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())
    }

    /// Whether it can verify signatures with an algorithm (RFC 7518, section 3.1).
    pub(super) fn fits(&self, wanted: &CoreJwsSigningAlgorithm) -> bool {
        use CoreJwsSigningAlgorithm as A;
        let Ok(json) = serde_json::to_value(&self.0) else { return false };
        let text = |name: &str| json.get(name).and_then(Value::as_str);
        let own = text("alg").is_none_or(|own| algorithm(own).as_ref() == Some(wanted));
        let curves =
            [(A::EcdsaP256Sha256, "P-256"), (A::EcdsaP384Sha384, "P-384"), (A::EcdsaP521Sha512, "P-521")];
        let curve = curves.iter().find(|(known, _)| known == wanted).map(|(_, curve)| *curve);
        own && text("kty") == Some(if curve.is_some() { "EC" } else { "RSA" }) && text("crv") == curve
    }

    /// The point of a key of the curve P-521 (RFC 7518, section 6.2.1), which the library shows in its JSON only.
    fn p521(&self) -> Option<VerifyingKey> {
        let json = serde_json::to_value(&self.0).ok()?;
        let coordinate = |name: &str| super::base64(json.get(name)?.as_str()?);
        let is_p521 = json.get("kty")? == "EC" && json.get("crv")? == "P-521";
        let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
        is_p521.then(|| VerifyingKey::from_sec1_bytes(&point).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.4.
    const X: &str =
        "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk";
    const Y: &str =
        "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2";
    const MESSAGE: &[u8] = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
    const SIGNATURE: &str = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

    fn key(curve: &str, x: &str) -> Key {
        let json = serde_json::json!({ "kty": "EC", "crv": curve, "x": x, "y": Y });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_example_of_the_standard_is_verified_and_nothing_else() {
        let verify = |key: &Key, message: &[u8], signature: &[u8]| {
            key.verify_signature(&CoreJwsSigningAlgorithm::EcdsaP521Sha512, message, signature).is_ok()
        };
        let (right, signature) = (key("P-521", X), crate::provider::base64(SIGNATURE).unwrap());
        assert!(verify(&right, MESSAGE, &signature));
        assert!(!verify(&right, b"another message", &signature));
        assert!(!verify(&right, MESSAGE, &signature[1..]));
        assert!(!verify(&right, MESSAGE, &[0; 132]));
        assert!(!verify(&key("P-384", X), MESSAGE, &signature));
        assert!(!verify(&key("P-521", &X[4..]), MESSAGE, &signature), "a point that is too short");
        assert!(!verify(&key("P-521", Y), MESSAGE, &signature), "no point of the curve");
    }
}
