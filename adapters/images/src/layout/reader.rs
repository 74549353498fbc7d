//! Reads what a reference means in a layout. Its methods block on the disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::manifest::{self, Descriptor, Document};
use crate::{Digest, DiskError, Platform, PullError};

/// A directory as the OCI image layout specification has it.
#[derive(Clone)]
pub(crate) struct Layout(pub PathBuf);

impl Layout {
    /// What the layout's index has under `tag`; without a tag its only image, or else `latest`.
    pub fn find(&self, tag: Option<&str>, platform: &Platform, limit: u64) -> Result<Descriptor, PullError> {
        let path = self.0.join("index.json");
        let file = self.open(&path, "layout (index.json)")?;
        let what = path.display().to_string();
        let entries = match Document::parse(&what, &read(file, &path, &what, limit)?)? {
            Document::Index(entries) => entries,
            Document::Manifest(_) => {
                return Err(manifest::malformed(&what, "it is a manifest, not an index"));
            }
        };
        let tag = match (tag, entries.as_slice()) {
            (None, [only]) => return Ok(only.clone()),
            (tag, _) => tag.unwrap_or("latest"),
        };
        let tagged: Vec<_> = entries
            .iter()
            .filter(|entry| entry.tag() == Some(tag))
            .cloned()
            .collect();
        match tagged.as_slice() {
            [] => {
                let tags: Vec<_> = entries.iter().filter_map(Descriptor::tag).collect();
                Err(PullError::NotFound {
                    what: format!("tag {tag:?}"),
                    place: format!("layout {} (which has: {})", self.0.display(), tags.join(", ")),
                })
            }
            [only] => Ok(only.clone()),
            several => manifest::choose(&format!("{what}, tag {tag:?}"), several, platform).cloned(),
        }
    }

    pub fn read_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, PullError> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        read(file, &path, &format!("blob {digest}"), limit)
    }

    pub fn open_blob(&self, digest: Digest) -> Result<File, PullError> {
        self.open(&self.blob_path(digest), &format!("blob {digest}"))
    }

    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.hex())
    }

    /// Opens a regular file. A pipe of that name must not make us wait for its writer.
    fn open(&self, path: &Path, what: &str) -> Result<File, PullError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from) {
            Ok(file) => file.into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PullError::NotFound {
                    what: what.to_owned(),
                    place: format!("directory {}", self.0.display()),
                });
            }
            Err(error) => return Err(DiskError::new(path, error).into()),
        };
        let metadata = file.metadata().map_err(|error| DiskError::new(path, error))?;
        match metadata.is_file() {
            true => Ok(file),
            false => Err(manifest::malformed(
                &path.display().to_string(),
                "it is not a regular file",
            )),
        }
    }
}

fn read(file: File, path: &Path, what: &str, limit: u64) -> Result<Vec<u8>, PullError> {
    let mut content = Vec::new();
    let count = file
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| DiskError::new(path, error))? as u64;
    match count > limit {
        false => Ok(content),
        true => Err(PullError::TooLarge {
            what: what.to_owned(),
            amount: count,
            unit: "bytes or more",
            limit,
        }),
    }
}
