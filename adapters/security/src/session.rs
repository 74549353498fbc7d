//! Identities for sessions: tokens and certificates, in the original's form.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_runtime::entropy::{fresh_u64, fresh_u128};
use holdfast_runtime::logging::rfc3339;
use rustls::SignatureScheme;
use rustls::pki_types::{AlgorithmIdentifier, alg_id};
use rustls::sign::SigningKey;
use serde_json::{Map, Value, json};

use crate::der::{
    self, BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, UTC_TIME, bit_string,
    context, context_plain, value,
};
use crate::pool::{CertificateAuthority, JwtAuthority};
use crate::server::provider;
use crate::x509::{Certificate, Request};

/// Who issues session tokens, whatever the cluster is called.
const ISSUER: &str = "https://broker.agentic-substrate-session-id-broker.svc";
/// The trust domain of session certificates.
const TRUST_DOMAIN: &str = "substrate-session.local";
const LIVES_S: u64 = 15 * 60;
/// Clocks differ: what is made now is valid a while ago.
const EARLIER_S: u64 = 5 * 60;

/// Who a session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The application.
    pub app: String,
    /// On whose behalf it acts.
    pub user: String,
    /// The session.
    pub session: String,
}

/// Why a certificate is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// The request is none.
    Malformed,
    /// It was not signed with its own key.
    Unsigned,
    /// The authority cannot sign.
    Authority,
}

impl Session {
    /// Whether each part can stand between the slashes of a path, and nothing else comes of it: a user `../x`
    /// would otherwise be somebody in another application.
    pub fn is_well_formed(&self) -> bool {
        [&self.app, &self.user, &self.session].into_iter().all(|part| {
            let is_step = part == "." || part == "..";
            !is_step && !part.contains(['/', '\\']) && !part.chars().any(char::is_control)
        })
    }

    /// A token for `audience`, signed by `authority`; `now_ms` is the time since the epoch. What is known of
    /// where the session runs stands in it as `placed`.
    ///
    /// # Errors
    /// When the key of the authority is not for its algorithm.
    pub fn token(
        &self,
        audience: &[String],
        placed: Map<String, Value>,
        authority: &JwtAuthority,
        now_ms: u64,
    ) -> Result<String, String> {
        let now = now_ms / 1000;
        let mut who = placed;
        for (name, part) in [
            ("appID", &self.app),
            ("userID", &self.user),
            ("sessionID", &self.session),
        ] {
            if !part.is_empty() {
                who.insert(name.to_owned(), part.as_str().into());
            }
        }
        let Session { app, user, session } = self;
        let header = json!({"alg": authority.algorithm, "kid": authority.id});
        let claims = json!({
            "iss": ISSUER,
            "sub": format!("apps/{app}/users/{user}/sessions/{session}"),
            "aud": audience,
            "exp": now + LIVES_S,
            "nbf": now.saturating_sub(EARLIER_S),
            "iat": now,
            "jti": token_id(),
            "ate.dev": who,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(&claims));
        let signature = sign_token(&authority.algorithm, &*authority.key, token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// A certificate for the key in the request, leaf first, then the intermediates of the authority.
    ///
    /// # Errors
    /// When there is no such key, or the authority cannot sign.
    pub fn certificate(
        &self,
        request: &[u8],
        authority: &CertificateAuthority,
        now_ms: u64,
    ) -> Result<Vec<Vec<u8>>, CertificateError> {
        let request = Request::read(request).ok_or(CertificateError::Malformed)?;
        if !request.is_signed(provider().signature_verification_algorithms.all) {
            return Err(CertificateError::Unsigned);
        }
        let leaf = self
            .leaf(request.public_key, authority, now_ms)
            .ok_or(CertificateError::Authority)?;
        let mut chain = vec![leaf];
        chain.extend(authority.intermediates.iter().cloned());
        Ok(chain)
    }

    fn leaf(&self, public_key: &[u8], authority: &CertificateAuthority, now_ms: u64) -> Option<Vec<u8>> {
        let issuer = Certificate::read(&authority.signer)?;
        let (signer, id) = SCHEMES.iter().find_map(|(scheme, id)| {
            let signer = authority.key.choose_scheme(&[*scheme])?;
            Some((signer, value(SEQUENCE, &[id.as_ref()])))
        })?;
        let now = now_ms / 1000;
        let validity = [now.saturating_sub(EARLIER_S), now + LIVES_S].map(time);
        let uri = value(context_plain(6), &[self.uri().as_bytes()]);
        let mut extensions = vec![
            // digitalSignature, the first of the bits, and no other.
            extension(
                KEY_USAGE,
                Weight::Critical,
                &value(der::BIT_STRING, &[&[7, 0x80]]),
            ),
            extension(
                EXTENDED_KEY_USAGE,
                Weight::Plain,
                &value(SEQUENCE, &[&value(OBJECT_ID, &[CLIENT_AUTH])]),
            ),
            extension(BASIC_CONSTRAINTS, Weight::Critical, &value(SEQUENCE, &[])),
            // Nothing else names the owner, so nobody may pass it over.
            extension(SUBJECT_ALT_NAME, Weight::Critical, &value(SEQUENCE, &[&uri])),
        ];
        if let Some(id) = issuer.key_id {
            let id = value(SEQUENCE, &[&value(context_plain(0), &[id])]);
            extensions.push(extension(AUTHORITY_KEY_ID, Weight::Plain, &id));
        }
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let body = value(
            SEQUENCE,
            &[
                &value(context(0), &[&value(INTEGER, &[&[2]])]),
                &value(INTEGER, &[&serial()]),
                &id,
                issuer.subject,
                &value(SEQUENCE, &[&validity[0], &validity[1]]),
                &value(SEQUENCE, &[]),
                public_key,
                &value(context(3), &[&value(SEQUENCE, &extensions)]),
            ],
        );
        let signature = signer.sign(&body).ok()?;
        Some(value(SEQUENCE, &[&body, &id, &bit_string(&signature)]))
    }

    /// Its SPIFFE ID.
    pub fn uri(&self) -> String {
        let mut uri = format!("spiffe://{TRUST_DOMAIN}");
        for (kind, part) in [
            ("app", &self.app),
            ("user", &self.user),
            ("session", &self.session),
        ] {
            let _ = write!(uri, "/{kind}/");
            for byte in part.bytes() {
                let _ = match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(uri, "{}", char::from(byte)),
                    b'-' | b'.' | b'_' | b'~' | b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' | b'@' => {
                        write!(uri, "{}", char::from(byte))
                    }
                    byte => write!(uri, "%{byte:02X}"),
                };
            }
        }
        uri
    }
}

/// In which words an authority's signature is told, for each kind of key.
const SCHEMES: [(SignatureScheme, AlgorithmIdentifier); 4] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Critical,
    Plain,
}

