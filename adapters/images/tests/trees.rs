//! Images that are unpacked once and laid out for each who runs them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use holdfast_images::{Image, Sharing, Tree, UnpackError, UnpackLimits};
use holdfast_runtime::tokio;
use support::{Bench, Tar, TestImage, gzip, run};

static NEVER: AtomicBool = AtomicBool::new(false);

fn image(bench: &Bench, layers: &[Vec<u8>]) -> Image {
    let layout = bench.directory.path().join("layout");
    TestImage::new(layers).write_layout(&layout);
    bench.pull(&format!("oci:{}:v1", layout.display())).expect("pull")
}

fn layers() -> Vec<Vec<u8>> {
    vec![gzip(
        &Tar::new()
            .directory("bin", 0o755)
            .file_with_mode("bin/app", "program", 0o755)
            .hardlink("bin/same", "bin/app")
            .symlink("app", "bin/app")
            .directory("closed", 0o500)
            .file("closed/in", "inside")
            .finish(),
    )]
}

fn unpacked(image: &Image) -> Tree {
    run(image.unpacked(&UnpackLimits::default())).expect("unpack")
}

fn lay_out(bench: &Bench, tree: &Tree, name: &str, sharing: Sharing) -> PathBuf {
    let bundle = bench.directory.path().join(name);
    fs::create_dir(&bundle).expect("bundle");
    let rootfs = bundle.join("rootfs");
    tree.lay_out(&rootfs, &bundle.join("lease"), sharing, &NEVER)
        .expect("lay out");
    rootfs
}

fn tree_of(bench: &Bench, image: &Image) -> PathBuf {
    let hex = image.digest().to_string().replace("sha256:", "");
    bench.directory.path().join("cache/trees").join(hex)
}

fn check_files(rootfs: &Path) {
    let mode = |name: &str| fs::symlink_metadata(rootfs.join(name)).expect("there").mode() & 0o7777;
    assert_eq!(
        fs::read_to_string(rootfs.join("app")).expect("through the link"),
        "program"
    );
    assert_eq!(
        fs::read_to_string(rootfs.join("closed/in")).expect("there"),
        "inside"
    );
    assert_eq!(
        (mode("bin"), mode("bin/app"), mode("closed"), mode("closed/in")),
        (0o755, 0o755, 0o500, 0o644)
    );
    let inode = |name: &str| fs::metadata(rootfs.join(name)).expect("there").ino();
    assert_eq!(
        inode("bin/app"),
        inode("bin/same"),
        "two names of one file stay that"
    );
}

#[test]
fn one_unpacking_serves_all_who_run_the_image_and_the_second_reads_no_layer() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let first = lay_out(&bench, &unpacked(&image), "a", Sharing::Links);
    for blob in fs::read_dir(bench.directory.path().join("cache/blobs/sha256")).expect("blobs") {
        fs::remove_file(blob.expect("blob").path()).expect("gone");
    }
    let second = lay_out(&bench, &unpacked(&image), "b", Sharing::Links);
    for rootfs in [&first, &second] {
        check_files(rootfs);
    }
    let inode = |rootfs: &Path| fs::metadata(rootfs.join("bin/app")).expect("there").ino();
    assert_eq!(inode(&first), inode(&second));
}

#[test]
fn what_one_adds_removes_or_replaces_is_not_seen_by_another() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let tree = unpacked(&image);
    let (one, other) = (
        lay_out(&bench, &tree, "a", Sharing::Links),
        lay_out(&bench, &tree, "b", Sharing::Links),
    );
    fs::write(one.join("bin/new"), "new").expect("write");
    fs::remove_file(one.join("closed/in")).expect("remove");
    fs::set_permissions(one.join("bin"), fs::Permissions::from_mode(0o700)).expect("mode");
    check_files(&other);
    assert!(!other.join("bin/new").exists());
    check_files(&lay_out(&bench, &tree, "c", Sharing::Links));
}

