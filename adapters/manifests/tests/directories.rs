//! What a directory of manifests becomes.

use std::fs;
use std::path::Path;

use holdfast_core::catalog::{EnvValue, Operator, Presence, Scope, Selector};
use holdfast_core::id::Name;
use holdfast_manifests::{Fault, Manifests, load};

const POOL: &str = "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool}
spec: {replicas: 3, ateomImage: ateom}
";

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn loaded(files: &[(&str, &str)]) -> Result<Manifests, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    let prefix = format!("{}/", dir.path().display());
    load(dir.path()).map_err(|errors| {
        errors
            .iter()
            .map(|e| e.to_string().replace(&prefix, ""))
            .collect()
    })
}

fn name(text: &str) -> Name {
    Name::from(text)
}

#[test]
fn a_template_arrives_in_the_catalog_with_defaults_filled_in() {
    let text = r#"
apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: counter, namespace: team}
spec:
  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000
  snapshotsConfig: {location: "s3://bucket/a/", onCommit: Data}
  volumes: [{name: data, durableDir: {}}]
  workerSelector:
    matchLabels: {tier: gold}
    matchExpressions: [{key: zone, operator: NotIn, values: [a]}]
  containers:
  - name: main
    image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111
    command: [/counter]
    env:
    - {name: A, value: ""}
    - {name: B, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}
    - {name: C, valueFrom: {secretKeyRef: {name: s, key: k}}}
    readyz: {httpGet: {port: 8080}}
    volumeMounts: [{name: data, mountPath: /data}]
status: {goldenSnapshot: "s3://bucket/golden", phase: Ready}
"#;
    let manifests = loaded(&[("t.yml", text)]).unwrap();
    let template = manifests
        .catalog
        .template(&name("team"), &name("counter"))
        .unwrap();
    assert_eq!(
        template.workload.pause_image,
        name("pause@sha256:0000000000000000000000000000000000000000000000000000000000000000")
    );
    assert_eq!(template.workload.durable_volumes, [name("data")]);
    assert_eq!(
        template.snapshot_location,
        name("s3://bucket/a"),
        "one slash less"
    );
    assert_eq!(
        (template.on_pause, template.on_commit),
        (Scope::Full, Scope::Data)
    );
    assert_eq!(template.sandbox_class, name("gvisor"));
    assert_eq!(template.golden_snapshot, Some(name("s3://bucket/golden")));
    assert_eq!(
        template.worker_selector.equal.match_labels,
        [(name("tier"), name("gold"))].into()
    );
    assert_eq!(
        template.worker_selector.requirements[0].operator,
        Operator::NotIn(vec![name("a")])
    );
    let [container] = &template.workload.containers[..] else {
        panic!("one container")
    };
    assert_eq!(
        (&container.name, &container.image),
        (
            &name("main"),
            &name("counter@sha256:1111111111111111111111111111111111111111111111111111111111111111")
        )
    );
    assert_eq!(container.command, [name("/counter")]);
    let from_secret = |presence| EnvValue::Secret {
        secret: name("s"),
        key: name("k"),
        presence,
    };
    let values: Vec<_> = container.env.iter().map(|env| env.value.clone()).collect();
    let expected = [
        EnvValue::Literal(name("")),
        from_secret(Presence::Optional),
        from_secret(Presence::Required),
    ];
    assert_eq!(values, expected);
    let readyz = container.readyz.as_ref().unwrap();
    assert_eq!((&readyz.path, readyz.port), (&name("/readyz"), 8080));
    assert_eq!(container.mounts[0].path, name("/data"));
}

#[test]
fn pools_configurations_and_secrets_of_several_files_come_together() {
    let config = "apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {name: d}
spec:
  default: true
  assets: {amd64: {runsc: {url: /u, sha256: f18a948bf9c8bbb54eb998549a3a8d719a1c7de2efbe8fdd2ff0ee5fecd06f19}}}
---
# nothing here
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data:
  a: |
    AA
    H/
  b: aGlkZGVu
stringData: {b: taken, c: plain}
";
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nspec: {anything: goes}\n";
    let manifests = loaded(&[
        ("a.yaml", POOL),
        ("b.yml", config),
        ("c.yaml", other),
        ("d.txt", "not: [read"),
        (".hidden.yaml", "not: [read"),
        ("empty.yaml", ""),
    ])
    .unwrap();
    let [size] = &manifests.pools[..] else {
        panic!("one pool")
    };
    assert_eq!(
        (&size.namespace, &size.name, size.replicas),
        (&name("default"), &name("pool"), 3)
    );
    let pool = manifests.catalog.pools().next().unwrap();
    assert!(Selector::default().matches(&pool.labels) && pool.sandbox_config.is_none());
    let assets = manifests
        .catalog
        .assets(&(name("default"), name("pool")))
        .unwrap();
    assert_eq!(assets.assets[&name("amd64")][&name("runsc")].url, name("/u"));
    let secret = manifests.secrets.get(&name("default"), &name("s")).unwrap();
    assert_eq!(secret.get(&name("a")), Some(&[0, 1, 255][..]));
    assert_eq!(secret.get(&name("b")), Some(&b"taken"[..]), "stringData wins");
    assert_eq!(secret.get(&name("d")), None);
}

