//! The manifests of the demo, as one would apply them to Kubernetes.

use crate::cluster::Kind;

pub struct Template {
    pub name: String,
    pub pause: String,
    pub image: String,
    pub kind: Kind,
}

impl Template {
    pub fn yaml(&self) -> String {
        let Template {
            name,
            pause,
            image,
            kind,
        } = self;
        let (volumes, mounts, scope) = match kind {
            Kind::Gvisor => ("", "", "Full"),
            Kind::Process => (
                "  volumes:\n    - name: data\n      durableDir: {}\n",
                "      volumeMounts:\n        - {name: data, mountPath: /data}\n      env:\n        - {name: \
                 COUNTER_FILE, value: count}\n",
                "Data",
            ),
        };
        format!(
            "apiVersion: ate.dev/v1alpha1
kind: ActorTemplate
metadata: {{name: {name}, namespace: demo}}
spec:
  sandboxClass: gvisor
  pauseImage: \"{pause}\"
  containers:
    - name: counter
      image: \"{image}\"
      command: [\"/counter\"]
      readyz: {{httpGet: {{path: /readyz, port: 80}}}}
{mounts}{volumes}  snapshotsConfig: {{location: \"file://snapshots/{name}\", onPause: {scope}, onCommit: {scope}}}
"
        )
    }
}

pub fn pool(workers: u16) -> String {
    format!(
        "apiVersion: ate.dev/v1alpha1
kind: WorkerPool
metadata: {{name: pool, namespace: demo}}
spec: {{replicas: {workers}, ateomImage: \"ateom-gvisor\", sandboxClass: gvisor}}
"
    )
}

/// `assets`: name, URL and sha256 of each file.
pub fn sandbox_config(assets: &[(String, String, String)]) -> String {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let files: Vec<String> = assets
        .iter()
        .map(|(name, url, sha256)| format!("      {name}: {{url: \"{url}\", sha256: {sha256}}}\n"))
        .collect();
    let assets = if files.is_empty() {
        " {}\n".to_owned()
    } else {
        format!("\n    {arch}:\n{}", files.concat())
    };
    format!(
        "apiVersion: ate.dev/v1alpha1
kind: SandboxConfig
metadata: {{name: demo}}
spec:
  sandboxClass: gvisor
  default: true
  assets:{assets}"
    )
}
