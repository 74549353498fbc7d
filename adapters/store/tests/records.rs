//! Records: ours survive the way there and back, and the original's are read as they are.

mod strategies;

use holdfast_core::actor::{Actor, Assignment, Boot, Crash, Snapshot, Source, State, Status, Transition};
use holdfast_core::id::{ActorKey, Fence, Incarnation, Name, OpId, ReplicaId, Version, WorkerKey};
use holdfast_core::worker::{Duty, Hosted, Worker};
use holdfast_store::key;
use holdfast_store::record::{self, RecordFault};
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_actor_survives_its_record(actor in strategies::actor()) {
        let record = record::encode_actor(&actor);
        prop_assert_eq!(record::decode_actor(&actor.key, record.as_bytes()), Ok(actor));
    }

    #[test]
    fn every_actor_record_begins_with_its_version(actor in strategies::actor()) {
        let begin = format!("{{\"version\":\"{}\",", actor.version);
        prop_assert!(record::encode_actor(&actor).starts_with(&begin));
    }

    #[test]
    fn every_worker_survives_its_record(worker in strategies::worker()) {
        let record = record::encode_worker(&worker);
        prop_assert_eq!(record::decode_worker(&worker.key, record.as_bytes()), Ok(worker));
    }

    #[test]
    fn every_node_survives_its_record(node in strategies::node()) {
        let record = record::encode_node(&node);
        prop_assert_eq!(record::decode_node(&node.name, record.as_bytes()), Ok(node));
    }

    #[test]
    fn every_note_survives_its_record(grave in strategies::grave()) {
        let name = key::grave(&grave.actor, grave.incarnation, grave.version);
        let record = record::encode_grave(&grave);
        prop_assert_eq!(record::decode_grave(&name, record.as_bytes()), Ok(grave));
        prop_assert!(record::decode_grave("a:b:0:0:0", record.as_bytes()).is_err());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any::<Vec<u8>>(), actor in strategies::actor(), cut in 0usize..200) {
        let key = ActorKey::new("a", "b");
        prop_assert!(record::decode_actor(&key, &bytes).is_err());
        prop_assert!(record::decode_any_worker(&bytes).is_err());
        prop_assert!(record::decode_grave("a:b:1:1", &bytes).is_err());
        let record = record::encode_actor(&actor);
        let cut = cut.min(record.len() - 1);
        prop_assert!(record::decode_actor(&actor.key, &record.as_bytes()[..cut]).is_err());
    }
}

#[test]
fn a_version_or_a_fence_that_nobody_can_have_counted_up_to_is_refused() {
    const MAX: &str = "9223372036854775807";
    let actor = |version: &str, claim: &str, worker: &str| {
        format!(
            r#"{{"version":{version},"actorId":"id1","status":"STATUS_RUNNING","ateomPodName":"p","atespace":"team-a",
                "holdfast":{{"v":1,"claim":{{"token":"0000000000000001-1","fence":{claim}}},
                "worker":{{"incarnation":"i","node":"n","fence":{worker}}}}}}}"#
        )
    };
    let original = |version: &str, _: &str, _: &str| {
        format!(r#"{{"version":{version},"actorId":"id1","status":"STATUS_SUSPENDED","atespace":"team-a"}}"#)
    };
    let worker = |version: &str, _: &str, fence: &str| {
        format!(
            r#"{{"version":{version},"workerNamespace":"ns","workerPool":"p","workerPod":"w","actorId":"a",
                "holdfast":{{"v":1,"hosts":{{"incarnation":"1","fence":{fence}}}}}}}"#
        )
    };
    let decoded = |record: &dyn Fn(&str, &str, &str) -> String, [version, claim, fence]: [&str; 3]| {
        let json = record(version, claim, fence);
        match json.contains("workerPod") {
            true => record::decode_any_worker(json.as_bytes()).map(drop),
            false => record::decode_actor(&ActorKey::new("team-a", "id1"), json.as_bytes())
                .map(drop)
                .map_err(|error| error.cause),
        }
    };
    let (text, number) = (r#""9223372036854775808""#, "18446744073709551615");
    for (record, fields) in [
        (&actor as &dyn Fn(&str, &str, &str) -> String, &[0, 1, 2][..]),
        (&original, &[0]),
        (&worker, &[0, 2]),
    ] {
        assert_eq!(decoded(record, [MAX; 3]), Ok(()));
        for (field, high) in fields.iter().flat_map(|field| [(*field, text), (*field, number)]) {
            let mut numbers = [MAX; 3];
            numbers[field] = high;
            let Err(RecordFault::Corrupt(why)) = decoded(record, numbers) else {
                panic!("{numbers:?} were believed");
            };
            let what = if field == 0 { "version" } else { "fence" };
            let says = format!("{} is no {what}: the highest is {MAX}", high.trim_matches('"'));
            assert!(why.contains(&says), "{why}");
        }
    }
}

