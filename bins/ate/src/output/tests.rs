//! What is shown, letter by letter: scripts read it, and compare it with what kubectl-ate shows.

use super::*;
use holdfast_rpc::ateapi::snapshot_info::Data;
use holdfast_rpc::ateapi::{ExternalSnapshotInfo, LocalSnapshotInfo, Selector, SnapshotInfo, SnapshotType};

fn running() -> Actor {
    Actor {
        actor_id: "counter-1".into(),
        version: 9_007_199_254_740_993,
        actor_template_namespace: "default".into(),
        actor_template_name: "counter".into(),
        status: Status::Running.into(),
        ateom_pod_namespace: "pools".into(),
        ateom_pod_name: "worker-0".into(),
        ateom_pod_ip: "10.0.0.7".into(),
        ateom_pod_uid: "uid-7".into(),
        latest_snapshot_info: Some(SnapshotInfo {
            r#type: SnapshotType::External.into(),
            data: Some(Data::External(ExternalSnapshotInfo {
                snapshot_uri_prefix: "gs://b/counter-1/x".into(),
            })),
        }),
        worker_selector: Some(Selector {
            match_labels: [("tier".into(), "1".into())].into(),
        }),
        worker_pool_name: "pool".into(),
        atespace: "demo".into(),
        ..Actor::default()
    }
}

fn paused() -> Actor {
    let local = LocalSnapshotInfo {
        snapshot_prefix: "counter-2-y".into(),
        node_vms_with_local_snapshots: vec!["node-a".into(), "".into()],
    };
    Actor {
        actor_id: "counter-2".into(),
        version: 3,
        actor_template_namespace: "default".into(),
        actor_template_name: "counter".into(),
        status: Status::Paused.into(),
        latest_snapshot_info: Some(SnapshotInfo {
            r#type: SnapshotType::Local.into(),
            data: Some(Data::Local(local)),
        }),
        worker_selector: Some(Selector::default()),
        atespace: "demo".into(),
        ..Actor::default()
    }
}

