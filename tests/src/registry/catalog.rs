//! What the registry has: the content of an OCI image layout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MANIFEST_BYTES_MAX: usize = 4 << 20;

pub struct Catalog {
    layout: PathBuf,
}

/// A manifest as it is served.
pub struct Manifest {
    pub digest: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

impl Catalog {
    pub fn open(layout: &Path) -> Result<Self> {
        let marker = layout.join("oci-layout");
        ensure!(
            marker.is_file(),
            "{} is not an OCI image layout: it has no oci-layout file",
            layout.display()
        );
        Ok(Self {
            layout: layout.to_owned(),
        })
    }

    /// The blob and its size, if it exists under a well-formed digest.
    pub fn blob(&self, digest: &str) -> Option<(File, u64)> {
        let file = File::open(self.blob_path(digest)?).ok()?;
        let metadata = file.metadata().ok()?;
        metadata.is_file().then_some((file, metadata.len()))
    }

    /// The manifest of this tag or digest. A tag is a `ref.name` of the index, or its end after a colon.
    pub fn manifest(&self, reference: &str) -> Result<Option<Manifest>> {
        let index = self.index()?;
        let listed = index.iter().find(|entry| {
            let name = entry["annotations"][REF_NAME].as_str().unwrap_or_default();
            entry["digest"] == reference || name == reference || tag_of(name) == reference
        });
        let digest = listed
            .and_then(|entry| entry["digest"].as_str())
            .unwrap_or(reference);
        let Some(path) = self.blob_path(digest).filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Ok(None);
        }
        let Ok(content) = serde_json::from_slice::<Value>(&bytes) else {
            return Ok(None);
        };
        let media_type = listed.map_or(&Value::Null, |entry| &entry["mediaType"]);
        let media_type = media_type.as_str().or(content["mediaType"].as_str());
        let media_type = media_type
            .unwrap_or("application/vnd.oci.image.manifest.v1+json")
            .to_owned();
        Ok(Some(Manifest {
            digest: digest.to_owned(),
            media_type,
            bytes,
        }))
    }

    /// Every tag.
    pub fn tags(&self) -> Result<Vec<String>> {
        let index = self.index()?;
        let names = index
            .iter()
            .filter_map(|entry| entry["annotations"][REF_NAME].as_str());
        Ok(names.map(|name| tag_of(name).to_owned()).collect())
    }

    fn index(&self) -> Result<Vec<Value>> {
        let path = self.layout.join("index.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let index: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        Ok(index["manifests"].as_array().cloned().unwrap_or_default())
    }

    fn blob_path(&self, digest: &str) -> Option<PathBuf> {
        let (algorithm, hex) = digest.split_once(':')?;
        let well_formed = algorithm == "sha256"
            && hex.len() == 64
            && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        well_formed.then(|| self.layout.join("blobs").join(algorithm).join(hex))
    }
}

fn tag_of(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, tag)| tag)
}
