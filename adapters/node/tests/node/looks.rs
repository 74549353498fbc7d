//! What ateom says by itself may be old, and so it is asked before an actor is taken to be gone.

use std::time::Duration;

use crate::rig::{Answers, Rig, a1};

#[tokio::test]
async fn an_actor_that_ateom_answers_it_has_is_there_whatever_it_says() {
    let often = Answers::Grants(Duration::from_secs(90), Duration::from_millis(100));
    let (rig, ateom) = Rig::start_under(often).await;
    rig.run(a1(1)).await.unwrap();
    rig.reported("uid-1", |worker| {
        worker.is_some_and(|worker| worker.hosted.is_some())
    })
    .await;
    ateom.insist();
    ateom.lose_sandbox();
    ateom.looked_at().await;
    for _ in 0..2 {
        let report = rig.reported_anew().await;
        assert!(report.workers[0].hosted.is_some(), "{report:?}");
    }
}

#[tokio::test]
async fn an_actor_that_ateom_answers_it_has_not_is_gone() {
    let (rig, ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.reported("uid-1", |worker| {
        worker.is_some_and(|worker| worker.hosted.is_some())
    })
    .await;
    ateom.lose_sandbox();
    ateom.looked_at().await;
    rig.reported("uid-1", |worker| {
        worker.is_some_and(|worker| worker.hosted.is_none())
    })
    .await;
}
