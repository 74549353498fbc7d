//! How images, snapshots and the programs of sandboxes are named.
//!
//! Grammar only, without any I/O: who reads manifests refuses what who pulls images and stores snapshots
//! would refuse, with the same parsers, and is not built from an HTTP client and three object stores
//! because of it. `holdfast-images` and `holdfast-objects` hand these types on.

mod asset;
mod digest;
mod image;
mod snapshot;

pub use asset::{AssetFault, AssetPlace};
pub use digest::{Digest, DigestError};
pub use image::{
    Location, Reference, ReferenceError, ReferenceProblem, check_host, check_repository, is_loopback,
};
pub use snapshot::{SnapshotUri, UriError, UriFault};
