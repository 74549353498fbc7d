//! A registry on loopback that can misbehave.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use holdfast_images::Digest;
use holdfast_runtime::tokio;
use http::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::TestImage;

const CHUNK: usize = 8 << 10;
pub const TOKEN: &str = "let-me-in";

type Body = BoxBody<Bytes, io::Error>;

#[derive(Clone)]
pub struct TestRegistry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    connections: tokio::sync::watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    content: BTreeMap<String, Bytes>,
    behaviour: Behaviour,
    requests: Vec<Seen>,
    tokens: u64,
}

/// How the registry answers.
#[derive(Clone, Default)]
pub struct Behaviour {
    pub auth: Auth,
    /// Blobs come from there.
    pub redirect_blobs_to: Option<SocketAddr>,
    pub ignore_range: bool,
    /// Blob bodies end with a broken connection after so many bytes.
    pub cut_after: Option<usize>,
    /// Blob bodies stop there and the connection stays.
    pub hang_after: Option<usize>,
    /// Every byte of a blob is another.
    pub corrupt: bool,
    /// Everything is answered with this.
    pub status: Option<u16>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic,
    /// A token is good until so many requests were made with it.
    Bearer {
        uses: u64,
    },
}

/// What somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

impl TestRegistry {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("listen");
        let registry = Self {
            address: listener.local_addr().expect("address"),
            state: Arc::default(),
            connections: tokio::sync::watch::Sender::new(0),
        };
        let server = registry.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let registry = server.clone();
                let service = service_fn(move |request| {
                    let response = registry.answer(request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                let connections = server.connections.clone();
                connections.send_modify(|count| *count += 1);
                tokio::spawn(async move {
                    // Clients that leave in the middle are what the tests are about.
                    connection.await.ok();
                    connections.send_modify(|count| *count -= 1);
                });
            }
        });
        registry
    }

    /// Serves an image as `app:v1` and by digest.
    pub fn add(&self, image: &TestImage) {
        let mut state = self.state.lock().expect("state");
        for name in ["v1".to_owned(), image.digest().to_string()] {
            let path = format!("/v2/app/manifests/{name}");
            state.content.insert(path, image.manifest.clone().into());
        }
        for blob in &image.blobs {
            let path = format!("/v2/app/blobs/{}", Digest::of(blob));
            state.content.insert(path, blob.clone().into());
        }
    }

    pub fn put(&self, path: &str, content: impl Into<Bytes>) {
        self.state
            .lock()
            .expect("state")
            .content
            .insert(path.to_owned(), content.into());
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.state.lock().expect("state").behaviour = behaviour;
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.state.lock().expect("state").requests.clone()
    }

    /// The requests for blobs.
    pub fn blob_requests(&self) -> Vec<Seen> {
        let mut requests = self.requests();
        requests.retain(|request| request.path.contains("/blobs/"));
        requests
    }

    /// Returns when no client has a connection any more.
    pub async fn all_connections_closed(&self) {
        let mut connections = self.connections.subscribe();
        connections.wait_for(|count| *count == 0).await.expect("registry");
    }

    pub fn reference(&self) -> String {
        format!("{}/app:v1", self.address)
    }

    fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let header = |name| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().expect("text").to_owned())
        };
        let seen = Seen {
            path: request.uri().path().to_owned(),
            range: header(RANGE),
            authorization: header(AUTHORIZATION),
        };
        let mut state = self.state.lock().expect("state");
        state.requests.push(seen.clone());
        let behaviour = state.behaviour.clone();
        if seen.path == "/v2/" {
            return status(StatusCode::OK);
        }
        if seen.path == "/token" {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert_eq!(query, "scope=repository%3Aapp%3Apull&service=test");
            state.tokens += 1;
            let token = format!(r#"{{"token":"{TOKEN}-{}"}}"#, state.tokens);
            return full(token.into());
        }
        if let Some(code) = behaviour.status {
            return status(StatusCode::from_u16(code).expect("status"));
        }
        if let Some(refused) = self.check(&mut state, &seen) {
            return refused;
        }
        let is_blob = seen.path.contains("/blobs/");
        if let Some(other) = behaviour.redirect_blobs_to.filter(|_| is_blob) {
            let mut response = status(StatusCode::TEMPORARY_REDIRECT);
            let location = format!("http://{other}{}?X-Signature=secret", seen.path);
            response
                .headers_mut()
                .insert(LOCATION, location.parse().expect("header"));
            return response;
        }
        let Some(content) = state.content.get(&seen.path).cloned() else {
            return status(StatusCode::NOT_FOUND);
        };
        match is_blob {
            true => blob(content, &seen, &behaviour),
            false => full(content),
        }
    }

    fn check(&self, state: &mut State, seen: &Seen) -> Option<Response<Body>> {
        let challenge = match state.behaviour.auth {
            Auth::None => return None,
            // user:password
            Auth::Basic if seen.authorization.as_deref() == Some("Basic dXNlcjpwYXNzd29yZA==") => {
                return None;
            }
            Auth::Basic => "Basic realm=\"test\"".to_owned(),
            Auth::Bearer { uses } => {
                let mut known = (1..=state.tokens).map(|number| format!("Bearer {TOKEN}-{number}"));
                let token = known.find(|token| seen.authorization.as_ref() == Some(token));
                let spent = state
                    .requests
                    .iter()
                    .filter(|other| other.authorization == token)
                    .count() as u64;
                if token.is_some() && spent <= uses {
                    return None;
                }
                format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.address)
            }
        };
        let mut response = status(StatusCode::UNAUTHORIZED);
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, challenge.parse().expect("header"));
        Some(response)
    }
}

