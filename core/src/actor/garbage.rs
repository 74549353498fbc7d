//! Snapshots that nothing points at any more, as the record remembers them.

use super::Snapshot;
use crate::id::{LeaseToken, Version};

/// A snapshot that a record has let go of, and the writing that did. A store that loses that writing may see the
/// snapshot let go of once more, by another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Garbage {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The version of the record that does not point at it any more.
    pub since: Version,
    /// The last claim in that record.
    pub by: Option<LeaseToken>,
}

/// How many snapshots a record remembers to have let go of. A node or an object store that stays away for
/// longer than it takes to let go of so many leaves the oldest behind.
pub const GARBAGE_MAX: usize = 32;
