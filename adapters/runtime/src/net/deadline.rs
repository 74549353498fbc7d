//! Time limits: the one a caller sets itself, and the one that a remote caller sends along.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Bytes, Frame};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// The text that a Go peer uses for the same thing.
const PASSED: &str = "context deadline exceeded";

/// Awaits `call` for at most `limit`, then drops it, which cancels it at the other end as well.
///
/// # Errors
/// Those of `call`; `DeadlineExceeded` when `limit` passed first. The call may then have had its effect.
pub async fn deadline<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded(PASSED)))
}

/// Makes a server honour the `grpc-timeout` of each request.
///
/// When it passes, the handler is dropped where it stands and the caller gets `DeadlineExceeded`, also in
/// the middle of a stream. A timeout that cannot be read is `InvalidArgument`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for DeadlineService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let limit = match request.headers().get("grpc-timeout").map(parse).transpose() {
            Ok(limit) => limit,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let answer = self.inner.call(request);
        let Some(limit) = limit else {
            return Box::pin(answer);
        };
        Box::pin(async move {
            let mut timer = Box::pin(tokio::time::sleep(limit));
            tokio::select! {
                biased;
                answer = answer => answer.map(|answer| answer.map(|body| Body::new(Limited { body: Some(body), timer }))),
                () = &mut timer => Ok(Status::deadline_exceeded(PASSED).into_http()),
            }
        })
    }
}

/// A body that ends with `DeadlineExceeded` when the timer fires first.
struct Limited {
    body: Option<Body>,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl hyper::body::Body for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.body = None;
        let mut trailers = http::HeaderMap::new();
        let added = Status::new(Code::DeadlineExceeded, PASSED).add_header(&mut trailers);
        Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body
            .as_ref()
            .map(hyper::body::Body::size_hint)
            .unwrap_or_default()
    }
}

/// At most eight digits and a unit, as the gRPC protocol has it.
fn parse(value: &http::HeaderValue) -> Result<Duration, Status> {
    let malformed = || Status::invalid_argument(format!("malformed grpc-timeout header: {value:?}"));
    let text = value.to_str().map_err(|_| malformed())?;
    let (digits, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(malformed)?;
    let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !well_formed {
        return Err(malformed());
    }
    let amount: u64 = digits.parse().map_err(|_| malformed())?;
    match unit {
        "H" => Ok(Duration::from_secs(amount * 3600)),
        "M" => Ok(Duration::from_secs(amount * 60)),
        "S" => Ok(Duration::from_secs(amount)),
        "m" => Ok(Duration::from_millis(amount)),
        "u" => Ok(Duration::from_micros(amount)),
        "n" => Ok(Duration::from_nanos(amount)),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_bad_ones_refused() {
        let read = |text: &str| parse(&http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1é"] {
            assert_eq!(read(text).unwrap_err().code(), Code::InvalidArgument, "{text}");
        }
    }
}