fn blob(mut content: Bytes, seen: &Seen, behaviour: &Behaviour) -> Response<Body> {
    let total = content.len();
    let from = seen
        .range
        .as_ref()
        .filter(|_| !behaviour.ignore_range)
        .map(|range| {
            let start = range
                .strip_prefix("bytes=")
                .and_then(|range| range.strip_suffix('-'));
            start
                .and_then(|start| start.parse::<usize>().ok())
                .expect("an open range")
        });
    if let Some(from) = from {
        content = content.slice(from..);
    }
    let length = content.len();
    if behaviour.corrupt {
        content = content.iter().map(|byte| !byte).collect();
    }
    let cut_after = behaviour.cut_after.filter(|end| *end < length);
    let hang_after = behaviour.hang_after.filter(|end| *end < length);
    let end = cut_after.or(hang_after).unwrap_or(length);
    let chunks = (0..end)
        .step_by(CHUNK)
        .map(|at| content.slice(at..(at + CHUNK).min(end)));
    let chunks: Vec<io::Result<Frame<Bytes>>> = chunks.map(|chunk| Ok(Frame::data(chunk))).collect();
    let body = stream::iter(chunks);
    let body = match (cut_after, hang_after) {
        (Some(_), _) => body
            .chain(stream::iter([Err(io::ErrorKind::ConnectionReset.into())]))
            .boxed(),
        (None, Some(_)) => body.chain(stream::pending()).boxed(),
        (None, None) => body.boxed(),
    };
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(body)))));
    if let Some(from) = from {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{total}", total.saturating_sub(1));
        response
            .headers_mut()
            .insert(CONTENT_RANGE, range.parse().expect("header"));
    }
    response
}

/// Bodies of one type have to be `Sync`, boxed streams are not.
struct SyncStream(Mutex<stream::BoxStream<'static, io::Result<Frame<Bytes>>>>);

impl stream::Stream for SyncStream {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut()
            .0
            .get_mut()
            .expect("stream")
            .poll_next_unpin(context)
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = full(Bytes::new());
    *response.status_mut() = code;
    response
}

fn full(content: Bytes) -> Response<Body> {
    Response::new(Full::new(content).map_err(|never| match never {}).boxed())
}