#[test]
fn records_from_before_nodes_had_sessions_are_of_none() {
    let node = br#"{"name":"n1","address":"x","incarnation":"r","sequence":"7","holdfast":{"v":1}}"#;
    let row = record::decode_node(&"n1".into(), node).unwrap();
    assert_eq!((row.sequence, row.session, row.lapsed), (7, 0, 0));
    let worker = br#"{"version":"2","workerNamespace":"ns","workerPool":"p","workerPod":"w","actorId":"a",
        "holdfast":{"v":1,"hosts":{"incarnation":"1","fence":"2"}}}"#;
    assert_eq!(
        record::decode_any_worker(worker).unwrap().hosts.unwrap().session,
        0
    );
    let actor =
        br#"{"version":"1","actorId":"id1","status":"STATUS_RUNNING","ateomPodName":"p","atespace":"team-a",
        "holdfast":{"v":1,"worker":{"incarnation":"i","node":"n","fence":"2"}}}"#;
    let actor = record::decode_actor(&ActorKey::new("team-a", "id1"), actor).unwrap();
    assert_eq!(actor.assignment().unwrap().session, 0);
}

fn adopt(json: &str) -> Actor {
    record::decode_actor(&ActorKey::new("team-a", "id1"), json.as_bytes()).unwrap()
}

/// An actor of the original, with a pod and these further fields.
fn with_pod(fields: &str) -> Actor {
    adopt(&format!(
        r#"{{"actorId":"id1","version":"5","actorTemplateNamespace":"ns","actorTemplateName":"tmpl",
            "ateomPodNamespace":"ns","ateomPodName":"pod","ateomPodIp":"10.0.0.1","ateomPodUid":"u",
            "workerPoolName":"pool","atespace":"team-a",{fields}}}"#
    ))
}

fn pod(node: &str) -> Assignment {
    Assignment {
        worker: WorkerKey::new("ns", "pool", "pod"),
        pod_uid: "u".into(),
        incarnation: Name::default(),
        ip: "10.0.0.1".into(),
        node: node.into(),
        fence: Fence(0),
        session: 0,
    }
}

const OP: OpId = OpId {
    replica: ReplicaId(0),
    seq: 5,
};

#[test]
fn the_originals_actor_reads_as_it_is() {
    let actor = adopt(
        r#"{"actorId":"id1","version":"1","actorTemplateNamespace":"ns","actorTemplateName":"tmpl","status":"STATUS_SUSPENDED","latestSnapshotInfo":{"type":"SNAPSHOT_TYPE_LOCAL","local":{"snapshotPrefix":"p","nodeVmsWithLocalSnapshots":[""]}},"workerSelector":{"matchLabels":{"a":"1"}},"atespace":"team-a"}"#,
    );
    assert_eq!(actor.version, Version(1));
    assert_eq!(actor.incarnation, Incarnation(0));
    assert_eq!(
        (actor.template_namespace.as_str(), actor.template_name.as_str()),
        ("ns", "tmpl")
    );
    assert_eq!(
        actor.latest,
        Some(Snapshot::Local {
            name: "p".into(),
            nodes: vec![]
        })
    );
    assert_eq!(
        actor.state,
        State::Paused,
        "asleep on a disk is PAUSED, whatever the original calls it"
    );
    assert_eq!(actor.selector.match_labels, [("a".into(), "1".into())].into());
    assert_eq!((actor.claim, actor.last_external, actor.loss), (None, None, None));
}

