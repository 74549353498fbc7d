//! JSON Web Tokens: read, their signature checked against a key set, their claims against expectations.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::jwks::{Key, KeySet};

/// How far the clock of an issuer may be from ours.
const LEEWAY: Duration = Duration::from_secs(300);
/// Tokens of service accounts have one or two kilobytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Why a token is not believed. What is in it is repeated only as far as it is no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none.
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    /// Of an issuer that nobody here knows.
    #[error("unknown issuer {0:?}")]
    Issuer(String),
    /// Signed in a way that is not accepted.
    #[error("unsupported algorithm {0:?}")]
    Algorithm(String),
    /// It does not say by which key.
    #[error("token has no kid")]
    NoKeyId,
    /// Signed by a key that the issuer does not publish.
    #[error("unknown key id {0:?}")]
    UnknownKey(String),
    /// Signed by another key than it says.
    #[error("signature does not match")]
    Signature,
    /// Meant for somebody else.
    #[error("token is not for audience {0:?}")]
    Audience(String),
    /// Too old, or without an end.
    #[error("token is expired")]
    Expired,
    /// Too new.
    #[error("token is not valid yet")]
    NotYet,
    /// The issuer's keys cannot be had.
    #[error("while getting the keys of issuer {issuer}: {why}")]
    Keys {
        /// Who.
        issuer: String,
        /// Why not.
        why: String,
    },
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
    #[serde(default)]
    kid: String,
}

/// What a token says, whoever has signed it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Claims {
    /// Who issued it.
    #[serde(default)]
    pub iss: String,
    /// Whom it is about.
    #[serde(default)]
    pub sub: String,
    #[serde(default)]
    aud: Value,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    /// What Kubernetes adds for service accounts.
    #[serde(default, rename = "kubernetes.io")]
    pub kubernetes: Kubernetes,
}

/// The claims of a service account's token; the pod is there when it was made for one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Kubernetes {
    /// Of the service account, and of the pod.
    pub namespace: String,
    /// The pod that the token dies with.
    pub pod: Option<Object>,
    /// Whose token it is.
    pub serviceaccount: Option<Object>,
}

/// An object in the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Which of that name.
    pub uid: String,
}

/// A token whose form is right, and of which nothing else is known yet.
pub struct Token<'a> {
    header: Header,
    /// What it claims.
    pub claims: Claims,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Reads a compact token.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn read(text: &'a str) -> Result<Token<'a>, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed("too long"));
        }
        let (signed, signature) = text
            .rsplit_once('.')
            .ok_or(TokenError::Malformed("want 3 segments"))?;
        let (header, claims) = signed
            .split_once('.')
            .ok_or(TokenError::Malformed("want 3 segments"))?;
        if claims.contains('.') {
            return Err(TokenError::Malformed("want 3 segments"));
        }
        let decode = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| TokenError::Malformed("not base64url"))
        };
        let header: Header = serde_json::from_slice(&decode(header)?)
            .map_err(|_| TokenError::Malformed("unreadable header"))?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?)
            .map_err(|_| TokenError::Malformed("unreadable claims"))?;
        if !header.typ.is_empty() && header.typ != "JWT" {
            return Err(TokenError::Malformed("typ is not JWT"));
        }
        Ok(Token {
            header,
            claims,
            signed: signed.as_bytes(),
            signature: decode(signature)?,
        })
    }

    /// The key that it says it is signed by.
    ///
    /// # Errors
    /// When it does not say, or names an algorithm that is not accepted.
    pub fn key_id(&self) -> Result<&str, TokenError> {
        if !Key::ALGORITHMS.contains(&self.header.alg.as_str()) {
            return Err(TokenError::Algorithm(self.header.alg.clone()));
        }
        if self.header.kid.is_empty() {
            return Err(TokenError::NoKeyId);
        }
        Ok(&self.header.kid)
    }

    /// Checks signature, audience and times; `now_ms` is the time since the epoch.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn verify(self, keys: &KeySet, audience: &str, now_ms: u64) -> Result<Claims, TokenError> {
        let id = self.key_id()?;
        let key = keys
            .get(id)
            .ok_or_else(|| TokenError::UnknownKey(id.to_owned()))?;
        key.verify(&self.header.alg, self.signed, &self.signature)?;
        self.claims.check(audience, now_ms)?;
        Ok(self.claims)
    }
}

impl Claims {
    fn check(&self, audience: &str, now_ms: u64) -> Result<(), TokenError> {
        let is_meant = match &self.aud {
            Value::String(one) => one == audience,
            Value::Array(several) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        if !is_meant {
            return Err(TokenError::Audience(audience.to_owned()));
        }
        // Times are seconds, and may have fractions; these are far below where a double is no longer exact.
        #[allow(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 fit into 53 bits"
        )]
        let now = now_ms as f64 / 1000.0;
        let leeway = LEEWAY.as_secs_f64();
        if self.exp.is_none_or(|end| now > end + leeway) {
            return Err(TokenError::Expired);
        }
        let begins = [self.nbf, self.iat].into_iter().flatten();
        if begins.into_iter().any(|begin| now < begin - leeway) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}
