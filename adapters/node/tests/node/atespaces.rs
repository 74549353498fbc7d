//! Namesakes: actors of one name and template in two atespaces, and in one that nobody told.

use holdfast_rpc::status::{Reason, reasons};
use tonic::Code;

use crate::ateom::FakeAteom;
use crate::rig::{Actor, Rig, a1, gone, is_there};

const UNKNOWN: &str = "";

/// An order of the `a1` of another atespace, on the second worker.
fn namesake(atespace: &'static str, op: u64) -> Actor {
    Actor {
        worker: "uid-2",
        atespace,
        ..a1(op)
    }
}

fn unknown(op: u64) -> Actor {
    Actor {
        atespace: UNKNOWN,
        ..a1(op)
    }
}

async fn second_worker(rig: &Rig) -> FakeAteom {
    let second = FakeAteom::start(&rig.path("base"), "uid-2").await;
    rig.reported("uid-2", |w| w.is_some()).await;
    second
}

#[tokio::test]
async fn namesakes_run_sleep_and_wake_side_by_side_and_neither_sees_the_others_state() {
    let (mut rig, one) = Rig::start().await;
    let two = second_worker(&rig).await;
    let other = |op| namesake("team-b", op);
    rig.run(a1(1)).await.unwrap();
    rig.run(other(1)).await.unwrap();
    one.teach("what team-a said");
    two.teach("what team-b said");

    // Even the names of their snapshots are the same.
    rig.checkpoint(a1(2), "s1").await.unwrap();
    gone(&rig.path("base/actors/team-a/ns:counter:a1/bundles/main")).await;
    assert!(is_there(
        &rig.path("base/actors/team-b/ns:counter:a1/bundles/main/rootfs/app")
    ));
    assert_eq!(two.hosts().unwrap().atespace, "team-b", "it runs on");
    rig.checkpoint(other(2), "s1").await.unwrap();

    rig.kill_node().await;
    rig.start_node().await;
    rig.reported("uid-2", |w| w.is_some()).await;
    // They change places.
    let (moved, others_move) = (
        |op| Actor {
            worker: "uid-2",
            ..a1(op)
        },
        |op| Actor {
            worker: "uid-1",
            ..other(op)
        },
    );
    rig.restore(moved(3), "s1").await.unwrap();
    rig.restore(others_move(3), "s1").await.unwrap();
    assert_eq!(
        (one.memory().as_str(), two.memory().as_str()),
        ("what team-b said", "what team-a said")
    );

    rig.upload(other(4), "s1", "gs://bucket/team-b/s1").await.unwrap();
    let owner = rig.manifest("gs://bucket/team-b/s1").await.actor.unwrap();
    assert_eq!((owner.atespace.as_str(), owner.id.as_str()), ("team-b", "a1"));
    rig.checkpoint(moved(4), "gs://bucket/team-a/s2").await.unwrap();
    rig.stop(others_move(5)).await.unwrap();
    rig.restore(a1(7), "gs://bucket/team-a/s2").await.unwrap();
    rig.restore(other(7), "gs://bucket/team-b/s1").await.unwrap();
    assert_eq!(
        (one.memory().as_str(), two.memory().as_str()),
        ("what team-a said", "what team-b said")
    );
    assert!(!is_there(&rig.path("base/actors/ns:counter:a1")));
}

#[tokio::test]
async fn namesakes_whose_atespaces_nobody_says_are_not_run_side_by_side() {
    let (mut rig, one) = Rig::start().await;
    let two = second_worker(&rig).await;
    rig.run(unknown(1)).await.unwrap();
    for is_restarted in [false, true] {
        if is_restarted {
            rig.kill_node().await;
            rig.start_node().await;
            rig.reported("uid-2", |w| w.is_some()).await;
        }
        let status = rig.run(namesake(UNKNOWN, 2)).await.unwrap_err();
        assert_eq!(
            (status.code(), reasons(&status)),
            (Code::FailedPrecondition, vec![Reason::OperationFailed])
        );
        assert!(status.message().contains("in use on worker uid-1"), "{status:?}");
    }
    assert_eq!(two.calls(), Vec::<String>::new());
    let rootfs = rig.path("base/actors/ns:counter:a1/bundles/main/rootfs/app");
    assert!(is_there(&rootfs), "the other's directory is untouched");

    rig.run(namesake("team-b", 3)).await.unwrap();
    rig.stop(namesake("team-b", 4)).await.unwrap();
    assert!(is_there(&rootfs));
    rig.stop(unknown(5)).await.unwrap();
    rig.run(namesake(UNKNOWN, 6)).await.unwrap();
    assert_eq!(
        (one.hosts(), two.hosts().unwrap().atespace),
        (None, String::new())
    );
}

/// The control plane, or the daemon, is replaced while actors run or sleep.
async fn replaced(rig: &mut Rig) {
    rig.kill_node().await;
    rig.start_node().await;
}

#[tokio::test]
async fn an_actor_that_was_brought_before_its_atespace_was_known_moves_home_when_it_goes_to_sleep() {
    let (mut rig, ateom) = Rig::start().await;
    for (op, to) in [(1, "s1"), (5, "gs://bucket/a1/s2")] {
        rig.run(unknown(op)).await.unwrap();
        ateom.teach("what was said before");
        replaced(&mut rig).await;
        rig.checkpoint(a1(op + 1), to).await.unwrap();
        gone(&rig.path("base/actors/ns:counter:a1/bundles/main")).await;
        rig.restore(a1(op + 2), to).await.unwrap();
        assert_eq!(ateom.memory(), "what was said before");
        assert_eq!(ateom.hosts().unwrap().atespace, "team-a");
        rig.stop(a1(op + 3)).await.unwrap();
    }
    assert!(is_there(
        &rig.path("base/actors/team-a/ns:counter:a1/local-checkpoint/s1")
    ));

    rig.run(unknown(9)).await.unwrap();
    replaced(&mut rig).await;
    rig.stop(a1(10)).await.unwrap();
    assert_eq!(ateom.hosts(), None);
    let lost = rig.checkpoint(a1(11), "s2").await.unwrap_err();
    assert_eq!(reasons(&lost), [Reason::SandboxGone]);
}

#[tokio::test]
async fn a_local_snapshot_from_before_the_atespace_was_known_is_found_and_a_namesakes_is_not() {
    let (mut rig, ateom) = Rig::start().await;
    rig.run(unknown(1)).await.unwrap();
    ateom.teach("what was said before");
    rig.checkpoint(unknown(2), "s1").await.unwrap();
    replaced(&mut rig).await;
    rig.restore(a1(3), "s1").await.unwrap();
    assert_eq!(ateom.memory(), "what was said before");
    rig.upload(a1(4), "s1", "gs://bucket/a1/s1").await.unwrap();

    let stranger = Actor {
        atespace: "team-b",
        ..a1(6)
    };
    rig.stop(a1(5)).await.unwrap();
    rig.run(stranger).await.unwrap();
    rig.checkpoint(
        Actor {
            op: 7,
            fence: 7,
            ..stranger
        },
        "s2",
    )
    .await
    .unwrap();
    let [theirs, ours] = ["team-b/ns:counter:a1", "ns:counter:a1"]
        .map(|actor| rig.path(&format!("base/actors/{actor}/local-checkpoint/s2")));
    std::fs::rename(theirs, &ours).unwrap();
    let refused = rig.restore(a1(8), "s2").await.unwrap_err();
    assert_eq!(
        (refused.code(), reasons(&refused)),
        (Code::DataLoss, vec![Reason::CrashActor])
    );
    assert!(is_there(&ours), "it is not this actor's to remove");
}
