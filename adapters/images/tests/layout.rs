//! Writing a layout, pulling from it and unpacking what was written.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicBool;

use holdfast_images::{LayoutError, LayoutWriter, Platform, PullError, UnpackLimits};
use support::{Bench, TestImage};

fn writer() -> LayoutWriter {
    LayoutWriter::new(Platform::host())
        .file("/bin/app", "#!/bin/sh\n", 0o755)
        .file("etc/deep/down/config", vec![7; 100_000], 0o600)
        .directory("data", 0o700)
        .symlink("bin/alias", "app")
        .file(&format!("long/{}", "n".repeat(200)), "long", 0o644)
}

#[test]
fn what_was_written_is_what_is_unpacked() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let source = bench.directory.path().join("source");
    std::fs::write(&source, "copied").expect("write");
    let reference = writer()
        .copy("copy", &source, 0o640)
        .write(&layout, "v1")
        .expect("write");
    assert!(reference.is_pinned());

    let image = bench.pull(&reference.to_string()).expect("pull");
    assert_eq!(image.reference(), &reference);
    let rootfs = bench.rootfs();
    image
        .unpack(&rootfs, &UnpackLimits::default(), &AtomicBool::new(false))
        .expect("unpack");
    let content = |path: &str| std::fs::read(rootfs.join(path)).expect(path);
    let mode = |path: &str| {
        std::fs::symlink_metadata(rootfs.join(path))
            .expect(path)
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(content("bin/alias"), b"#!/bin/sh\n");
    assert_eq!(content("etc/deep/down/config"), vec![7; 100_000]);
    assert_eq!(content("copy"), b"copied");
    assert_eq!(content(&format!("long/{}", "n".repeat(200))), b"long");
    for (path, expected) in [
        ("", 0o700),
        ("bin", 0o755),
        ("bin/app", 0o755),
        ("etc/deep/down/config", 0o600),
        ("data", 0o700),
        ("copy", 0o640),
    ] {
        assert_eq!(mode(path), expected, "{path}");
    }
}

#[test]
fn the_same_files_give_the_same_digest() {
    let bench = Bench::new();
    let write = |name: &str, writer: LayoutWriter| {
        let reference = writer
            .write(&bench.directory.path().join(name), "v1")
            .expect("write");
        reference.digest()
    };
    let first = write("a", writer());
    assert_eq!(write("b", writer()), first);
    assert_ne!(write("c", writer().file("more", "", 0o644)), first);
}

#[test]
fn a_layout_holds_several_images_and_a_tag_names_the_last() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let image = |content: &str| LayoutWriter::new(Platform::host()).file("a", content, 0o644);
    let old = image("old").write(&layout, "v1").expect("write");
    let other = image("other").write(&layout, "v2").expect("write");
    let new = image("new").write(&layout, "v1").expect("write");
    let pulled = |reference: &str| bench.pull(reference).expect(reference).digest();
    let path = layout.display();
    assert_eq!(Some(pulled(&format!("oci:{path}:v1"))), new.digest());
    assert_eq!(Some(pulled(&format!("oci:{path}:v2"))), other.digest());
    assert_eq!(
        Some(pulled(&old.to_string())),
        old.digest(),
        "by digest it is still there"
    );

    let error = bench.pull(&format!("oci:{path}:v3")).expect_err("no such tag");
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("v2, v1"), "{error}");
    let error = bench.pull(&format!("oci:{path}")).expect_err("which one?");
    assert!(matches!(error, PullError::NotFound { .. }), "{error}");
}

#[test]
fn a_layout_without_tags_means_its_only_image() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let image = TestImage::new(&[]);
    image.write_layout(&layout);
    assert_eq!(
        bench
            .pull(&format!("oci:{}", layout.display()))
            .expect("pull")
            .digest(),
        image.digest()
    );
}

#[test]
fn bad_paths_and_tags_are_refused_and_leave_nothing() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let empty = || LayoutWriter::new(Platform::host());
    for path in ["", "/", "../a", "a/../b", "a\0b"] {
        let error = empty()
            .file(path, "", 0o644)
            .write(&layout, "v1")
            .expect_err(path);
        assert!(matches!(error, LayoutError::Path { .. }), "{error}");
    }
    let below_a_file = empty()
        .file("a", "", 0o644)
        .file("a/b", "", 0o644)
        .write(&layout, "v1");
    assert!(matches!(below_a_file, Err(LayoutError::Path { .. })));
    assert!(matches!(empty().write(&layout, "a:b"), Err(LayoutError::Tag(_))));
    assert!(!layout.exists());
}

#[test]
fn a_missing_layout_and_a_broken_one_are_told_apart() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let name = format!("oci:{}:v1", layout.display());
    assert!(matches!(bench.pull(&name), Err(PullError::NotFound { .. })));
    TestImage::new(&[]).write_layout(&layout);
    std::fs::write(layout.join("index.json"), "{").expect("write");
    assert!(matches!(bench.pull(&name), Err(PullError::Malformed { .. })));
}
