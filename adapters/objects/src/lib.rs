//! Snapshots at rest: in object stores (S3, GCS, a directory) and on a node's disk.
//!
//! A snapshot is a set of files and a [`Manifest`]. The manifest is written last and removed first, so where there is
//! one, the snapshot is whole; it says the size and digest of every file, and nothing that differs is ever handed to
//! a sandbox. Formats and layout are the original's (compat.md 7.7 to 7.9): its snapshots restore here and ours there.
//!
//! * [`Backend`] uploads, downloads and removes snapshots in object stores; [`Config`] says in which.
//! * [`LocalSnapshots`] keeps them on this node's disk. It blocks; callers move it off their async threads.
//! * [`sparse`] is the stored form of one file.
//!
//! Memory is bounded by a fixed number of buffers for each [`Backend`], whatever the size of a snapshot and however
//! many move at once. Everything async may be dropped at any point: nothing half-made becomes visible, and what is
//! left of it is removed by the next attempt.

mod config;
mod content;
mod digest;
mod dir;
mod error;
mod ledger;
mod local;
mod manifest;
mod name;
mod progress;
mod remote;
pub mod sparse;
mod wire;

pub use holdfast_references::{SnapshotUri, UriError, UriFault};

pub use config::{Config, ConfigError};
pub use content::SourceError;
pub use digest::{Sha256, Sha256Error};
pub use error::{Corruption, SnapshotError};
pub use ledger::Unfinished;
pub use local::{LocalSnapshots, LocalState};
pub use manifest::{
    ActorRecord, Asset, FileRecord, MANIFEST_NAME, MAX_FILES, MAX_MANIFEST_LEN, Manifest, ManifestError,
    Scope, StoredRecord,
};
pub use name::{FileName, LocalName, NameError};
pub use progress::Progress;
pub use remote::{Backend, MAX_FILE_BYTES};
