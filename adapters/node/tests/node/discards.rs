//! Snapshots that nothing points at any more, deleted on request.

use holdfast_rpc::holdfast_v1::DiscardRequest;
use tonic::{Code, Status};

use crate::SNAPSHOT;
use crate::rig::{Rig, a1, is_there};

const OLD: &str = "gs://bucket/a1/s0";

async fn discard(rig: &Rig, name: &str, local: &[&str], external: &[&str]) -> Result<(), Status> {
    let request = DiscardRequest {
        atespace: "team-a".into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter".into(),
        actor_id: name.into(),
        snapshot_prefixes: local.iter().map(ToString::to_string).collect(),
        snapshot_uri_prefixes: external.iter().map(ToString::to_string).collect(),
    };
    rig.control().discard(request).await.map(drop)
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_what_is_not_can_be_restored() {
    let (rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), OLD).await.unwrap();
    rig.restore(a1(3), OLD).await.unwrap();
    rig.checkpoint(a1(4), "local").await.unwrap();
    rig.upload(a1(5), "local", SNAPSHOT).await.unwrap();
    let local = rig.path("base/actors/team-a/ns:counter:a1/local-checkpoint/local");
    let [old, new] = ["s0", "s1"].map(|name| rig.path("objects/bucket/a1").join(name));
    assert!(is_there(&local) && is_there(&old) && is_there(&new));

    let anothers = discard(&rig, "a2", &["local"], &[OLD]).await.unwrap_err();
    assert_eq!(anothers.code(), Code::FailedPrecondition, "{anothers:?}");
    assert!(is_there(&local) && is_there(&old));
    for _ in 0..2 {
        discard(&rig, "a1", &["local"], &[OLD]).await.unwrap();
        assert!(!is_there(&local) && !is_there(&old) && is_there(&new));
    }
    rig.restore(a1(6), SNAPSHOT).await.unwrap();
}

#[tokio::test]
async fn what_leads_elsewhere_is_refused() {
    let (rig, _ateom) = Rig::start().await;
    for (local, external) in [
        ("../local-checkpoint", OLD),
        ("local", "gs://bucket/../other"),
        ("local", "gs://bucket"),
    ] {
        let refused = discard(&rig, "a1", &[local], &[external]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}
