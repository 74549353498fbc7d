//! Templates, pools, sandbox configurations and secrets, from the manifests that one applies to
//! Kubernetes.
//!
//! ```text
//! *.yaml -> tree (nodes with positions) -> cursor (typed fields, every fault) -> object -> Manifests
//! ```
//!
//! The rules are those that the API server enforces for the CRDs (compat.md section 5), plus a few of
//! the node daemon's (section 7.2) that would otherwise only show when an actor is resumed. All faults
//! of a directory are reported at once, each with file, line, field, value and what would be right.
//!
//! Why a tree of our own over a serde derive: serde stops at the first fault, and forgets where a value
//! stood before the rules that span several fields can be checked. The parser below it is the one of
//! `serde-saphyr`, which reports positions, is bounded, and whose messages never quote the input, so a
//! broken Secret does not end up in a log.

mod cursor;
mod directory;
mod error;
mod object;
mod pool;
mod rules;
mod sandbox_config;
mod scalar;
mod secrets;
mod served;
mod template;
mod tree;
mod watcher;

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_core::catalog::Catalog;
use holdfast_core::id::Name;

pub use error::{Fault, ManifestError, Place, Position};
pub use object::{Kind, ObjectKey};
pub use secrets::{Secret, Secrets};
pub use served::{Declared, Refused};
pub use watcher::Watcher;

/// Everything that a directory of manifests declares.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Templates, pools and sandbox configurations.
    pub catalog: Catalog,
    /// How many workers each pool asks for, by namespace and name.
    pub pools: Vec<PoolSpec>,
    /// What environment variables of templates refer to.
    pub secrets: Secrets,
    /// Where each object stands.
    places: BTreeMap<ObjectKey, Place>,
}

/// The size that a WorkerPool asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The pool's namespace.
    pub namespace: Name,
    /// The pool's name.
    pub name: Name,
    /// How many workers it wants.
    pub replicas: u32,
}

impl Manifests {
    /// Where an object of these manifests was declared.
    pub fn place(&self, object: &ObjectKey) -> Option<&Place> {
        self.places.get(object)
    }
}

/// Reads every `*.yaml` and `*.yml` file of `dir`: not of directories below it, and not hidden ones.
/// Objects of kinds that Holdfast has no use for are passed over.
///
/// # Errors
/// Every fault of every file, by file and line. There is at least one.
pub fn load(dir: &Path) -> Result<Manifests, Vec<ManifestError>> {
    object::read(directory::Files::read(dir))
}
