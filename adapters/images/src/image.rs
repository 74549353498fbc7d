//! An image that is complete in the cache.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::unpack::{UnpackError, UnpackLimits, UnpackReport, unpack};
use crate::{Cache, Digest, Reference};

/// An image that is complete in the cache, as [`Puller::pull`](crate::Puller::pull) returns it.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) cache: Cache,
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) bytes: u64,
}

impl Image {
    /// What was pulled, pinned to exactly the manifest or index that the name stood for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The digest of the manifest for this platform; equal digests are equal root file systems.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The layers, from the lowest up.
    pub fn layers(&self) -> &[Digest] {
        &self.layers
    }

    /// Bytes of the layers as they were pulled.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Unpacks the image into `rootfs`, which is made with mode 0700 or must be empty. Blocks; `stop`
    /// makes it return soon.
    ///
    /// Files get the permission bits of the image without set-user-id, set-group-id and sticky, and the
    /// ownership of whoever unpacks; times and extended attributes are not set. Each blob is checked
    /// against its digest once more while it is read. After an error, remove what is in `rootfs`.
    ///
    /// # Errors
    /// See [`UnpackError`]; its [`needs_pull`](UnpackError::needs_pull) tells when pulling again helps.
    pub fn unpack(
        &self,
        rootfs: &Path,
        limits: &UnpackLimits,
        stop: &AtomicBool,
    ) -> Result<UnpackReport, UnpackError> {
        unpack(&self.cache, &self.layers, rootfs, limits, stop)
    }
}
