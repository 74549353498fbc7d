//! Spans: what was done, for how long, and because of what. They go wherever their collector is, with their context in
//! the metadata of every call (W3C Trace Context), so that one request is one tree over all processes.
//!
//! A [`Tracer`] that is off makes no spans, allocates nothing, and passes on the context that it was handed. One that
//! is on never waits: what its queue has no room for is counted and gone.
//!
//! The context of whatever is being polled stands in a variable of its thread, and is there for as long as the poll
//! lasts ([`within`]).

mod context;

use std::borrow::Cow;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task;
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::entropy;
use holdfast_runtime::tokio::sync::mpsc;

pub use context::{Context, TRACEPARENT, extract, inject};

/// How many finished spans wait for the exporter; the default of `OTEL_BSP_MAX_QUEUE_SIZE`.
pub const QUEUE: usize = 2048;
/// How far the wall clock may be from what it is expected to say before spans follow it.
const STEP_MS: u64 = 5;

thread_local! {
    static CURRENT: Cell<Option<Context>> = const { Cell::new(None) };
}

/// The context of what is being polled on this thread.
pub fn current() -> Option<Context> {
    CURRENT.get()
}

/// Polls a future in this context.
pub fn within<F: Future>(context: Option<Context>, future: F) -> Within<F> {
    Within {
        context,
        future: Box::pin(future),
    }
}

/// See [`within`].
pub struct Within<F> {
    context: Option<Context>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, polling: &mut task::Context<'_>) -> task::Poll<F::Output> {
        let _restored = Restored(CURRENT.replace(self.context));
        self.future.as_mut().poll(polling)
    }
}

/// Puts the context back that was there before, also when a poll panics.
struct Restored(Option<Context>);

impl Drop for Restored {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Which traces are recorded that begin here. What began elsewhere is recorded if it is recorded there, unless it is
/// said that nobody else is listened to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Of traces that begin here, so many: from 0 to 1.
    pub ratio: f64,
    /// Whether whoever began a trace decides.
    pub asks_parent: bool,
}

impl Sampler {
    fn samples(self, parent: Option<Context>, trace: u128) -> bool {
        if let Some(parent) = parent.filter(|_| self.asks_parent) {
            return parent.is_sampled;
        }
        // By the trace itself, so that every process of one ratio comes to the same. 2^63 is exact in floating point.
        let low = (trace & u128::from(u64::MAX)) as u64 >> 1;
        (low as f64) < self.ratio * 9_223_372_036_854_775_808.0
    }
}

/// Whose doing a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something within a process.
    Internal,
    /// A call is served.
    Server,
    /// A call is made.
    Client,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What was done.
    pub name: Cow<'static, str>,
    /// Whose doing it was.
    pub kind: Kind,
    /// Its trace and itself.
    pub context: Context,
    /// The span that it is part of.
    pub parent: Option<u64>,
    /// Nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// Nanoseconds since the Unix epoch, not before it began.
    pub ended_ns: u64,
    /// What is to be known of it.
    pub attributes: Vec<(&'static str, Cow<'static, str>)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Makes spans. Clones are the same. The default is off.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Recorder>>);

struct Recorder {
    sampler: Sampler,
    clock: Arc<dyn Clock>,
    /// What the wall clock said in microseconds, and when.
    anchor: Mutex<(u64, Instant)>,
    finished: mpsc::Sender<Finished>,
    dropped: Arc<AtomicU64>,
}