#[test]
fn the_originals_worker_reads_as_it_is() {
    let json = r#"{"workerNamespace":"ns","workerPool":"pool","workerPod":"pod","actorId":"id1","ip":"10.0.0.1","version":"2","workerPodUid":"u","nodeName":"n1"}"#;
    let key = WorkerKey::new("ns", "pool", "pod");
    assert_eq!(
        record::decode_worker(&key, json.as_bytes()),
        Ok(Worker {
            key: key.clone(),
            version: Version(2),
            pod_uid: "u".into(),
            incarnation: Name::default(),
            ip: "10.0.0.1".into(),
            node: "n1".into(),
            duty: Duty::Serving,
            hosts: Some(Hosted {
                actor: ActorKey::new("", "id1"),
                incarnation: Incarnation(0),
                template_namespace: Name::default(),
                template_name: Name::default(),
                fence: Fence(0),
                session: 0,
            }),
        })
    );
}

#[test]
fn numbers_snake_case_and_enum_numbers_are_read_too() {
    let actor = adopt(
        r#"{ "actor_id":"id1", "version":7, "status":7, "in_progress_snapshot":"gs://b/s", "atespace":"team-a",
             "latest_snapshot_info":{"type":2,"external":{"snapshot_uri_prefix":"gs://b/old"}} }"#,
    );
    assert_eq!(actor.version, Version(7));
    assert_eq!(actor.status(), Status::Crashed);
    assert!(matches!(
        &actor.state,
        State::Crashed(Crash {
            during: Transition::Suspend,
            ..
        })
    ));
    assert_eq!(actor.latest, Some(Snapshot::External("gs://b/old".into())));
    assert_eq!(actor.last_external, Some("gs://b/old".into()));
}

