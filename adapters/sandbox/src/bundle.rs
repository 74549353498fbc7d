//! OCI bundles: what the node daemon prepares for each container, and the sandbox reads.
//!
//! The caller unpacks the root file system; this writes `config.json` beside it and prepares the mounts.
//! The shape is the original's, to the order of the mounts, because snapshots hold parts of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::inside;
use crate::layout::{ActorDirs, at};
use crate::names::{ActorRef, Label, PAUSE};

const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
const OPEN_FILES: u64 = 1024;
const RESOLV_CONF: &str = "/etc/resolv.conf";
const IDENTITY_MOUNT: &str = "/run/ate";
const DURABLE_DIR_ANNOTATION: &str = "dev.gvisor.spec.mount.durabledir.";

/// A bundle that cannot be written or read.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The file system refused.
    #[error("bundle: {0}")]
    Io(#[from] io::Error),
    /// The file is not the `config.json` this program or the original writes.
    #[error("{path}: not a usable config.json: {source}; the node daemon must prepare the bundle first", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A mount path that is not absolute and plain.
    #[error(
        "container {container}: mount path {path:?} must be absolute, without `.`, `..` or a trailing `/`"
    )]
    MountPath {
        /// The container.
        container: String,
        /// The path.
        path: String,
    },
    /// The specification names no program.
    #[error("container {container} has no command; set `command` in its ActorTemplate")]
    NoCommand {
        /// The container.
        container: String,
    },
}

/// A user's container.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Its name.
    pub name: Label,
    /// Program and arguments. The image's own entrypoint does not count.
    pub command: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Durable volumes and where the container sees them.
    pub durable_mounts: Vec<(Label, String)>,
}

