//! HTTP over the seam's sockets, so that the same client runs on simulated ones.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use holdfast_runtime::net::{Address, Executor, Socket};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;

use crate::PullError;

/// How long a server may take to accept a connection. What happens on one that stands is the caller's
/// to judge, by the progress it sees.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client without redirects, retries or timers, for one pull. Its connections end with it, and dropping
/// a response that is not read to its end closes the connection.
pub(crate) struct Http {
    trust: Arc<Trust>,
    plain: Client<Dial, Full<Bytes>>,
    secure: OnceLock<Client<HttpsConnector<Dial>, Full<Bytes>>>,
}

impl Http {
    pub fn new(trust: Arc<Trust>) -> Self {
        Self {
            trust,
            plain: Client::builder(Executor).build(Dial),
            secure: OnceLock::new(),
        }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, PullError> {
        let what = shown(request.uri());
        let response = match request.uri().scheme_str() {
            Some("https") => self.secure()?.request(request).await,
            _ => self.plain.request(request).await,
        };
        response.map_err(|error| network(what, error))
    }

    fn secure(&self) -> Result<&Client<HttpsConnector<Dial>, Full<Bytes>>, PullError> {
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.trust.config()?)
            .https_only()
            .enable_http1()
            .wrap_connector(Dial);
        let client = || Client::builder(Executor).build(connector);
        Ok(self.secure.get_or_init(client))
    }
}

/// The certificates that servers are checked by: those of the machine, read when first needed, because
/// where only plain HTTP is used there may be none.
#[derive(Default)]
pub(crate) struct Trust(OnceLock<rustls::ClientConfig>);

impl Trust {
    fn config(&self) -> Result<rustls::ClientConfig, PullError> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        let config = tls_config().map_err(|reason| PullError::NoTrust { reason })?;
        Ok(self.0.get_or_init(|| config).clone())
    }
}

fn tls_config() -> Result<rustls::ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(match reasons.is_empty() {
            true => "none found".to_owned(),
            false => reasons.join("; "),
        });
    }
    // Named here, because a process that links two providers has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// An address as errors show it: without the query, where signatures are.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path())
}

pub(crate) fn network(
    what: impl Into<String>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> PullError {
    PullError::Network {
        what: what.into(),
        source: error.into(),
    }
}

/// Opens connections for hyper.
#[derive(Clone, Copy)]
struct Dial;

impl tower::Service<Uri> for Dial {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let usual_port = if uri.scheme_str() == Some("https") {
                443
            } else {
                80
            };
            let address = Address::Tcp {
                host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
                port: uri.port_u16().unwrap_or(usual_port),
            };
            let socket = Socket::connect(&address, CONNECT_TIMEOUT).await?;
            Ok(Stream(TokioIo::new(socket)))
        })
    }
}

/// A socket as hyper's client wants it.
struct Stream(TokioIo<Socket>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_query() {
        let uri = Uri::from_static("https://user@host.example:8443/v2/app/blobs?X-Signature=secret");
        assert_eq!(shown(&uri), "https://host.example:8443/v2/app/blobs");
    }
}