/// What a tracer has recorded.
pub struct Recorded {
    /// Spans that have ended, in that order.
    pub finished: mpsc::Receiver<Finished>,
    /// How many there was no room for.
    pub dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// A tracer that is on, and keeps so many finished spans until somebody takes them.
    pub fn new(sampler: Sampler, clock: Arc<dyn Clock>, queue: usize) -> (Tracer, Recorded) {
        let (sender, finished) = mpsc::channel(queue.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let recorder = Recorder {
            sampler,
            anchor: Mutex::new((clock.wall_ms().saturating_mul(1000), clock.now())),
            clock,
            finished: sender,
            dropped: dropped.clone(),
        };
        (Tracer(Some(Arc::new(recorder))), Recorded { finished, dropped })
    }

    /// Whether any span is made.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span, as part of what `parent` is.
    pub fn span(&self, kind: Kind, name: impl Into<Cow<'static, str>>, parent: Option<Context>) -> Span {
        let Some(recorder) = &self.0 else {
            return Span {
                context: parent,
                live: None,
            };
        };
        let trace = parent.map_or_else(fresh_trace, |parent| parent.trace);
        let context = Context {
            trace,
            span: fresh_span(),
            is_sampled: recorder.sampler.samples(parent, trace),
        };
        let live = context.is_sampled.then(|| Live {
            recorder: recorder.clone(),
            finished: Finished {
                name: name.into(),
                kind,
                context,
                parent: parent.map(|parent| parent.span),
                began_ns: recorder.wall_ns(),
                ended_ns: 0,
                attributes: Vec::new(),
                failure: None,
            },
        });
        Span {
            context: Some(context),
            live: live.map(Box::new),
        }
    }

    /// The same, as part of what is being polled.
    pub fn step(&self, name: impl Into<Cow<'static, str>>) -> Span {
        self.span(Kind::Internal, name, current())
    }
}

impl Recorder {
    /// The time for people, as even as the one for machines: it follows the wall clock only when that was set.
    fn wall_ns(&self) -> u64 {
        let (now, wall_ms) = (self.clock.now(), self.clock.wall_ms());
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |at: Instant| u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX);
        let expected = anchor.0.saturating_add(since(anchor.1));
        if (expected / 1000).abs_diff(wall_ms) > STEP_MS {
            *anchor = (wall_ms.saturating_mul(1000), now);
            return anchor.0.saturating_mul(1000);
        }
        expected.saturating_mul(1000)
    }
}

/// Something that is being done. It has ended when this is dropped.
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: Option<Context>,
    live: Option<Box<Live>>,
}

struct Live {
    recorder: Arc<Recorder>,
    finished: Finished,
}

impl Span {
    /// What is done within it is part of this.
    pub fn context(&self) -> Option<Context> {
        self.context
    }

    /// Something is to be known of it. Nothing that is a secret: whoever sees spans sees this.
    pub fn set(&mut self, key: &'static str, value: impl FnOnce() -> Cow<'static, str>) {
        if let Some(live) = &mut self.live {
            live.finished.attributes.push((key, value()));
        }
    }

    /// It has failed, for this reason.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if let Some(live) = &mut self.live {
            live.finished.failure = Some(why());
        }
    }

    /// Does something within it; it ends with that, or when nobody waits for that any more.
    pub async fn around<F: Future>(self, future: F) -> F::Output {
        within(self.context, future).await
    }

    /// The same, and it has failed, for this reason, if that has.
    pub async fn trying<T, E>(
        mut self,
        why: impl FnOnce(&E) -> String,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let result = within(self.context, future).await;
        if let Err(error) = &result {
            self.fail(|| why(error));
        }
        result
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut finished = std::mem::replace(&mut self.finished, Finished::nothing());
        finished.ended_ns = self.recorder.wall_ns().max(finished.began_ns);
        if self.recorder.finished.try_send(finished).is_err() {
            self.recorder.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Finished {
    fn nothing() -> Finished {
        Finished {
            name: Cow::Borrowed(""),
            kind: Kind::Internal,
            context: Context {
                trace: 0,
                span: 0,
                is_sampled: false,
            },
            parent: None,
            began_ns: 0,
            ended_ns: 0,
            attributes: Vec::new(),
            failure: None,
        }
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.ended_ns.saturating_sub(self.began_ns))
    }
}

/// Zero means none.
fn fresh_trace() -> u128 {
    entropy::fresh_u128().max(1)
}

fn fresh_span() -> u64 {
    entropy::fresh_u64().max(1)
}

#[cfg(test)]
mod tests;
