use super::*;
use holdfast_core::id::{Fence, Incarnation, OpId, ReplicaId};
use tonic::Code;

const ARCH: &str = "amd64";

fn spec() -> atelet::WorkloadSpec {
    atelet::WorkloadSpec {
        pause_image: "pause:1".into(),
        containers: vec![atelet::Container {
            name: "main".into(),
            image: "app:1".into(),
            command: vec!["/app".into()],
            env: vec![atelet::EnvEntry {
                name: "TOKEN".into(),
                value: "hunter2".into(),
            }],
            readyz: Some(atelet::Readyz {
                http_get: Some(atelet::HttpGetAction {
                    path: "/readyz".into(),
                    port: 8080,
                }),
            }),
            volume_mounts: vec![atelet::VolumeMount {
                name: "data".into(),
                mount_path: "/data".into(),
            }],
        }],
        volumes: vec![atelet::Volume {
            name: "data".into(),
            r#type: VolumeType::DurableDir as i32,
            source: None,
        }],
    }
}

fn run_request() -> RunRequest {
    let files = [("runsc".into(), atelet::AssetFile::default())].into();
    RunRequest {
        target_ateom_uid: "uid-1".into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter.v1".into(),
        actor_id: "a1".into(),
        spec: Some(spec()),
        sandbox_assets: Some(atelet::SandboxAssets {
            sandbox_class: "gvisor".into(),
            assets: [(ARCH.into(), atelet::ArchAssets { files })].into(),
        }),
    }
}

fn checkpoint_request() -> CheckpointRequest {
    let run = run_request();
    CheckpointRequest {
        target_ateom_uid: run.target_ateom_uid,
        actor_template_namespace: run.actor_template_namespace,
        actor_template_name: run.actor_template_name,
        actor_id: run.actor_id,
        spec: run.spec,
        r#type: CheckpointType::External as i32,
        config: Some(atelet::checkpoint_request::Config::ExternalConfig(
            ExternalCheckpointConfiguration {
                snapshot_uri_prefix: "gs://bucket/a1/s1".into(),
            },
        )),
        scope: SnapshotScope::Full as i32,
    }
}

fn restore_request() -> RestoreRequest {
    let checkpoint = checkpoint_request();
    RestoreRequest {
        target_ateom_uid: checkpoint.target_ateom_uid,
        actor_template_namespace: checkpoint.actor_template_namespace,
        actor_template_name: checkpoint.actor_template_name,
        actor_id: checkpoint.actor_id,
        spec: checkpoint.spec,
        r#type: CheckpointType::Local as i32,
        config: Some(atelet::restore_request::Config::LocalConfig(
            LocalCheckpointConfiguration {
                snapshot_prefix: "s1".into(),
            },
        )),
        scope: SnapshotScope::Data as i32,
    }
}

