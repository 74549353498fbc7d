//! One order is one tree of spans, from whoever ordered to whoever carries it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_rpc::trace::{self, Context, Finished, Kind, Sampler, Tracer};
use holdfast_runtime::clock::SystemClock;

use crate::ateom::FakeAteom;
use crate::rig::{Answers, Rig, a1};

const ORDERED: Context = Context {
    trace: 77,
    span: 7,
    is_sampled: true,
};

/// A node that records what others have recorded.
async fn traced() -> (
    Rig,
    FakeAteom,
    holdfast_runtime::tokio::sync::mpsc::Receiver<Finished>,
) {
    let sampler = Sampler {
        ratio: 0.0,
        asks_parent: true,
    };
    let (tracer, recorded) = Tracer::new(sampler, Arc::new(SystemClock), 1024);
    let grants = Answers::Grants(
        std::time::Duration::from_secs(90),
        std::time::Duration::from_secs(30),
    );
    let mut rig = Rig::prepare(grants).await;
    rig.tracer = tracer;
    let ateom = FakeAteom::start(&rig.path("base"), "uid-1").await;
    rig.start_node().await;
    (rig, ateom, recorded.finished)
}

#[tokio::test]
async fn every_step_of_an_order_is_part_of_it_and_ateom_is_asked_as_part_of_its_step() {
    let (rig, ateom, mut finished) = traced().await;
    trace::within(Some(ORDERED), rig.run(a1(1))).await.unwrap();
    let mut spans = BTreeMap::new();
    // The call that was served ends last.
    while !spans.contains_key("atelet.AteomHerder/Run") {
        let span = finished.recv().await.unwrap();
        assert_eq!(span.context.trace, ORDERED.trace);
        spans.insert(span.name.to_string(), span);
    }
    let served = &spans["atelet.AteomHerder/Run"];
    assert_eq!((served.kind, served.parent), (Kind::Server, Some(ORDERED.span)));
    let names: Vec<&str> = spans.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["assemble", "atelet.AteomHerder/Run", "boot", "clear", "pull"]
    );
    for name in ["assemble", "boot", "clear", "pull"] {
        assert_eq!(spans[name].parent, Some(served.context.span), "{name}");
    }
    let boot = &spans["boot"];
    assert!(boot.attributes.contains(&("holdfast.actor", "team-a/a1".into())));
    assert_eq!(ateom.contexts(), [Some(boot.context)]);
}

#[tokio::test]
async fn what_nobody_records_is_not_recorded_here_either_and_its_context_is_passed_on() {
    let (rig, ateom, mut finished) = traced().await;
    let unrecorded = Context {
        is_sampled: false,
        ..ORDERED
    };
    rig.run(a1(1)).await.unwrap();
    trace::within(Some(unrecorded), rig.checkpoint(a1(2), "s1"))
        .await
        .unwrap();
    assert!(finished.try_recv().is_err());
    assert!(
        ateom
            .contexts()
            .iter()
            .flatten()
            .all(|context| !context.is_sampled)
    );
}
