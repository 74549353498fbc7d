//! The keys that an issuer publishes.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::TokenError;

/// Public keys by their ids. Kinds that are not used here stay out, and do not spoil the others.
#[derive(Debug, Default)]
pub struct KeySet(BTreeMap<String, Key>);

/// One public key, and what it may be used for.
#[derive(Debug)]
pub struct Key {
    kind: Kind,
    /// The only algorithm that it is for, if it says so.
    only: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

impl KeySet {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    /// When it is none. A key in it that cannot be used is left out.
    pub fn read(json: &[u8]) -> Result<KeySet, String> {
        let published: Published =
            serde_json::from_slice(json).map_err(|error| format!("is no JSON Web Key Set: {error}"))?;
        let usable = published.keys.into_iter().filter_map(|key| {
            let key: Jwk = serde_json::from_value(key).ok()?;
            let id = key.kid.clone();
            (!id.is_empty()).then_some(())?;
            Some((id, Key::of(key)?))
        });
        Ok(KeySet(usable.collect()))
    }

    /// The key of this id.
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }
}

impl Key {
    /// What tokens may be signed with. Secrets that two share are not among it, nor is nothing at all.
    pub const ALGORITHMS: [&str; 5] = ["RS256", "RS384", "RS512", "ES256", "ES384"];

    fn of(key: Jwk) -> Option<Key> {
        if key.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let point = |size: usize| {
            let (x, y) = (decode(&key.x)?, decode(&key.y)?);
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let kind = match (key.kty.as_str(), key.crv.as_str()) {
            ("RSA", _) => Kind::Rsa {
                n: without_zeros(decode(&key.n)?),
                e: without_zeros(decode(&key.e)?),
            },
            ("EC", "P-256") => Kind::P256(point(32)?),
            ("EC", "P-384") => Kind::P384(point(48)?),
            _ => return None,
        };
        Some(Key { kind, only: key.alg })
    }

    /// Checks the signature of a message that was made with this algorithm.
    ///
    /// # Errors
    /// When the key is for another algorithm, or the signature is not its own.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        if self.only.as_deref().is_some_and(|only| only != algorithm) {
            return Err(TokenError::Signature);
        }
        let ec = |how: &'static EcdsaVerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(how, point).verify(message, signature)
        };
        let verified = match (&self.kind, algorithm) {
            (Kind::Rsa { n, e }, _) => {
                let how = match algorithm {
                    "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return Err(TokenError::Signature),
                };
                RsaPublicKeyComponents { n, e }.verify(how, message, signature)
            }
            (Kind::P256(point), "ES256") => ec(&ECDSA_P256_SHA256_FIXED, point),
            (Kind::P384(point), "ES384") => ec(&ECDSA_P384_SHA384_FIXED, point),
            _ => return Err(TokenError::Signature),
        };
        verified.map_err(|_| TokenError::Signature)
    }
}

/// Numbers are written without leading zeros here, and elsewhere sometimes with.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