/// An OCI runtime specification, as far as it is used here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    oci_version: String,
    process: Process,
    root: Root,
    hostname: String,
    mounts: Vec<Mount>,
    annotations: BTreeMap<String, String>,
    linux: Linux,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    user: User,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    #[serde(default)]
    capabilities: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    rlimits: Vec<Rlimit>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    uid: u32,
    gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rlimit {
    #[serde(rename = "type")]
    kind: String,
    hard: u64,
    soft: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Root {
    path: String,
    #[serde(default)]
    readonly: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mount {
    destination: String,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// Writes the pause container's `config.json`; `volumes` are the actor's durable volumes.
pub fn write_pause(dirs: &ActorDirs, netns: &Path, volumes: &[Label]) -> Result<(), BundleError> {
    let mut annotations = BTreeMap::from([cri("container-type", "sandbox"), cri("container-name", PAUSE)]);
    if let Some(volume) = volumes.last() {
        let mut durable =
            |key: &str, value: String| annotations.insert(format!("{DURABLE_DIR_ANNOTATION}{key}"), value);
        durable("type", "bind".into());
        durable("share", "container".into());
        durable("source", dirs.durable_dir(volume).display().to_string());
    }
    let spec = Spec::new(vec!["/pause".into()], &[], base_mounts(), annotations, netns);
    spec.write(&dirs.bundle(PAUSE))
}

/// Writes a container's `config.json`, and prepares its root file system for the mounts.
///
/// The rootfs must be unpacked already; nothing in it (links, say) leads the preparation out of it.
pub fn write_container(
    dirs: &ActorDirs,
    netns: &Path,
    container: &ContainerConfig,
) -> Result<(), BundleError> {
    let name = container.name.as_str();
    if container.command.is_empty() {
        return Err(BundleError::NoCommand {
            container: name.to_owned(),
        });
    }
    let mut mounts = base_mounts();
    mounts.push(Mount::bind(IDENTITY_MOUNT, &dirs.identity(), &["ro"]));
    make_dirs_inside(&dirs.rootfs(name), IDENTITY_MOUNT)?;
    for (volume, path) in &container.durable_mounts {
        check_mount_path(name, path)?;
        let source = dirs.durable_dir(volume);
        crate::layout::make_dir(&source, 0o700)?;
        mounts.push(Mount::bind(path, &source, &[]));
    }
    let annotations = BTreeMap::from([
        cri("container-type", "container"),
        cri("sandbox-id", PAUSE),
        cri("container-name", name),
    ]);
    let spec = Spec::new(
        container.command.clone(),
        &container.env,
        mounts,
        annotations,
        netns,
    );
    spec.write(&dirs.bundle(name))
}

/// Checks where a container is to see a durable volume: absolute and plain, so that it means one place.
pub fn check_mount_path(container: &str, path: &str) -> Result<(), BundleError> {
    if is_plain_absolute(path) {
        return Ok(());
    }
    Err(BundleError::MountPath {
        container: container.to_owned(),
        path: path.to_owned(),
    })
}

/// Writes the files a container sees at `/run/ate`.
pub fn write_identity(dirs: &ActorDirs, actor: &ActorRef) -> Result<(), BundleError> {
    let file = dirs.identity().join("actor-id");
    fs::write(&file, actor.actor_id()).map_err(|error| at(&file, error))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).map_err(|error| at(&file, error))?;
    Ok(())
}

impl Spec {
    fn new(
        args: Vec<String>,
        env: &[(String, String)],
        mounts: Vec<Mount>,
        annotations: BTreeMap<String, String>,
        netns: &Path,
    ) -> Self {
        let capabilities = CAPABILITIES.map(str::to_owned).to_vec();
        let sets = ["bounding", "effective", "inheritable", "permitted"];
        let namespace = |kind: &str, path| Namespace {
            kind: kind.to_owned(),
            path,
        };
        Self {
            oci_version: String::new(),
            process: Process {
                user: User { uid: 0, gid: 0 },
                args,
                env: std::iter::once(SEARCH_PATH.to_owned())
                    .chain(env.iter().map(|(name, value)| format!("{name}={value}")))
                    .collect(),
                cwd: "/".into(),
                capabilities: sets.map(|set| (set.to_owned(), capabilities.clone())).into(),
                rlimits: vec![Rlimit {
                    kind: "RLIMIT_NOFILE".into(),
                    hard: OPEN_FILES,
                    soft: OPEN_FILES,
                }],
            },
            root: Root {
                path: "rootfs".into(),
                readonly: false,
            },
            hostname: "runsc".into(),
            mounts,
            annotations,
            linux: Linux {
                namespaces: vec![
                    namespace("pid", None),
                    namespace("network", Some(netns.display().to_string())),
                    namespace("ipc", None),
                    namespace("uts", None),
                    namespace("mount", None),
                ],
            },
        }
    }

    /// Reads a bundle's `config.json`.
    pub fn read(bundle: &Path) -> Result<Self, BundleError> {
        let path = bundle.join("config.json");
        let text = fs::read(&path).map_err(|error| at(&path, error))?;
        serde_json::from_slice(&text).map_err(|source| BundleError::Malformed { path, source })
    }

    /// Writes a bundle's `config.json`, making the bundle's directory if need be.
    pub fn write(&self, bundle: &Path) -> Result<(), BundleError> {
        crate::layout::make_dir(bundle, 0o700)?;
        let path = bundle.join("config.json");
        let text = serde_json::to_vec_pretty(self).map_err(|source| BundleError::Malformed {
            path: path.clone(),
            source,
        })?;
        fs::write(&path, text).map_err(|error| at(&path, error))?;
        Ok(())
    }

    /// Program and arguments.
    pub(crate) fn args(&self) -> &[String] {
        &self.process.args
    }

    /// Environment as `NAME=value`.
    pub(crate) fn env(&self) -> &[String] {
        &self.process.env
    }
}

/// What a runtime needs changed in bundles that were prepared without knowing it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Adaptation {
    /// Take away the annotations by which gVisor keeps a durable directory inside the sandbox. Then it is
    /// a plain mount that writes through to the host, where a runtime that cannot snapshot directories by
    /// itself needs it.
    pub write_durable_dirs_through: bool,
    /// Leave the network namespace to the runtime.
    pub drop_network_path: bool,
}

/// Applies `adaptation` to a bundle's `config.json`, whoever wrote it, keeping all it says otherwise.
pub(crate) fn adapt(bundle: &Path, adaptation: Adaptation) -> Result<(), BundleError> {
    use serde_json::Value;
    let path = bundle.join("config.json");
    let malformed = |source| BundleError::Malformed {
        path: path.clone(),
        source,
    };
    let text = fs::read(&path).map_err(|error| at(&path, error))?;
    let mut spec: Value = serde_json::from_slice(&text).map_err(malformed)?;
    let before = spec.clone();
    if adaptation.write_durable_dirs_through
        && let Some(annotations) = spec.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.retain(|key, _| !key.starts_with(DURABLE_DIR_ANNOTATION));
    }
    if adaptation.drop_network_path {
        let namespaces = spec
            .pointer_mut("/linux/namespaces")
            .and_then(Value::as_array_mut);
        for namespace in namespaces.into_iter().flatten().filter_map(Value::as_object_mut) {
            if namespace.get("type").is_some_and(|kind| kind == "network") {
                namespace.remove("path");
            }
        }
    }
    if spec != before {
        let text = serde_json::to_vec_pretty(&spec).map_err(malformed)?;
        fs::write(&path, text).map_err(|error| at(&path, error))?;
    }
    Ok(())
}

