//! The programs that sandboxes are made with, on this node's disk, checked against their digests.
//!
//! `static-files/runsc-<sha256>` holds what was fetched, whatever the asset's name, as in the original
//! (compat.md 7.4). A file is there only once it is complete and checked, so one that is there is used.

mod fetch;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use holdfast_core::failure::Code;
use holdfast_images::Sharing;
use holdfast_objects::{Asset, Backend};
use holdfast_references::{AssetFault, AssetPlace};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::task::spawn_blocking;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::Sandboxes;

/// Asset name -> file.
pub(crate) type Paths = BTreeMap<String, PathBuf>;

/// The asset that is the sandbox runtime itself.
pub(crate) const RUNSC: &str = "runsc";

/// The largest asset, in bytes.
const ASSET_MAX_BYTES: u64 = 8 << 30;
/// What the name of an unfinished download has in it.
const DOWNLOAD: &str = "-download-";

/// An asset that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssetError {
    #[error("invalid {name} sha256 hash: want 64 hex chars, got {}", .text.len())]
    Hash { name: String, text: String },
    #[error("asset {name}: {url}: sha256 mismatch; got={got} want={want}")]
    Mismatch {
        name: String,
        url: String,
        got: String,
        want: String,
    },
    #[error("asset {url} exceeds {ASSET_MAX_BYTES}-byte cap")]
    TooLarge { url: String },
    #[error("asset {name}: url {url:?}: {why}")]
    Url {
        name: String,
        url: String,
        why: AssetFault,
    },
    #[error("asset {url}: {why}; check the SandboxConfig's url")]
    Missing { url: String, why: String },
    #[error("asset {url}: {why}; trying again may help")]
    Network { url: String, why: String },
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
}

impl AssetError {
    pub fn code(&self) -> Code {
        match self {
            Self::Hash { .. } => Code::InvalidArgument,
            Self::Network { .. } => Code::Unavailable,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Code::ResourceExhausted
            }
            Self::Disk { .. } => Code::Internal,
            Self::Mismatch { .. } | Self::Url { .. } | Self::Missing { .. } => Code::FailedPrecondition,
        }
    }
}

