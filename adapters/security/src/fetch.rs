//! One GET: the discovery document of an issuer, and its keys.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_runtime::net::{Address, ClientTls, Socket};
use holdfast_runtime::tokio;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// How long one document may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Larger than any document that is fetched here.
const BYTES_MAX: usize = 1 << 20;

/// Fetches `uri`, whose server has a certificate that `tls` believes in.
///
/// # Errors
/// Why it could not be fetched, in words for an operator.
pub async fn get(
    uri: &Uri,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
) -> Result<Bytes, String> {
    let fetched = tokio::time::timeout(WITHIN, fetch(uri, tls, authorization)).await;
    fetched.unwrap_or_else(|_| Err(format!("GET {uri}: no answer within {WITHIN:?}")))
}

async fn fetch(
    uri: &Uri,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
) -> Result<Bytes, String> {
    let fault = |error: &dyn std::fmt::Display| format!("GET {uri}: {error}");
    let authority = uri.authority().ok_or_else(|| fault(&"it has no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_tls = uri.scheme_str() == Some("https");
    let address = Address::Tcp {
        host: host.to_owned(),
        port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
    };
    if !is_tls && !address.is_local() {
        return Err(fault(&"keys are fetched over https, except from this host"));
    }
    let mut socket = Socket::connect(&address, WITHIN)
        .await
        .map_err(|error| fault(&error))?;
    if is_tls {
        let connected = socket.connect_tls(&Fixed(tls), host, WITHIN).await;
        socket = connected.map_err(|error| fault(&error))?;
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| fault(&error))?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(ACCEPT, "application/json");
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| fault(&error))?;
    let answered = sender
        .send_request(request)
        .await
        .map_err(|error| fault(&error))?;
    if answered.status() != StatusCode::OK {
        return Err(fault(&format!("status {}", answered.status())));
    }
    let body = Limited::new(answered.into_body(), BYTES_MAX).collect().await;
    connection.abort();
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| fault(&error))
}

struct Fixed(Arc<ClientConfig>);

impl ClientTls for Fixed {
    fn current(&self) -> io::Result<Arc<ClientConfig>> {
        Ok(self.0.clone())
    }

    fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}
