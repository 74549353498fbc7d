//! What the CRDs let in is what is read here, and what they refuse is refused here: a template that the API server
//! accepts and nobody can use would be found out by its first actor.
//!
//! Rules that a CRD states in CEL are not evaluated; that it states one there is looked for.

use holdfast_manifests::Declared;
use holdfast_tests::kubernetes::Crd;
use serde_json::{Value, json};

const TEMPLATES: &str = include_str!("../../../deploy/crds/actortemplates.yaml");
const POOLS: &str = include_str!("../../../deploy/crds/workerpools.yaml");
const CONFIGS: &str = include_str!("../../../deploy/crds/sandboxconfigs.yaml");

/// Who refuses a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// Nobody.
    None,
    /// The schema of the CRD, and our parser.
    Schema,
    /// A rule in CEL at this field, and our parser.
    Cel(&'static str),
    /// Our parser alone: what no node could work with.
    Parser,
}

fn template() -> Value {
    let image = |name: &str| format!("{name}@sha256:{}", "0".repeat(64));
    json!({
        "apiVersion": "ate.dev/v1alpha1", "kind": "ActorTemplate",
        "metadata": {"namespace": "team", "name": "counter"},
        "spec": {
            "pauseImage": image("pause"),
            "sandboxClass": "gvisor",
            "snapshotsConfig": {"location": "gs://snapshots/counter", "onPause": "Full", "onCommit": "Data"},
            "volumes": [{"name": "data", "durableDir": {}}],
            "workerSelector": {
                "matchLabels": {"tier": "gold"},
                "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}],
            },
            "containers": [{
                "name": "main", "image": image("main"), "command": ["/main"],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
                ],
                "readyz": {"httpGet": {"path": "/readyz", "port": 80}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
        "status": {"phase": "Ready", "goldenSnapshot": "gs://snapshots/golden"},
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "ate.dev/v1alpha1", "kind": "WorkerPool",
        "metadata": {"namespace": "team", "name": "pool", "labels": {"tier": "gold"}},
        "spec": {
            "replicas": 3, "ateomImage": "ateom", "sandboxClass": "gvisor", "sandboxConfigName": "stable",
            "template": {"tolerations": [{"key": "x", "operator": "Exists"}], "nodeSelector": {"a": "b"}},
        },
    })
}

fn config() -> Value {
    json!({
        "apiVersion": "ate.dev/v1alpha1", "kind": "SandboxConfig", "metadata": {"name": "stable"},
        "spec": {
            "sandboxClass": "gvisor", "default": true,
            "assets": {"amd64": {"runsc": {"url": "gs://gvisor/runsc", "sha256": "a".repeat(64)}}},
        },
    })
}

/// Puts each value where its pointer says, `null` for nothing, and asks both.
#[track_caller]
fn compare(crd: &str, whole: &Value, cases: &[(&str, Value, By)]) {
    let crd = Crd::read(crd).unwrap();
    let rules = crd.cel_rules();
    let mut surprises = Vec::new();
    for (pointer, value, by) in cases {
        let mut object = whole.clone();
        put(&mut object, pointer, value.clone());
        let by_schema = crd.admit(&mut object, None).err();
        let by_parser = Declared::read(&object).err().map(|refused| refused.to_string());
        let (schema, parser) = match by {
            By::None => (false, false),
            By::Schema => (true, true),
            By::Cel(field) => {
                assert!(
                    rules.iter().any(|(at, _)| at == field),
                    "{field}: no rule in CEL; there are {rules:?}"
                );
                (false, true)
            }
            By::Parser => (false, true),
        };
        if (by_schema.is_some(), by_parser.is_some()) != (schema, parser) {
            surprises.push(format!(
                "{pointer} {value}: {by:?}\n  CRD: {by_schema:?}\n  parser: {by_parser:?}"
            ));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match parent {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
        fields if value.is_null() => drop(fields.as_object_mut().unwrap().remove(field)),
        fields => fields[field] = value,
    }
}

#[test]
fn templates_are_let_in_and_read_alike() {
    let container =
        |n: usize| json!({"name": format!("c{n}"), "image": format!("i@sha256:{}", "0".repeat(64))});
    let many =
        |count: usize, item: &dyn Fn(usize) -> Value| Value::from((0..count).map(item).collect::<Vec<_>>());
    let env = |n: usize| json!({"name": format!("E{n}"), "value": ""});
    let cases = [
        ("/spec/sandboxClass", Value::Null, By::None),
        ("/spec/sandboxClass", json!("kata"), By::Schema),
        ("/spec/pauseImage", Value::Null, By::Schema),
        (
            "/spec/pauseImage",
            json!("pause:latest"),
            By::Cel("spec.pauseImage"),
        ),
        ("/spec/pauseImage", json!("pause@sha256:short"), By::Parser),
        ("/spec/snapshotsConfig", Value::Null, By::Schema),
        ("/spec/snapshotsConfig/location", json!(""), By::Schema),
        ("/spec/snapshotsConfig/location", json!("nowhere"), By::Parser),
        ("/spec/snapshotsConfig/onPause", json!("full"), By::Schema),
        ("/spec/snapshotsConfig/onPause", Value::Null, By::None),
        ("/spec/snapshotsConfig/onPause", json!("Data"), By::None),
        (
            "/spec/snapshotsConfig",
            json!({"location": "gs://a/b", "onPause": "Data", "onCommit": "Full"}),
            By::Cel("spec.snapshotsConfig"),
        ),
        (
            "/spec/volumes/0/durableDir",
            Value::Null,
            By::Cel("spec.volumes[]"),
        ),
        ("/spec/volumes/0/name", json!("Data"), By::Schema),
        (
            "/spec/volumes",
            json!([{"name": "data", "durableDir": {}}, {"name": "more", "durableDir": {}}]),
            By::Cel("spec"),
        ),
        (
            "/spec/workerSelector/matchExpressions/0/operator",
            json!("Near"),
            By::Schema,
        ),
        (
            "/spec/workerSelector/matchExpressions/0/values",
            Value::Null,
            By::Parser,
        ),
        ("/spec/workerSelector/matchLabels/tier", json!(7), By::Schema),
        ("/spec/containers/0/name", json!("-main"), By::Schema),
        ("/spec/containers/0/name", json!("m".repeat(64)), By::Schema),
        (
            "/spec/containers/0/name",
            json!("pause"),
            By::Cel("spec.containers[].name"),
        ),
        ("/spec/containers/0/image", Value::Null, By::Schema),
        (
            "/spec/containers/0/image",
            json!("main"),
            By::Cel("spec.containers[].image"),
        ),
        ("/spec/containers", many(10, &container), By::None),
        ("/spec/containers", many(11, &container), By::Schema),
        ("/spec/containers/0/command", many(64, &|_| json!("x")), By::None),
        (
            "/spec/containers/0/command",
            many(65, &|_| json!("x")),
            By::Schema,
        ),
        ("/spec/containers/0/env", many(33, &env), By::Schema),
        ("/spec/containers/0/env/0/name", json!(""), By::Schema),
        ("/spec/containers/0/env/0/name", json!("A=B"), By::Schema),
        (
            "/spec/containers/0/env/0/value",
            Value::Null,
            By::Cel("spec.containers[].env[]"),
        ),
        (
            "/spec/containers/0/env/1/value",
            json!("both"),
            By::Cel("spec.containers[].env[]"),
        ),
        ("/spec/containers/0/env/1/valueFrom", json!({}), By::Schema),
        (
            "/spec/containers/0/env/1/valueFrom/secretKeyRef/name",
            json!("S!"),
            By::Schema,
        ),
        (
            "/spec/containers/0/env/1/valueFrom/secretKeyRef/key",
            json!("a/b"),
            By::Schema,
        ),
        (
            "/spec/containers/0/env/1/valueFrom/secretKeyRef/optional",
            json!("yes"),
            By::Schema,
        ),
        ("/spec/containers/0/readyz/httpGet", Value::Null, By::Schema),
        ("/spec/containers/0/readyz/httpGet/path", Value::Null, By::None),
        (
            "/spec/containers/0/readyz/httpGet/path",
            json!("readyz"),
            By::Schema,
        ),
        (
            "/spec/containers/0/readyz/httpGet/path",
            json!("/a?b"),
            By::Schema,
        ),
        ("/spec/containers/0/readyz/httpGet/path", json!("/%4"), By::Schema),
        ("/spec/containers/0/readyz/httpGet/port", json!(0), By::Schema),
        ("/spec/containers/0/readyz/httpGet/port", json!(65536), By::Schema),
        ("/spec/containers/0/readyz/httpGet/port", json!("80"), By::Schema),
        ("/status/phase", json!("Ready"), By::None),
        ("/spec", Value::Null, By::Schema),
    ];
    compare(TEMPLATES, &template(), &cases);
}

#[test]
fn mount_paths_are_let_in_and_read_alike() {
    let good = ["/a", "/a/b", "/.a", "/..a", "/a/.../b", "/a b", "/a.b", "/\u{e9}"];
    let bad = [
        "", "/", "a", "/a/", "//a", "/a//b", "/.", "/..", "/a/./b", "/a/..", "/a:b", "/a\nb", "/\u{7f}",
        "/..:",
    ];
    let at = "/spec/containers/0/volumeMounts/0/mountPath";
    let cases: Vec<(&str, Value, By)> = good
        .iter()
        .map(|path| (at, json!(path), By::None))
        .chain(bad.iter().map(|path| (at, json!(path), By::Schema)))
        .chain([(at, json!(format!("/{}", "x".repeat(4096))), By::Schema)])
        .collect();
    compare(TEMPLATES, &template(), &cases);
}

#[test]
fn a_microvm_has_no_durable_directories() {
    let mut object = template();
    object["spec"]["sandboxClass"] = json!("microvm");
    compare(
        TEMPLATES,
        &object,
        &[
            ("/spec/sandboxClass", json!("microvm"), By::Cel("spec")),
            ("/spec/sandboxClass", json!("gvisor"), By::None),
        ],
    );
}

#[test]
fn pools_are_let_in_and_read_alike() {
    let tolerations = Value::from(vec![json!({"key": "x"}); 17]);
    let cases = [
        ("/spec/replicas", json!(0), By::None),
        ("/spec/replicas", json!(-1), By::Schema),
        ("/spec/replicas", json!(1.5), By::Schema),
        ("/spec/replicas", Value::Null, By::Schema),
        ("/spec/ateomImage", json!(""), By::Schema),
        ("/spec/ateomImage", Value::Null, By::Schema),
        ("/spec/sandboxClass", Value::Null, By::None),
        ("/spec/sandboxClass", json!("runc"), By::Schema),
        ("/spec/sandboxConfigName", Value::Null, By::None),
        ("/spec/template/tolerations", tolerations, By::Schema),
        ("/spec/template", Value::Null, By::None),
    ];
    compare(POOLS, &pool(), &cases);
}

#[test]
fn sandbox_configurations_are_let_in_and_read_alike() {
    let cases = [
        ("/spec/sandboxClass", Value::Null, By::None),
        ("/spec/sandboxClass", json!("microvm"), By::Cel("spec")),
        ("/spec/default", json!("true"), By::Schema),
        ("/spec/assets", Value::Null, By::None),
        ("/spec/assets/amd64", json!({}), By::Cel("spec")),
        ("/spec/assets/amd64/runsc/url", json!(""), By::Schema),
        (
            "/spec/assets/amd64/runsc/sha256",
            json!("A".repeat(64)),
            By::Schema,
        ),
        (
            "/spec/assets/amd64/runsc/sha256",
            json!("a".repeat(63)),
            By::Schema,
        ),
        ("/spec/assets/amd64/runsc/sha256", Value::Null, By::Schema),
    ];
    compare(CONFIGS, &config(), &cases);
}

#[test]
fn the_spec_of_a_template_cannot_change() {
    let rules = Crd::read(TEMPLATES).unwrap().cel_rules();
    assert!(
        rules.contains(&("spec".to_owned(), "self == oldSelf".to_owned())),
        "{rules:?}"
    );
}

#[test]
fn fields_that_nobody_knows_are_dropped_before_they_are_read() {
    let mut object = template();
    object["spec"]["invented"] = json!(1);
    object["spec"]["containers"][0]["invented"] = json!({"deep": []});
    Crd::read(TEMPLATES).unwrap().admit(&mut object, None).unwrap();
    assert!(object["spec"]["invented"].is_null() && object["spec"]["containers"][0]["invented"].is_null());
    assert!(Declared::read(&object).is_ok());
}
