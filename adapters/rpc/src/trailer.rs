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
    observer: Option<Arc<dyn CallObserver>>,
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
            observer: None,
        }
    }

    /// The same, and `observer` is told of every call.
    #[must_use]
    pub fn observed(self, observer: Option<Arc<dyn CallObserver>>) -> Self {
        Self { observer, ..self }
    }
}

impl<S> Layer<S> for TrailerLayer {
    type Service = TrailerService<S>;

    fn layer(&self, inner: S) -> TrailerService<S> {
        TrailerService {
            inner,
            clock: Arc::clone(&self.clock),
            observer: self.observer.clone(),
        }
    }
}

/// See [`TrailerLayer`].
#[derive(Clone)]
pub struct TrailerService<S> {
    inner: S,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn CallObserver>>,
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
        let mut call = Call {
            clock: Arc::clone(&self.clock),
            observer: self.observer.clone(),
            method,
            started,
            open: true,
        };
        let answer = self.inner.call(request);
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

/// A call that has not been answered in full.
struct Call {
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn CallObserver>>,
    method: String,
    started: Instant,
    open: bool,
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

    fn log(&self, status: &Status, elapsed: Duration) {
        if let Some(observer) = &self.observer {
            observer.ended(&self.method, status.code(), elapsed);
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
                "Handle RPC"
            );
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.open {
            self.log(
                &Status::cancelled("the caller did not wait for the end"),
                self.elapsed(),
            );
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
