//! What a node tells Prometheus and its kubelet.

use holdfast_telemetry::health::Readiness;
use tonic::Code;

use crate::rig::{Answers, Rig, a1};

#[tokio::test]
async fn orders_steps_pulls_reports_and_workers_are_counted() {
    let (rig, _ateom) = Rig::start().await;
    rig.run(a1(1)).await.unwrap();
    rig.checkpoint(a1(2), "s1").await.unwrap();
    let status = rig.restore(a1(3), "no-such-snapshot").await.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    rig.reported("uid-1", |w| w.is_some_and(|w| w.hosted.is_none()))
        .await;
    let told = rig.telemetry.exposition();
    for line in [
        "holdfast_node_operation_duration_seconds_count{verb=\"run\",code=\"OK\"} 1",
        "holdfast_node_operation_duration_seconds_count{verb=\"checkpoint\",code=\"OK\"} 1",
        "holdfast_node_operation_duration_seconds_count{verb=\"restore\",code=\"DATA_LOSS\"} 1",
        "holdfast_node_step_duration_seconds_count{step=\"boot\",outcome=\"ok\"} 1",
        "holdfast_node_step_duration_seconds_count{step=\"fetch\",outcome=\"failed\"} 1",
        "holdfast_image_pull_duration_seconds_count{outcome=\"ok\"}",
        "holdfast_node_reports_total{outcome=\"granted\"}",
        "holdfast_node_session_granted 1",
        "holdfast_node_workers{state=\"free\"} 1",
        "holdfast_node_workers{state=\"hosting\"} 0",
        "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",rpc_method=\"atelet.AteomHerder/Run\"",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
}

#[tokio::test]
async fn a_node_is_ready_while_it_serves_also_when_no_control_plane_answers() {
    let (mut rig, _ateom) = Rig::start_under(Answers::Silence).await;
    assert_eq!(rig.telemetry.health().readiness(), Readiness::Ready);
    let failed = "holdfast_node_reports_total{outcome=\"failed\"} 0";
    while rig.telemetry.exposition().contains(failed) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(
        rig.telemetry
            .exposition()
            .contains("holdfast_node_session_granted 0")
    );
    rig.shutdown.trigger();
    rig.stopped().await.unwrap();
    assert_eq!(rig.telemetry.health().readiness(), Readiness::Leaving);
}