fn extension(id: &[u8], weight: Weight, content: &[u8]) -> Vec<u8> {
    let critical = match weight {
        Weight::Critical => value(BOOLEAN, &[&[0xff]]),
        Weight::Plain => Vec::new(),
    };
    value(
        SEQUENCE,
        &[
            &value(OBJECT_ID, &[id]),
            &critical,
            &value(OCTET_STRING, &[content]),
        ],
    )
}

/// Two digits of the year until 2049, four from then on.
fn time(seconds: u64) -> Vec<u8> {
    let text = rfc3339(seconds * 1000);
    let digits: Vec<u8> = text
        .bytes()
        .take(19)
        .filter(u8::is_ascii_digit)
        .chain([b'Z'])
        .collect();
    if digits[..4] < b"2050"[..] {
        value(UTC_TIME, &[&digits[2..]])
    } else {
        value(GENERALIZED_TIME, &[&digits])
    }
}

/// A number that is positive, has no leading zeros, and has never been seen.
fn serial() -> [u8; 16] {
    let mut serial = fresh_u128().to_be_bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

/// 26 characters, each one of 32.
fn token_id() -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |bits: u128| char::from(LETTERS[(bits & 31) as usize]);
    let bits = fresh_u128();
    let more = (0..25).map(|index| letter(bits >> (5 * index)));
    more.chain([letter(fresh_u64().into())]).collect()
}

fn sign_token(algorithm: &str, key: &dyn SigningKey, message: &[u8]) -> Result<Vec<u8>, String> {
    let scheme = match algorithm {
        "RS256" => SignatureScheme::RSA_PKCS1_SHA256,
        "RS384" => SignatureScheme::RSA_PKCS1_SHA384,
        "RS512" => SignatureScheme::RSA_PKCS1_SHA512,
        "ES256" => SignatureScheme::ECDSA_NISTP256_SHA256,
        other => return Err(format!("unsupported algorithm {other:?}")),
    };
    let signer = key.choose_scheme(&[scheme]);
    let signer = signer.ok_or_else(|| format!("its key cannot sign {algorithm}"))?;
    let signature = signer.sign(message).map_err(|error| error.to_string())?;
    if algorithm == "ES256" {
        return fixed(&signature).ok_or_else(|| "its key has made a strange signature".to_owned());
    }
    Ok(signature)
}

/// The two numbers of an ECDSA signature over P-256 side by side, which are a sequence in certificates.
fn fixed(signature: &[u8]) -> Option<Vec<u8>> {
    let mut numbers = der::Reader::only(signature, SEQUENCE)?.inside();
    let mut both = Vec::with_capacity(64);
    for _ in 0..2 {
        let number = numbers.next(INTEGER)?.content;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        both.extend(std::iter::repeat_n(0, 32_usize.checked_sub(number.len())?));
        both.extend(number);
    }
    Some(both)
}

#[cfg(test)]
mod tests;
