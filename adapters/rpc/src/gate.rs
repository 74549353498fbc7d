//! What a call has to pass before it is served: who is asking, how many are asking, how much is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_runtime::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use http::request::Parts;
use hyper::body::{Bytes, Frame};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::status::with_retry_after;

/// What gRPC servers take by default, the original's among them.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// When a caller who is turned away may try again.
const CROWDED_FOR: Duration = Duration::from_secs(1);
/// What has to get through however many others are there: a node that cannot report has its actors frozen.
const NEVER_CROWDED: [&str; 2] = ["/holdfast.v1.Nodes/", "/grpc.health.v1.Health/"];

/// Lets callers in, or says why not.
#[tonic::async_trait]
pub trait Doorkeeper: Send + Sync + 'static {
    /// Looks at a call before anything is done about it.
    ///
    /// # Errors
    /// What the caller is told who is not let in.
    async fn admit(&self, call: &Parts) -> Result<(), Status>;
}

/// How a server is guarded.
#[derive(Clone)]
pub struct Gate {
    /// Who is let in; without, everybody.
    pub doorkeeper: Option<Arc<dyn Doorkeeper>>,
    /// Calls that are served at a time. Those above are refused at once, with the advice to come back.
    pub calls_max: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            doorkeeper: None,
            calls_max: Self::CALLS_MAX,
        }
    }
}

impl Gate {
    /// Calls that are served at a time where nobody says otherwise. A waiting call holds some kilobytes.
    pub const CALLS_MAX: usize = 10_000;
}

/// Has a [`Doorkeeper`] look at each call.
#[derive(Clone)]
pub(crate) struct DoorLayer(pub Option<Arc<dyn Doorkeeper>>);

impl<S> Layer<S> for DoorLayer {
    type Service = Door<S>;

    fn layer(&self, inner: S) -> Door<S> {
        Door {
            inner,
            doorkeeper: self.0.clone(),
        }
    }
}

/// See [`DoorLayer`].
#[derive(Clone)]
pub(crate) struct Door<S> {
    inner: S,
    doorkeeper: Option<Arc<dyn Doorkeeper>>,
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for Door<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let Some(doorkeeper) = self.doorkeeper.clone() else {
            return Box::pin(self.inner.call(request));
        };
        // The one that is ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match doorkeeper.admit(&parts).await {
                Ok(()) => inner.call(http::Request::from_parts(parts, body)).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Bounds how many calls are served at a time, and how large their messages are.
#[derive(Clone)]
pub(crate) struct CrowdLayer {
    places: Arc<Semaphore>,
    calls_max: usize,
}

impl CrowdLayer {
    pub(crate) fn new(calls_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(calls_max)),
            calls_max,
        }
    }
}

impl<S> Layer<S> for CrowdLayer {
    type Service = Crowd<S>;

    fn layer(&self, inner: S) -> Crowd<S> {
        Crowd {
            inner,
            limits: self.clone(),
        }
    }
}

/// See [`CrowdLayer`].
#[derive(Clone)]
pub(crate) struct Crowd<S> {
    inner: S,
    limits: CrowdLayer,
}

impl<S> Service<http::Request<Body>> for Crowd<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let path = request.uri().path();
        let place = if NEVER_CROWDED.iter().any(|prefix| path.starts_with(prefix)) {
            None
        } else {
            let Ok(place) = Arc::clone(&self.limits.places).try_acquire_owned() else {
                let text = format!(
                    "this server has {} calls in hand and takes no more; try again later, or ask another replica",
                    self.limits.calls_max
                );
                let status = with_retry_after(&Status::resource_exhausted(text), CROWDED_FOR);
                return Box::pin(async move { Ok(status.into_http()) });
            };
            Some(place)
        };
        let answer = self
            .inner
            .call(request.map(|body| Body::new(Measured::new(body))));
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Body::new(Placed { body, _place: place })))
        })
    }
}

/// An answer whose call keeps its place until it has been sent.
struct Placed {
    body: Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Placed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A request whose messages are looked at as far as the five bytes go that say how long they are. Refused here,
/// a message that is too long has the code and the words of the original.
struct Measured {
    body: Body,
    /// The bytes of the next prefix that have come.
    prefix: [u8; 5],
    seen: usize,
    /// What is left of the message.
    left: usize,
}

impl Measured {
    fn new(body: Body) -> Self {
        Self {
            body,
            prefix: [0; 5],
            seen: 0,
            left: 0,
        }
    }

    fn measure(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = &bytes[here..];
                continue;
            }
            self.prefix[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == self.prefix.len() {
                self.seen = 0;
                let [_, a, b, c, d] = self.prefix;
                // On no platform that this runs on is a usize smaller.
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                if self.left > MESSAGE_BYTES_MAX {
                    return Err(Status::resource_exhausted(format!(
                        "grpc: received message larger than max ({} vs. {MESSAGE_BYTES_MAX})",
                        self.left
                    )));
                }
            }
        }
        Ok(())
    }
}

impl hyper::body::Body for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(bytes) = frame.data_ref()
            && let Err(status) = self.measure(bytes)
        {
            return Poll::Ready(Some(Err(status)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn measured(chunks: &[&[u8]]) -> Result<(), Status> {
        let mut body = Measured::new(Body::empty());
        chunks.iter().try_for_each(|chunk| body.measure(chunk))
    }

    #[test]
    fn messages_are_measured_however_their_bytes_arrive() {
        let long = [0, 0, 0x40, 0, 1];
        assert!(measured(&[&[0, 0, 0x40, 0, 0]]).is_ok());
        for chunks in [
            &[&long[..]][..],
            &[&long[..2], &long[2..]],
            &[&[0, 0, 0, 0, 3, 1, 2, 3], &long],
            &[&[0, 0, 0, 0, 3, 1, 2], &[3], &long],
            &[&[0, 0, 0, 0, 0], &long],
        ] {
            let status = measured(chunks).unwrap_err();
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(
                status.message(),
                "grpc: received message larger than max (4194305 vs. 4194304)"
            );
        }
        // What stands in a message is no length.
        assert!(measured(&[&[0, 0, 0, 0, 5], &long]).is_ok());
    }
}
