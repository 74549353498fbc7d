//! Values that break the rules of ActorTemplate.

use super::*;

#[test]
fn templates_that_break_the_rules_are_refused_where_they_do() {
    let template = "ActorTemplate default/counter";
    let pinned =
        "All images must be pinned (changing the image invalidates snapshots): write name@sha256:<digest>";
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
    let url_path = "must be a URL path: '/' first, at most 1024 characters of A-Z a-z 0-9 -._~!$&'()*+,;=:@/ and %XX \
                    with two hexadecimal digits; no query, no fragment";
    let clean = "MountPath must be a clean absolute Unix path: must start with '/', not be '/', and contain no ':', \
                 '..', '.', '//', trailing '/', or control characters; at most 4096 characters";
    let subset =
        "onCommit must be a subset of onPause: with onPause Data, set onCommit to Data (default Full)";
    let env_name = "must be one or more printable ASCII characters other than '='";
    let secret_key = "must be one or more letters, digits, '-', '.' and '_'";
    let prefix = "write <scheme>://<bucket>/<path>, such as gs://snapshots/counter";
    let one_volume = "a template may have at most one durableDir volume, not 2";
    expect_errors(&[
        // ActorTemplate
        (
            "  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
            "",
            &format!("7:3: {template}: spec.pauseImage: is required"),
        ),
        (
            "pause@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "pause:3",
            &format!("7:15: {template}: spec.pauseImage: \"pause:3\": {pinned}"),
        ),
        (
            "pauseImage:",
            "pauseimage: x@y\n  pauseImage:",
            &format!("7:3: {template}: spec.pauseimage: is not known; did you mean \"pauseImage\"?"),
        ),
        (
            "sandboxClass: gvisor",
            "sandboxClass: gVisor",
            &format!("8:17: {template}: spec.sandboxClass: \"gVisor\": must be one of gvisor, microvm"),
        ),
        (
            "sandboxClass: gvisor",
            "sandboxClass: microvm",
            &format!(
                "14:5: {template}: spec.volumes: sandboxClass microvm has no durableDir volumes; use gvisor, or leave them out"
            ),
        ),
        (
            "location: file://snapshots/counter/",
            "location: ''",
            &format!("10:15: {template}: spec.snapshotsConfig.location: \"\": missing bucket; {prefix}"),
        ),
        (
            "    location: file://snapshots/counter/\n",
            "",
            &format!("10:5: {template}: spec.snapshotsConfig.location: is required"),
        ),
        (
            "onPause: Full\n    onCommit: Data",
            "onPause: Data\n    onCommit: Full",
            &format!("12:15: {template}: spec.snapshotsConfig.onCommit: \"Full\": {subset}"),
        ),
        (
            "onPause: Full\n    onCommit: Data",
            "onPause: Data",
            &format!("11:14: {template}: spec.snapshotsConfig.onPause: \"Data\": {subset}"),
        ),
        (
            "onPause: Full",
            "onPause: full",
            &format!("11:14: {template}: spec.snapshotsConfig.onPause: \"full\": must be one of Full, Data"),
        ),
        (
            "onCommit: Data",
            "onCommit: Both",
            &format!("12:15: {template}: spec.snapshotsConfig.onCommit: \"Both\": must be one of Full, Data"),
        ),
        (
            "- name: data\n    durableDir: {}",
            "- name: a\n    durableDir: {}\n  - name: data\n    durableDir: {}",
            &format!("14:5: {template}: spec.volumes: {one_volume}"),
        ),
        (
            "name: data\n    durableDir: {}",
            "name: data",
            &format!(
                "14:5: {template}: spec.volumes[0]: exactly one source is required; write durableDir: {{}}"
            ),
        ),
        (
            "    durableDir: {}",
            "    durableDir: {size: 1}",
            &format!("15:18: {template}: spec.volumes[0].durableDir.size: is not known"),
        ),
        (
            "    durableDir: {}",
            "    durableDir: {}\n    emptyDir: {}",
            &format!("16:5: {template}: spec.volumes[0].emptyDir: is not known"),
        ),
        (
            "- name: data\n",
            "- name: Data\n",
            &format!("14:11: {template}: spec.volumes[0].name: \"Data\": {label}"),
        ),
        (
            "tier: gold}\n    match",
            "tier: a b}\n    match",
            &format!("17:25: {template}: spec.workerSelector.matchLabels.tier: \"a b\": {label_value}"),
        ),
        (
            "key: zone",
            "key: '-'",
            &format!("19:13: {template}: spec.workerSelector.matchExpressions[0].key: \"-\": {label_key}"),
        ),
        (
            "operator: In",
            "operator: in",
            &format!(
                "19:29: {template}: spec.workerSelector.matchExpressions[0].operator: \"in\": must be one of In, NotIn, Exists, DoesNotExist"
            ),
        ),
        (
            "values: [a, b]",
            "values: []",
            &format!(
                "19:41: {template}: spec.workerSelector.matchExpressions[0].values: operators In and NotIn need at least one of values"
            ),
        ),
        (
            "operator: In, values: [a, b]",
            "operator: Exists, values: [a]",
            &format!(
                "19:45: {template}: spec.workerSelector.matchExpressions[0].values: operators Exists and DoesNotExist take no values"
            ),
        ),
        (
            "name: main",
            "name: Main",
            &format!("21:11: {template}: spec.containers[0].name: \"Main\": {label}"),
        ),
        (
            "name: main",
            "name: pause",
            &format!(
                "21:11: {template}: spec.containers[0].name: \"pause\": is reserved for the sandbox itself; choose another name"
            ),
        ),
        (
            "  - name: main\n",
            "  - {name: main, image: '@'}\n  - name: main\n",
            &format!(
                "22:11: {template}: spec.containers[1].name: \"main\": another container has this name; each needs its own"
            ),
        ),
        (
            "counter@sha256:1111111111111111111111111111111111111111111111111111111111111111",
            "counter",
            &format!("22:12: {template}: spec.containers[0].image: \"counter\": {pinned}"),
        ),
        (
            "    image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111\n",
            "",
            &format!("21:5: {template}: spec.containers[0].image: is required"),
        ),
        (
            "command: [/counter, \"-v\"]",
            "command: /counter",
            &format!(
                "23:14: {template}: spec.containers[0].command: \"/counter\": must be a list, not a string"
            ),
        ),
        (
            "\"-v\"",
            "80",
            &format!(
                "23:25: {template}: spec.containers[0].command[1]: must be a string, not a number; write it in quotes: \"80\""
            ),
        ),
        (
            "    command: [/counter, \"-v\"]\n",
            &format!("    command:\n{}", repeated("    - a\n", 65)),
            &format!("24:7: {template}: spec.containers[0].command: has 65 elements; at most 64 are allowed"),
        ),
        (
            "    env:\n",
            &format!("    env:\n{}", repeated("    - {name: V{i}, value: ''}\n", 31)),
            &format!("25:7: {template}: spec.containers[0].env: has 33 elements; at most 32 are allowed"),
        ),
        (
            "name: A\n",
            "name: A=B\n",
            &format!("25:13: {template}: spec.containers[0].env[0].name: \"A=B\": {env_name}"),
        ),
        (
            "name: A\n",
            "name: ''\n",
            &format!("25:13: {template}: spec.containers[0].env[0].name: \"\": {env_name}"),
        ),
        (
            "name: A\n",
            "name: ü\n",
            &format!("25:13: {template}: spec.containers[0].env[0].name: \"ü\": {env_name}"),
        ),
        (
            "value: \"1\"",
            "value: 1",
            &format!(
                "26:14: {template}: spec.containers[0].env[0].value: must be a string, not a number; write it in quotes: \"1\""
            ),
        ),
        (
            "value: \"1\"",
            "value: yes",
            &format!(
                "26:14: {template}: spec.containers[0].env[0].value: must be a string, not a boolean; write it in quotes: \"yes\""
            ),
        ),
        (
            "      value: \"1\"\n",
            "",
            &format!(
                "25:7: {template}: spec.containers[0].env[0]: exactly one of value and valueFrom is required"
            ),
        ),
        (
            "      valueFrom:",
            "      value: ''\n      valueFrom:",
            &format!(
                "27:7: {template}: spec.containers[0].env[1]: exactly one of value and valueFrom is required"
            ),
        ),
        (
            "secretKeyRef: {",
            "configMapKeyRef: {",
            &format!("29:9: {template}: spec.containers[0].env[1].valueFrom.secretKeyRef: is required"),
        ),
        (
            "{name: token, key",
            "{name: Token, key",
            &format!(
                "29:30: {template}: spec.containers[0].env[1].valueFrom.secretKeyRef.name: \"Token\": {subdomain}"
            ),
        ),
        (
            "key: value",
            "key: a b",
            &format!(
                "29:42: {template}: spec.containers[0].env[1].valueFrom.secretKeyRef.key: \"a b\": {secret_key}"
            ),
        ),
        (
            "optional: true",
            "optional: 'true'",
            &format!(
                "29:59: {template}: spec.containers[0].env[1].valueFrom.secretKeyRef.optional: \"true\": must be a boolean (true or false), not a string"
            ),
        ),
        (
            "      httpGet: {path: /readyz, port: 80}",
            "      tcpSocket: {}",
            &format!("31:7: {template}: spec.containers[0].readyz.httpGet: is required"),
        ),
        (
            "path: /readyz",
            "path: readyz",
            &format!("31:23: {template}: spec.containers[0].readyz.httpGet.path: \"readyz\": {url_path}"),
        ),
        (
            "path: /readyz",
            "path: '/a?b'",
            &format!("31:23: {template}: spec.containers[0].readyz.httpGet.path: \"/a?b\": {url_path}"),
        ),
        (
            "path: /readyz",
            "path: '/%2'",
            &format!("31:23: {template}: spec.containers[0].readyz.httpGet.path: \"/%2\": {url_path}"),
        ),
        (
            ", port: 80",
            "",
            &format!("31:16: {template}: spec.containers[0].readyz.httpGet.port: is required"),
        ),
        (
            "port: 80",
            "port: 0",
            &format!(
                "31:38: {template}: spec.containers[0].readyz.httpGet.port: must be a whole number from 1 to 65535, not \"0\""
            ),
        ),
        (
            "port: 80",
            "port: 65536",
            &format!(
                "31:38: {template}: spec.containers[0].readyz.httpGet.port: must be a whole number from 1 to 65535, not \"65536\""
            ),
        ),
        (
            "port: 80",
            "port: '80'",
            &format!(
                "31:38: {template}: spec.containers[0].readyz.httpGet.port: \"80\": must be a whole number, not a string"
            ),
        ),
        (
            "{name: data, mountPath: /data}",
            "{name: logs, mountPath: /data}",
            &format!(
                "33:14: {template}: spec.containers[0].volumeMounts[0].name: \"logs\": is the name of none of spec.volumes"
            ),
        ),
        (
            "{name: data, mountPath: /data}",
            "{name: data}",
            &format!("33:7: {template}: spec.containers[0].volumeMounts[0].mountPath: is required"),
        ),
        (
            "    - {name: data, mountPath: /data}",
            "    - {name: data, mountPath: /a}\n    - {name: data, mountPath: /b}",
            &format!(
                "33:7: {template}: spec.containers[0].volumeMounts: a container may mount at most one durableDir volume, once"
            ),
        ),
        (
            "mountPath: /data",
            "mountPath: data",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"data\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: /",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: /a/",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a/\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: /a//b",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a//b\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: /a/../b",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a/../b\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: /a/.",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a/.\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: '/a:b'",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a:b\": {clean}"),
        ),
        (
            "mountPath: /data",
            "mountPath: \"/a\\tb\"",
            &format!("33:31: {template}: spec.containers[0].volumeMounts[0].mountPath: \"/a\\tb\": {clean}"),
        ),
        (
            "goldenSnapshot: file://snapshots/golden",
            "goldenSnapshot: []",
            &format!("36:19: {template}: status.goldenSnapshot: must be a string, not a list"),
        ),
    ]);
}

