use super::*;
use holdfast_runtime::clock::SystemClock;
use holdfast_runtime::tokio;
use http::{HeaderMap, HeaderValue};

const ALWAYS: Sampler = Sampler {
    ratio: 1.0,
    asks_parent: true,
};

fn tracer(sampler: Sampler, queue: usize) -> (Tracer, Recorded) {
    Tracer::new(sampler, Arc::new(SystemClock), queue)
}

fn parent(is_sampled: bool) -> Context {
    Context {
        trace: 7,
        span: 9,
        is_sampled,
    }
}

#[test]
fn a_context_is_read_as_it_is_written() {
    for is_sampled in [false, true] {
        let context = Context {
            trace: u128::MAX - 1,
            ..parent(is_sampled)
        };
        assert_eq!(context.to_string().parse(), Ok(context));
    }
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let read: Context = text.parse().unwrap();
    assert_eq!((read.to_string().as_str(), read.is_sampled), (text, true));
    // A later version may say more, and have flags that nobody knows here.
    let later: Context = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more"
        .parse()
        .unwrap();
    assert_eq!(later, read);
}

#[test]
fn what_is_no_context_is_none() {
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(text.parse::<Context>(), Err(context::NoContext), "{text}");
    }
    let mut headers = HeaderMap::new();
    headers.append(
        TRACEPARENT,
        HeaderValue::from_str(&parent(true).to_string()).unwrap(),
    );
    assert_eq!(extract(&headers), Some(parent(true)));
    headers.append(TRACEPARENT, HeaderValue::from_static("00"));
    assert_eq!(extract(&headers), None, "which of two nobody knows");
}

#[tokio::test]
async fn what_is_done_within_a_span_is_part_of_it_and_what_is_done_after_it_is_not() {
    let (tracer, mut recorded) = tracer(ALWAYS, 8);
    let outer = tracer.span(Kind::Server, "outer", Some(parent(true)));
    let context = outer.context();
    let failed: Result<(), &str> = outer
        .around(async {
            tokio::task::yield_now().await;
            assert_eq!(current(), context);
            let mut inner = tracer.step("inner");
            inner.set("actor", || "team/a".into());
            inner
                .trying(ToString::to_string, async { Err("no such thing") })
                .await
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(current(), None);
    let (inner, outer) = (
        recorded.finished.recv().await.unwrap(),
        recorded.finished.recv().await.unwrap(),
    );
    assert_eq!((outer.parent, outer.context.trace), (Some(9), 7));
    assert_eq!((inner.parent, inner.context.trace), (Some(outer.context.span), 7));
    assert_eq!(inner.failure.as_deref(), Some("no such thing"));
    assert_eq!(inner.attributes, [("actor", "team/a".into())]);
    assert!(outer.began_ns <= inner.began_ns && inner.ended_ns <= outer.ended_ns);
}

#[test]
fn whoever_began_a_trace_decides_whether_it_is_recorded_and_of_ones_own_the_ratio_does() {
    let never = Sampler {
        ratio: 0.0,
        asks_parent: true,
    };
    for (sampler, with, expected) in [
        (ALWAYS, None, true),
        (ALWAYS, Some(false), false),
        (never, None, false),
        (never, Some(true), true),
        (
            Sampler {
                asks_parent: false,
                ..ALWAYS
            },
            Some(false),
            true,
        ),
    ] {
        let (tracer, mut recorded) = tracer(sampler, 8);
        let span = tracer.span(Kind::Internal, "s", with.map(parent));
        assert_eq!(
            span.context().unwrap().is_sampled,
            expected,
            "{sampler:?} {with:?}"
        );
        drop(span);
        assert_eq!(recorded.finished.try_recv().is_ok(), expected);
    }
    let half = Sampler {
        ratio: 0.5,
        asks_parent: true,
    };
    assert!(half.samples(None, 1) && !half.samples(None, u128::from(u64::MAX)));
}

#[test]
fn a_tracer_that_is_off_makes_nothing_and_passes_contexts_on() {
    let off = Tracer::default();
    let mut span = off.span(Kind::Server, "s", Some(parent(true)));
    span.set("k", || unreachable!("nobody looks at it"));
    assert_eq!(span.context(), Some(parent(true)));
    assert_eq!(off.step("s").context(), None);
}

#[test]
fn nobody_waits_for_an_exporter_that_is_slow_and_what_is_lost_is_counted() {
    let (tracer, mut recorded) = tracer(ALWAYS, 2);
    for _ in 0..5 {
        drop(tracer.step("s"));
    }
    assert_eq!(recorded.dropped.load(Ordering::Relaxed), 3);
    assert!(recorded.finished.try_recv().is_ok());
}
