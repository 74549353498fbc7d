//! Snapshots on a node's own disk.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use holdfast_objects::{
    Corruption, LocalName, LocalSnapshots, LocalState, Manifest, ManifestError, Scope, SnapshotError,
    SourceError,
};
use tempfile::TempDir;

struct Node {
    root: TempDir,
    snapshots: LocalSnapshots,
    name: LocalName,
}

fn node() -> Node {
    let root = tempfile::tempdir().expect("a directory");
    for directory in ["checkpoint-state", "restore-state"] {
        fs::create_dir(root.path().join(directory)).expect("makes");
    }
    let snapshots = LocalSnapshots::new(root.path().join("local-checkpoint"));
    Node {
        root,
        snapshots,
        name: "a1-2026-06-30T12:00:00Z-ABC".parse().expect("a name"),
    }
}

impl Node {
    fn write(&self, files: &[(&str, &[u8])]) {
        for (name, content) in files {
            fs::write(self.source().join(name), content).expect("writes");
        }
    }

    fn source(&self) -> std::path::PathBuf {
        self.root.path().join("checkpoint-state")
    }

    fn dest(&self) -> std::path::PathBuf {
        self.root.path().join("restore-state")
    }

    fn saved(&self) -> Manifest {
        self.write(&[("checkpoint.img", b"state"), ("pages.img", &[7; 300_000])]);
        self.snapshots
            .save(&self.source(), &self.name, &plan())
            .expect("saves")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.snapshots.path(&self.name).join(name)
    }
}