/// The programs on this node's disk.
pub(crate) struct Assets {
    directory: PathBuf,
    sandboxes: Sandboxes,
    architecture: Arc<str>,
    backend: Arc<Backend>,
    web: fetch::Web,
    /// Files used in place that have been checked, as they were then.
    checked: Mutex<BTreeMap<PathBuf, (Stamp, String)>>,
    /// One download for each digest, however many want it.
    downloads: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Changes when a file does.
type Stamp = (u64, u64, u64, i64, i64);

impl Assets {
    /// Assets in `directory`, which is made if need be. Unfinished downloads of an earlier run are removed.
    pub fn open(
        directory: PathBuf,
        sandboxes: Sandboxes,
        architecture: Arc<str>,
        backend: Arc<Backend>,
    ) -> std::io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains(DOWNLOAD) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory,
            sandboxes,
            architecture,
            backend,
            web: fetch::Web::default(),
            checked: Mutex::default(),
            downloads: Mutex::default(),
        })
    }

    /// This machine's architecture, in the names Go has for them.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// How images get into the root directories of these sandboxes. Plain processes would write to what they share.
    /// gVisor keeps what a sandbox writes in a layer of its own; every release that restores actors does so, and no
    /// flag of ours, or of the original's, turns it off.
    pub fn sharing(&self) -> Sharing {
        match &self.sandboxes {
            Sandboxes::Gvisor { .. } => Sharing::Links,
            Sandboxes::Process => Sharing::Copies,
        }
    }

    /// Makes all of them present. Sandboxes that are plain processes need none.
    pub async fn ensure(&self, assets: &BTreeMap<String, Asset>) -> Result<Paths, AssetError> {
        let Sandboxes::Gvisor { runsc } = &self.sandboxes else {
            return Ok(Paths::new());
        };
        let mut paths = Paths::new();
        for (name, asset) in assets {
            if asset.url.is_empty() || (name == RUNSC && runsc.is_some()) {
                continue;
            }
            paths.insert(name.clone(), self.ensure_one(name, asset).await?);
        }
        if let Some(runsc) = runsc {
            paths.insert(RUNSC.to_owned(), runsc.clone());
        }
        Ok(paths)
    }

    async fn ensure_one(&self, name: &str, asset: &Asset) -> Result<PathBuf, AssetError> {
        let is_hash = asset.sha256.len() == 64 && asset.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hash {
            return Err(AssetError::Hash {
                name: name.to_owned(),
                text: asset.sha256.clone(),
            });
        }
        let place = AssetPlace::parse(&asset.url).map_err(|why| AssetError::Url {
            name: name.to_owned(),
            url: asset.url.clone(),
            why,
        })?;
        let want = asset.sha256.to_ascii_lowercase();
        let content = match place {
            AssetPlace::AsItIs(path) => return self.check_in_place(name, asset, path, &want).await,
            AssetPlace::File(from) => fetch::file(from, &asset.url),
            AssetPlace::Web => self.web.get(&asset.url),
            AssetPlace::Object(uri) => fetch::object(&self.backend, uri, &asset.url),
        };
        let path = self.directory.join(format!("runsc-{want}"));
        if path.exists() {
            return Ok(path);
        }
        let turn = {
            let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
            downloads.retain(|_, turn| Arc::strong_count(turn) > 1);
            downloads.entry(want.clone()).or_default().clone()
        };
        let _turn = turn.lock().await;
        if path.exists() {
            return Ok(path);
        }
        match self.store(asset, &want, content).await? {
            Stored::Complete => Ok(path),
            Stored::Other(got) => Err(mismatch(name, asset, got)),
        }
    }

    /// Stores a stream under the name that its digest gives it, if that is the expected one.
    async fn store(
        &self,
        asset: &Asset,
        want: &str,
        content: impl Stream<Item = Result<Bytes, AssetError>>,
    ) -> Result<Stored, AssetError> {
        let failed = |source| AssetError::Disk {
            path: self.directory.clone(),
            source,
        };
        let mut file = tempfile::Builder::new()
            .prefix(&format!("runsc-{want}{DOWNLOAD}"))
            .tempfile_in(&self.directory)
            .map_err(failed)?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut content = std::pin::pin!(content);
        while let Some(bytes) = content.next().await {
            let bytes = bytes?;
            size += bytes.len() as u64;
            if size > ASSET_MAX_BYTES {
                return Err(AssetError::TooLarge {
                    url: asset.url.clone(),
                });
            }
            (file, hasher) = off_thread(move || {
                hasher.update(&bytes);
                file.write_all(&bytes).map(|()| (file, hasher))
            })
            .await
            .map_err(failed)?;
        }
        let got = hex::encode(hasher.finalize());
        if got != want {
            return Ok(Stored::Other(got));
        }
        let path = self.directory.join(format!("runsc-{want}"));
        off_thread(move || publish(file, &path)).await.map_err(failed)?;
        Ok(Stored::Complete)
    }

    /// Checks a file that is used where it is; again only when it has changed.
    async fn check_in_place(
        &self,
        name: &str,
        asset: &Asset,
        path: &Path,
        want: &str,
    ) -> Result<PathBuf, AssetError> {
        let missing = |error: std::io::Error| AssetError::Missing {
            url: asset.url.clone(),
            why: error.to_string(),
        };
        let stamp = stamp(path).map_err(missing)?;
        let known = {
            let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            checked.get(path).filter(|(then, _)| *then == stamp).cloned()
        };
        let got = match known {
            Some((_, digest)) => digest,
            None => {
                let file = path.to_owned();
                let digest = off_thread(move || digest_of(&file)).await.map_err(missing)?;
                let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
                checked.insert(path.to_owned(), (stamp, digest.clone()));
                digest
            }
        };
        if got == want {
            Ok(path.to_owned())
        } else {
            Err(mismatch(name, asset, got))
        }
    }
}

/// What became of a download.
enum Stored {
    /// It is there.
    Complete,
    /// It was something else, of this digest.
    Other(String),
}

fn mismatch(name: &str, asset: &Asset, got: String) -> AssetError {
    AssetError::Mismatch {
        name: name.to_owned(),
        url: asset.url.clone(),
        got,
        want: asset.sha256.clone(),
    }
}

fn publish(file: NamedTempFile, path: &Path) -> std::io::Result<()> {
    file.as_file().set_permissions(Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        modified.0,
        modified.1,
    ))
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("the process is shutting down")))
}

#[cfg(test)]
mod tests;
