//! How requests reach an object store over HTTP: one pooled client on the TLS stack the rest of the daemon uses.
//!
//! Every request is bounded in time by its size, and every answer in memory, so that neither a hanging nor a babbling
//! server holds anything for long.

use std::error::Error;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryFutureExt as _;
use holdfast_runtime::tokio::time::timeout;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector as StoreConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

use crate::config::is_loopback;
use crate::remote::RANGE_BYTES;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a request may take that moves no data to speak of.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The slowest transfer that is still worth waiting for.
const MIN_BYTES_PER_SECOND: usize = 256 * 1024;
/// No answer is larger: the longest ones asked for are ranges; manifests and listings are shorter.
const MAX_RESPONSE_BYTES: usize = RANGE_BYTES + 1024 * 1024;

/// Makes the HTTP clients of object stores.
#[derive(Debug)]
pub(crate) struct Connector;

impl StoreConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut pool = Client::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new());
        // A host without CA certificates can still talk to a store of its own.
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map(|tls| pool.build(tls.https_only().enable_http1().wrap_connector(tcp.clone())));
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        Ok(HttpClient::new(Wire {
            tls,
            plain: pool.build(tcp),
            allow_http,
        }))
    }
}

#[derive(Debug)]
struct Wire {
    tls: io::Result<Client<HttpsConnector<HttpConnector>, HttpRequestBody>>,
    plain: Client<HttpConnector, HttpRequestBody>,
    allow_http: bool,
}

impl Wire {
    fn send(&self, request: HttpRequest) -> Result<ResponseFuture, HttpError> {
        let uri = request.uri();
        if uri.scheme_str() == Some("https") {
            let tls = self
                .tls
                .as_ref()
                .map_err(|error| refusal(error.kind(), format!("TLS is not possible: {error}")))?;
            return Ok(tls.request(request));
        }
        if self.allow_http || is_loopback(uri) {
            return Ok(self.plain.request(request));
        }
        let reason = "plain HTTP to another host; set ATE_STORAGE_ALLOW_HTTP=true to allow it";
        Err(refusal(io::ErrorKind::PermissionDenied, reason.to_owned()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let patience =
            |bytes: usize| REQUEST_TIMEOUT + Duration::from_secs((bytes / MIN_BYTES_PER_SECOND) as u64);
        let sending = patience(request.body().content_length());
        let answer = bounded(sending, self.send(request)?.map_err(http_error)).await?;
        let (parts, body) = answer.into_parts();
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let receiving = patience(announced.unwrap_or(MAX_RESPONSE_BYTES).min(MAX_RESPONSE_BYTES));
        let body = Limited::new(body, MAX_RESPONSE_BYTES)
            .collect()
            .map_err(body_error);
        let body = bounded(receiving, body).await?.to_bytes();
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

fn refusal(kind: io::ErrorKind, reason: String) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, io::Error::new(kind, reason))
}

async fn bounded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(elapsed) => Err(HttpError::new(HttpErrorKind::Timeout, elapsed)),
    }
}

fn http_error(error: hyper_util::client::legacy::Error) -> HttpError {
    // Whether the server saw a request that broke off later is not known: only what may happen twice is sent again.
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error)
}

fn body_error(error: Box<dyn Error + Send + Sync>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Interrupted, error)
}