#[test]
fn the_originals_transitions_get_an_operation_and_what_is_known_of_the_worker() {
    let on = || pod("");
    assert_eq!(
        with_pod(r#""status":"STATUS_RESUMING""#).state,
        State::Resuming {
            op: OP,
            on: on(),
            boot: Boot::Golden
        }
    );
    assert_eq!(
        with_pod(r#""status":"STATUS_RUNNING""#).state,
        State::Running { on: on() }
    );
    assert_eq!(
        with_pod(r#""status":"STATUS_SUSPENDING","inProgressSnapshot":"gs://b/s""#).state,
        State::Suspending {
            op: OP,
            from: Source::Worker(on()),
            snapshot: "gs://b/s".into()
        }
    );
    assert_eq!(
        with_pod(r#""status":"STATUS_PAUSING","inProgressSnapshot":"s""#).state,
        State::Pausing {
            op: OP,
            on: on(),
            snapshot: "s".into()
        }
    );
    let from_disk = r#""status":"STATUS_RUNNING","latestSnapshotInfo":{"type":"SNAPSHOT_TYPE_LOCAL","local":{"snapshotPrefix":"p","nodeVmsWithLocalSnapshots":["n1"]}}"#;
    assert_eq!(with_pod(from_disk).state, State::Running { on: pod("n1") });
}

#[test]
fn what_the_original_can_write_and_we_cannot_becomes_the_nearest_state() {
    let bare = |fields: &str| {
        adopt(&format!(
            r#"{{"actorId":"id1","version":"5","atespace":"team-a",{fields}}}"#
        ))
        .state
    };
    let local = r#""latestSnapshotInfo":{"type":"SNAPSHOT_TYPE_LOCAL","local":{"snapshotPrefix":"p","nodeVmsWithLocalSnapshots":["n1"]}}"#;
    for status in [
        "RESUMING",
        "RUNNING",
        "SUSPENDING",
        "PAUSING",
        "PAUSED",
        "SUSPENDED",
    ] {
        assert_eq!(
            bare(&format!(r#""status":"STATUS_{status}""#)),
            State::Suspended,
            "{status}"
        );
        assert_eq!(
            bare(&format!(r#""status":"STATUS_{status}",{local}"#)),
            State::Paused,
            "{status}"
        );
    }
    assert_eq!(
        with_pod(r#""status":"STATUS_SUSPENDING""#).state,
        State::Running { on: pod("") }
    );
}

fn fault(json: &str) -> RecordFault {
    let error = record::decode_actor(&ActorKey::new("team-a", "id1"), json.as_bytes()).unwrap_err();
    assert_eq!(error.key, "actor:team-a:id1");
    error.cause
}

#[test]
fn a_record_of_a_newer_format_is_refused_as_that_even_where_its_fields_are_unknown() {
    for json in [
        r#"{"version":"1","actorId":"id1","status":"STATUS_SUSPENDED","atespace":"team-a","holdfast":{"v":2}}"#,
        r#"{"version":"1","tomorrow":true,"holdfast":{"v":2,"next":[]}}"#,
    ] {
        assert_eq!(fault(json), RecordFault::Newer { found: 2 });
    }
}

#[test]
fn a_record_that_says_less_than_its_state_needs_is_corrupt() {
    let ours = |status: &str, rest: &str| {
        fault(&format!(
            r#"{{"version":"1","actorId":"id1","status":"{status}","atespace":"team-a","holdfast":{{"v":1{rest}}}}}"#
        ))
    };
    let corrupt = |text: &str| RecordFault::Corrupt(text.into());
    assert_eq!(ours("STATUS_RUNNING", ""), corrupt("holdfast.worker is missing"));
    assert_eq!(ours("STATUS_RESUMING", ""), corrupt("holdfast.op is missing"));
    assert_eq!(ours("STATUS_CRASHED", ""), corrupt("holdfast.crash is missing"));
    let suspending = r#","op":"0000000000000001-1","source":"n1""#;
    assert_eq!(
        ours("STATUS_SUSPENDING", suspending),
        corrupt("inProgressSnapshot is missing")
    );
    assert!(
        matches!(ours("STATUS_NAPPING", ""), RecordFault::Corrupt(text) if text.contains("STATUS_NAPPING"))
    );
}

#[test]
fn what_the_original_is_not_writing_any_more_is_not_in_progress() {
    let in_progress = |status: &str, latest: &str| {
        let json = format!(
            r#"{{"actorId":"id1","version":"5","status":"STATUS_{status}","inProgressSnapshot":"left","atespace":"team-a"{latest}}}"#
        );
        adopt(&json).in_progress
    };
    let local = r#","latestSnapshotInfo":{"type":1,"local":{"snapshotPrefix":"p","nodeVmsWithLocalSnapshots":["n1"]}}"#;
    for (status, latest) in [
        ("SUSPENDED", ""),
        ("PAUSED", local),
        ("SUSPENDING", local),
        ("PAUSING", ""),
    ] {
        assert_eq!(in_progress(status, latest), None, "{status}");
    }
    assert_eq!(in_progress("CRASHED", ""), Some("left".into()));
}

#[test]
fn other_damage_is_named() {
    for (json, words) in [
        ("", "not a JSON object"),
        ("{", "EOF"),
        ("[]", "not a JSON object"),
        (r#"{"actorId":"id1","atespace":"team-a"}"#, "status is missing"),
        (r#"{"actorId":"id1","atespace":"team-a","version":"-1"}"#, "-1"),
        (r#"{"actorId":"id1","atespace":"team-a","version":"+1"}"#, "+1"),
        (
            r#"{"actorId":"id1","atespace":"team-a","mood":"good"}"#,
            "unknown field `mood`",
        ),
        (
            r#"{"actorId":"id1","atespace":"team-a","status":4,"holdfast":{}}"#,
            "there is no format 0",
        ),
        (
            r#"{"actorId":"id1","atespace":"team-a","status":4,"holdfast":{"v":1,"incarnation":"1","garbage":[{"snapshot":{},"since":"1"}]}}"#,
            "a snapshot is named that is none",
        ),
        (
            r#"{"actorId":"id1","atespace":"team-a","status":4,"latestSnapshotInfo":{"type":1}}"#,
            "disagree",
        ),
    ] {
        let RecordFault::Corrupt(text) = fault(json) else {
            panic!("{json}")
        };
        assert!(text.contains(words), "{json}: {text}");
    }
    let elsewhere = r#"{"actorId":"id2","version":"1","atespace":"team-a","status":4}"#;
    assert_eq!(
        fault(elsewhere),
        RecordFault::Misplaced {
            found: "actor:team-a:id2".into()
        }
    );
}
