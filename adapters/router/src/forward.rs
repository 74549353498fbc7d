//! One request, from its head to a worker's response.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::failure::Code;
use holdfast_core::id::ActorKey;
use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::net::{Address, Socket};
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Semaphore;
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use crate::activation::{ActivationError, Activations, Pauses};
use crate::body::{Connection, Download, Upload};
use crate::exchange::{Activity, End, Exchange};
use crate::{Activator, RouteFailure, Settings, headers, http_status, parse_host};

/// What all requests share.
pub(crate) struct Forwarder {
    activations: Arc<Activations>,
    clock: Arc<dyn Clock>,
    room: Arc<Semaphore>,
    settings: Settings,
    stopping: Shutdown,
}

/// The router's own answer in place of a worker's.
struct Answer {
    status: StatusCode,
    text: String,
    retry_after: Option<Duration>,
}

impl Forwarder {
    /// From when `stopping` is triggered on, no request goes to a worker any more.
    pub(crate) fn new(
        activator: Arc<dyn Activator>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        stopping: Shutdown,
    ) -> Self {
        Self {
            activations: Activations::new(activator, Arc::clone(&clock), settings, stopping.clone()),
            clock,
            room: Arc::new(Semaphore::new(settings.max_requests)),
            settings,
            stopping,
        }
    }

    /// Resolves when it asks for no actor.
    pub(crate) async fn activations_ended(&self) {
        self.activations.ended().await;
    }

    /// Answers a request that came from `client`.
    pub(crate) async fn handle(
        &self,
        request: Request<Incoming>,
        client: Option<IpAddr>,
    ) -> Response<Download> {
        let room = Arc::clone(&self.room).try_acquire_owned().ok();
        let has_room = room.is_some();
        let activity = Activity::new(Arc::clone(&self.clock), self.settings.stall_timeout);
        let path = request.uri().path().to_owned();
        let mut exchange = Exchange::new(request.method().clone(), path, activity, room);
        let answered = if has_room {
            self.forward(request, client, &mut exchange).await
        } else {
            Err(self.full())
        };
        match answered {
            Ok((response, connection)) => {
                exchange.status = Some(response.status());
                response.map(|body| Download::worker(body, exchange, connection))
            }
            Err(answer) => answer.into_response(exchange),
        }
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        client: Option<IpAddr>,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Connection), Answer> {
        let (actor, host) = target(&request)?;
        exchange.actor = Some(actor.clone());
        if headers::wants_upgrade(&request) {
            let text = "upgrades and tunnels are not supported; use plain HTTP requests".to_owned();
            return Err(Answer::new(StatusCode::NOT_IMPLEMENTED, text));
        }
        let activity = Arc::clone(&exchange.activity);
        let (mut parts, body) = request.into_parts();
        headers::forward(&mut parts.headers, &host, client);
        parts.version = Version::HTTP_11;
        parts.uri = origin_form(parts.uri);
        let upload = Upload::new(body, Arc::clone(&activity));
        self.deliver(&actor, Request::from_parts(parts, upload), exchange)
            .await
    }

