//! Every record that is stored has come about by a row of its table, whoever wrote it.
//!
//! A store that has forgotten writes counts the same versions once more. Who had read one of the lost ones
//! may then write over another of that number, and its write goes by what it had read: that much is
//! allowed, and no more.

use super::Oracle;
use crate::explain;
use crate::fact::Fact;
use holdfast_core::actor::Actor;
use holdfast_core::id::{ActorKey, WorkerKey};
use holdfast_core::table::Moved;
use holdfast_core::worker::Worker;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ByTheTable {
    moves: BTreeSet<Moved>,
    lost_actors: BTreeMap<ActorKey, Vec<Actor>>,
    lost_workers: BTreeMap<WorkerKey, Vec<Worker>>,
}

impl ByTheTable {
    /// The transitions that have been made, of stored records and of what machines tell of.
    pub fn moves(&self) -> &BTreeSet<Moved> {
        &self.moves
    }

    fn actor_by_what_was_lost(&self, before: Option<&Actor>, after: Option<&Actor>) -> Option<Moved> {
        let stored = before?;
        let lost = self.lost_actors.get(&stored.key)?.iter();
        let mut same = lost.filter(|lost| lost.edition() == stored.edition());
        same.find_map(|lost| explain::actor(Some(lost), after))
    }

    fn worker_by_what_was_lost(&self, before: Option<&Worker>, after: Option<&Worker>) -> Option<Moved> {
        let stored = before?;
        let lost = self.lost_workers.get(&stored.key)?.iter();
        let mut same = lost.filter(|lost| lost.version == stored.version);
        same.find_map(|lost| explain::worker(Some(lost), after))
    }
}

impl Oracle for ByTheTable {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        if let Fact::Forgot(forgotten) = fact {
            for actor in &forgotten.lost_actors {
                let lost = self.lost_actors.entry(actor.key.clone()).or_default();
                lost.push(actor.clone());
            }
            for worker in &forgotten.lost_workers {
                let lost = self.lost_workers.entry(worker.key.clone()).or_default();
                lost.push(worker.clone());
            }
        }
        let moved = match fact {
            Fact::Moved(moved) => Some(*moved),
            Fact::Recorded { before, after } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                let moved =
                    explain::actor(before, after).or_else(|| self.actor_by_what_was_lost(before, after));
                Some(moved.ok_or_else(|| format!("no change leads from {before:?} to {after:?}"))?)
            }
            Fact::WorkerRecorded { before, after } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                let moved =
                    explain::worker(before, after).or_else(|| self.worker_by_what_was_lost(before, after));
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
    use crate::made_up::actor;
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
        assert_eq!(oracle.see(0, &write(after)), Ok(()));
        assert_eq!(oracle.moves().len(), 1);
        after.latest = Some(holdfast_core::actor::Snapshot::External("from nowhere".into()));
        assert!(oracle.see(0, &write(after)).is_err());
    }
}
