//! Keys of a provider: the library's, which knows P-521 but cannot verify with it. ES512 is among the algorithms that
//! the app's vendor names.

use openidconnect::core::{CoreJsonWebKey, CoreJsonWebKeyType, CoreJsonWebKeyUse, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyId, SignatureVerificationError};
use p521::ecdsa::signature::Verifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

/// A public key (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(super) struct Key(CoreJsonWebKey);

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
