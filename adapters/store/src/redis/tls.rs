//! TLS to the server: whom we trust, under which name the server is known, and who we are.
//!
//! The files are read for each new connection, so that certificates which are renewed in place, as those of
//! pods are, need no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_runtime::net::Socket;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What TLS is to be done with. By default: the certificates that the machine trusts, the name under which the
/// server is dialled, and no certificate of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// A file of certificates (PEM) that sign servers', instead of those that the machine trusts.
    pub ca_certs: Option<PathBuf>,
    /// The name that the server's certificate has, if it is not the one that is dialled.
    pub server_name: Option<String>,
    /// A file (PEM) with our private key and, in order, our certificate and those that sign it.
    pub client_cert: Option<PathBuf>,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The machine trusts nobody.
    #[error("no certificates to trust on this machine ({reason}); name a file of them")]
    NoTrust {
        /// What was found instead.
        reason: String,
    },
    /// It is the name of no server.
    #[error("{name:?} is no name that a server's certificate can have")]
    Name {
        /// The name.
        name: String,
    },
    /// Key and certificate do not fit, or are of a kind that is not known.
    #[error("{}: {source}", .path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS itself.
    #[error(transparent)]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// Whether everything that is named here can be used now.
    ///
    /// # Errors
    /// The first thing that cannot.
    pub fn check(&self) -> Result<(), TlsError> {
        if let Some(name) = &self.server_name {
            server_name(name)?;
        }
        self.config().map(drop)
    }

    /// Speaks TLS with `host` over a connection to it.
    ///
    /// # Errors
    /// As [`Tls::check`], and what either side holds against the other.
    pub(super) async fn secure(&self, host: &str, socket: Socket) -> Result<TlsStream<Socket>, Insecure> {
        let name = server_name(self.server_name.as_deref().unwrap_or(host))?;
        let connector = TlsConnector::from(Arc::new(self.config()?));
        connector.connect(name, socket).await.map_err(Insecure::Handshake)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca_certs {
            Some(path) => trusted(path)?,
            None => trusted_by_the_machine()?,
        };
        // Named here, because a process that links two providers has no default one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let Some(path) = &self.client_cert else {
            return Ok(config.with_no_client_auth());
        };
        let pem = read(path)?;
        let chain = certificates(path, &pem)?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| wrong(path, format!("no private key can be read from it: {error}")))?;
        config
            .with_client_auth_cert(chain, key)
            .map_err(|source| TlsError::Client {
                path: path.clone(),
                source,
            })
    }
}

/// Why a connection cannot be made secure.
#[derive(Debug, thiserror::Error)]
pub(super) enum Insecure {
    #[error(transparent)]
    Ours(#[from] TlsError),
    #[error(transparent)]
    Handshake(std::io::Error),
}

/// What TLS holds against the other side, if that is what this error is about; with what to do about it.
pub(super) fn objection(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The `redis` crate wraps what it is told.
        let wrapped = error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>();
        let io = match wrapped {
            Some(wrapped) => wrapped.downcast_ref::<std::io::Error>(),
            None => error.downcast_ref(),
        };
        let inner = io.and_then(std::io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(found) = found.or_else(|| error.downcast_ref()) {
            return Some(format!("{found}{}", advice(found)));
        }
        next = error.source();
    }
    None
}

fn advice(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "; is the authority that signed the server's certificate in --redis-ca-certs?"
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "; if the server is known under another name, say it with --redis-tls-server-name"
        }
        Error::AlertReceived(Alert::CertificateRequired) => {
            "; the server wants a certificate of ours: --redis-client-cert"
        }
        Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError | Alert::CertificateExpired,
        ) => "; the server does not accept --redis-client-cert",
        Error::InvalidMessage(_) => "; does the server speak TLS on this port?",
        _ => "",
    }
}

fn trusted(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, &read(path)?)? {
        roots
            .add(certificate)
            .map_err(|error| wrong(path, error.to_string()))?;
    }
    Ok(roots)
}

fn trusted_by_the_machine() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
    let reason = if reasons.is_empty() {
        "none found".to_owned()
    } else {
        reasons.join("; ")
    };
    Err(TlsError::NoTrust { reason })
}

/// At least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(path, format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(path, "has no certificate in it (PEM)".into()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| wrong(path, format!("cannot be read: {error}")))
}

fn wrong(path: &Path, reason: String) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        reason,
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name {
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certs.pem");
        let (ca, client) = (
            Tls {
                ca_certs: Some(path.clone()),
                ..Tls::default()
            },
            Tls {
                ca_certs: None,
                client_cert: Some(path.clone()),
                ..Tls::default()
            },
        );
        for (content, why) in [
            (None, "cannot be read: No such file"),
            (Some(""), "has no certificate in it"),
            (
                Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
                "certs.pem",
            ),
        ] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            for tls in [&ca, &client] {
                let Err(error) = tls.check() else {
                    panic!("{content:?}")
                };
                if tls.ca_certs.is_none() && matches!(error, TlsError::NoTrust { .. }) {
                    continue;
                }
                let text = error.to_string();
                assert!(text.contains("certs.pem") && text.contains(why), "{text}");
            }
        }
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_refused() {
        let tls = Tls {
            server_name: Some("no name".into()),
            ..Tls::default()
        };
        let text = tls.check().unwrap_err().to_string();
        assert_eq!(
            text,
            "\"no name\" is no name that a server's certificate can have"
        );
    }
}
