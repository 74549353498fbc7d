//! I4: `latest` names a complete snapshot at the moment it is written, newer than the one before,
//! and moves back only by Revert; and nothing that a record points at is deleted.

use super::Oracle;
use crate::fact::Fact;
use holdfast_core::actor::{Actor, Snapshot, State};
use holdfast_core::id::{ActorKey, Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LatestComplete {
    /// When each snapshot was saved, counted in snapshots.
    saved: BTreeMap<(Name, Option<NodeName>), u64>,
    /// What has been deleted.
    gone: BTreeSet<(Name, Option<NodeName>)>,
    /// What each record points at now.
    pointed_at: BTreeMap<ActorKey, Vec<Snapshot>>,
}

impl LatestComplete {
    fn age(&self, snapshot: &Snapshot) -> Option<u64> {
        match snapshot {
            Snapshot::External(prefix) => self.saved.get(&(prefix.clone(), None)).copied(),
            Snapshot::Local { name, nodes } => nodes
                .iter()
                .filter_map(|node| self.saved.get(&(name.clone(), Some(node.clone()))).copied())
                .max(),
        }
    }

    fn is_gone(&self, snapshot: &Snapshot) -> bool {
        match snapshot {
            Snapshot::External(prefix) => self.gone.contains(&(prefix.clone(), None)),
            Snapshot::Local { name, nodes } => {
                let is_gone = |node: &NodeName| self.gone.contains(&(name.clone(), Some(node.clone())));
                nodes.iter().all(is_gone)
            }
        }
    }

    fn moved(&self, before: &Actor, after: &Actor) -> Result<(), String> {
        let is_revert = matches!(before.state, State::Crashed(_) | State::Paused)
            && matches!(after.state, State::Suspended)
            && after.latest == before.last_good().cloned().map(Snapshot::External);
        if is_revert {
            return Ok(());
        }
        let Some(latest) = &after.latest else {
            return Err(format!("{} forgot its snapshot {:?}", after.key, before.latest));
        };
        let Some(age) = self.age(latest) else {
            return Err(format!(
                "{} points at {latest:?}, which was never saved",
                after.key
            ));
        };
        match before.latest.as_ref().and_then(|old| self.age(old)) {
            Some(old) if age < old => Err(format!(
                "{} went back from {:?} to {latest:?}",
                after.key, before.latest
            )),
            _ => Ok(()),
        }
    }
}

impl Oracle for LatestComplete {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        if let Fact::Recorded { before, after } = fact {
            match (before, after) {
                (_, Some(after)) => self.pointed_at.insert(after.key.clone(), after.snapshots()),
                (Some(before), None) => self.pointed_at.remove(&before.key),
                (None, None) => None,
            };
        }
        match fact {
            Fact::Discarded { snapshot, node } => {
                self.gone.insert((snapshot.clone(), node.clone()));
                let is_it = |known: &Snapshot| match (known, node) {
                    (Snapshot::External(prefix), None) => prefix == snapshot,
                    (Snapshot::Local { name, nodes }, Some(node)) => name == snapshot && nodes.contains(node),
                    _ => false,
                };
                let found = self.pointed_at.iter().find(|(_, all)| all.iter().any(is_it));
                match found {
                    Some((actor, _)) => Err(format!("{snapshot} was deleted, and {actor} points at it")),
                    None => Ok(()),
                }
            }
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    if let Some(before) = before {
                        self.pointed_at.remove(&before.key);
                    }
                    let Some(after) = after else { continue };
                    let all = after.snapshots();
                    if let Some(gone) = all.iter().find(|snapshot| self.is_gone(snapshot)) {
                        return Err(format!(
                            "the store has gone back to where {} points at {gone:?}, which was deleted",
                            after.key
                        ));
                    }
                    self.pointed_at.insert(after.key.clone(), all);
                }
                Ok(())
            }
            Fact::Saved { snapshot, node, .. } => {
                self.gone.remove(&(snapshot.clone(), node.clone()));
                let next = self.saved.len() as u64;
                self.saved.entry((snapshot.clone(), node.clone())).or_insert(next);
                Ok(())
            }
            Fact::Recorded {
                before: Some(before),
                after: Some(after),
            } if before.incarnation == after.incarnation && before.latest != after.latest => {
                self.moved(before, after)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::actor;
    use crate::store::Forgotten;
    use holdfast_core::actor::Garbage;

    #[test]
    fn a_deletion_of_what_a_record_points_at_is_seen_and_one_of_what_it_let_go_of_is_not() {
        let mut oracle = LatestComplete::default();
        let mut points = actor(State::Suspended);
        points.fallback = Some("mem://1".into());
        let recorded = |actor: &Actor| Fact::Recorded {
            before: None,
            after: Some(Box::new(actor.clone())),
        };
        let discarded = Fact::Discarded {
            snapshot: "mem://1".into(),
            node: None,
        };
        oracle.see(0, &recorded(&points)).unwrap();
        assert!(oracle.see(0, &discarded).unwrap_err().contains("points at it"));
        points.garbage = vec![Garbage {
            snapshot: Snapshot::External(points.fallback.take().unwrap()),
            since: points.version,
            by: None,
        }];
        oracle.see(0, &recorded(&points)).unwrap();
        assert_eq!(oracle.see(0, &discarded), Ok(()));
    }

    #[test]
    fn a_store_that_goes_back_to_what_was_deleted_is_seen() {
        let mut oracle = LatestComplete::default();
        let snapshot: Name = "mem://1".into();
        let discarded = Fact::Discarded {
            snapshot: snapshot.clone(),
            node: None,
        };
        let mut old = actor(State::Suspended);
        old.latest = Some(Snapshot::External(snapshot));
        let forgotten = Forgotten {
            actors: vec![(Some(actor(State::Suspended)), Some(old))],
            ..Forgotten::default()
        };
        let forgot = Fact::Forgot(Box::new(forgotten));
        assert_eq!(oracle.clone().see(0, &forgot), Ok(()));
        oracle.see(0, &discarded).unwrap();
        assert!(oracle.see(0, &forgot).unwrap_err().contains("which was deleted"));
    }

    #[test]
    fn a_pointer_to_what_was_never_saved_is_seen() {
        let mut oracle = LatestComplete::default();
        let before = actor(State::Suspended);
        let mut after = before.clone();
        after.latest = Some(Snapshot::External("mem://1".into()));
        let wrote = Fact::Recorded {
            before: Some(Box::new(before)),
            after: Some(Box::new(after)),
        };
        assert!(oracle.see(0, &wrote).unwrap_err().contains("never saved"));
        let saved = Fact::Saved {
            snapshot: "mem://1".into(),
            node: None,
            count: 1,
        };
        assert_eq!(oracle.see(0, &saved), Ok(()));
        assert_eq!(oracle.see(0, &wrote), Ok(()));
    }
}
