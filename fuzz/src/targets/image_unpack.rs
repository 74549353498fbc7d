//! The layers of an image: tar archives of strangers, unpacked on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use holdfast_images::UnpackLimits;

use super::image_layout::{blob, index, manifest, pull};
use crate::feed::Feed;

const LIMITS: UnpackLimits = UnpackLimits {
    bytes: 256 * 1024,
    entries: 64,
    file_bytes: 64 * 1024,
    path_bytes: 512,
};

/// The first byte says where the rest is cut into two layers, in blocks of 512 bytes; at zero it is one.
/// They are unpacked or refused, within the limits, and nothing outside of the root is touched.
pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a layout");
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("victim"), "untouched").expect("a file");

    let mut feed = Feed::new(data);
    let cut = usize::from(feed.byte()) * 512;
    let archives = feed.rest();
    let (lower, upper) = archives.split_at(cut.min(archives.len()));
    let layers = [lower, upper].into_iter().filter(|layer| !layer.is_empty());
    let layers: Vec<_> = layers.map(|layer| blob(&layout, layer)).collect();
    let config = blob(&layout, br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#);
    let manifest = blob(&layout, manifest(&config, &layers).as_bytes());
    fs::write(layout.join("index.json"), index(&manifest)).expect("an index");

    let Some(image) = pull(directory.path(), &layout) else {
        return;
    };
    let root = directory.path().join("root");
    if let Ok(report) = image.unpack(&root, &LIMITS, &AtomicBool::new(false)) {
        assert!(report.entries <= LIMITS.entries && report.bytes <= LIMITS.bytes);
    }
    assert_eq!(fs::read(outside.join("victim")).expect("a file"), b"untouched");
    assert_eq!(fs::read_dir(&outside).expect("a list").count(), 1);
    let beside = fs::read_dir(directory.path()).expect("a list").count();
    assert_eq!(
        beside, 4,
        "the layout, the cache, the root, what is outside, and nothing else"
    );
    check_tree(&root);
}

/// Plain files, directories and links, with no special bits and of a bounded size.
fn check_tree(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("metadata");
        let kind = metadata.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{entry:?}");
        if !kind.is_symlink() {
            assert_eq!(metadata.permissions().mode() & 0o7000, 0, "{entry:?}");
        }
        if kind.is_file() {
            assert!(metadata.len() <= LIMITS.file_bytes, "{entry:?}");
        } else if kind.is_dir() {
            check_tree(&entry.path());
        }
    }
}
