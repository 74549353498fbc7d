//! The node's session: what its workers are told, and what it lets in.

use std::time::Duration;

use holdfast_rpc::holdfast_v1::SandboxState;
use holdfast_rpc::status::{Reason, reasons};
use tonic::Code;

use crate::ateom::FakeAteom;
use crate::rig::{Actor, Answers, Rig, a1, called};

/// Long enough for a slow machine to report in between, and over before long.
const SHORT: Answers = Answers::Grants(Duration::from_secs(5), Duration::from_millis(100));
/// Not over while a test takes.
const LONG: Answers = Answers::Grants(Duration::from_secs(90), Duration::from_millis(100));

/// An order of `a1` under a session of the node.
fn in_session(session: u64, op: u64) -> Actor {
    Actor { session, ..a1(op) }
}

/// A node whose session has been granted, and which runs an actor under it.
async fn running(answers: Answers) -> (Rig, FakeAteom) {
    let (rig, ateom) = Rig::start_under(answers).await;
    rig.answered().await;
    rig.run(in_session(1, 1)).await.unwrap();
    ateom.asked("extend".into()).await;
    (rig, ateom)
}

fn sandbox(ateom: &FakeAteom) -> Option<SandboxState> {
    ateom.hosts().map(|hosted| hosted.state())
}

#[tokio::test]
async fn a_node_that_is_answered_no_more_freezes_its_actor_and_thaws_it_when_it_is_answered_again() {
    let (rig, ateom) = running(SHORT).await;
    rig.answer(Answers::Silence);
    ateom.asked("freeze".into()).await;
    assert_eq!(sandbox(&ateom), Some(SandboxState::Frozen));
    let calls = ateom.calls().len();
    rig.answer(LONG);
    ateom.asked_after(calls, "thaw").await;
    assert_eq!(sandbox(&ateom), Some(SandboxState::Running));
    // It is the same boot, and no order was needed.
    let begun = ateom.calls().into_iter().filter(|call| call.contains(' '));
    assert_eq!(begun.collect::<Vec<_>>(), [called("run", 1)]);
}

#[tokio::test]
async fn an_actor_whose_session_was_declared_over_goes_on_only_when_the_control_plane_agrees() {
    let (rig, ateom) = running(LONG).await;
    rig.answer(Answers::Over(1));
    ateom.asked("freeze".into()).await;
    let session = |session| {
        move |w: Option<&holdfast_rpc::holdfast_v1::WorkerReport>| {
            w.and_then(|w| w.hosted.as_ref())
                .is_some_and(|hosted| hosted.session == session)
        }
    };
    rig.answered().await;
    let report = rig.reported("uid-1", session(1)).await;
    assert_eq!((report.session, report.lapsed), (2, 1));
    rig.answered().await;
    let late = rig.thaw(in_session(1, 2)).await.unwrap_err();
    assert_eq!(
        (late.code(), reasons(&late)),
        (Code::Unavailable, vec![Reason::SessionOver])
    );
    assert_eq!(sandbox(&ateom), Some(SandboxState::Frozen));
    assert!(!ateom.calls().contains(&"thaw".into()), "{:?}", ateom.calls());

    rig.thaw(in_session(2, 3)).await.unwrap();
    assert_eq!(sandbox(&ateom), Some(SandboxState::Running));
    rig.reported("uid-1", session(2)).await;
}

#[tokio::test]
async fn an_order_under_a_session_that_is_not_the_nodes_is_refused_before_anything_is_done() {
    let (rig, ateom) = Rig::start_under(LONG).await;
    rig.answered().await;
    for session in [2, 7] {
        let status = rig.run(in_session(session, 1)).await.unwrap_err();
        assert_eq!(
            (status.code(), reasons(&status)),
            (Code::Unavailable, vec![Reason::Busy])
        );
        assert!(
            status.message().contains(&format!("session {session}")),
            "{status}"
        );
    }
    assert_eq!(ateom.calls(), Vec::<String>::new());
    rig.run(in_session(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_restarted_atelet_remembers_under_which_session_its_actor_runs() {
    let (mut rig, ateom) = running(LONG).await;
    rig.kill_node().await;
    let calls = ateom.calls().len();
    rig.start_node().await;
    ateom.asked_after(calls, "extend").await;
    assert_eq!(sandbox(&ateom), Some(SandboxState::Running));
}

#[tokio::test]
async fn a_sandbox_that_no_record_knows_of_is_ended_unless_its_worker_was_promised_anew() {
    let (rig, ateom) = running(LONG).await;
    rig.answer(Answers::Evicts(0));
    rig.answered().await;
    rig.answered().await;
    assert_eq!(sandbox(&ateom), Some(SandboxState::Running));
    rig.answer(Answers::Evicts(1));
    ateom.asked_after(0, "stop").await;
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
    assert_eq!(sandbox(&ateom), None);
}
