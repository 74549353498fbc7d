//! The program as it ships, in a Kubernetes cluster that breaks on demand: an API server that speaks the real
//! protocol, and an atelet that answers as the original's does and reports nothing.

mod atelet;
mod rig;

use std::time::Duration;

use holdfast_tests::redis::{Persistence, Server};
use rig::{Rig, Worker};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_actor_runs_in_a_worker_pod_and_goes_back_to_its_last_snapshot_when_that_is_deleted() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    replica.done("resume one -a demo");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one"]);
    let env = rig.atelet.last_env();
    assert_eq!(
        env,
        [
            ("GREETING".to_owned(), "hello".to_owned()),
            ("TOKEN".into(), "open sesame".into())
        ]
    );

    rig.api.delete("Pod", "team", "w-1").unwrap();
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    replica.wait_for_workers(&[]);
    assert!(
        rig.api.asked(&[]).iter().all(|asked| asked.method == "GET"),
        "nothing is written there"
    );
    let told = replica.refused("suspend one -a demo");
    assert!(
        told.contains("DataLoss") && told.contains("lost what it did"),
        "{told}"
    );
    assert_eq!(
        rig.atelet.calls(),
        ["Run w-1-uid one"],
        "nobody asks a node about a pod that is gone"
    );

    rig.create(Worker::new("w-2", "n2"));
    replica.wait_for_workers(&["w-2"]);
    replica.done("resume one -a demo");
    assert_eq!(rig.atelet.calls().last().unwrap(), "Run w-2-uid one");
}

#[test]
fn a_pod_that_is_told_to_go_is_drained_first() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    replica.done("resume one -a demo");
    rig.change_pod("w-1", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-07-01T00:00:00Z");
    });
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one", "Checkpoint w-1-uid one"]);
    rig.change_pod("w-1", |pod| {
        pod["status"].as_object_mut().unwrap().remove("podIP");
    });
    assert!(
        replica
            .refused("resume one -a demo --timeout 1s")
            .contains("no free workers")
    );
    rig.api.delete("Pod", "team", "w-1").unwrap();
    replica.wait_for_workers(&[]);
    replica.done("suspend one -a demo");
}

#[test]
fn a_node_that_reports_uids_has_sessions_and_its_pods_are_what_the_cluster_calls_them() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    let reporting = rig.atelet.report(replica.endpoint(), &["w-1-uid", "w-3-uid"]);
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    for actor in ["one", "two"] {
        replica.done(&format!("create actor {actor} -t team/counter -a demo"));
    }
    replica.done("resume one -a demo --timeout 30s");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one"]);

    // Told to go: nobody waits for the node's next word.
    rig.change_pod("w-1", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-07-01T00:00:00Z");
    });
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one", "Checkpoint w-1-uid one"]);
    // The node has had this one for long; now it has a name, too.
    rig.create(Worker::new("w-3", "n1"));
    replica.wait_until("w-3", |replica| replica.workers().contains("w-3"));
    replica.done("resume two -a demo --timeout 30s");
    assert_eq!(rig.atelet.calls().last().unwrap(), "Run w-3-uid two");
    replica.wait_until("the node's word of it", |replica| {
        replica.done("get actors two -a demo").contains("STATUS_RUNNING")
    });

    // Its pod is deleted by force (S08). That is no proof that its sandbox has ended, and its node says that it has not.
    rig.api.delete("Pod", "team", "w-3").unwrap();
    rig.create(Worker::new("w-2", "n2"));
    replica.wait_until("w-2, of which the cluster tells later", |replica| {
        replica.workers().contains("w-2")
    });
    assert!(replica.done("get actors two -a demo").contains("STATUS_RUNNING"));

    // Once the node has been silent for the length of its session it has frozen the actor, which runs elsewhere as soon as
    // somebody asks for it.
    drop(reporting);
    replica.wait_until("the end of the session", |replica| {
        replica.done("resume two -a demo --timeout 30s");
        rig.atelet.calls().last().unwrap() == "Run w-2-uid two"
    });
}

#[test]
fn what_happened_while_nobody_watched_is_found_in_the_list() {
    let rig = Rig::new();
    for name in ["w-1", "w-2"] {
        rig.create(Worker::new(name, "n1"));
    }
    let mut replica = rig.start("first");
    replica.wait_for_workers(&["w-1", "w-2"]);
    replica.done("create atespace demo");
    for actor in ["one", "two"] {
        replica.done(&format!("create actor {actor} -t team/counter -a demo"));
        replica.done(&format!("resume {actor} -a demo"));
    }
    replica.stop();
    // One is gone with its whole node, the other is another pod of the same name.
    for name in ["w-1", "w-2"] {
        rig.api.delete("Pod", "team", name).unwrap();
    }
    rig.api.delete("Pod", "ate-system", "atelet-n1").unwrap();
    rig.create(Worker {
        uid: "w-2-again".into(),
        ..Worker::new("w-2", "n2")
    });

    let replica = rig.start("second");
    replica.wait_for_workers(&["w-2"]);
    for actor in ["one", "two"] {
        replica.wait_for_status(actor, "STATUS_SUSPENDED");
    }
    replica.done("resume two -a demo");
    assert_eq!(rig.atelet.calls().last().unwrap(), "Run w-2-again two");
}

#[test]
fn a_watch_that_has_missed_too_much_lists_again() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    replica.done("resume one -a demo");
    rig.api.mute_watches();
    rig.api.delete("Pod", "team", "w-1").unwrap();
    rig.create(Worker {
        uid: "w-1-again".into(),
        ..Worker::new("w-1", "n1")
    });
    rig.api.forget_history();
    rig.api.unmute_watches();
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    replica.wait_for_log("listed again");
    replica.done("resume one -a demo");
    assert_eq!(rig.atelet.calls().last().unwrap(), "Run w-1-again one");
}

