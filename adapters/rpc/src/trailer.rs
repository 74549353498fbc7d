//! What every server does around every call: say how long it took, and log one line.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use http::{HeaderMap, HeaderValue};
use hyper::body::{Bytes, Frame};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::server::Observers;
use crate::trace::{self, Kind, Span};

/// The trailer with the microseconds that a call took.
pub const ELAPSED: &str = "x-server-elapsed-us";

/// What every node asks every few seconds.
const HEARTBEAT: &str = "/holdfast.v1.Nodes/Heartbeat";

/// Adds the trailer [`ELAPSED`] to every answer, success and failure alike, and logs one line
/// `Handle RPC` per call, also for a call whose caller does not wait for its end.
///
/// Bodies pass through frame by frame and are never looked at: nothing of them can get into the log.
#[derive(Clone)]
pub struct TrailerLayer {
    clock: Arc<dyn Clock>,
    observers: Observers,
}

/// Who is told of every call.
pub trait CallObserver: Send + Sync + 'static {
    /// A call of `method` (`/package.Service/Method`) has ended so, after so long.
    fn ended(&self, method: &str, code: Code, elapsed: Duration);
}

impl TrailerLayer {
    /// Measures on `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            observers: Observers::default(),
        }
    }

    /// The same, and `observers` are told of every call.
    #[must_use]
    pub fn observed(self, observers: Observers) -> Self {
        Self { observers, ..self }
    }
}

impl<S> Layer<S> for TrailerLayer {
    type Service = TrailerService<S>;

    fn layer(&self, inner: S) -> TrailerService<S> {
        TrailerService {
            inner,
            clock: Arc::clone(&self.clock),
            observers: self.observers.clone(),
        }
    }
}

/// See [`TrailerLayer`].
#[derive(Clone)]
pub struct TrailerService<S> {
    inner: S,
    clock: Arc<dyn Clock>,
    observers: Observers,
}

impl<S> Service<http::Request<Body>> for TrailerService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let started = self.clock.now();
        let method = request.uri().path().to_owned();
        let span = self.span(&method, request.headers());
        let context = span.as_ref().and_then(Span::context);
        let mut call = Call {
            clock: Arc::clone(&self.clock),
            observer: self.observers.calls.clone(),
            method,
            started,
            open: true,
            span,
        };
        let answer = trace::within(context, self.inner.call(request));
        Box::pin(async move {
            let mut response = answer.await?;
            // A call that fails before its first message has its trailers in place of headers.
            if response.headers().contains_key(Status::GRPC_STATUS) {
                call.end(response.headers_mut());
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(Traced { body, call })))
        })
    }
}

impl<S> TrailerService<S> {
    /// The span of a call. What comes every few seconds and says the same begins no trace of its own.
    fn span(&self, method: &str, headers: &HeaderMap) -> Option<Span> {
        let parent = trace::extract(headers);
        let is_chatter = method == HEARTBEAT || method.starts_with("/grpc.");
        if is_chatter && parent.is_none() {
            return None;
        }
        // As the conventions name it: without the first slash.
        let name = method.strip_prefix('/').unwrap_or(method);
        let tracer = &self.observers.tracer;
        let mut span = match tracer.is_on() {
            true => tracer.span(Kind::Server, name.to_owned(), parent),
            false => tracer.span(Kind::Server, "", parent),
        };
        if let Some((service, method)) = name.split_once('/') {
            span.set("rpc.system", || "grpc".into());
            span.set("rpc.service", || service.to_owned().into());
            span.set("rpc.method", || method.to_owned().into());
        }
        Some(span)
    }
}

/// A call that has not been answered in full.
struct Call {
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn CallObserver>>,
    method: String,
    started: Instant,
    open: bool,
    span: Option<Span>,
}

impl Call {
    fn elapsed(&self) -> Duration {
        self.clock.now().since(self.started)
    }

    fn end(&mut self, trailers: &mut HeaderMap) {
        self.open = false;
        let elapsed = self.elapsed();
        trailers.insert(
            ELAPSED,
            HeaderValue::from(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)),
        );
        let mut status =
            Status::from_header_map(trailers).unwrap_or_else(|| Status::unknown("no grpc-status"));
        // Whoever routes calls says so of a method that nobody has, and no more.
        if status.code() == Code::Unimplemented && status.message().is_empty() {
            status = Status::unimplemented(format!("this server has no method {}", self.method));
            // Where it does not fit into a header the bare code has to do.
            let _ = status.add_header(trailers);
        }
        self.log(&status, elapsed);
    }

    fn log(&mut self, status: &Status, elapsed: Duration) {
        if let Some(observer) = &self.observer {
            observer.ended(&self.method, status.code(), elapsed);
        }
        let trace = self.span.as_ref().and_then(Span::context);
        let trace = trace.map(|context| format!("{:032x}", context.trace));
        if let Some(mut span) = self.span.take() {
            span.set("rpc.grpc.status_code", || {
                (status.code() as i32).to_string().into()
            });
            if status.code() != Code::Ok {
                span.fail(|| format!("{:?}: {}", status.code(), status.message()));
            }
        }
        let error = (status.code() != Code::Ok).then(|| {
            format!(
                "rpc error: code = {:?} desc = {}",
                status.code(),
                status.message()
            )
        });
        // Every node calls this every few seconds; what it says is seen elsewhere.
        if status.code() == Code::Ok && self.method == HEARTBEAT {
            tracing::debug!(method = self.method, "elapsed-time" = ?elapsed, "Handle RPC");
        } else {
            tracing::info!(
                method = self.method,
                code = ?status.code(),
                err = error,
                "elapsed-time" = ?elapsed,
                "ate.dev/trace-id" = trace,
                "Handle RPC"
            );
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open {
            let elapsed = self.elapsed();
            self.log(&Status::cancelled("the caller did not wait for the end"), elapsed);
        }
    }
}

/// The body of an answer, on its way to its trailers.
struct Traced {
    body: Body,
    call: Call,
}

impl hyper::body::Body for Traced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            self.call.end(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
