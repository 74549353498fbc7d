//! Authorities, certificates, and issuers of tokens, made for one test.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, SanType,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

/// Guards nothing: RSA keys take seconds to make, and tests need one.
const RSA_KEY: &str = include_str!("pki/rsa.pem");

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    /// An authority of this name, with a new key.
    pub fn new(name: &str) -> Authority {
        Authority::with(name, KeyPair::generate().expect("a key"))
    }

    /// An authority with an RSA key.
    pub fn rsa(name: &str) -> Authority {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(RSA_KEY, &PKCS_RSA_SHA256);
        Authority::with(name, key.expect("an RSA key"))
    }

    fn with(name: &str, key: KeyPair) -> Authority {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Its own certificate, as PEM.
    pub fn certificates(&self) -> String {
        self.certificate.pem()
    }

    /// Its own certificate, as DER.
    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// A credential bundle, good for servers and clients, for these DNS names, addresses and URIs.
    pub fn bundle(&self, names: &[&str]) -> String {
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("names");
        for uri in uris {
            params
                .subject_alt_names
                .push(SanType::URI(uri.try_into().expect("ASCII")));
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        format!("{}{}", key.serialize_pem(), leaf.pem())
    }

    /// A pool of authorities with this one in it, as the original's tools write it.
    pub fn pool(&self) -> String {
        json!({"CAs": [{
            "ID": "1",
            "SigningKeyPKCS8": STANDARD.encode(self.issuer.key().serialized_der()),
            "RootCertificateDER": STANDARD.encode(self.certificate.der()),
        }]})
        .to_string()
    }
}

/// A request for a certificate with a new key, as DER.
pub fn certificate_request() -> Vec<u8> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["ignored.example".to_owned()]).expect("a name");
    let request = params.serialize_request(&key).expect("a request");
    request.der().to_vec()
}

/// Who signs tokens.
#[derive(Debug)]
pub struct Signer {
    id: String,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Ec {
        pair: EcdsaKeyPair,
        public: Vec<u8>,
        pkcs8: Vec<u8>,
    },
    Rsa {
        pair: RsaKeyPair,
        n: Vec<u8>,
        e: Vec<u8>,
        pkcs8: Vec<u8>,
    },
}

impl Signer {
    /// Signs ES256, with a new key.
    pub fn ec(id: &str) -> Signer {
        let key = KeyPair::generate().expect("a key");
        let pkcs8 = key.serialize_der();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Signer {
            id: id.to_owned(),
            key: Key::Ec {
                pair: EcdsaKeyPair::from_pkcs8(how, &pkcs8, &SystemRandom::new()).expect("a key"),
                public: key.public_key_raw().to_vec(),
                pkcs8,
            },
        }
    }

    /// Signs RS256, always with the same key.
    pub fn rsa(id: &str) -> Signer {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(RSA_KEY, &PKCS_RSA_SHA256).expect("an RSA key");
        let pkcs8 = key.serialize_der();
        let pair = RsaKeyPair::from_pkcs8(&pkcs8).expect("an RSA key");
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
        Signer {
            id: id.to_owned(),
            key: Key::Rsa {
                pair,
                n: public.n,
                e: public.e,
                pkcs8,
            },
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Ec { .. } => "ES256",
            Key::Rsa { .. } => "RS256",
        }
    }

    /// The public key, as issuers publish it.
    pub fn published(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            Key::Ec { public, .. } => json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id,
                "x": encode(&public[1..33]), "y": encode(&public[33..])}),
            Key::Rsa { n, e, .. } => json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": self.id,
                "n": encode(n), "e": encode(e)}),
        }
    }

    /// A token that claims this.
    pub fn token(&self, claims: &Value) -> String {
        self.signed(
            &json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"}),
            claims,
        )
    }

    /// A token with this header, signed as ever.
    pub fn signed(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ec { pair, .. } => pair
                .sign(&random, text.as_bytes())
                .expect("a signature")
                .as_ref()
                .to_vec(),
            Key::Rsa { pair, .. } => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature)
                    .expect("a signature");
                signature
            }
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A pool of token authorities with this one in it, as the original's tools write it.
    pub fn pool(&self) -> String {
        let (Key::Ec { pkcs8, .. } | Key::Rsa { pkcs8, .. }) = &self.key;
        json!({"Authorities": [{
            "ID": self.id,
            "Algorithm": self.algorithm(),
            "SigningKeyPKCS8": STANDARD.encode(pkcs8),
        }]})
        .to_string()
    }
}

/// An issuer of tokens on this host, over plain HTTP. Its thread ends with the process.
pub struct TokenIssuer {
    /// As tokens name it.
    pub url: String,
    published: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl TokenIssuer {
    /// An issuer that publishes these keys.
    pub fn start(keys: &[&Signer]) -> TokenIssuer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let issuer = TokenIssuer {
            url: url.clone(),
            published: Arc::default(),
            asked: Arc::default(),
        };
        issuer.publish(keys);
        let (published, asked) = (issuer.published.clone(), issuer.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 2048];
                let read = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]);
                let body = if text.starts_with("GET /.well-known/openid-configuration ") {
                    json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
                } else {
                    asked.fetch_add(1, Ordering::SeqCst);
                    json!({"keys": *published.lock().unwrap_or_else(PoisonError::into_inner)})
                };
                let body = body.to_string();
                let length = body.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                // A client that has gone does not hear it.
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        issuer
    }

    /// Publishes these keys instead.
    pub fn publish(&self, keys: &[&Signer]) {
        let keys = keys.iter().map(|key| key.published()).collect();
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Publishes something that is no key of a kind that is known, beside the others.
    pub fn publish_oddities(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.push(json!({"kty": "OKP", "crv": "Ed25519", "kid": "odd", "x": "AA"}));
        published.push(json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}));
        published.push(json!("odd"));
    }

    /// How often its keys have been asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