#[test]
fn a_kubernetes_list_is_read_as_its_items() {
    let text = "apiVersion: v1
kind: List
items:
- {apiVersion: ate.dev/v1alpha1, kind: WorkerPool, metadata: {name: a}, spec: {replicas: 1, ateomImage: x}}
- {apiVersion: ate.dev/v1alpha1, kind: WorkerPool, metadata: {name: b}, spec: {replicas: x, ateomImage: x}}
";
    let errors = loaded(&[("list.yaml", text)]).unwrap_err();
    let expected =
        "list.yaml:5:90: WorkerPool default/b: spec.replicas: \"x\": must be a whole number, not a string";
    assert_eq!(errors, [expected]);
    assert_eq!(
        loaded(&[("list.yaml", &text.replace("replicas: x", "replicas: 2"))])
            .unwrap()
            .pools
            .len(),
        2
    );
}

#[test]
fn all_faults_of_all_files_are_reported_in_order() {
    let errors = loaded(&[
        (
            "b.yaml",
            "a: [1\n---\napiVersion: ate.dev/v1alpha1\nkind: WorkerPool\nmetadata: {name: p}\nspec: {}\n",
        ),
        ("a.yaml", "just text\n---\n- 1\n---\nkind: X\n"),
    ])
    .unwrap_err();
    let expected = [
        "a.yaml:1:1: must be a mapping, not a string",
        "a.yaml:3:1: must be a mapping, not a list",
        "a.yaml:5:1: apiVersion: is required",
        "b.yaml:1:4: unclosed bracket '['",
        "b.yaml:6:7: WorkerPool default/p: spec.replicas: is required",
        "b.yaml:6:7: WorkerPool default/p: spec.ateomImage: is required",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn the_same_object_twice_is_refused_with_both_places() {
    let errors = loaded(&[("a.yaml", POOL), ("b.yaml", &format!("# moved\n{POOL}"))]).unwrap_err();
    let [error] = &errors[..] else {
        panic!("{errors:#?}")
    };
    assert!(
        error.starts_with("b.yaml:2:1: WorkerPool default/pool: the same object is already declared at ")
            && error.ends_with("a.yaml:1:1; keep one of them"),
        "{error}"
    );
    let elsewhere = POOL.replace("name: pool", "name: pool, namespace: other");
    assert_eq!(
        loaded(&[("a.yaml", POOL), ("b.yaml", &elsewhere)])
            .unwrap()
            .pools
            .len(),
        2
    );
}

#[test]
fn secrets_show_in_no_error_and_no_debug_output() {
    let secret = |fields: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{fields}\n");
    for fields in [
        "data: {a: hunter2}",
        "data: hunter2",
        "stringData: [hunter2]",
        "stringData: {a: !hunter2 x}",
        "stringData: {a: *hunter2}",
        "stringData: {a: \"hunter2}",
        "stringData:\n  a: hunter2: hunter2",
        "stringData: {a: {hunter2: hunter2}}",
        // A colon was forgotten, or a space after it, and a text stands where a key should.
        "stringData: {hunter2}",
        "stringData: {password hunter2}",
        "data: {password:hunter2}",
        "stringData:\n  password hunter2: x",
        "stringData:\n  user: x\n  password hunter2",
        "stringData:\n  password hunter2\n  user: x",
        "stringData: {hunter2: [x]}",
        "data: {hunter2: not base64}",
        "stringData: {hunter2, hunter2}",
        "stringData: {hunter2: a, hunter2: b}",
        "? {hunter2: x}\n: y",
        // An indent was.
        "stringData:\nhunter2: x",
        "stringData:\nhunter2: x\nhunter2: x",
        "stringdata hunter2: x",
        "metadata: {hunter2: x}",
    ] {
        let errors = loaded(&[("s.yaml", &secret(fields))]).unwrap_err();
        assert!(
            !errors.is_empty() && errors.iter().all(|e| !e.contains("hunter2")),
            "{fields}: {errors:?}"
        );
    }
    // Not even a single character.
    let error = loaded(&[("s.yaml", &secret("stringData: {a: @hunter2}"))]).unwrap_err();
    assert_eq!(
        error,
        ["s.yaml:4:17: no text begins with this character; put it in quotes"]
    );
    let manifests = loaded(&[("s.yaml", &secret("stringData: {a: hunter2}"))]).unwrap();
    let debug = format!("{manifests:?}");
    assert!(debug.contains("{a}") && !debug.contains("hunter2"), "{debug}");
    assert!(!debug.contains(&format!("{:?}", b"hunter2")), "{debug}");
}

#[test]
fn yaml_of_kubernetes_with_anchors_and_merges_is_understood() {
    let text = "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {name: t}
spec:
  pauseImage: &image p@sha256:0000000000000000000000000000000000000000000000000000000000000000
  snapshotsConfig: {location: gs://b}
  containers:
  - &base {name: a, image: *image, command: [/a]}
  - <<: *base
    name: b
  - {command: [/c], <<: [{name: c}, *base]}
";
    let manifests = loaded(&[("t.yaml", text)]).unwrap();
    let template = manifests.catalog.template(&name("default"), &name("t")).unwrap();
    let containers: Vec<_> = template
        .workload
        .containers
        .iter()
        .map(|c| (c.name.as_str(), c.image.as_str(), c.command[0].as_str()))
        .collect();
    assert_eq!(
        containers,
        [
            (
                "a",
                "p@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "/a"
            ),
            (
                "b",
                "p@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "/a"
            ),
            (
                "c",
                "p@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "/c"
            )
        ]
    );
}

#[test]
fn yaml_that_has_no_meaning_is_refused_where_it_stands() {
    for (text, expected) in [
        (
            "a: 1\nb: 2\na: 3\n",
            "3:1: the same key is already in this mapping, at line 1",
        ),
        (
            "? [a]\n: 1\n",
            "1:3: the key of a mapping must be a word or a quoted text",
        ),
        (
            "&x a: 1\n*x : 2\n",
            "2:1: the key of a mapping must be a word or a quoted text",
        ),
        (
            "a: &x [*x]\n",
            "1:8: an alias must stand for a value that ends before it",
        ),
        ("a: *x\n", "1:4: while parsing node, found unknown anchor"),
        (
            "<<: 1\n",
            "1:5: << must stand before a mapping or a list of mappings",
        ),
        (
            "a: !!binary aGk=\n",
            "1:13: a word after '!' is a tag, and Kubernetes manifests have none; put text in quotes",
        ),
    ] {
        let errors = loaded(&[("x.yaml", text)]).unwrap_err();
        assert!(
            errors.contains(&format!("x.yaml:{expected}")),
            "{text:?}: {errors:#?}"
        );
    }
}

#[test]
fn hostile_files_are_refused_within_bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let mut merges = String::from("m0: &m0 {k: [x, x, x, x]}\n");
    for level in 1..200_000 {
        merges += &format!("m{level}: {{<<: *m0}}\n");
    }
    let mut chain = String::from("c0: &c0 [x]\n");
    for level in 1..1_000 {
        chain += &format!("c{level}: &c{level} [*c{}]\n", level - 1);
    }
    let flow = "[".repeat(1 << 20);
    let block = (0..2_000)
        .map(|depth| format!("{}-\n", " ".repeat(depth)))
        .collect::<String>();
    let huge = "#".repeat((4 << 20) + 1);
    let many = format!("[{}]", "x,".repeat(300_000));
    for (text, limit) in [
        (
            bomb.as_str(),
            "the number of values in the file exceeds the limit of 200000",
        ),
        (
            &merges,
            "the number of values in the file exceeds the limit of 200000",
        ),
        (&chain, "the depth of nesting exceeds the limit of 64"),
        (&flow, "recursion limit exceeded"),
        (&block, "recursion limit exceeded"),
        (&huge, "the size in bytes exceeds the limit of 4194304"),
        (
            &many,
            "the number of values in the file exceeds the limit of 200000",
        ),
    ] {
        let errors = loaded(&[("hostile.yaml", text)]).unwrap_err();
        assert!(
            errors.iter().any(|error| error.contains(limit)),
            "{limit}: {errors:?}"
        );
        assert!(errors.len() < 10, "{limit}: {}", errors.len());
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let errors = load(&missing).unwrap_err();
    assert_eq!(errors[0].place.file, missing);
    assert!(matches!(errors[0].fault, Fault::Unreadable(_)), "{}", errors[0]);

    fs::write(dir.path().join("latin.yaml"), b"a: b\nc: \xfcber\n").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("dangling.yaml")).unwrap();
    fs::create_dir(dir.path().join("directory.yaml")).unwrap();
    let errors: Vec<String> = load(dir.path())
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    let [dangling, latin] = &errors[..] else {
        panic!("{errors:#?}")
    };
    assert!(
        dangling.contains("dangling.yaml: cannot be read: No such file"),
        "{dangling}"
    );
    assert!(
        latin.ends_with("latin.yaml:2:4: not UTF-8 text; save the file as UTF-8"),
        "{latin}"
    );
}
