//! What a server shows and asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_runtime::net::ServerTls;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};

use crate::bundle::{Bundle, authorities};
use crate::files::{FileError, FromFiles};

/// HTTP/2, which is all that is spoken here.
const H2: &[u8] = b"h2";

/// The cryptography of this process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// One that is shown is verified; nobody has to, as in the original.
    Verified,
    /// Who shows none is refused.
    Required,
}

/// TLS for a server, from files that are looked at for each connection.
pub struct ServerFiles {
    config: FromFiles<Arc<ServerConfig>>,
}

impl ServerFiles {
    /// A server with this credential bundle, whose clients show certificates of these authorities, if any are
    /// named.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn open(
        bundle: PathBuf,
        clients: Option<(PathBuf, ClientCertificates)>,
    ) -> Result<ServerFiles, FileError> {
        let mut paths = vec![bundle.clone()];
        paths.extend(clients.as_ref().map(|(authorities, _)| authorities.clone()));
        let config = FromFiles::open(paths, move || config(&bundle, clients.as_ref()).map(Arc::new))?;
        Ok(ServerFiles { config })
    }
}

impl ServerTls for ServerFiles {
    fn current(&self) -> io::Result<Arc<ServerConfig>> {
        Ok(Arc::clone(&self.config.current()))
    }
}

fn config(bundle: &Path, clients: Option<&(PathBuf, ClientCertificates)>) -> Result<ServerConfig, FileError> {
    let Bundle { chain, key } = Bundle::read(bundle)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| FileError::new(bundle, error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((path, wanted)) => {
            let roots = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = match wanted {
                ClientCertificates::Verified => verifier.allow_unauthenticated(),
                ClientCertificates::Required => verifier,
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| FileError::new(path, error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| FileError::new(bundle, error))?;
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}