/// The refusal of a request that was good until `spoil` had it.
fn refusal<T, R>(
    mut message: T,
    spoil: fn(&mut T),
    read: impl Fn(Request<T>) -> Result<R, Status>,
) -> String {
    spoil(&mut message);
    let status = read(Request::new(message))
        .map(|_| ())
        .expect_err("it is spoiled");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.message().to_owned()
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of";

#[test]
fn an_order_has_all_that_the_request_says() {
    let credentials = Credentials {
        actor_fence: Some(Fence(4)),
        worker_fence: Some(Fence(5)),
        operation: Some(OpId {
            replica: ReplicaId(1),
            seq: 2,
        }),
        incarnation: Some(Incarnation(6)),
        atespace: Some("team-a".into()),
        session: Some(7),
        run: Some("a1".into()),
        until: None,
    };
    let mut request = Request::new(run_request());
    credentials.write(request.metadata_mut()).unwrap();
    let order = run(request, ARCH).unwrap();
    assert_eq!((order.fence, order.worker_fence), (Fence(4), Fence(5)));
    assert_eq!(
        (order.op, order.incarnation),
        (credentials.operation, Incarnation(6))
    );
    assert_eq!((order.session, order.run.as_str()), (7, "a1"));
    assert_eq!(order.actor, ActorKey::new("team-a", "a1"));
    assert_eq!(order.template, ("ns".into(), "counter.v1".into()));
    let container = &order.workload.containers[0];
    assert_eq!(container.env[0].value, EnvValue::Literal("hunter2".into()));
    assert_eq!(container.mounts[0].path.as_str(), "/data");
    assert_eq!(container.readyz.as_ref().map(|r| r.port), Some(8080));
    assert_eq!(order.workload.durable_volumes, ["data".into()]);
    let Verb::Run { assets } = &order.verb else {
        panic!("{:?}", order.verb)
    };
    assert!(assets.assets[&Name::from(ARCH)].contains_key(&Name::from("runsc")));

    let order = checkpoint(Request::new(checkpoint_request())).unwrap();
    let to = Place::External("gs://bucket/a1/s1".into());
    assert_eq!(
        order.verb,
        Verb::Checkpoint {
            to,
            scope: Scope::Full
        }
    );
    let order = restore(Request::new(restore_request())).unwrap();
    let from = Place::Local("s1".into());
    assert_eq!(
        order.verb,
        Verb::Restore {
            from,
            scope: Scope::Data
        }
    );
}

#[test]
fn a_control_plane_that_sends_no_metadata_has_no_fences_and_no_operations() {
    let order = restore(Request::new(restore_request())).unwrap();
    assert_eq!(
        (order.fence, order.worker_fence, order.op),
        (Fence(0), Fence(0), None)
    );
    assert_eq!(
        (order.incarnation, order.actor.atespace.as_str()),
        (Incarnation(0), "")
    );
}

#[test]
fn what_is_wrong_with_a_run_is_said_in_the_originals_words_and_order() {
    type Spoil = fn(&mut RunRequest);
    fn main(request: &mut RunRequest) -> &mut atelet::Container {
        &mut request.spec.as_mut().unwrap().containers[0]
    }
    let cases: [(&str, Spoil); 15] = [
        ("invalid namespace \"N\": ", |r| {
            r.actor_template_namespace = "N".into();
            r.target_ateom_uid.clear();
        }),
        ("invalid template \"a_b\": ", |r| {
            r.actor_template_name = "a_b".into()
        }),
        ("invalid actor ID \"../a\": ", |r| r.actor_id = "../a".into()),
        (
            "is 267 bytes; the combined path component must be at most 255",
            |r| {
                r.actor_template_name = vec!["t".repeat(60); 4].join(".");
                r.actor_id = "a".repeat(20);
            },
        ),
        ("invalid target ateom UID \"\": ", |r| {
            r.target_ateom_uid.clear();
            main(r).name = "pause".into();
        }),
        (
            "invalid container name \"pause\": reserved for sandbox infrastructure",
            |r| main(r).name = "pause".into(),
        ),
        ("invalid container name \"A\": ", |r| main(r).name = "A".into()),
        ("duplicate container name \"main\"", |r| {
            let again = main(r).clone();
            r.spec.as_mut().unwrap().containers.push(again);
            r.sandbox_assets = None;
        }),
        ("invalid volume name \"..\": ", |r| {
            r.spec.as_mut().unwrap().volumes[0].name = "..".into();
        }),
        (
            "volume \"data\" has unsupported type VOLUME_TYPE_UNSPECIFIED",
            |r| {
                r.spec.as_mut().unwrap().volumes[0].r#type = 0;
            },
        ),
        ("duplicate volume name \"data\"", |r| {
            let spec = r.spec.as_mut().unwrap();
            spec.volumes.push(spec.volumes[0].clone());
        }),
        (
            "container \"main\" mounts volume \"x\", which the spec does not have",
            |r| main(r).volume_mounts[0].name = "x".into(),
        ),
        ("container \"main\": readyz port 65536 is not 1 to 65535", |r| {
            main(r).readyz.as_mut().unwrap().http_get.as_mut().unwrap().port = 65536;
        }),
        ("missing sandbox_assets", |r| r.sandbox_assets = None),
        ("sandbox_assets has no assets for architecture \"amd64\"", |r| {
            r.sandbox_assets.as_mut().unwrap().assets.clear();
        }),
    ];
    for (part, spoil) in cases {
        let text = refusal(run_request(), spoil, |request| run(request, ARCH));
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    let text = refusal(
        run_request(),
        |r| r.actor_id.clear(),
        |request| run(request, ARCH),
    );
    assert!(text.contains(LABEL), "{text}");
}

#[test]
fn what_is_wrong_with_a_snapshot_is_said_in_the_originals_words() {
    use atelet::checkpoint_request::Config;
    type Spoil = fn(&mut CheckpointRequest);
    fn prefix(request: &mut CheckpointRequest, prefix: &str) {
        request.config = Some(Config::ExternalConfig(ExternalCheckpointConfiguration {
            snapshot_uri_prefix: prefix.into(),
        }));
    }
    fn local(request: &mut CheckpointRequest, prefix: &str) {
        request.r#type = CheckpointType::Local as i32;
        request.config = Some(Config::LocalConfig(LocalCheckpointConfiguration {
            snapshot_prefix: prefix.into(),
        }));
    }
    let cases: [(&str, Spoil); 11] = [
        ("snapshot scope must be non-zero", |r| {
            r.scope = 0;
            r.r#type = 0;
        }),
        ("invalid snapshot scope: 9", |r| r.scope = 9),
        ("invalid snapshot URI prefix \"gs:///a\": missing bucket", |r| {
            prefix(r, "gs:///a")
        }),
        ("invalid snapshot URI prefix \"\": missing bucket", |r| {
            r.config = None
        }),
        (
            "invalid snapshot URI prefix \"gs://b/a?x\": must contain only a scheme, bucket, and path",
            |r| prefix(r, "gs://b/a?x"),
        ),
        (
            "invalid snapshot URI prefix \"gs://u@b/a\": must contain only a scheme, bucket, and path",
            |r| prefix(r, "gs://u@b/a"),
        ),
        ("invalid path segment \"..\"", |r| prefix(r, "gs://b/../a")),
        (
            "snapshot prefix must be non-empty for type CHECKPOINT_TYPE_LOCAL",
            |r| local(r, ""),
        ),
        ("invalid snapshot prefix \"../a\"", |r| local(r, "../a")),
        ("invalid checkpoint type: CHECKPOINT_TYPE_UNSPECIFIED", |r| {
            r.r#type = 0
        }),
        ("invalid checkpoint type: 7", |r| r.r#type = 7),
    ];
    for (part, spoil) in cases {
        let text = refusal(checkpoint_request(), spoil, checkpoint);
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    let text = refusal(restore_request(), |r| r.scope = 0, restore);
    assert_eq!(text, "snapshot scope must be non-zero");
    let text = refusal(restore_request(), |r| r.config = None, restore);
    assert_eq!(
        text,
        "snapshot prefix must be non-empty for type CHECKPOINT_TYPE_LOCAL"
    );
}

#[test]
fn an_upload_names_a_snapshot_and_perhaps_a_worker() {
    let request = || UploadRequest {
        atespace: "team-a".into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "t".into(),
        actor_id: "a1".into(),
        snapshot_prefix: "s1".into(),
        snapshot_uri_prefix: "gs://bucket/s1".into(),
        ..UploadRequest::default()
    };
    let order = upload(Request::new(request())).unwrap();
    assert_eq!(order.worker, PodUid::default());
    assert_eq!(order.actor, ActorKey::new("team-a", "a1"));
    for (part, spoil) in [
        (
            "invalid target ateom UID",
            (|r| r.target_ateom_uid = "a/b".into()) as fn(&mut UploadRequest),
        ),
        ("invalid snapshot prefix", |r| r.snapshot_prefix = "..".into()),
        ("invalid snapshot URI prefix", |r| {
            r.snapshot_uri_prefix = "x".into()
        }),
        ("invalid atespace", |r| r.atespace = "A".into()),
    ] {
        let text = refusal(request(), spoil, upload);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_to_be_discarded_is_named_by_names_that_lead_nowhere_else() {
    let request = || DiscardRequest {
        atespace: "team-a".into(),
        actor_template_namespace: "ns".into(),
        actor_template_name: "counter.v1".into(),
        actor_id: "a1".into(),
        snapshot_prefixes: vec!["a1-1".into()],
        snapshot_uri_prefixes: vec!["gs://b/s/a1-2".into()],
    };
    let read = discard(Request::new(request())).unwrap();
    assert_eq!(read.actor.to_string(), "team-a/ns:counter.v1:a1");
    assert_eq!((read.local.len(), read.external.len()), (1, 1));
    for (part, spoil) in [
        (
            "actor",
            (|r| r.actor_id = "../a1".into()) as fn(&mut DiscardRequest),
        ),
        ("atespace", |r| r.atespace = "..".into()),
        ("invalid snapshot prefix", |r| {
            r.snapshot_prefixes.push("..".into())
        }),
        ("invalid snapshot prefix", |r| {
            r.snapshot_prefixes.push("a/b".into())
        }),
        ("invalid snapshot URI prefix", |r| {
            r.snapshot_uri_prefixes.push("gs://b/s/../t".into())
        }),
        ("it names a bucket", |r| {
            r.snapshot_uri_prefixes.push("gs://b/".into())
        }),
        ("too many", |r| r.snapshot_prefixes = vec!["a".into(); 1025]),
    ] {
        let text = refusal(request(), spoil, discard);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn malformed_metadata_is_refused_once_the_rest_is_in_order() {
    let mut request = Request::new(restore_request());
    request
        .metadata_mut()
        .insert("holdfast-actor-fence", "-1".parse().unwrap());
    let status = restore(request).map(|_| ()).unwrap_err();
    assert!(status.message().contains("holdfast-actor-fence"), "{status:?}");
}