#[test]
fn copies_are_files_of_their_own_with_the_same_holes() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let tree = unpacked(&image);
    let sparse = tree_of(&bench, &image).join("rootfs/bin/sparse");
    let file = fs::File::create(&sparse).expect("file");
    file.set_len(64 << 20).expect("hole");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (64 << 20) - 3).expect("write");
    let (one, other) = (
        lay_out(&bench, &tree, "a", Sharing::Copies),
        lay_out(&bench, &tree, "b", Sharing::Copies),
    );
    check_files(&one);
    fs::write(one.join("bin/app"), "changed").expect("write");
    check_files(&other);
    let copy = fs::metadata(other.join("bin/sparse")).expect("there");
    assert_eq!(copy.len(), 64 << 20);
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    assert!(
        fs::read(other.join("bin/sparse"))
            .expect("read")
            .ends_with(b"end")
    );
}

#[test]
fn many_who_want_an_image_at_once_wait_for_one_unpacking() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let inodes = run(async {
        let wanting: Vec<_> = (0..8)
            .map(|_| {
                let image = image.clone();
                tokio::spawn(async move { image.unpacked(&UnpackLimits::default()).await.map(drop) })
            })
            .collect();
        let mut inodes = std::collections::BTreeSet::new();
        for wanted in wanting {
            wanted.await.expect("task").expect("unpacked");
            let app = tree_of(&bench, &image).join("rootfs/bin/app");
            inodes.insert(fs::metadata(app).expect("there").ino());
        }
        inodes
    });
    assert_eq!(inodes.len(), 1, "it was unpacked once");
}

#[test]
fn an_image_that_cannot_be_unpacked_leaves_nothing_and_says_why() {
    let bench = Bench::new();
    let bad = Tar::new()
        .file("before", "x")
        .member(b'3', "dev", "", 0o600, b"")
        .finish();
    let image = image(&bench, &[bad]);
    let error = run(image.unpacked(&UnpackLimits::default())).expect_err("a device");
    assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
    for directory in ["trees", "unpacking"] {
        let left = fs::read_dir(bench.directory.path().join("cache").join(directory)).expect("directory");
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn an_unpacking_that_was_killed_is_begun_anew() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let hex = tree_of(&bench, &image).file_name().expect("name").to_owned();
    let half = bench.directory.path().join("cache/unpacking").join(hex);
    fs::create_dir_all(half.join("rootfs/bin")).expect("half");
    fs::write(half.join("rootfs/bin/app"), "half").expect("half");
    check_files(&lay_out(&bench, &unpacked(&image), "a", Sharing::Links));
    assert!(!half.exists());
}

/// What was written and never forced to the disk may be anything after a power failure.
#[test]
fn a_tree_of_an_earlier_boot_counts_only_if_it_was_on_the_disk() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    drop(unpacked(&image));
    let tree = tree_of(&bench, &image);
    let forget_boot = || {
        let record = fs::read_to_string(tree.join("record.json")).expect("record");
        let mut record: serde_json::Value = serde_json::from_str(&record).expect("json");
        record["boot"] = "another".into();
        fs::write(tree.join("record.json"), record.to_string()).expect("record");
        fs::write(tree.join("rootfs/closed/in"), "torn").expect("torn");
    };
    forget_boot();
    check_files(&lay_out(&bench, &unpacked(&image), "a", Sharing::Links));

    bench.cache.sync_trees().expect("sync");
    let inode = || fs::metadata(tree.join("rootfs/bin/app")).expect("there").ino();
    let before = inode();
    forget_boot();
    drop(unpacked(&image));
    assert_eq!(inode(), before, "it is used as it is");
}

#[test]
fn a_root_with_something_in_it_and_links_out_of_it_are_left_alone() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let tree = unpacked(&image);
    let (rootfs, secret) = (bench.rootfs(), bench.directory.path().join("secret"));
    fs::write(&secret, "s").expect("write");
    fs::create_dir(&rootfs).expect("rootfs");
    symlink(&secret, rootfs.join("app")).expect("link");
    let error = tree.lay_out(
        &rootfs,
        &bench.directory.path().join("lease"),
        Sharing::Copies,
        &NEVER,
    );
    assert!(matches!(error, Err(UnpackError::NotEmpty { .. })));
    assert_eq!(fs::read(&secret).expect("read"), b"s");
}

#[test]
fn laying_out_stops_when_told_to() {
    let bench = Bench::new();
    let image = image(&bench, &layers());
    let lease = bench.directory.path().join("lease");
    let stopped = unpacked(&image).lay_out(&bench.rootfs(), &lease, Sharing::Links, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(UnpackError::Stopped)));
}