#[test]
fn a_replica_goes_on_while_the_api_server_is_away_and_catches_up_when_it_is_back() {
    let rig = Rig::new();
    for name in ["w-1", "w-2"] {
        rig.create(Worker::new(name, "n1"));
    }
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1", "w-2"]);
    replica.done("create atespace demo");
    for actor in ["one", "two"] {
        replica.done(&format!("create actor {actor} -t team/counter -a demo"));
    }
    replica.done("resume one -a demo");
    rig.api.go_away();
    replica.wait_for_log("not followed");
    let busy = rig.atelet.last_uid();
    replica.done("suspend one -a demo");
    replica.done("resume one -a demo");
    let again = rig.atelet.last_uid();
    rig.api
        .delete("Pod", "team", again.strip_suffix("-uid").unwrap())
        .unwrap();
    rig.api.come_back();
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    replica.wait_for_log("followed again");
    replica.done("resume two -a demo");
    assert_ne!(rig.atelet.last_uid(), again, "first it was on {busy}");
}

#[test]
fn a_container_that_was_restarted_in_place_has_lost_its_actor() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    replica.done("resume one -a demo");
    rig.change_pod("w-1", |pod| {
        let container = &mut pod["status"]["containerStatuses"][0];
        container["restartCount"] = json!(1);
        container["containerID"] = json!("containerd://second");
    });
    replica.wait_for_status("one", "STATUS_SUSPENDED");
    let told = replica.refused("suspend one -a demo");
    assert!(told.contains("DataLoss"), "{told}");
    replica.done("resume one -a demo");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one", "Run w-1-uid one"]);
    replica.wait_for_status("one", "STATUS_RUNNING");
}

#[test]
fn two_replicas_that_see_one_cluster_agree() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let redis = Server::start(Persistence::None).unwrap();
    let (one, two) = (
        rig.start_on("one", &redis.url()),
        rig.start_on("two", &redis.url()),
    );
    for replica in [&one, &two] {
        replica.wait_for_workers(&["w-1"]);
    }
    one.done("create atespace demo");
    one.done("create actor one -t team/counter -a demo");
    one.done("resume one -a demo");
    rig.create(Worker::new("w-2", "n2"));
    for replica in [&one, &two] {
        replica.wait_for_workers(&["w-1", "w-2"]);
        replica.wait_for_status("one", "STATUS_RUNNING");
    }
    two.done("suspend one -a demo");
    assert_eq!(rig.atelet.calls(), ["Run w-1-uid one", "Checkpoint w-1-uid one"]);
    rig.api.delete("Pod", "team", "w-1").unwrap();
    for replica in [&one, &two] {
        replica.wait_for_workers(&["w-2"]);
    }
}

#[test]
fn a_golden_snapshot_is_used_as_soon_as_the_status_names_one() {
    let rig = Rig::new();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    let set = |template: &mut serde_json::Value| {
        template["status"] = json!({"phase": "Ready", "goldenSnapshot": "gs://snapshots/golden"});
    };
    rig.api.change("ActorTemplate", "team", "counter", set).unwrap();
    replica.wait_for_log("templates, pools or sandbox configurations have changed");
    replica.done("resume one -a demo");
    assert_eq!(rig.atelet.calls(), ["Restore w-1-uid one gs://snapshots/golden"]);
}

#[test]
fn a_secret_that_is_missing_is_named_and_asked_for_again() {
    let rig = Rig::new();
    rig.api.delete("Secret", "team", "tokens").unwrap();
    rig.create(Worker::new("w-1", "n1"));
    let replica = rig.start("replica");
    replica.wait_for_workers(&["w-1"]);
    replica.done("create atespace demo");
    replica.done("create actor one -t team/counter -a demo");
    let told = replica.refused("resume one -a demo");
    assert!(
        told.contains("container \"main\" env \"TOKEN\" references missing secret team/tokens"),
        "{told}"
    );
    assert!(told.contains("FailedPrecondition"), "{told}");
    rig.create_secret();
    replica.done("resume one -a demo");
    let asked = rig.api.asked(&["/secrets"]);
    assert!(
        asked
            .iter()
            .all(|asked| asked.target == "/api/v1/namespaces/team/secrets/tokens"),
        "{asked:?}"
    );
    assert!(!replica.log().contains("open sesame"));
}

#[test]
fn a_replica_that_cannot_reach_the_api_server_says_so_until_it_can() {
    let rig = Rig::new();
    rig.api.go_away();
    let mut waiting = rig.launch("waiting", "embedded:other");
    waiting.wait_for_log("is the API server reachable?");
    waiting.interrupt();
    assert!(
        waiting
            .log()
            .contains("stopped before templates, pools and worker pods were known")
    );

    let mut late = rig.launch("late", "embedded:store");
    late.wait_for_log("is the API server reachable?");
    rig.create(Worker::new("w-1", "n1"));
    rig.api.come_back();
    late.wait_until_serving();
    late.wait_for_workers(&["w-1"]);
}

#[test]
fn many_pods_come_in_pages() {
    let rig = Rig::new();
    for n in 0..600 {
        rig.create(Worker::new(&format!("w-{n:03}"), "n1"));
    }
    let replica = rig.start("replica");
    replica.wait_until("600 workers", |replica| replica.workers().len() == 600);
    assert!(!rig.api.asked(&["/pods", "continue=1"]).is_empty());
}