fn from_the_future() -> Actor {
    Actor {
        actor_id: "a".into(),
        status: 42,
        atespace: "demo".into(),
        latest_snapshot_info: Some(SnapshotInfo {
            r#type: 7,
            data: None,
        }),
        ..Actor::default()
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn actors_stand_in_columns_ordered_by_atespace_template_and_name() {
    let other = Actor {
        atespace: "aaa".into(),
        ..paused()
    };
    let shown = plain(&actors(
        vec![paused(), running(), from_the_future(), other],
        Format::Table,
    ));
    let lines: Vec<_> = shown.lines().collect();
    let expected = [
        "ATESPACE   TEMPLATE NS   TEMPLATE   ID          STATUS           ATEOM POD        ATEOM IP   VERSION",
        "aaa        default       counter    counter-2   STATUS_PAUSED    <none>                      3",
        "demo                                a           42               <none>                      0",
        "demo       default       counter    counter-1   STATUS_RUNNING   pools/worker-0   10.0.0.7   9007199254740993",
        "demo       default       counter    counter-2   STATUS_PAUSED    <none>                      3",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn states_that_matter_have_a_colour() {
    for (status, colour) in [
        (Status::Running, "\x1b[32m"),
        (Status::Crashed, "\x1b[31m"),
        (Status::Resuming, "\x1b[33m"),
        (Status::Suspending, "\x1b[33m"),
        (Status::Pausing, "\x1b[33m"),
    ] {
        let shown = actors(
            vec![Actor {
                status: status.into(),
                ..paused()
            }],
            Format::Table,
        );
        assert!(
            shown.contains(&format!("{colour}{}\x1b[0m", status.as_str_name())),
            "{shown:?}"
        );
    }
    for status in [Status::Unspecified, Status::Suspended, Status::Paused] {
        assert!(
            !actors(
                vec![Actor {
                    status: status.into(),
                    ..paused()
                }],
                Format::Table
            )
            .contains('\x1b')
        );
    }
}

#[test]
fn actors_as_json() {
    let expected = r#"{
  "actors": [
    {
      "actorId": "a",
      "atespace": "demo",
      "latestSnapshotInfo": {
        "type": 7
      },
      "status": 42
    },
    {
      "actorId": "counter-1",
      "actorTemplateName": "counter",
      "actorTemplateNamespace": "default",
      "ateomPodIp": "10.0.0.7",
      "ateomPodName": "worker-0",
      "ateomPodNamespace": "pools",
      "ateomPodUid": "uid-7",
      "atespace": "demo",
      "latestSnapshotInfo": {
        "external": {
          "snapshotUriPrefix": "gs://b/counter-1/x"
        },
        "type": "SNAPSHOT_TYPE_EXTERNAL"
      },
      "status": "STATUS_RUNNING",
      "version": "9007199254740993",
      "workerPoolName": "pool",
      "workerSelector": {
        "matchLabels": {
          "tier": "1"
        }
      }
    },
    {
      "actorId": "counter-2",
      "actorTemplateName": "counter",
      "actorTemplateNamespace": "default",
      "atespace": "demo",
      "latestSnapshotInfo": {
        "local": {
          "nodeVmsWithLocalSnapshots": [
            "node-a",
            ""
          ],
          "snapshotPrefix": "counter-2-y"
        },
        "type": "SNAPSHOT_TYPE_LOCAL"
      },
      "status": "STATUS_PAUSED",
      "version": "3",
      "workerSelector": {}
    }
  ]
}
"#;
    assert_eq!(
        actors(vec![paused(), running(), from_the_future()], Format::Json),
        expected
    );
}

#[test]
fn actors_as_yaml() {
    let expected = r#"actors:
- actorId: counter-1
  actorTemplateName: counter
  actorTemplateNamespace: default
  ateomPodIp: "10.0.0.7"
  ateomPodName: worker-0
  ateomPodNamespace: pools
  ateomPodUid: uid-7
  atespace: demo
  latestSnapshotInfo:
    external:
      snapshotUriPrefix: gs://b/counter-1/x
    type: SNAPSHOT_TYPE_EXTERNAL
  status: STATUS_RUNNING
  version: "9007199254740993"
  workerPoolName: pool
  workerSelector:
    matchLabels:
      tier: "1"
"#;
    assert_eq!(actors(vec![running()], Format::Yaml), expected);
}

#[test]
fn yaml_and_json_say_the_same_however_names_look() {
    let odd = [
        "true",
        "null",
        "~",
        "1e3",
        "0x10",
        "- a",
        "a: b",
        "#",
        "",
        " x ",
        "línea\nzwei",
        "'\"",
        "2026-11-22",
    ];
    let awkward: Vec<_> = odd.iter().map(|name| Atespace { name: (*name).into() }).collect();
    let json: serde_json::Value = serde_json::from_str(&atespaces(awkward.clone(), Format::Json)).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_str(&atespaces(awkward, Format::Yaml)).unwrap();
    assert_eq!(yaml, json);
    assert_eq!(json["atespaces"].as_array().unwrap().len(), odd.len());
}

#[test]
fn workers_are_free_or_assigned() {
    let worker = |pod: &str| Worker {
        worker_namespace: "pools".into(),
        worker_pool: "pool".into(),
        worker_pod: pod.into(),
        ip: "10.0.0.7".into(),
        version: 2,
        worker_pod_uid: "uid-7".into(),
        node_name: "node-a".into(),
        ..Worker::default()
    };
    let assigned = Worker {
        actor_namespace: "default".into(),
        actor_template: "counter".into(),
        actor_id: "counter-1".into(),
        actor_atespace: "demo".into(),
        ..worker("worker-0")
    };
    let all = vec![worker("worker-1"), assigned];
    let expected = "\
NAMESPACE   POOL   POD        STATUS     ASSIGNED ACTOR
pools       pool   worker-0   ASSIGNED   default/counter/counter-1
pools       pool   worker-1   FREE       <none>
";
    assert_eq!(plain(&workers(all.clone(), Format::Table)), expected);

    let expected = r#"{
  "workers": [
    {
      "actorAtespace": "demo",
      "actorId": "counter-1",
      "actorNamespace": "default",
      "actorTemplate": "counter",
      "ip": "10.0.0.7",
      "nodeName": "node-a",
      "version": "2",
      "workerNamespace": "pools",
      "workerPod": "worker-0",
      "workerPodUid": "uid-7",
      "workerPool": "pool"
    },
    {
      "ip": "10.0.0.7",
      "nodeName": "node-a",
      "version": "2",
      "workerNamespace": "pools",
      "workerPod": "worker-1",
      "workerPodUid": "uid-7",
      "workerPool": "pool"
    }
  ]
}
"#;
    assert_eq!(workers(all, Format::Json), expected);
}

#[test]
fn a_list_of_nothing_is_a_header_or_an_empty_message() {
    assert_eq!(atespaces(vec![], Format::Table), "NAME\n");
    assert_eq!(actors(vec![], Format::Json), "{}\n");
    assert_eq!(workers(vec![], Format::Yaml), "{}\n");
}

#[test]
fn atespaces_are_ordered_by_name() {
    let all = ["b", "a"].map(|name| Atespace { name: name.into() });
    assert_eq!(atespaces(all.to_vec(), Format::Table), "NAME\na\nb\n");
    assert_eq!(
        atespaces(all.to_vec(), Format::Yaml),
        "atespaces:\n- name: a\n- name: b\n"
    );
}