/// What the node daemon would refuse when an actor is put to sleep is refused when it is read.
#[test]
fn snapshots_that_could_not_be_stored_are_refused_before_there_are_any() {
    let buckets = "want 1 to 222 letters, digits, dots, hyphens or underscores, the first a letter or digit";
    let bucket = format!("invalid bucket \"..\": {buckets}");
    let cases: [(&str, &str); 11] = [
        ("nothing", "missing bucket"),
        ("/snapshots", "missing bucket"),
        ("file:///x", "missing bucket"),
        ("gs:b/x", "missing bucket"),
        ("file://../esc2", &bucket),
        ("file://b/../../../esc", "invalid path segment \"..\""),
        ("gs://b/%2e%2e/x", "invalid path segment \"..\""),
        ("gs://b/x//y", "invalid path segment \"\""),
        ("gs://user@b/x", "must contain only a scheme, bucket, and path"),
        ("gs://b/x?y=z", "must contain only a scheme, bucket, and path"),
        ("1x://b/x", "invalid scheme \"1x\""),
    ];
    let at = "ActorTemplate default/counter";
    let hint = "write <scheme>://<bucket>/<path>, such as gs://snapshots/counter";
    for (value, fault) in cases {
        expect_errors(&[
            (
                "location: file://snapshots/counter/",
                &format!("location: '{value}'"),
                &format!("10:15: {at}: spec.snapshotsConfig.location: {value:?}: {fault}; {hint}"),
            ),
            (
                "goldenSnapshot: file://snapshots/golden",
                &format!("goldenSnapshot: '{value}'"),
                &format!("36:19: {at}: status.goldenSnapshot: {value:?}: {fault}; {hint}"),
            ),
        ]);
    }
    let long = format!("gs://b/{}", "x".repeat(575));
    let longer = format!("gs://b/{}", "x".repeat(762));
    let room = "leaves no room for the atespace and the name of a snapshot behind it; want at most 581 bytes";
    for (value, fault) in [
        (
            "gs://b//",
            format!("\"gs://b//\": invalid path segment \"\"; {hint}"),
        ),
        (&long, format!("{:?}...: {room}", &long[..80])),
        (&longer, format!("{:?}...: {room}", &longer[..80])),
    ] {
        expect_errors(&[(
            "location: file://snapshots/counter/",
            &format!("location: {value}"),
            &format!("10:15: {at}: spec.snapshotsConfig.location: {fault}"),
        )]);
    }
    let fault = format!(
        "{:?}...: 769 bytes are too many, want at most 768; {hint}",
        &longer[..80]
    );
    expect_errors(&[(
        "goldenSnapshot: file://snapshots/golden",
        &format!("goldenSnapshot: {longer}"),
        &format!("36:19: {at}: status.goldenSnapshot: {fault}"),
    )]);
}

