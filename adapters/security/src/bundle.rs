//! Credential bundles and authorities, as PEM.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::files::{FileError, read};

const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";

/// A certificate chain from its leaf on, and the leaf's key.
pub struct Bundle {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Bundle {
    /// Reads one: a `PRIVATE KEY` (PKCS #8) and `CERTIFICATE`s, leaf first, in any order otherwise, and nothing
    /// else, as the original has it.
    ///
    /// # Errors
    /// When it cannot be read, or is anything else.
    pub fn read(path: &Path) -> Result<Bundle, FileError> {
        let text = read(path)?;
        bundle(&text).map_err(|why| FileError::new(path, why))
    }
}

fn bundle(text: &[u8]) -> Result<Bundle, String> {
    for label in labels(text) {
        match label {
            CERTIFICATE | PRIVATE_KEY => {}
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                return Err(format!(
                    "has a block {label}; keys are PRIVATE KEY (PKCS #8, not encrypted) here: openssl pkcs8 -topk8 -nodes"
                ));
            }
            other => {
                return Err(format!(
                    "has a block {other:?}; a bundle is one PRIVATE KEY and CERTIFICATEs, leaf first"
                ));
            }
        }
    }
    let chain = certificates(text)?;
    let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(text);
    let key = keys
        .next()
        .ok_or("has no PRIVATE KEY")?
        .map_err(|_| "its PRIVATE KEY is not PEM")?;
    if keys.next().is_some() {
        return Err("has more than one PRIVATE KEY".to_owned());
    }
    Ok(Bundle {
        chain,
        key: PrivateKeyDer::Pkcs8(key),
    })
}

/// The authorities in a file of `CERTIFICATE`s.
///
/// # Errors
/// When it cannot be read, or has none.
pub fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let text = read(path)?;
    let fault = |why: String| FileError::new(path, why);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&text).map_err(fault)? {
        roots
            .add(certificate)
            .map_err(|error| FileError::new(path, format!("has a CERTIFICATE that is none: {error}")))?;
    }
    Ok(roots)
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| format!("is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("has no CERTIFICATE".to_owned());
    }
    Ok(certificates)
}

fn labels(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim_end();
        line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_one_key_and_certificates_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let read = |text: &str| bundle(text.as_bytes()).map(|bundle| bundle.chain.len());
        assert_eq!(read(&format!("{key}{certificate}")), Ok(1));
        assert_eq!(read(&format!("{certificate}{certificate}{key}")), Ok(2));
        let old = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
        for (text, complaint) in [
            (String::new(), "has no CERTIFICATE"),
            (key.clone(), "has no CERTIFICATE"),
            (certificate.clone(), "has no PRIVATE KEY"),
            (format!("{certificate}{key}{key}"), "more than one PRIVATE KEY"),
            (format!("{certificate}{old}"), "openssl pkcs8 -topk8"),
            (
                format!("{certificate}{key}-----BEGIN X-----\nAA==\n-----END X-----\n"),
                "has a block \"X\"",
            ),
        ] {
            let why = read(&text).unwrap_err();
            assert!(why.contains(complaint), "{why}");
            assert!(!why.contains("MI"), "the key must not be repeated: {why}");
        }
    }
}