impl Mount {
    fn bind(destination: &str, source: &Path, options: &[&str]) -> Self {
        Self {
            destination: destination.to_owned(),
            kind: "bind".into(),
            source: source.display().to_string(),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }
}

fn cri(key: &str, value: &str) -> (String, String) {
    (format!("io.kubernetes.cri.{key}"), value.to_owned())
}

fn base_mounts() -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: kind.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
    };
    let mut mounts = vec![
        mount("/proc", "proc", &[]),
        mount("/dev", "tmpfs", &[]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    // A machine without a resolver configuration is no reason to run nothing.
    if Path::new(RESOLV_CONF).exists() {
        mounts.push(Mount::bind(RESOLV_CONF, Path::new(RESOLV_CONF), &["ro"]));
    }
    mounts
}

fn is_plain_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains('\0'))
    })
}

/// Makes `path` and its parents inside `root`, whatever links the image holds.
fn make_dirs_inside(root: &Path, path: &str) -> Result<(), BundleError> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::open(root, flags, Mode::empty()).and_then(|dir| inside::make_dirs(&dir, path));
    Ok(made.map_err(|error| at(&root.join(path.trim_start_matches('/')), error.into()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use serde_json::{Value, json};

    fn actor(base: &Path) -> (ActorDirs, ActorRef) {
        let actor = ActorRef::parse("ns", "t", "a1").unwrap();
        let dirs = Layout::new(base).actor(&actor);
        dirs.reset().unwrap();
        (dirs, actor)
    }

    fn label(text: &str) -> Label {
        Label::parse("name", text).unwrap()
    }

    fn read(dirs: &ActorDirs, container: &str) -> Value {
        serde_json::from_slice(&fs::read(dirs.bundle(container).join("config.json")).unwrap()).unwrap()
    }

    #[test]
    fn a_containers_specification_is_the_originals() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, actor) = actor(base.path());
        write_identity(&dirs, &actor).unwrap();
        fs::create_dir_all(dirs.rootfs("main")).unwrap();
        let container = ContainerConfig {
            name: label("main"),
            command: vec!["/counter".into(), "-x".into()],
            env: vec![("A".into(), "1".into())],
            durable_mounts: vec![(label("data"), "/var/data".into())],
        };
        write_container(&dirs, Path::new("/run/netns/ateom:u"), &container).unwrap();

        let spec = read(&dirs, "main");
        assert_eq!(spec["ociVersion"], "");
        assert_eq!(spec["process"]["args"], json!(["/counter", "-x"]));
        assert_eq!(spec["process"]["env"], json!([SEARCH_PATH, "A=1"]));
        assert_eq!(spec["process"]["cwd"], "/");
        assert_eq!(spec["process"]["capabilities"]["bounding"], json!(CAPABILITIES));
        assert_eq!(
            spec["process"]["rlimits"],
            json!([{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}])
        );
        assert_eq!(spec["root"], json!({"path": "rootfs", "readonly": false}));
        assert_eq!(spec["hostname"], "runsc");
        let mounts = spec["mounts"].as_array().unwrap();
        assert_eq!(mounts[2]["options"], json!(["nosuid", "noexec", "nodev", "ro"]));
        let ours = &mounts[mounts.len() - 2..];
        assert_eq!(ours[0]["destination"], "/run/ate");
        assert_eq!(ours[0]["options"], json!(["ro"]));
        assert_eq!(ours[1]["destination"], "/var/data");
        assert_eq!(
            ours[1]["source"],
            dirs.durable_dirs().join("data").display().to_string()
        );
        assert_eq!(ours[1].get("options"), None);
        let namespaces = &spec["linux"]["namespaces"];
        assert_eq!(
            namespaces[1],
            json!({"type": "network", "path": "/run/netns/ateom:u"})
        );
        assert_eq!(namespaces.as_array().unwrap().len(), 5);
        assert_eq!(
            spec["annotations"],
            json!({
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.sandbox-id": "pause",
                "io.kubernetes.cri.container-name": "main",
            })
        );
        assert_eq!(
            fs::read_to_string(dirs.identity().join("actor-id")).unwrap(),
            "a1"
        );
        assert!(dirs.rootfs("main").join("run/ate").is_dir());
    }

    #[test]
    fn the_last_durable_volume_is_annotated_and_the_annotations_can_be_taken_away() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, _) = actor(base.path());
        write_pause(&dirs, Path::new("/run/netns/n"), &[label("one"), label("two")]).unwrap();
        let annotations = read(&dirs, "pause")["annotations"].clone();
        assert_eq!(annotations["dev.gvisor.spec.mount.durabledir.type"], "bind");
        assert_eq!(annotations["dev.gvisor.spec.mount.durabledir.share"], "container");
        let source = dirs.durable_dirs().join("two").display().to_string();
        assert_eq!(annotations["dev.gvisor.spec.mount.durabledir.source"], source);

        let all = Adaptation {
            write_durable_dirs_through: true,
            drop_network_path: true,
        };
        adapt(&dirs.bundle("pause"), all).unwrap();
        let spec = read(&dirs, "pause");
        assert_eq!(spec["annotations"].as_object().unwrap().len(), 2);
        assert_eq!(spec["linux"]["namespaces"][1], json!({"type": "network"}));
    }

    #[test]
    fn a_link_in_the_image_leads_the_preparation_nowhere_outside_of_it() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, _) = actor(base.path());
        let outside = base.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let rootfs = dirs.rootfs("main");
        fs::create_dir_all(&rootfs).unwrap();
        std::os::unix::fs::symlink(&outside, rootfs.join("run")).unwrap();
        let container = ContainerConfig {
            name: label("main"),
            command: vec!["/x".into()],
            env: vec![],
            durable_mounts: vec![],
        };
        assert!(
            write_container(&dirs, Path::new("/n"), &container).is_err(),
            "the link dangles inside"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_path_with_parents_or_without_a_command_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let (dirs, _) = actor(base.path());
        fs::create_dir_all(dirs.rootfs("main")).unwrap();
        for bad in ["data", "/", "/a/../b", "/a//b", "/a/", "/./a"] {
            let container = ContainerConfig {
                name: label("main"),
                command: vec!["/x".into()],
                env: vec![],
                durable_mounts: vec![(label("v"), bad.into())],
            };
            let error = write_container(&dirs, Path::new("/n"), &container).unwrap_err();
            assert!(matches!(error, BundleError::MountPath { .. }), "{bad}: {error}");
        }
        let container = ContainerConfig {
            name: label("main"),
            command: vec![],
            env: vec![],
            durable_mounts: vec![],
        };
        assert!(matches!(
            write_container(&dirs, Path::new("/n"), &container),
            Err(BundleError::NoCommand { .. })
        ));
    }
}
