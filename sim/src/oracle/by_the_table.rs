//! Every record that is stored has come about by a row of its table, whoever wrote it.

use super::Oracle;
use crate::explain;
use crate::fact::Fact;
use holdfast_core::table::Moved;
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ByTheTable {
    moves: BTreeSet<Moved>,
}

impl ByTheTable {
    /// The transitions that have been made, of stored records and of what machines tell of.
    pub fn moves(&self) -> &BTreeSet<Moved> {
        &self.moves
    }
}

impl Oracle for ByTheTable {
    fn see(&mut self, fact: &Fact) -> Result<(), String> {
        let moved = match fact {
            Fact::Moved(moved) => Some(*moved),
            Fact::Recorded { before, after } => {
                let moved = explain::actor(before.as_deref(), after.as_deref());
                Some(moved.ok_or_else(|| format!("no change leads from {before:?} to {after:?}"))?)
            }
            Fact::WorkerRecorded { before, after } => {
                let moved = explain::worker(before.as_deref(), after.as_deref());
                Some(moved.ok_or_else(|| format!("no change leads from {before:?} to {after:?}"))?)
            }
            _ => None,
        };
        self.moves.extend(moved);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::state_kept::tests::actor;
    use holdfast_core::actor::{Change, State};
    use holdfast_core::id::Version;

    #[test]
    fn a_write_that_no_change_explains_is_seen() {
        let before = actor(State::Suspended);
        let mut after = before.after(&Change::Select(before.selector.clone()), None, Version::FIRST);
        let write = |after: &_| Fact::Recorded {
            before: Some(Box::new(before.clone())),
            after: Some(Box::new(Clone::clone(after))),
        };
        let after = after.as_mut().unwrap();
        let mut oracle = ByTheTable::default();
        assert_eq!(oracle.see(&write(after)), Ok(()));
        assert_eq!(oracle.moves().len(), 1);
        after.latest = Some(holdfast_core::actor::Snapshot::External("from nowhere".into()));
        assert!(oracle.see(&write(after)).is_err());
    }
}
