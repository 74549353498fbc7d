//! What a client shows and asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_runtime::net::{Authorization, ClientTls, Security};
use http::HeaderValue;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::bundle::{Bundle, authorities};
use crate::files::{FileError, FromFiles, read};
use crate::server::provider;

/// How a client is to reach a server. With nothing set it speaks plaintext.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Speak TLS, even if nothing else here asks for it.
    pub tls: bool,
    /// Who may have signed the server's certificate; without, whom this machine trusts.
    pub ca_certs: Option<PathBuf>,
    /// What is shown to servers that ask.
    pub cred_bundle: Option<PathBuf>,
    /// The name that the server's certificate is for, if not the host that is dialled.
    pub server_name: Option<String>,
    /// Believe in any certificate.
    pub skip_verify: bool,
    /// A token for each call; read again when the file changes.
    pub token_file: Option<PathBuf>,
}

/// Why options for a client cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// This machine trusts nobody that could be found.
    #[error("this machine has no trusted authorities ({0}); name the server's with a CA file")]
    NoRoots(String),
    /// The name of a server is none.
    #[error("\"{0}\" is neither a DNS name nor an IP address")]
    ServerName(String),
}

impl ClientOptions {
    /// Whether TLS is spoken.
    pub fn speaks_tls(&self) -> bool {
        self.tls
            || self.skip_verify
            || self.ca_certs.is_some()
            || self.cred_bundle.is_some()
            || self.server_name.is_some()
    }

    /// What these options amount to, with every file read once.
    ///
    /// # Errors
    /// When a file cannot be used, or there is nobody to trust.
    pub fn open(self) -> Result<Security, ClientError> {
        let authorization = match &self.token_file {
            None => None,
            Some(path) => Some(Arc::new(TokenFile::open(path)?) as Arc<dyn Authorization>),
        };
        let tls = match self.speaks_tls() {
            false => None,
            true => Some(Arc::new(ClientFiles::open(self)?) as Arc<dyn ClientTls>),
        };
        Ok(Security { tls, authorization })
    }
}

struct ClientFiles {
    config: FromFiles<Arc<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl ClientFiles {
    fn open(options: ClientOptions) -> Result<ClientFiles, ClientError> {
        let server_name = match &options.server_name {
            None => None,
            Some(name) => {
                let parsed = ServerName::try_from(name.clone());
                Some(parsed.map_err(|_| ClientError::ServerName(name.clone()))?)
            }
        };
        let native = match (&options.ca_certs, options.skip_verify) {
            (None, false) => native_roots()?,
            _ => RootCertStore::empty(),
        };
        let paths = [&options.ca_certs, &options.cred_bundle];
        let paths = paths.into_iter().flatten().cloned().collect();
        let config = FromFiles::open(paths, move || config(&options, &native).map(Arc::new))?;
        Ok(ClientFiles { config, server_name })
    }
}

impl ClientTls for ClientFiles {
    fn current(&self) -> io::Result<Arc<ClientConfig>> {
        Ok(Arc::clone(&self.config.current()))
    }

    fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}"))),
        }
    }
}

fn config(options: &ClientOptions, native: &RootCertStore) -> Result<ClientConfig, FileError> {
    let nowhere = Path::new("TLS");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| FileError::new(nowhere, error))?;
    let builder = if options.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider())))
    } else {
        builder.with_root_certificates(match &options.ca_certs {
            Some(path) => authorities(path)?,
            None => native.clone(),
        })
    };
    let mut config = match &options.cred_bundle {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let Bundle { chain, key } = Bundle::read(path)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| FileError::new(path, error))?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Whom this machine trusts.
pub(crate) fn native_roots() -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(ClientError::NoRoots(
            why.unwrap_or_else(|| "none found".to_owned()),
        ));
    }
    Ok(roots)
}

/// A bearer token in a file, which the kubelet replaces before it expires.
struct TokenFile {
    value: FromFiles<HeaderValue>,
}

impl TokenFile {
    fn open(path: &Path) -> Result<TokenFile, FileError> {
        let at = path.to_owned();
        let value = FromFiles::open(vec![path.to_owned()], move || bearer(&at))?;
        Ok(TokenFile { value })
    }
}

impl Authorization for TokenFile {
    fn current(&self) -> io::Result<HeaderValue> {
        Ok((*self.value.current()).clone())
    }
}

/// The header for the token in this file.
pub(crate) fn bearer(path: &Path) -> Result<HeaderValue, FileError> {
    let text = read(path)?;
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(FileError::new(path, "is empty; a token is needed"));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| FileError::new(path, "is no token: a header cannot carry it"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Believes in every certificate, as the original's clients do, and still has the server prove that it holds
/// its key.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
