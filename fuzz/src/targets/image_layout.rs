//! The documents of an image: index, manifest and configuration, in an OCI layout.

use std::fs;
use std::path::Path;

use holdfast_images::{Cache, Digest, Image, Layouts, Progress, PullLimits, PullOptions, Puller};
use holdfast_runtime::tokio::runtime::Builder;

use crate::feed::Feed;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

const LIMITS: PullLimits = PullLimits {
    document_bytes: 16 * 1024,
    image_bytes: 128 * 1024,
    layers: 8,
};

/// The first byte says which document the rest is; the others are as they should be. The image is pulled
/// or refused, and nothing beside the cache is written.
pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let layout = directory.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).expect("a layout");
    let mut feed = Feed::new(data);
    match feed.below(3) {
        0 => {
            let config = blob(&layout, b"{}");
            blob(&layout, manifest(&config, &[]).as_bytes());
            fs::write(layout.join("index.json"), feed.rest()).expect("an index");
        }
        1 => {
            blob(&layout, b"{}");
            blob(&layout, b"");
            let manifest = blob(&layout, feed.rest());
            fs::write(layout.join("index.json"), index(&manifest)).expect("an index");
        }
        _ => {
            let config = blob(&layout, feed.rest());
            let manifest = blob(&layout, manifest(&config, &[]).as_bytes());
            fs::write(layout.join("index.json"), index(&manifest)).expect("an index");
        }
    }
    if let Some(image) = pull(directory.path(), &layout) {
        assert!(image.bytes() <= LIMITS.image_bytes);
    }
    let beside = fs::read_dir(directory.path()).expect("a list").count();
    assert_eq!(beside, 2, "the layout, the cache, and nothing else");
}

/// Pulls the image of a layout into a cache beside it.
pub(super) fn pull(directory: &Path, layout: &Path) -> Option<Image> {
    let cache = Cache::open(&directory.join("cache")).expect("a cache");
    let options = PullOptions {
        layouts: Layouts::Allowed,
        limits: LIMITS,
        ..PullOptions::default()
    };
    let puller = Puller::new(cache, options);
    let reference = format!("oci:{}:v1", layout.display());
    let reference = reference.parse().expect("a reference");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let progress = Progress::default();
    runtime.block_on(puller.pull(&reference, &progress)).ok()
}

/// Stores a blob; its digest and size, as a descriptor has them.
pub(super) fn blob(layout: &Path, content: &[u8]) -> String {
    let digest = Digest::of(content);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), content).expect("a blob");
    format!(r#""digest":"{digest}","size":{}"#, content.len())
}

/// The manifest of an image of these blobs.
pub(super) fn manifest(config: &str, layers: &[String]) -> String {
    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| format!(r#"{{"mediaType":"{LAYER}",{layer}}}"#))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}",{config}}},"layers":[{}]}}"#,
        layers.join(",")
    )
}

/// The index of a layout with this image under the tag `v1`.
pub(super) fn index(manifest: &str) -> String {
    let tag = r#"{"org.opencontainers.image.ref.name":"v1"}"#;
    format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}",{manifest},"annotations":{tag}}}]}}"#
    )
}
