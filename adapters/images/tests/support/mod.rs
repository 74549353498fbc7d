//! Images made by hand, so that they can be as bad as they have to be.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub mod registry;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use holdfast_images::{
    Cache, Digest, Image, Layouts, Platform, Progress, PullError, PullOptions, Puller, Reference,
    UnpackError, UnpackLimits, UnpackReport,
};
use holdfast_runtime::tokio;
use registry::TestRegistry;
use serde_json::{Value, json};

/// Runs a test on a runtime of its own, with real sockets.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .expect("runtime")
        .block_on(test)
}

/// A tar archive, member by member.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.file_with_mode(name, content, 0o644)
    }

    pub fn file_with_mode(self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> Self {
        self.member(b'0', name, "", mode, content.as_ref())
    }

    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.member(b'5', name, "", mode, b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.member(b'2', name, target, 0o777, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.member(b'1', name, target, 0o644, b"")
    }

    pub fn whiteout(self, name: &str) -> Self {
        self.file(name, b"")
    }

    /// Pax records for the next member.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let bare = key.len() + value.len() + 3;
            let digits = |length: usize| length.to_string().len();
            let length = (1..)
                .map(|width| bare + width)
                .find(|length| bare + digits(*length) == *length);
            let length = length.expect("a length that counts itself");
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.member(b'x', "pax", "", 0o644, &content)
    }

    pub fn member(mut self, kind: u8, name: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        // The setters refuse what the tests are about.
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        self.raw(header.as_bytes());
        self.raw(content);
        let padding = (512 - content.len() % 512) % 512;
        self.raw(&vec![0; padding]);
        self
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.raw(&[0; 1024]);
        self.0
    }
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("gzip");
    encoder.finish().expect("gzip")
}

/// The documents and blobs of an image.
#[derive(Clone)]
pub struct TestImage {
    pub manifest: Vec<u8>,
    pub blobs: Vec<Vec<u8>>,
}

impl TestImage {
    /// An image of these layers, which are stored as they are.
    pub fn new(layers: &[Vec<u8>]) -> Self {
        Self::with_manifest(layers, |_| {})
    }

    pub fn with_manifest(layers: &[Vec<u8>], change: impl FnOnce(&mut Value)) -> Self {
        let config = json!({
            "architecture": Platform::host().architecture,
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = config.to_string().into_bytes();
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor(layer_type, layer)).collect::<Vec<_>>(),
        });
        change(&mut manifest);
        let mut blobs = layers.to_vec();
        blobs.push(config);
        Self {
            manifest: manifest.to_string().into_bytes(),
            blobs,
        }
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Writes a layout with this image under the tag `v1`.
    pub fn write_layout(&self, layout: &Path) {
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("layout");
        for blob in self.blobs.iter().chain([&self.manifest]) {
            std::fs::write(blobs.join(Digest::of(blob).hex()), blob).expect("blob");
        }
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &self.manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(layout.join("index.json"), index.to_string()).expect("index");
    }
}

pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() })
}

/// A cache, a layout and a root directory that go away with the test.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub cache: Cache,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(&directory.path().join("cache")).expect("cache");
        Self { directory, cache }
    }

    pub fn puller(&self) -> Puller {
        self.puller_with(PullOptions::default())
    }

    pub fn puller_with(&self, options: PullOptions) -> Puller {
        let layouts = Layouts::Allowed;
        Puller::new(self.cache.clone(), PullOptions { layouts, ..options })
    }

    pub fn pull(&self, reference: &str) -> Result<Image, PullError> {
        let reference: Reference = reference.parse().expect("reference");
        let puller = self.puller();
        run(async move { puller.pull(&reference, &Progress::default()).await })
    }

    pub fn rootfs(&self) -> std::path::PathBuf {
        self.directory.path().join("rootfs")
    }

    /// Pulls an image of these layers from a layout and unpacks it.
    pub fn unpack(&self, layers: &[Vec<u8>], limits: &UnpackLimits) -> Result<UnpackReport, UnpackError> {
        let layout = self.directory.path().join("layout");
        TestImage::new(layers).write_layout(&layout);
        let image = self.pull(&format!("oci:{}:v1", layout.display())).expect("pull");
        image.unpack(&self.rootfs(), limits, &AtomicBool::new(false))
    }
}

/// An image whose first layer is big enough to be cut in the middle.
pub fn big_image() -> (TestImage, Digest) {
    let noise: Vec<u8> = (0_u32..300_000)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let layer = Tar::new().file("noise", noise).finish();
    let digest = Digest::of(&layer);
    (
        TestImage::new(&[layer, gzip(&Tar::new().file("small", "x").finish())]),
        digest,
    )
}

pub async fn pull(bench: &Bench, registry: &TestRegistry) -> Result<Image, PullError> {
    pull_with(bench, registry, PullOptions::default(), &Progress::default()).await
}

pub async fn pull_with(
    bench: &Bench,
    registry: &TestRegistry,
    options: PullOptions,
    progress: &Progress,
) -> Result<Image, PullError> {
    let reference = registry.reference().parse().expect("reference");
    bench.puller_with(options).pull(&reference, progress).await
}
