//! The content of assets, as streams.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_objects::{Backend, SnapshotError, SnapshotUri};
use holdfast_runtime::tokio::time::timeout;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::{AssetError, off_thread};

const CHUNK_BYTES: usize = 256 << 10;
const REDIRECTS_MAX: usize = 5;
/// How long a server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

type Content<'a> = BoxStream<'a, Result<Bytes, AssetError>>;

/// A file of this machine.
pub(super) fn file<'a>(path: &'a Path, url: &'a str) -> Content<'a> {
    let missing = |error: std::io::Error| AssetError::Missing {
        url: url.to_owned(),
        why: error.to_string(),
    };
    let opened = async move {
        let path = path.to_owned();
        let file = off_thread(move || std::fs::File::open(path))
            .await
            .map_err(missing)?;
        Ok(stream::try_unfold(file, move |mut file| async move {
            let read = off_thread(move || {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let count = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
                Ok((count > 0).then(|| (Bytes::from(chunk), file)))
            });
            read.await.map_err(missing)
        }))
    };
    stream::once(opened).try_flatten().boxed()
}

/// An object of the store that the snapshots are in.
pub(super) fn object<'a>(backend: &'a Backend, uri: SnapshotUri, url: &'a str) -> Content<'a> {
    let opened = async move {
        let content = backend.read_object(uri).map_err(move |error| {
            let (url, why) = (url.to_owned(), error.to_string());
            match error {
                SnapshotError::Retryable { .. } => AssetError::Network { url, why },
                _ => AssetError::Missing { url, why },
            }
        });
        Ok(content)
    };
    stream::once(opened).try_flatten().boxed()
}

/// A client for web servers.
pub(super) struct Web {
    client: Result<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>, String>,
}

impl Default for Web {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(SILENCE_MAX));
        let client = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map(|tls| {
                Client::builder(TokioExecutor::new())
                    .build(tls.https_or_http().enable_http1().wrap_connector(tcp))
            })
            .map_err(|error| format!("TLS is not possible: {error}"));
        Self { client }
    }
}

impl Web {
    /// What a web server has at `url`. What is not encrypted is checked all the same, by its digest.
    pub fn get<'a>(&'a self, url: &'a str) -> Content<'a> {
        let opened = async move {
            let response = self.follow(url).await?;
            Ok(stream::try_unfold(
                response.into_body(),
                move |mut body| async move {
                    loop {
                        let frame = match timeout(SILENCE_MAX, body.frame()).await {
                            Err(_) => return Err(network(url, "no byte for 30 s")),
                            Ok(None) => return Ok(None),
                            Ok(Some(frame)) => frame.map_err(|error| network(url, error))?,
                        };
                        if let Ok(bytes) = frame.into_data() {
                            return Ok(Some((bytes, body)));
                        }
                    }
                },
            ))
        };
        stream::once(opened).try_flatten().boxed()
    }

    async fn follow(&self, url: &str) -> Result<Response<Incoming>, AssetError> {
        let missing = |why: String| AssetError::Missing {
            url: url.to_owned(),
            why,
        };
        let client = self.client.as_ref().map_err(|why| missing(why.clone()))?;
        let mut at: Uri = url.parse().map_err(|error| missing(format!("{error}")))?;
        for _ in 0..REDIRECTS_MAX {
            let request = Request::get(&at)
                .body(Empty::new())
                .map_err(|error| missing(error.to_string()))?;
            let response = match timeout(SILENCE_MAX, client.request(request)).await {
                Err(_) => return Err(network(url, "no answer for 30 s")),
                Ok(answer) => answer.map_err(|error| network(url, error))?,
            };
            let status = response.status();
            if status.is_redirection() {
                let next = response.headers().get(header::LOCATION);
                let next = next.and_then(|next| next.to_str().ok()?.parse().ok());
                at = next.ok_or_else(|| missing(format!("HTTP {status} without a usable location")))?;
                continue;
            }
            return match status {
                StatusCode::OK => Ok(response),
                status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    Err(network(url, format!("HTTP {status}")))
                }
                status => Err(missing(format!("HTTP {status}"))),
            };
        }
        Err(missing(format!("more than {REDIRECTS_MAX} redirects")))
    }
}

fn network(url: &str, why: impl ToString) -> AssetError {
    AssetError::Network {
        url: url.to_owned(),
        why: why.to_string(),
    }
}
