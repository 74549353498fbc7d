//! TLS on a socket. What is shown to the other end and what is asked of it is said by others, anew for each
//! connection, so that keys and authorities may change while a process runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::Socket;

/// What a server shows its clients, and asks of them.
pub trait ServerTls: Send + Sync + 'static {
    /// What is in force now.
    ///
    /// # Errors
    /// When there is nothing that could be shown.
    fn current(&self) -> io::Result<Arc<ServerConfig>>;
}

/// What a client shows servers, and asks of them.
pub trait ClientTls: Send + Sync + 'static {
    /// What is in force now.
    ///
    /// # Errors
    /// When there is nothing that servers could be checked against.
    fn current(&self) -> io::Result<Arc<ClientConfig>>;

    /// The name that the certificate of the server at `host` has to be for.
    ///
    /// # Errors
    /// When it is neither a DNS name nor an IP address.
    fn server_name(&self, host: &str) -> io::Result<ServerName<'static>>;
}

/// What a client says of itself with each call.
pub trait Authorization: Send + Sync + 'static {
    /// The value of the `authorization` header, marked as sensitive.
    ///
    /// # Errors
    /// When it cannot be had; the call is then not made.
    fn current(&self) -> io::Result<HeaderValue>;
}

/// How a client's connections are secured. By default they are not: that is for this host alone, and where an
/// operator has said so.
#[derive(Clone, Default)]
pub struct Security {
    /// TLS, or plaintext.
    pub tls: Option<Arc<dyn ClientTls>>,
    /// What each call carries.
    pub authorization: Option<Arc<dyn Authorization>>,
}

/// What a TLS client has shown of itself, verified, leaf first; empty where it has shown nothing. Requests that
/// came over TLS carry it as an extension.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

impl Socket {
    /// Serves TLS on an accepted connection; the handshake may take as long as `within`.
    ///
    /// # Errors
    /// When the client does not speak TLS, shows nothing acceptable, or takes too long.
    pub async fn accept_tls(
        self,
        tls: &dyn ServerTls,
        within: Duration,
    ) -> io::Result<(Self, PeerCertificates)> {
        let acceptor = TlsAcceptor::from(tls.current()?);
        let stream = limited(within, acceptor.accept(self)).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().unwrap_or_default();
        let peer = PeerCertificates(shown.iter().map(|shown| shown.clone().into_owned()).collect());
        Ok((Self::tls(TlsStream::Server(stream)), peer))
    }

    /// Speaks TLS on a connection to the server of `host`; the handshake may take as long as `within`.
    ///
    /// # Errors
    /// When the server does not speak TLS, is not who it should be, or takes too long.
    pub async fn connect_tls(self, tls: &dyn ClientTls, host: &str, within: Duration) -> io::Result<Self> {
        let name = tls.server_name(host)?;
        let connector = TlsConnector::from(tls.current()?);
        let stream = limited(within, connector.connect(name, self)).await?;
        Ok(Self::tls(TlsStream::Client(stream)))
    }
}

async fn limited<T>(within: Duration, handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(within, handshake).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("TLS handshake: {error}"))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no TLS handshake within {within:?}"),
        )),
    }
}
