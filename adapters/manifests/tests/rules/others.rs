//! Values that break the rules of metadata and of the other kinds.

use super::*;

#[test]
fn other_objects_that_break_the_rules_are_refused_where_they_do() {
    let template = "ActorTemplate default/counter";
    let pool = "WorkerPool team/pool";
    let config = "SandboxConfig stable";
    let label =
        "Name must be a valid DNS label: 1 to 63 lower-case letters, digits and '-', first and last not '-'";
    let subdomain = "must be a valid DNS subdomain: at most 253 lower-case letters, digits, '-' and '.', with a letter \
                     or digit at both ends of each part";
    let label_value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
                       '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let label_key = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                     an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                     validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let secret_key = "must be one or more letters, digits, '-', '.' and '_'";
    expect_errors(&[
        // metadata
        (
            "  name: counter",
            "  nane: counter",
            "4:3: ActorTemplate: metadata.name: is required",
        ),
        (
            "metadata:\n  name: counter\n  labels: {tier: web}\n",
            "",
            "1:1: ActorTemplate: metadata: is required",
        ),
        (
            "name: counter",
            "name: A",
            &format!("4:9: ActorTemplate: metadata.name: \"A\": {subdomain}"),
        ),
        (
            "name: counter",
            "name: 7",
            "4:9: ActorTemplate: metadata.name: must be a string, not a number; write it in quotes: \"7\"",
        ),
        (
            "namespace: team",
            "namespace: a.b",
            &format!("40:35: WorkerPool: metadata.namespace: \"a.b\": {label}"),
        ),
        (
            "{name: stable}",
            "{name: stable, namespace: x}",
            "49:37: SandboxConfig: metadata.namespace: \"x\": a SandboxConfig belongs to the whole cluster; leave the namespace out",
        ),
        (
            "tier: gold}}",
            "tier: '-'}}",
            &format!("40:56: WorkerPool: metadata.labels.tier: \"-\": {label_value}"),
        ),
        (
            "tier: gold}}",
            "-: x}}",
            &format!("40:50: WorkerPool: metadata.labels.-: {label_key}"),
        ),
        (
            "apiVersion: ate.dev/v1alpha1",
            "apiVersion: ate.dev/v1",
            "1:13: ActorTemplate: apiVersion: \"ate.dev/v1\": must be ate.dev/v1alpha1",
        ),
        (
            "apiVersion: ate.dev/v1alpha1",
            "apiVersion: v1alpha1",
            "1:13: ActorTemplate: apiVersion: \"v1alpha1\": must be ate.dev/v1alpha1",
        ),
        (
            "kind: ActorTemplate",
            "kind: ActorTemplat",
            "2:7: ActorTemplat: kind: \"ActorTemplat\": is not known; did you mean \"ActorTemplate\"?",
        ),
        ("kind: ActorTemplate\n", "", "1:1: kind: is required"),
        // WorkerPool
        (
            "  replicas: 3\n",
            "",
            &format!("42:3: {pool}: spec.replicas: is required"),
        ),
        (
            "replicas: 3",
            "replicas: -1",
            &format!("42:13: {pool}: spec.replicas: must be a whole number from 0 to 2147483647, not \"-1\""),
        ),
        (
            "replicas: 3",
            "replicas: 2147483648",
            &format!(
                "42:13: {pool}: spec.replicas: must be a whole number from 0 to 2147483647, not \"2147483648\""
            ),
        ),
        (
            "replicas: 3",
            "replicas: 1.5",
            &format!(
                "42:13: {pool}: spec.replicas: must be a whole number from 0 to 2147483647, not \"1.5\""
            ),
        ),
        (
            "  ateomImage: ateom\n",
            "",
            &format!("42:3: {pool}: spec.ateomImage: is required"),
        ),
        (
            "ateomImage: ateom",
            "ateomImage: ''",
            &format!("43:15: {pool}: spec.ateomImage: \"\": must not be empty"),
        ),
        (
            "tolerations: []",
            &format!("tolerations: [{}]", "{}, ".repeat(17)),
            &format!("45:27: {pool}: spec.template.tolerations: has 17 elements; at most 16 are allowed"),
        ),
        (
            "nodeSelector: {}",
            "nodeSelectors: {}",
            &format!(
                "45:31: {pool}: spec.template.nodeSelectors: is not known; did you mean \"nodeSelector\"?"
            ),
        ),
        // SandboxConfig
        (
            "default: true",
            "default: 1",
            &format!(
                "52:12: {config}: spec.default: must be a boolean (true or false), not a number (\"1\")"
            ),
        ),
        (
            "url: \"gs://gvisor/runsc\"",
            "url: ''",
            &format!(
                "55:20: {config}: spec.assets.amd64.runsc.url: \"\": want an absolute path, or a URL with a scheme"
            ),
        ),
        (
            "url: \"gs://gvisor/runsc\"",
            "url: gs://gvisor",
            &format!(
                "55:20: {config}: spec.assets.amd64.runsc.url: \"gs://gvisor\": want an object in the bucket, as in gs://bucket/runsc"
            ),
        ),
        (
            "sha256: f1",
            "sha256: F1",
            &format!(
                "55:49: {config}: spec.assets.amd64.runsc.sha256: \"F18a948bf9c8bbb54eb998549a3a8d719a1c7de2efbe8fdd2ff0ee5fecd06f19\": must be 64 lower-case hexadecimal digits"
            ),
        ),
        (
            "      runsc: {",
            "      runs: {",
            &format!("55:7: {config}: spec.assets.amd64: sandboxClass gvisor also needs runsc here"),
        ),
        (
            "  sandboxClass: gvisor\n  default",
            "  sandboxClass: microvm\n  default",
            &format!(
                "55:7: {config}: spec.assets.amd64: sandboxClass microvm also needs cloud-hypervisor, virtiofsd, kata-kernel, kata-image, kata-config here"
            ),
        ),
        // Secret
        (
            "data: {value: c2VjcmV0}",
            "data: {value: top secret}",
            "60:15: Secret default/token: data[not shown]: must be base64 with padding; write plain text under stringData instead",
        ),
        (
            "data: {value: c2VjcmV0}",
            "stringData: {value: 1234}",
            "60:21: Secret default/token: stringData[not shown]: must be a string, not a number",
        ),
        (
            "data: {value: c2VjcmV0}",
            "stringData: {a b: x}",
            &format!("60:14: Secret default/token: stringData[not shown]: {secret_key}"),
        ),
        (
            "data: {value: c2VjcmV0}",
            "stringdata: {}",
            "60:1: Secret default/token: [not shown]: is not known; did you mean \"stringData\"?",
        ),
        // All kinds
        (
            "status:",
            "state: {}\nstatus:",
            &format!("34:1: {template}: state: is not known; did you mean \"status\"?"),
        ),
        (
            "spec:\n  replicas: 3",
            "spec: 3\nstatus:",
            &format!("41:7: {pool}: spec: must be a mapping, not a number (\"3\")"),
        ),
    ]);
}