/// What the node daemon would refuse when an actor is booted is refused when it is read.
#[test]
fn images_that_could_not_be_pulled_are_refused_before_anybody_tries() {
    let zeros = "0".repeat(64);
    let pinned = |name: &str| format!("{name}@sha256:{zeros}");
    let digest =
        |text: &str| format!("digest {text:?} is not \"sha256:\" and 64 lowercase hexadecimal digits");
    let host = |text: &str| {
        format!("registry {text:?} is not a host name or address with an optional port from 1 to 65535")
    };
    let repository = |text: &str| {
        format!(
            "repository {text:?} is not lowercase letters and digits in parts separated by \"/\", \".\", \"_\", \
             \"__\" or \"-\", 255 at most"
        )
    };
    let at = "ActorTemplate default/counter";
    for (value, fault) in [
        ("@".to_owned(), digest("")),
        ("x@sha256:00".to_owned(), digest("sha256:00")),
        ("x@md5:abc".to_owned(), digest("md5:abc")),
        (
            format!("x@sha256:{}", "F".repeat(64)),
            digest(&format!("sha256:{}", "F".repeat(64))),
        ),
        (
            pinned("https://x/y"),
            "it starts with \"https://\"; leave that off and write host/repository:tag".to_owned(),
        ),
        (
            pinned("oci:"),
            "no directory after \"oci:\"; write oci:path, oci:path:tag or oci:path@sha256:...".to_owned(),
        ),
        (pinned(""), repository("")),
        (pinned("UPPER/x"), repository("UPPER/x")),
        (pinned("h.example:99999/x"), host("h.example:99999")),
        (pinned("h:99999/x"), host("h:99999")),
        (pinned("../x"), host("..")),
    ] {
        let shown = match value.len() {
            0..=80 => format!("{value:?}"),
            _ => format!("{:?}...", &value[..80]),
        };
        expect_errors(&[
            (
                &format!("pauseImage: pause@sha256:{zeros}"),
                &format!("pauseImage: '{value}'"),
                &format!("7:15: {at}: spec.pauseImage: {shown}: {fault}"),
            ),
            (
                &format!("image: counter@sha256:{}", "1".repeat(64)),
                &format!("image: '{value}'"),
                &format!("22:12: {at}: spec.containers[0].image: {shown}: {fault}"),
            ),
        ]);
    }
}
