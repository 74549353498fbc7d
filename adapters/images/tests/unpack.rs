//! Layers that are as they should be: what they become on disk.

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use holdfast_images::{Digest, UnpackError, UnpackLimits};
use support::{Bench, Tar, TestImage, gzip};

fn unpacked(layers: &[Vec<u8>]) -> Bench {
    let bench = Bench::new();
    bench.unpack(layers, &UnpackLimits::default()).expect("unpack");
    bench
}

/// Everything below a directory, by its path from there.
fn tree(root: &Path) -> BTreeSet<String> {
    fn walk(root: &Path, directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).expect("list") {
            let path = entry.expect("entry").path();
            found.insert(path.strip_prefix(root).expect("below").display().to_string());
            if path.symlink_metadata().expect("metadata").is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(root, root, &mut found);
    found
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn plain_gzip_and_zstd_layers_are_told_apart_by_their_bytes() {
    let tar = |name: &str| Tar::new().file(name, name).finish();
    let zstd = zstd::encode_all(tar("c").as_slice(), 3).expect("zstd");
    let two_members = [gzip(&tar("d")[..512]), gzip(&tar("d")[512..])].concat();
    let bench = unpacked(&[tar("a"), gzip(&tar("b")), zstd, two_members]);
    assert_eq!(tree(&bench.rootfs()), names(&["a", "b", "c", "d"]));
    assert_eq!(std::fs::read(bench.rootfs().join("d")).expect("read"), b"d");
}

#[test]
fn modes_lose_their_special_bits_and_owners_are_ignored() {
    let bench = unpacked(&[Tar::new()
        .file_with_mode("suid", "", 0o6755)
        .directory("sticky", 0o1777)
        .directory("closed", 0o555)
        .file_with_mode("closed/inside", "", 0o400)
        .file("implicit/file", "")
        .finish()]);
    let metadata = |path: &str| std::fs::symlink_metadata(bench.rootfs().join(path)).expect(path);
    for (path, mode) in [
        ("suid", 0o755),
        ("sticky", 0o777),
        ("closed", 0o555),
        ("closed/inside", 0o400),
        ("implicit", 0o755),
    ] {
        assert_eq!(metadata(path).permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!(metadata(path).uid(), metadata("").uid(), "{path}");
    }
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let base = Tar::new()
        .file("a", "base")
        .file("b/one", "base")
        .file("b/two", "base")
        .file("c/one", "base")
        .file("c/sub/low", "base")
        .file("keep", "base")
        .finish();
    let top = Tar::new()
        .whiteout(".wh.a")
        .whiteout("b/.wh.one")
        // In the wrong order: what this layer makes stays.
        .file("c/new", "top")
        .file("c/sub/high", "top")
        .whiteout("c/.wh..wh..opq")
        .file("d", "top")
        .whiteout(".wh.d")
        .whiteout("nowhere/.wh.x")
        .whiteout(".wh..wh.plnk")
        .finish();
    let bench = unpacked(&[base, top]);
    let expected = ["b", "b/two", "c", "c/new", "c/sub", "c/sub/high", "d", "keep"];
    assert_eq!(tree(&bench.rootfs()), names(&expected));
}

#[test]
fn whiteouts_of_directories_take_everything_with_them() {
    let base = Tar::new()
        .file("a/b/c/d", "")
        .symlink("a/b/link", "/")
        .directory("a/closed", 0o500)
        .finish();
    let replaced = Tar::new().whiteout(".wh.a").file("a/b/new", "").finish();
    let hidden = Tar::new().whiteout("a/.wh.b").finish();
    let bench = unpacked(&[base, replaced, hidden]);
    assert_eq!(tree(&bench.rootfs()), names(&["a"]));
}

#[test]
fn whiteouts_in_the_first_layer_hide_nothing() {
    let bench = unpacked(&[Tar::new()
        .file("a", "")
        .whiteout(".wh.a")
        .whiteout(".wh..wh..opq")
        .finish()]);
    assert_eq!(tree(&bench.rootfs()), names(&["a"]));
}

#[test]
fn later_layers_replace_whatever_is_in_the_way() {
    let base = Tar::new()
        .file("file", "old")
        .directory("dir", 0o755)
        .file("dir/inside", "")
        .symlink("link", "file")
        .hardlink("hard", "file")
        .directory("mode", 0o755)
        .finish();
    let top = Tar::new()
        .directory("file", 0o755)
        .file("dir", "now a file")
        .file("link", "not through the link")
        .file("hard", "not through the other name")
        .directory("mode", 0o700)
        .finish();
    let bench = unpacked(&[base, top]);
    let root = bench.rootfs();
    assert_eq!(tree(&root), names(&["dir", "file", "hard", "link", "mode"]));
    assert!(root.join("file").is_dir());
    assert_eq!(std::fs::read(root.join("dir")).expect("read"), b"now a file");
    assert!(root.join("link").symlink_metadata().expect("metadata").is_file());
    assert_eq!(
        root.join("mode").metadata().expect("metadata").mode() & 0o777,
        0o700
    );
}

#[test]
fn hard_links_share_content_and_may_name_links() {
    let bench = unpacked(&[Tar::new()
        .file("a", "x")
        .hardlink("dir/b", "/a")
        .hardlink("a", "./a")
        .symlink("s", "/nowhere")
        .hardlink("t", "s")
        .finish()]);
    let inode = |path: &str| bench.rootfs().join(path).symlink_metadata().expect(path).ino();
    assert_eq!(inode("a"), inode("dir/b"));
    assert_eq!(inode("s"), inode("t"));
}

#[test]
fn links_to_directories_are_followed_as_the_container_would() {
    let base = Tar::new()
        .directory("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .symlink("var/run", "/run")
        .finish();
    let top = Tar::new()
        .file("lib/a", "")
        .file("var/run/b", "")
        .symlink("up", "usr/../usr")
        .file("up/c", "")
        .finish();
    let bench = unpacked(&[base, top]);
    let root = bench.rootfs();
    for path in ["usr/lib/a", "usr/c"] {
        assert!(root.join(path).symlink_metadata().is_ok(), "{path}");
    }
    let error = {
        let bench = Bench::new();
        let layers = [Tar::new().symlink("run", "missing").file("run/b", "").finish()];
        bench
            .unpack(&layers, &UnpackLimits::default())
            .expect("a link to what is not there yet makes it");
        tree(&bench.rootfs())
    };
    assert_eq!(error, names(&["missing", "missing/b", "run"]));
    assert!(
        root.join("run/b").symlink_metadata().is_ok(),
        "an absolute link starts at the root of the image"
    );
}

#[test]
fn names_of_every_format_are_read() {
    let long = format!("long/{}/{}", "n".repeat(200), "m".repeat(200));
    let gnu = format!("gnu/{}", "g".repeat(120));
    let target = "t".repeat(150);
    let bench = unpacked(&[Tar::new()
        .pax(&[
            // Binary attributes may contain line ends, and something that looks like another record.
            ("SCHILY.xattr.user.x", b"\n\n12 path=x\n\0".as_slice()),
            ("path", long.as_bytes()),
        ])
        .file("cut", "pax")
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("link", "cut")
        .member(b'L', "././@LongLink", "", 0, format!("{gnu}\0").as_bytes())
        .file("cut", "gnu")
        .member(b'g', "global", "", 0, b"11 path=no\n")
        .file("plain", "")
        .member(b'\0', "old/", "", 0o755, b"")
        .finish()]);
    let root = bench.rootfs();
    assert_eq!(std::fs::read(root.join(&long)).expect("pax"), b"pax");
    assert_eq!(std::fs::read(root.join(&gnu)).expect("gnu"), b"gnu");
    assert_eq!(
        std::fs::read_link(root.join("link")).expect("link"),
        Path::new(&target)
    );
    assert!(root.join("plain").is_file() && root.join("old").is_dir());
    assert!(!root.join("cut").exists() && !root.join("no").exists() && !root.join("x").exists());
}

#[test]
fn a_pax_size_counts_before_the_header_s() {
    let mut header = tar::Header::new_ustar();
    header.set_path("big").expect("path");
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    let mut tar = Tar::new().pax(&[("size", b"5")]);
    tar.raw(header.as_bytes());
    tar.raw(b"12345");
    tar.raw(&[0; 507]);
    let bench = unpacked(&[tar.file("next", "x").finish()]);
    assert_eq!(std::fs::read(bench.rootfs().join("big")).expect("read"), b"12345");
    assert_eq!(std::fs::read(bench.rootfs().join("next")).expect("read"), b"x");
}

#[test]
fn sparse_files_keep_their_holes() {
    let mut header = tar::Header::new_gnu();
    header.set_path("sparse").expect("path");
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(1024);
    let gnu = header.as_gnu_mut().expect("GNU");
    let octal =
        |field: &mut [u8; 12], value: u64| field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    octal(&mut gnu.realsize, 8 << 20);
    for (at, (offset, length)) in [(1 << 20, 512), (4 << 20, 512), (8 << 20, 0)]
        .into_iter()
        .enumerate()
    {
        octal(&mut gnu.sparse[at].offset, offset);
        octal(&mut gnu.sparse[at].numbytes, length);
    }
    header.set_cksum();
    let mut tar = Tar::new();
    tar.raw(header.as_bytes());
    tar.raw(&[b'a'; 512]);
    tar.raw(&[b'b'; 512]);
    let bench = unpacked(&[tar.file("next", "").finish()]);
    let file = bench.rootfs().join("sparse");
    let content = std::fs::read(&file).expect("read");
    assert_eq!(content.len(), 8 << 20);
    assert!(content[1 << 20..][..512].iter().all(|byte| *byte == b'a'));
    assert!(content[4 << 20..][..512].iter().all(|byte| *byte == b'b'));
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 1024);
    assert!(
        file.metadata().expect("metadata").blocks() * 512 < 1 << 20,
        "holes take no room"
    );
}

#[test]
fn a_root_directory_with_something_in_it_is_refused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.rootfs()).expect("directory");
    std::fs::write(bench.rootfs().join("precious"), "").expect("write");
    let error = bench
        .unpack(&[Tar::new().finish()], &UnpackLimits::default())
        .expect_err("refused");
    assert!(matches!(error, UnpackError::NotEmpty { .. }), "{error}");
    assert_eq!(tree(&bench.rootfs()), names(&["precious"]));
}

#[test]
fn unpacking_stops_when_told_to() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    TestImage::new(&[Tar::new().file("a", "").finish()]).write_layout(&layout);
    let image = bench.pull(&format!("oci:{}", layout.display())).expect("pull");
    let stopped = image.unpack(&bench.rootfs(), &UnpackLimits::default(), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(UnpackError::Stopped)));
}

#[test]
fn a_blob_that_left_the_cache_is_told() {
    let bench = Bench::new();
    let layout = bench.directory.path().join("layout");
    let layer = Tar::new().file("a", "").finish();
    TestImage::new(std::slice::from_ref(&layer)).write_layout(&layout);
    let image = bench.pull(&format!("oci:{}", layout.display())).expect("pull");
    bench.cache.remove(Digest::of(&layer)).expect("remove");
    let error = image
        .unpack(&bench.rootfs(), &UnpackLimits::default(), &AtomicBool::new(false))
        .expect_err("gone");
    assert!(error.needs_pull(), "{error}");
}