    /// Tries until a worker has taken the request. From then on there is no second attempt. A request that
    /// no worker has when the router stops is answered at once: its actor is about to be put to sleep.
    async fn deliver(
        &self,
        actor: &ActorKey,
        mut request: Request<Upload>,
        exchange: &mut Exchange,
    ) -> Result<(Response<Incoming>, Connection), Answer> {
        let deadline = self.clock.now().plus(self.settings.activation_budget);
        let mut pauses = Pauses::new(self.settings.first_pause);
        let mut stale = None;
        loop {
            let activated = tokio::select! {
                biased;
                () = self.stopping.triggered() => return Err(stopped(actor)),
                activated = self.activations.activate(actor, stale, deadline) => activated?,
            };
            let worker = activated.route.address;
            exchange.attempts += activated.attempts;
            exchange.worker = Some(worker);
            let cause = match self.connect(worker, deadline).await {
                Ok((sender, connection)) => {
                    exchange.connected();
                    match send(sender, request, exchange).await? {
                        Sent::Response(response) => return Ok((response, connection)),
                        Sent::Nothing { unsent, cause } => {
                            request = unsent;
                            cause
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            tracing::debug!(%actor, %worker, cause, "the worker cannot be reached; asking again where the actor is");
            stale = Some(worker);
            let pause = pauses.next();
            if self.clock.now().plus(pause) >= deadline {
                let text = format!("actor {actor}: its worker cannot be reached: {cause}");
                return Err(Answer::later(text, Duration::from_secs(1)));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn connect(
        &self,
        worker: SocketAddr,
        deadline: Instant,
    ) -> std::io::Result<(SendRequest<Upload>, Connection)> {
        let left = deadline.since(self.clock.now());
        let timeout = self.settings.connect_timeout.min(left);
        let socket = Socket::connect(&Address::from(worker), timeout).await?;
        let (sender, connection) = Builder::new()
            .max_header_size(self.settings.max_head_bytes)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(std::io::Error::other)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%worker, %error, "connection to a worker ended");
            }
        });
        Ok((sender, Connection { task }))
    }

    fn full(&self) -> Answer {
        let limit = self.settings.max_requests;
        let text = format!("the router is at its limit of {limit} requests at a time");
        Answer::later(text, Duration::from_secs(1))
    }
}

fn stopped(actor: &ActorKey) -> Answer {
    let text = format!("the router is stopping; the request has not been given to actor {actor}");
    Answer::later(text, Duration::from_secs(1))
}

enum Sent<B> {
    Response(Response<Incoming>),
    /// The connection ended before any of it was sent.
    Nothing {
        unsent: Request<B>,
        cause: String,
    },
}

async fn send<B: Body + 'static>(
    mut sender: SendRequest<B>,
    request: Request<B>,
    exchange: &mut Exchange,
) -> Result<Sent<B>, Answer> {
    let activity = Arc::clone(&exchange.activity);
    let sent = tokio::select! {
        biased;
        sent = sender.try_send_request(request) => sent,
        () = activity.stalled() => {
            exchange.end = End::Stalled;
            let text = "the actor has not answered in time; the request may have had its effect".to_owned();
            return Err(Answer::new(StatusCode::GATEWAY_TIMEOUT, text));
        }
    };
    let mut failure = match sent {
        Ok(mut response) => {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let text = "the actor switches protocols without having been asked to".to_owned();
                return Err(Answer::new(StatusCode::BAD_GATEWAY, text));
            }
            headers::strip(response.headers_mut());
            return Ok(Sent::Response(response));
        }
        Err(failure) => failure,
    };
    let unsent = failure.take_message();
    let cause = failure.into_error();
    match unsent {
        Some(unsent) => Ok(Sent::Nothing {
            unsent,
            cause: cause.to_string(),
        }),
        None => Err(Answer::new(
            StatusCode::BAD_GATEWAY,
            format!(
                "the connection to the actor broke off: {cause}; the request may have had its effect and was \
                 not repeated"
            ),
        )),
    }
}

/// The actor that a request is for, and the host that it was asked under. That of an absolute URI comes
/// before the header (RFC 9112 section 3.2.2).
fn target(request: &Request<Incoming>) -> Result<(ActorKey, HeaderValue), Answer> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let host = match (request.uri().authority(), &hosts[..]) {
        (_, [_, _, ..]) => {
            let text = "the request has several Host headers; send one".to_owned();
            return Err(Answer::new(StatusCode::BAD_REQUEST, text));
        }
        (Some(authority), _) => authority.as_str().to_owned(),
        (None, [host]) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        (None, []) => String::new(),
    };
    let not_found = |text: String| Answer::new(StatusCode::NOT_FOUND, text);
    let actor = parse_host(&host).map_err(|error| not_found(error.to_string()))?;
    let host = HeaderValue::try_from(host).map_err(|error| not_found(error.to_string()))?;
    Ok((actor, host))
}

fn origin_form(uri: Uri) -> Uri {
    match uri.into_parts().path_and_query {
        Some(path) => Uri::from(path),
        None => Uri::from_static("/"),
    }
}

impl Answer {
    fn new(status: StatusCode, text: String) -> Self {
        Self {
            status,
            text,
            retry_after: None,
        }
    }

    fn later(text: String, retry_after: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text,
            retry_after: Some(retry_after),
        }
    }

    fn into_response(self, mut exchange: Exchange) -> Response<Download> {
        exchange.status = Some(self.status);
        let mut response = Response::new(Download::text(format!("{}\n", self.text), exchange));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.max(1).into());
        }
        response
    }
}

impl From<ActivationError> for Answer {
    fn from(error: ActivationError) -> Self {
        match error {
            ActivationError::Refused(RouteFailure { code, message, .. }) => {
                Answer::new(http_status(code), message)
            }
            ActivationError::Exhausted(RouteFailure {
                code,
                message,
                retry_after,
            }) => {
                let text = match code {
                    Code::DeadlineExceeded => message,
                    _ => format!("{message}; tried again until time was up"),
                };
                Answer::later(text, retry_after.unwrap_or(Duration::from_secs(1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use holdfast_runtime::clock::SystemClock;
    use http_body_util::Empty;

    #[tokio::test]
    async fn a_request_is_kept_when_the_connection_ended_before_any_of_it_was_sent() {
        let (near, _far) = tokio::io::duplex(64);
        let handshake = Builder::new()
            .handshake::<_, Empty<bytes::Bytes>>(TokioIo::new(near))
            .await;
        let (sender, connection) = handshake.unwrap();
        drop(connection);
        let request = Request::post("/once").body(Empty::new()).unwrap();
        let activity = Activity::new(Arc::new(SystemClock), Settings::default().stall_timeout);
        let mut exchange = Exchange::new(request.method().clone(), String::new(), activity, None);
        match send(sender, request, &mut exchange).await {
            Ok(Sent::Nothing { unsent, .. }) => assert_eq!(unsent.uri(), "/once"),
            Ok(Sent::Response(response)) => panic!("nobody can have answered: {response:?}"),
            Err(answer) => panic!("it was given up: {}", answer.text),
        }
    }
}
