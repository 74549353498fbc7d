//! The client's side: one connection to one peer, made when needed and made again when lost.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::body::Body;

use super::{Address, Executor, Security, Socket, Timer, Transport};

/// The pace of keepalive pings that every known server tolerates: Go's closes connections that are
/// pinged more often than every five minutes, unless it was told otherwise.
const TOLERATED_PING_INTERVAL: Duration = Duration::from_secs(310);

/// A gRPC client connection to one address, for any number of generated clients at once.
///
/// Nothing happens until the first call. Clones share the connection, and callers who find none share
/// the attempt to make one, which goes on even if the caller who began it gives up. A call that fails
/// for want of a connection, before or while it runs, is `Unavailable`; whether to try it again is the
/// caller's decision, and the next call connects anew.
#[derive(Clone)]
pub struct Channel {
    peer: Arc<PeerState>,
}

struct PeerState {
    address: Address,
    transport: Transport,
    security: Security,
    /// The current connection, or the attempt at one.
    attempt: Mutex<Option<Attempt>>,
    /// Set once the peer has closed a connection because it was pinged too often.
    averse_to_pings: AtomicBool,
}

type Attempt = Shared<BoxFuture<'static, Result<SendRequest<Body>, Arc<str>>>>;

impl Channel {
    /// A channel to `address`, in plaintext.
    pub fn new(address: Address, transport: Transport) -> Self {
        Self::secured(address, transport, Security::default())
    }

    /// A channel to `address`, secured like this.
    pub fn secured(address: Address, transport: Transport, security: Security) -> Self {
        let peer = PeerState {
            address,
            transport,
            security,
            attempt: Mutex::new(None),
            averse_to_pings: AtomicBool::new(false),
        };
        Self { peer: Arc::new(peer) }
    }

    /// Where this channel leads.
    pub fn address(&self) -> &Address {
        &self.peer.address
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Channel")
            .field(&self.peer.address)
            .finish()
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let peer = Arc::clone(&self.peer);
        Box::pin(async move {
            let request = peer.absolute(request)?;
            let response = peer.send(request).await?;
            Ok(response.map(|body| Body::new(body.map_err(move |error| call_failed(&peer.address, &error)))))
        })
    }
}

impl PeerState {
    /// HTTP/2 wants scheme and authority with each request; generated clients give only the path.
    fn absolute(&self, mut request: http::Request<Body>) -> Result<http::Request<Body>, Status> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let uri = http::Uri::builder()
            .scheme(match self.security.tls {
                Some(_) => http::uri::Scheme::HTTPS,
                None => http::uri::Scheme::HTTP,
            })
            .authority(self.address.authority())
            .path_and_query(path)
            .build()
            .map_err(|error| Status::internal(format!("address {} makes no URI: {error}", self.address)))?;
        *request.uri_mut() = uri;
        if let Some(authorization) = &self.security.authorization {
            let value = authorization.current().map_err(|error| {
                Status::unauthenticated(format!("no call to {} without a token: {error}", self.address))
            })?;
            request.headers_mut().insert(http::header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn send(
        self: &Arc<Self>,
        request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, Status> {
        let mut connection = self.connection().await?;
        let failure = match connection.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        let mut failure = failure;
        let Some(unsent) = failure.take_message() else {
            return Err(call_failed(&self.address, failure.error()));
        };
        // The connection had died before the request was on it, so the peer has seen nothing of it.
        let mut connection = self.connection().await?;
        connection
            .send_request(unsent)
            .await
            .map_err(|error| call_failed(&self.address, &error))
    }

    async fn connection(self: &Arc<Self>) -> Result<SendRequest<Body>, Status> {
        let attempt = self.current_attempt();
        attempt
            .await
            .map_err(|cause| Status::unavailable(format!("cannot connect to {}: {cause}", self.address)))
    }

    fn current_attempt(self: &Arc<Self>) -> Attempt {
        let mut current = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = &*current {
            let usable = match attempt.peek() {
                None => true,
                Some(Ok(connection)) => !connection.is_closed(),
                Some(Err(_)) => false,
            };
            if usable {
                return attempt.clone();
            }
        }
        // On a task of its own, so that it makes progress whoever of those who wait for it gives up.
        let task = tokio::spawn(connect(Arc::clone(self)));
        let attempt: Attempt = async move {
            task.await
                .unwrap_or_else(|_| Err(Arc::from("the runtime is shutting down")))
        }
        .boxed()
        .shared();
        *current = Some(attempt.clone());
        attempt
    }

    fn ping_interval(&self) -> Duration {
        if self.averse_to_pings.load(Ordering::Relaxed) {
            self.transport.keepalive_interval.max(TOLERATED_PING_INTERVAL)
        } else {
            self.transport.keepalive_interval
        }
    }
}

async fn connect(peer: Arc<PeerState>) -> Result<SendRequest<Body>, Arc<str>> {
    let within = peer.transport.connect_timeout;
    let mut socket = Socket::connect(&peer.address, within)
        .await
        .map_err(|error| error.to_string())?;
    if let Some(tls) = &peer.security.tls {
        socket = socket
            .connect_tls(&**tls, &peer.address.host(), within)
            .await
            .map_err(|error| error.to_string())?;
    }
    let (sender, connection) = Builder::new(Executor)
        .timer(Timer)
        .keep_alive_interval(peer.ping_interval())
        .keep_alive_timeout(peer.transport.keepalive_timeout)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| causes(&error))?;
    tokio::spawn(async move {
        let Err(error) = connection.await else { return };
        if http2_cause(&error).and_then(h2::Error::reason) == Some(h2::Reason::ENHANCE_YOUR_CALM) {
            peer.averse_to_pings.store(true, Ordering::Relaxed);
        }
        tracing::debug!(address = %peer.address, error = causes(&error), "connection lost");
    });
    Ok(sender)
}

/// The peer's own verdicts on a single call keep their meaning; everything else is a lost connection.
fn call_failed(address: &Address, error: &hyper::Error) -> Status {
    let message = format!("call to {address} failed: {}", causes(error));
    match http2_cause(error)
        .filter(|error| error.is_reset())
        .and_then(h2::Error::reason)
    {
        None | Some(h2::Reason::NO_ERROR | h2::Reason::REFUSED_STREAM | h2::Reason::CANCEL) => {
            Status::unavailable(message)
        }
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Status::resource_exhausted(message),
        Some(_) => Status::internal(message),
    }
}

fn http2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

fn causes(error: &hyper::Error) -> String {
    chain(error)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn chain(error: &hyper::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| {
        error.source()
    })
}
