//! Writes small images into layouts: for tests, demonstrations and people without an image builder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::manifest::{Config, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, REF_NAME, RootFs};
use crate::{Digest, DiskError, Platform, Reference, ReferenceError};

/// Builds an image with one layer from files and writes it into an OCI layout.
///
/// The same files give the same digest: entries are in the order of their paths, times and owners are
/// zero, and parent directories are written out.
#[derive(Clone, Debug)]
pub struct LayoutWriter {
    platform: Platform,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Bytes { content: Vec<u8>, mode: u32 },
    Copy { source: PathBuf, mode: u32 },
    Directory { mode: u32 },
    Symlink { target: String },
}

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A path that no image can have.
    #[error("{path:?} is not a path in an image: it has to name something below the root, without \"..\"")]
    Path {
        /// The path as given.
        path: String,
    },
    /// A tag that nobody could refer to.
    #[error(transparent)]
    Tag(#[from] ReferenceError),
    /// An index that is there already and is not one.
    #[error("{path} is not the index of an OCI layout; write to another directory", path = path.display())]
    Index {
        /// The file.
        path: PathBuf,
    },
    /// The layout cannot be written or a source not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl LayoutWriter {
    /// An empty image for `platform`.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            entries: BTreeMap::new(),
        }
    }

    /// Adds a file with this content. Paths count from the root of the image.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        let content = content.into();
        self.entry(path, Entry::Bytes { content, mode })
    }

    /// Adds a copy of a file on disk, which is read when the image is written.
    #[must_use]
    pub fn copy(self, path: &str, source: impl Into<PathBuf>, mode: u32) -> Self {
        let source = source.into();
        self.entry(path, Entry::Copy { source, mode })
    }

    /// Adds a directory. Parents of other entries need not be added.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, Entry::Directory { mode })
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        let target = target.to_owned();
        self.entry(path, Entry::Symlink { target })
    }

    /// Writes the image into `layout` under `tag`, beside the images that are there already, and returns
    /// its pinned reference. Of an image with the same tag only the tag is taken away.
    ///
    /// # Errors
    /// When a path, the tag or the layout is bad, or the disk does not play along.
    pub fn write(&self, layout: &Path, tag: &str) -> Result<Reference, LayoutError> {
        // Before anything is written: a bad tag must not leave half an image.
        Reference::in_layout(layout, tag, Digest::of(b""))?;
        let entries = self.with_parents()?;
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(|error| DiskError::new(&blobs, error))?;
        let index = read_index(layout)?;

        let layer = write_layer(&blobs, &entries)?;
        let config = serde_json::to_vec(&Config {
            platform: self.platform.clone(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: vec![layer.diff_id],
            },
        });
        let config = write_blob(&blobs, &config.map_err(|error| DiskError::new(&blobs, error))?)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": config.digest, "size": config.size },
            "layers": [{ "mediaType": OCI_LAYER_GZIP, "digest": layer.blob.digest, "size": layer.blob.size }],
        });
        let manifest = write_blob(&blobs, manifest.to_string().as_bytes())?;

        replace(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = with_image(index, &manifest, tag, &self.platform);
        replace(&layout.join("index.json"), index.to_string().as_bytes())?;
        Ok(Reference::in_layout(layout, tag, manifest.digest)?)
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        self.entries.insert(path.to_owned(), entry);
        self
    }

    /// The entries by their clean paths, with every parent.
    fn with_parents(&self) -> Result<BTreeMap<String, Entry>, LayoutError> {
        let mut entries = BTreeMap::new();
        for (path, entry) in &self.entries {
            let bad = || LayoutError::Path { path: path.clone() };
            let parts: Vec<_> = path
                .split('/')
                .filter(|part| !matches!(*part, "" | "."))
                .collect();
            if parts.is_empty() || parts.contains(&"..") || path.contains('\0') {
                return Err(bad());
            }
            for count in 1..parts.len() {
                let parent = entries
                    .entry(parts[..count].join("/"))
                    .or_insert(Entry::Directory { mode: 0o755 });
                if !matches!(parent, Entry::Directory { .. }) {
                    return Err(bad());
                }
            }
            entries.insert(parts.join("/"), entry.clone());
        }
        Ok(entries)
    }
}

/// A blob that was written.
struct Blob {
    digest: Digest,
    size: u64,
}

struct Layer {
    blob: Blob,
    /// The digest before compression.
    diff_id: Digest,
}

fn write_layer(blobs: &Path, entries: &BTreeMap<String, Entry>) -> Result<Layer, LayoutError> {
    let path = blobs.join(format!(".layer-{}", std::process::id()));
    let disk = |error| DiskError::new(&path, error);
    let file = File::create(&path).map_err(disk)?;
    let gzip = GzBuilder::new().write(Hashing::new(file), Compression::default());
    let mut tar = tar::Builder::new(Hashing::new(gzip));
    for (name, entry) in entries {
        append(&mut tar, name, entry, &path)?;
    }
    let tar = tar.into_inner().map_err(disk)?;
    let gzip = tar.inner.finish().map_err(disk)?;
    let blob = Blob {
        digest: Digest::from_hasher(gzip.hasher),
        size: gzip.bytes,
    };
    std::fs::rename(&path, blobs.join(blob.digest.hex())).map_err(disk)?;
    let diff_id = Digest::from_hasher(tar.hasher);
    Ok(Layer { blob, diff_id })
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    entry: &Entry,
    layer: &Path,
) -> Result<(), DiskError> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    let disk = |error| DiskError::new(layer, error);
    match entry {
        Entry::Bytes { content, mode } => {
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content.as_slice())
                .map_err(disk)
        }
        Entry::Copy { source, mode } => {
            let unreadable = |error| DiskError::new(source, error);
            let file = File::open(source).map_err(unreadable)?;
            let size = file.metadata().map_err(unreadable)?.len();
            header.set_mode(*mode);
            header.set_size(size);
            // The header promises a size: a file that grows meanwhile must not spoil the archive.
            tar.append_data(&mut header, name, file.take(size)).map_err(disk)
        }
        Entry::Directory { mode } => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            header.set_size(0);
            tar.append_data(&mut header, format!("{name}/"), io::empty())
                .map_err(disk)
        }
        Entry::Symlink { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, name, target).map_err(disk)
        }
    }
}

fn write_blob(blobs: &Path, content: &[u8]) -> Result<Blob, DiskError> {
    let digest = Digest::of(content);
    replace(&blobs.join(digest.hex()), content)?;
    Ok(Blob {
        digest,
        size: content.len() as u64,
    })
}

fn read_index(layout: &Path) -> Result<Value, LayoutError> {
    let path = layout.join("index.json");
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }));
        }
        Err(error) => return Err(DiskError::new(path, error).into()),
    };
    let index: Option<Value> = serde_json::from_slice(&json).ok();
    index
        .filter(|index| index["manifests"].is_array())
        .ok_or(LayoutError::Index { path })
}

fn with_image(mut index: Value, manifest: &Blob, tag: &str, platform: &Platform) -> Value {
    if let Some(manifests) = index["manifests"].as_array_mut() {
        manifests.retain(|entry| entry["annotations"][REF_NAME] != tag);
        manifests.push(json!({
            "mediaType": OCI_MANIFEST,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": platform,
            "annotations": { REF_NAME: tag },
        }));
    }
    index
}

/// Whoever reads the layout meanwhile finds the old file or the new one.
fn replace(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    std::fs::write(&name, content)
        .and_then(|()| std::fs::rename(&name, path))
        .map_err(|error| DiskError::new(path, error))
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