fn plan() -> Manifest {
    Manifest {
        sandbox_class: "gvisor".into(),
        snapshot_files: vec![
            "checkpoint.img".parse().expect("a name"),
            "pages.img".parse().expect("a name"),
        ],
        scope: Some(Scope::Full),
        operation_id: Some("op-7".into()),
        ..Manifest::default()
    }
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("lists")
        .map(|e| e.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_saved_snapshot_is_moved_measured_and_fetched_unaltered() {
    let node = node();
    let manifest = node.saved();
    assert!(entries(&node.source()).is_empty(), "files are moved, not copied");
    assert_eq!(
        entries(&node.snapshots.path(&node.name)),
        ["checkpoint.img", "manifest.json", "pages.img"]
    );
    let mode = fs::metadata(node.file("manifest.json"))
        .expect("stat")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(node.snapshots.read_manifest(&node.name).expect("reads"), manifest);
    assert_eq!(manifest.operation_id.as_deref(), Some("op-7"));

    node.snapshots
        .fetch(&node.name, &manifest, &node.dest())
        .expect("fetches");
    assert_eq!(entries(&node.dest()), ["checkpoint.img", "pages.img"]);
    assert_eq!(
        fs::read(node.dest().join("pages.img")).expect("reads"),
        [7; 300_000]
    );
    let copy = fs::metadata(node.dest().join("pages.img")).expect("stat");
    assert_eq!(copy.permissions().mode() & 0o777, 0o600);
    assert_ne!(
        copy.ino(),
        fs::metadata(node.file("pages.img")).expect("stat").ino(),
        "a copy, not a link"
    );
}

/// S26, for the snapshots the original keeps without any checksum.
#[test]
fn a_bit_that_rots_on_disk_is_refused() {
    for name in ["checkpoint.img", "pages.img"] {
        let node = node();
        let manifest = node.saved();
        let mut content = fs::read(node.file(name)).expect("reads");
        content[3] ^= 0x10;
        fs::write(node.file(name), content).expect("writes");
        let error = node
            .snapshots
            .fetch(&node.name, &manifest, &node.dest())
            .expect_err("rot");
        assert!(error.is_lost() && error.to_string().contains(name), "{error}");
        assert!(!node.dest().join(name).exists(), "nothing altered appears");
    }
    let node = node();
    let manifest = node.saved();
    fs::write(node.file("checkpoint.img"), b"stat").expect("writes");
    assert!(
        node.snapshots
            .fetch(&node.name, &manifest, &node.dest())
            .expect_err("shorter")
            .is_lost()
    );
    fs::remove_file(node.file("checkpoint.img")).expect("removes");
    let error = node
        .snapshots
        .fetch(&node.name, &manifest, &node.dest())
        .expect_err("gone");
    assert!(matches!(error, SnapshotError::NotFound { .. }), "{error}");
    fs::write(node.file("manifest.json"), "{").expect("writes");
    let error = node.snapshots.read_manifest(&node.name).expect_err("damaged");
    assert!(
        matches!(
            error,
            SnapshotError::Corrupt {
                cause: Corruption::Manifest(ManifestError::Json(_)),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn manifests_of_the_original_are_fetched_without_checksums() {
    let node = node();
    node.saved();
    let text = r#"{"sandboxClass":"gvisor","assets":{},"snapshotFiles":["checkpoint.img"]}"#;
    fs::write(node.file("manifest.json"), text).expect("writes");
    let manifest = node.snapshots.read_manifest(&node.name).expect("reads");
    node.snapshots
        .fetch(&node.name, &manifest, &node.dest())
        .expect("fetches");
    assert_eq!(
        fs::read(node.dest().join("checkpoint.img")).expect("reads"),
        b"state"
    );
}

#[test]
fn an_interrupted_save_goes_on_where_it_stopped() {
    let node = node();
    node.write(&[("checkpoint.img", b"state"), ("pages.img", b"pages")]);
    // Killed after the first file was moved.
    let target = node.snapshots.path(&node.name);
    fs::create_dir_all(&target).expect("makes");
    fs::rename(
        node.source().join("checkpoint.img"),
        target.join("checkpoint.img"),
    )
    .expect("moves");
    assert!(matches!(
        node.snapshots.read_manifest(&node.name),
        Err(SnapshotError::NotFound { .. })
    ));
    assert_eq!(
        node.snapshots.list().expect("lists"),
        [(node.name.clone(), LocalState::Partial)]
    );
    let manifest = node
        .snapshots
        .save(&node.source(), &node.name, &plan())
        .expect("goes on");
    assert_eq!(
        node.snapshots.list().expect("lists"),
        [(node.name.clone(), LocalState::Complete)]
    );
    // Killed before the caller heard of it.
    assert_eq!(
        node.snapshots
            .save(&node.source(), &node.name, &plan())
            .expect("is done"),
        manifest
    );
    node.snapshots
        .fetch(&node.name, &manifest, &node.dest())
        .expect("fetches");
}

#[test]
fn a_complete_snapshot_is_not_replaced_by_another() {
    let node = node();
    let manifest = node.saved();
    node.write(&[("checkpoint.img", b"other"), ("pages.img", b"other")]);
    let error = node
        .snapshots
        .save(&node.source(), &node.name, &plan())
        .expect_err("occupied");
    assert!(matches!(error, SnapshotError::Occupied { .. }), "{error}");
    assert_eq!(node.snapshots.read_manifest(&node.name).expect("reads"), manifest);
}

#[test]
fn a_missing_or_unexpected_file_is_not_saved() {
    let node = node();
    node.write(&[("checkpoint.img", b"state")]);
    let error = node
        .snapshots
        .save(&node.source(), &node.name, &plan())
        .expect_err("no pages");
    assert!(
        matches!(error, SnapshotError::Source { .. }) && error.to_string().contains("pages.img"),
        "{error}"
    );

    let other = self::node();
    let mut expecting = plan();
    expecting.files = node_records(&other);
    other.write(&[("checkpoint.img", b"other"), ("pages.img", &[7; 300_000])]);
    let error = other
        .snapshots
        .save(&other.source(), &other.name, &expecting)
        .expect_err("altered");
    assert!(
        matches!(
            error,
            SnapshotError::Source {
                cause: SourceError::Altered { .. },
                ..
            }
        ),
        "{error}"
    );
}

fn node_records(
    like: &Node,
) -> std::collections::BTreeMap<holdfast_objects::FileName, holdfast_objects::FileRecord> {
    let files = like.saved().files;
    like.snapshots.delete(&like.name).expect("deletes");
    files
}

/// S80.
#[test]
fn links_from_the_sandbox_do_not_lead_the_daemon_out() {
    let node = node();
    let secret = node.root.path().join("secret");
    fs::write(&secret, "s").expect("writes");
    symlink(&secret, node.source().join("checkpoint.img")).expect("links");
    node.write(&[("pages.img", b"x")]);
    assert!(node.snapshots.save(&node.source(), &node.name, &plan()).is_err());
    assert!(!node.file("manifest.json").exists());

    let outside = node.root.path().join("outside");
    fs::create_dir(&outside).expect("makes");
    fs::write(outside.join("manifest.json"), "{}").expect("writes");
    let link: LocalName = "link".parse().expect("a name");
    symlink(&outside, node.snapshots.path(&link)).expect("links");
    assert!(node.snapshots.read_manifest(&link).is_err());
    assert!(node.snapshots.delete(&link).is_err());
    assert!(outside.join("manifest.json").exists());
}

/// S66.
#[test]
fn a_removed_snapshot_leaves_nothing_and_can_be_removed_again() {
    let node = node();
    node.saved();
    fs::write(node.file(".pages.img.partial"), "left by a crash").expect("writes");
    node.snapshots.delete(&node.name).expect("deletes");
    assert!(entries(&node.root.path().join("local-checkpoint")).is_empty());
    node.snapshots.delete(&node.name).expect("is done");
    assert!(node.snapshots.list().expect("lists").is_empty());
    assert!(
        LocalSnapshots::new(node.root.path().join("absent"))
            .list()
            .expect("lists")
            .is_empty()
    );
}

#[test]
fn holes_stay_holes() {
    let node = node();
    node.write(&[("checkpoint.img", b"x")]);
    let pages = fs::File::create(node.source().join("pages.img")).expect("creates");
    pages.set_len(64 << 20).expect("a hole");
    let manifest = node
        .snapshots
        .save(&node.source(), &node.name, &plan())
        .expect("saves");
    node.snapshots
        .fetch(&node.name, &manifest, &node.dest())
        .expect("fetches");
    let copy = fs::metadata(node.dest().join("pages.img")).expect("stat");
    assert_eq!(copy.len(), 64 << 20);
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
}
