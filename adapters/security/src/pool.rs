//! The files with the keys that identities are signed with, as the original's tools make them.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files::{FileError, read};
use crate::x509::Certificate;

/// Whom session tokens are signed by: the first authority signs, the others are still believed in elsewhere.
pub struct JwtAuthority {
    /// Goes into tokens as `kid`.
    pub id: String,
    /// As tokens name it.
    pub algorithm: String,
    /// What signs.
    pub key: Arc<dyn SigningKey>,
}

/// Whom session certificates are signed by.
pub struct CertificateAuthority {
    /// What signs.
    pub key: Arc<dyn SigningKey>,
    /// The certificate of that key: the root, or an intermediate.
    pub signer: Vec<u8>,
    /// What is sent along with each certificate, as far as it is no root.
    pub intermediates: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JwtPool {
    authorities: Vec<JwtEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct JwtEntry {
    #[serde(rename = "ID")]
    id: String,
    algorithm: String,
    #[serde(rename = "SigningKeyPKCS8")]
    pkcs8: Option<String>,
    #[serde(rename = "SigningKeyPEM")]
    pem: Option<String>,
}

#[derive(Deserialize)]
struct CaPool {
    #[serde(rename = "CAs")]
    authorities: Vec<CaEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CaEntry {
    #[serde(rename = "SigningKeyPKCS8")]
    pkcs8: Option<String>,
    #[serde(rename = "SigningKeyPEM")]
    pem: Option<String>,
    #[serde(rename = "RootCertificateDER")]
    root_der: Option<String>,
    #[serde(rename = "RootCertificatePEM")]
    root_pem: Option<String>,
    #[serde(rename = "IntermediateCertificatesDER")]
    intermediates: Option<Vec<String>>,
}

/// Reads a pool of token authorities and takes the one that signs.
///
/// # Errors
/// When it cannot be read, or has no authority that could sign.
pub fn jwt(path: &Path) -> Result<JwtAuthority, FileError> {
    let pool: JwtPool = parse(path)?;
    let first = pool.authorities.into_iter().next();
    let entry = first.ok_or_else(|| FileError::new(path, "has no Authorities"))?;
    let key = key(entry.pkcs8.as_deref(), entry.pem.as_deref());
    Ok(JwtAuthority {
        key: key.map_err(|why| FileError::new(path, format!("authority {:?} {why}", entry.id)))?,
        id: entry.id,
        algorithm: entry.algorithm,
    })
}

/// Reads a pool of certificate authorities and takes the one that signs.
///
/// # Errors
/// When it cannot be read, or has no authority that could sign.
pub fn certificates(path: &Path) -> Result<CertificateAuthority, FileError> {
    let fault = |why: &str| FileError::new(path, format!("the first of its CAs {why}"));
    let pool: CaPool = parse(path)?;
    let first = pool.authorities.into_iter().next();
    let entry = first.ok_or_else(|| FileError::new(path, "has no CAs"))?;
    let key = key(entry.pkcs8.as_deref(), entry.pem.as_deref()).map_err(fault)?;
    let root = match (
        present(entry.root_der.as_deref()),
        present(entry.root_pem.as_deref()),
    ) {
        (Some(der), _) => bytes(der).map_err(fault)?,
        (None, Some(text)) => {
            let certificate = rustls::pki_types::CertificateDer::from_pem_slice(&pem(text).map_err(fault)?);
            certificate
                .map_err(|_| fault("has a RootCertificatePEM that is none"))?
                .to_vec()
        }
        (None, None) => return Err(fault("has no RootCertificateDER")),
    };
    let intermediates = entry.intermediates.unwrap_or_default();
    let intermediates: Result<Vec<_>, _> = intermediates.iter().map(|text| bytes(text)).collect();
    let intermediates = intermediates.map_err(fault)?;
    let public = key
        .public_key()
        .ok_or_else(|| fault("has a key of an unknown kind"))?;
    // Nothing says which certificate the key belongs to, but the key itself.
    let signer = intermediates.iter().chain([&root]).find(|certificate| {
        Certificate::read(certificate).is_some_and(|read| read.public_key == public.as_ref())
    });
    let signer = signer
        .cloned()
        .ok_or_else(|| fault("has no certificate for its key"))?;
    Ok(CertificateAuthority {
        key,
        signer,
        intermediates,
    })
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    // Where the parser stops is told, and nothing of what it has read.
    serde_json::from_slice(&read(path)?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        FileError::new(
            path,
            format!("is no pool of authorities: JSON, line {line} column {column}"),
        )
    })
}

fn key(pkcs8: Option<&str>, text: Option<&str>) -> Result<Arc<dyn SigningKey>, &'static str> {
    let key = match (present(pkcs8), present(text)) {
        (Some(pkcs8), _) => PrivateKeyDer::Pkcs8(bytes(pkcs8)?.into()),
        (None, Some(text)) => {
            PrivateKeyDer::from_pem_slice(&pem(text)?).map_err(|_| "has a SigningKeyPEM that is no key")?
        }
        (None, None) => return Err("has no SigningKeyPKCS8"),
    };
    rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| "has a key of an unknown kind")
}

fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD
        .decode(text)
        .map_err(|_| "has a field that is not base64")
}

/// PEM, as it is or once more encoded.
fn pem(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.trim_start().starts_with("-----BEGIN ") {
        Ok(text.as_bytes().to_vec())
    } else {
        bytes(text)
    }
}
