//! Every rule of compat.md section 5, with values that keep it and values that break it.

mod accepted;
mod others;
mod template;

use std::fs;

use holdfast_manifests::{Manifests, load};

/// One of each kind, with every field that has a rule. `{…}` marks show what the tables put elsewhere.
const ALL: &str = r#"apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata:
  name: counter
  labels: {tier: web}
spec:
  pauseImage: pause@sha256:0000000000000000000000000000000000000000000000000000000000000000
  sandboxClass: gvisor
  snapshotsConfig:
    location: file://snapshots/counter/
    onPause: Full
    onCommit: Data
  volumes:
  - name: data
    durableDir: {}
  workerSelector:
    matchLabels: {tier: gold}
    matchExpressions:
    - {key: zone, operator: In, values: [a, b]}
  containers:
  - name: main
    image: counter@sha256:1111111111111111111111111111111111111111111111111111111111111111
    command: [/counter, "-v"]
    env:
    - name: A
      value: "1"
    - name: TOKEN
      valueFrom:
        secretKeyRef: {name: token, key: value, optional: true}
    readyz:
      httpGet: {path: /readyz, port: 80}
    volumeMounts:
    - {name: data, mountPath: /data}
status:
  phase: Ready
  goldenSnapshot: file://snapshots/golden
---
apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {name: pool, namespace: team, labels: {tier: gold}}
spec:
  replicas: 3
  ateomImage: ateom
  sandboxConfigName: stable
  template: {tolerations: [], nodeSelector: {}}
---
apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {name: stable}
spec:
  sandboxClass: gvisor
  default: true
  assets:
    amd64:
      runsc: {url: "gs://gvisor/runsc", sha256: f18a948bf9c8bbb54eb998549a3a8d719a1c7de2efbe8fdd2ff0ee5fecd06f19}
---
apiVersion: v1
kind: Secret
metadata: {name: token}
data: {value: c2VjcmV0}
"#;

fn load_text(text: &str) -> Result<Manifests, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("all.yaml"), text).unwrap();
    let prefix = format!("{}/", dir.path().display());
    load(dir.path()).map_err(|errors| {
        errors
            .iter()
            .map(|e| e.to_string().replace(&prefix, ""))
            .collect()
    })
}

/// `ALL` with the first occurrence of `from` replaced.
fn edited(from: &str, to: &str) -> String {
    assert!(
        ALL.contains(from),
        "the table edits {from:?}, which is not in the manifest"
    );
    ALL.replacen(from, to, 1)
}

fn repeated(line: &str, times: usize) -> String {
    (0..times).map(|i| line.replace("{i}", &i.to_string())).collect()
}

/// Replaces `from` by `to` in `ALL`, for each case, and looks for the error that this must give.
fn expect_errors(cases: &[(&str, &str, &str)]) {
    let mut surprises = Vec::new();
    for (from, to, expected) in cases {
        let errors = load_text(&edited(from, to)).err().unwrap_or_default();
        let expected = format!("all.yaml:{expected}");
        if !errors.contains(&expected) {
            let errors = errors.join("\n  ");
            surprises.push(format!("{to:?} should give\n  {expected}\nand gives\n  {errors}"));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
