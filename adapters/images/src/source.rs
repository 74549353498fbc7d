//! Where an image comes from.

use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::layout::Layout;
use crate::registry::{BlobResponse, Registry};
use crate::{Digest, Platform, PullError};

/// A registry or a layout.
pub(crate) enum Source {
    Registry(Box<Registry>),
    Layout(Layout),
}

/// What a tag stands for.
pub(crate) enum Tagged {
    /// The document itself.
    Content(Bytes),
    /// The digest of the document.
    Digest(Digest),
}

/// A blob on its way, or the rest of it.
pub(crate) enum Download {
    Body(BlobResponse),
    File { file: File, path: PathBuf },
}

impl Source {
    /// Where that is, for errors.
    pub fn place(&self) -> String {
        match self {
            Self::Registry(registry) => registry.place(),
            Self::Layout(layout) => format!("layout {}", layout.0.display()),
        }
    }

    pub async fn tagged(
        &self,
        tag: Option<&str>,
        platform: &Platform,
        limit: u64,
    ) -> Result<Tagged, PullError> {
        match self {
            Self::Registry(registry) => {
                let tag = tag.unwrap_or("latest");
                registry.manifest(tag, limit).await.map(Tagged::Content)
            }
            Self::Layout(layout) => {
                let (layout, platform) = (layout.clone(), platform.clone());
                let tag = tag.map(str::to_owned);
                let found = blocking(move || layout.find(tag.as_deref(), &platform, limit)).await??;
                Ok(Tagged::Digest(found.digest))
            }
        }
    }

    /// A manifest or index, not yet checked.
    pub async fn document(&self, digest: Digest, limit: u64) -> Result<Bytes, PullError> {
        match self {
            Self::Registry(registry) => registry.manifest(&digest.to_string(), limit).await,
            Self::Layout(layout) => {
                let layout = layout.clone();
                blocking(move || layout.read_blob(digest, limit))
                    .await?
                    .map(Bytes::from)
            }
        }
    }

    /// A blob, from `offset` on if the source can do that.
    pub async fn blob(&self, digest: Digest, offset: u64) -> Result<Download, PullError> {
        match self {
            Self::Registry(registry) => registry.blob(digest, offset).await.map(Download::Body),
            Self::Layout(layout) => {
                let path = layout.blob_path(digest);
                let layout = layout.clone();
                let file = blocking(move || layout.open_blob(digest)).await??;
                Ok(Download::File { file, path })
            }
        }
    }
}
