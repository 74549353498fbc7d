//! What certificates and requests for them say, as far as it matters here.

use rustls::pki_types::{AlgorithmIdentifier, SignatureVerificationAlgorithm};

use crate::der::{
    BIT_STRING, BOOLEAN, INTEGER, OBJECT_ID, OCTET_STRING, Reader, SEQUENCE, Value, context, context_plain,
};

/// `subjectKeyIdentifier`.
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
/// `subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// The parts of a certificate, as they are encoded.
pub struct Certificate<'a> {
    /// The name of its owner.
    pub subject: &'a [u8],
    /// The key of its owner, with its algorithm.
    pub public_key: &'a [u8],
    /// How those whom it signs for name that key.
    pub key_id: Option<&'a [u8]>,
    /// The URIs among its alternative names.
    pub uris: Vec<&'a str>,
}

impl<'a> Certificate<'a> {
    /// Reads one.
    pub fn read(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut body = Reader::only(der, SEQUENCE)?.inside().next(SEQUENCE)?.inside();
        body.next(context(0));
        body.next(INTEGER)?;
        let [_signature, _issuer, _validity, subject, public_key] =
            [(); 5].map(|()| body.next(SEQUENCE).map(|value| value.whole));
        let mut certificate = Certificate {
            subject: subject?,
            public_key: public_key?,
            key_id: None,
            uris: Vec::new(),
        };
        while let Some(part) = body.any() {
            if part.tag == context(3) {
                certificate.extend(part)?;
            }
        }
        Some(certificate)
    }

    fn extend(&mut self, part: Value<'a>) -> Option<()> {
        let mut extensions = part.inside().next(SEQUENCE)?.inside();
        while let Some(extension) = extensions.next(SEQUENCE) {
            let mut extension = extension.inside();
            let id = extension.next(OBJECT_ID)?.content;
            extension.next(BOOLEAN);
            let content = extension.next(OCTET_STRING)?.content;
            if id == SUBJECT_KEY_ID {
                self.key_id = Some(Reader::only(content, OCTET_STRING)?.content);
            } else if id == SUBJECT_ALT_NAME {
                let mut names = Reader::only(content, SEQUENCE)?.inside();
                while let Some(name) = names.any() {
                    if name.tag == context_plain(6) {
                        self.uris.push(std::str::from_utf8(name.content).ok()?);
                    }
                }
            }
        }
        Some(())
    }
}

/// A request for a certificate (PKCS #10). Only its key matters: what it says of its owner is not believed.
pub struct Request<'a> {
    signed: &'a [u8],
    /// The key, with its algorithm.
    pub public_key: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads one.
    pub fn read(der: &'a [u8]) -> Option<Request<'a>> {
        let mut request = Reader::only(der, SEQUENCE)?.inside();
        let body = request.next(SEQUENCE)?;
        let algorithm = request.next(SEQUENCE)?.content;
        let signature = request.next(BIT_STRING)?.bits()?;
        let mut inside = body.inside();
        inside.next(INTEGER)?;
        inside.next(SEQUENCE)?;
        let public_key = inside.next(SEQUENCE)?.whole;
        Some(Request {
            signed: body.whole,
            public_key,
            algorithm,
            signature,
        })
    }

    /// Whether it was signed with the key in it, by one of these algorithms.
    pub fn is_signed(&self, algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let Some((kind, key)) = key(self.public_key) else {
            return false;
        };
        let is = |id: AlgorithmIdentifier, bytes: &[u8]| id.as_ref() == bytes;
        algorithms.iter().any(|algorithm| {
            is(algorithm.signature_alg_id(), self.algorithm)
                && is(algorithm.public_key_alg_id(), kind)
                && algorithm
                    .verify_signature(key, self.signed, self.signature)
                    .is_ok()
        })
    }
}

/// The algorithm of a public key, and its bits.
fn key(public_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = Reader::only(public_key, SEQUENCE)?.inside();
    let kind = parts.next(SEQUENCE)?.content;
    Some((kind, parts.next(BIT_STRING)?.bits()?))
}
