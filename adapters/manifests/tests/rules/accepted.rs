//! Values that keep the rules, of all kinds.

use super::*;

#[test]
fn values_that_keep_the_rules_are_accepted() {
    let long_path = format!("path: /{}", "a".repeat(1023));
    let long_mount = format!("mountPath: /{}", "a".repeat(4095));
    let longest_location = format!("location: gs://b/{}/", "x".repeat(574));
    let label = "x".repeat(63);
    let subdomain = format!("name: {}", [label.as_str(); 4].join(".").split_at(253).0);
    for (from, to) in [
        ("name: counter", "name: a.b-c"),
        ("name: counter", subdomain.as_str()),
        ("namespace: team", "namespace: t"),
        (
            "pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "pauseImage: host.example:5000/a/pause:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ),
        ("pause@", "oci:/srv/images/pause:v1@"),
        (
            "location: file://snapshots/counter/",
            "location: weird+scheme://b",
        ),
        ("location: file://snapshots/counter/", "location: //b/a%20b"),
        ("location: file://snapshots/counter/", &longest_location),
        ("goldenSnapshot: file://snapshots/golden", "goldenSnapshot: ''"),
        ("gs://gvisor/runsc", "/usr/bin/runsc"),
        ("gs://gvisor/runsc", "path:///usr/bin/runsc"),
        ("gs://gvisor/runsc", "https://host.example/runsc"),
        ("  sandboxClass: gvisor\n  snap", "  snap"),
        (
            "onPause: Full\n    onCommit: Data",
            "onPause: Data\n    onCommit: Data",
        ),
        ("    onPause: Full\n    onCommit: Data\n", ""),
        ("    onCommit: Data\n", ""),
        ("operator: In, values: [a, b]", "operator: Exists"),
        (
            "operator: In, values: [a, b]",
            "operator: DoesNotExist, values: []",
        ),
        ("operator: In, values: [a, b]", "operator: NotIn, values: ['']"),
        ("tier: gold}", "example.com/Tier_1.x: ''}"),
        ("name: main", &format!("name: {label}")),
        ("command: [/counter, \"-v\"]", "command: []"),
        (
            "    command: [/counter, \"-v\"]\n",
            &format!("    command:\n{}", repeated("    - a{i}\n", 64)),
        ),
        (
            "    env:\n",
            &format!("    env:\n{}", repeated("    - {name: V{i}, value: ''}\n", 30)),
        ),
        ("name: A\n", "name: a b<>~!\n"),
        ("value: \"1\"", "value: ''"),
        ("key: value", "key: a-._Z9"),
        (", optional: true", ", optional: no"),
        (", optional: true", ""),
        ("{path: /readyz, port: 80}", "{port: 65535}"),
        ("path: /readyz", "path: \"/a-._~!$&'()*+,;=:@/%2f\""),
        ("path: /readyz", &long_path),
        ("port: 80", "port: 1"),
        ("mountPath: /data", "mountPath: /.a/b../c d"),
        ("mountPath: /data", &long_mount),
        ("replicas: 3", "replicas: 0"),
        ("replicas: 3", "replicas: 2147483647"),
        ("  sandboxConfigName: stable\n", ""),
        ("default: true", "default: false"),
        (
            "  assets:\n    amd64:\n      runsc:",
            "  assets:\n    arm64:\n      runsc:",
        ),
        (
            "data: {value: c2VjcmV0}",
            "stringData: {value: secret}\ntype: Opaque\nimmutable: true",
        ),
        ("phase: Ready", "phase: Ready\n  conditions: [{type: Ready}]"),
        (
            "labels: {tier: web}",
            "annotations: {a: b}\n  uid: x\n  creationTimestamp: null",
        ),
    ] {
        if let Err(errors) = load_text(&edited(from, to)) {
            panic!("{to:?} is refused: {errors:#?}");
        }
    }
}
