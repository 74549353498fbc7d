//! I4: `latest` names a snapshot that is complete at the moment it is written, not older than the one
//! before, and moves back only by Revert; and nothing that a record points at is deleted.

use crate::fact::Fact;
use crate::history::History;
use holdfast_core::actor::{Snapshot, State};

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let (before, after) = match fact {
        Fact::Recorded { before, after } => (before, after),
        Fact::Discarded {
            snapshot,
            wanted_by: Some(actor),
        } => return Err(format!("{snapshot} was deleted, and {actor} points at it")),
        _ => return Ok(()),
    };
    let is_revert = matches!(before.state, State::Crashed(_) | State::Paused)
        && after.state == State::Suspended
        && after.latest == before.last_good().cloned().map(Snapshot::External);
    if before.latest == after.latest || is_revert {
        return Ok(());
    }
    let Some(latest) = &after.latest else {
        return Err(format!("{} forgot its snapshot", after.key));
    };
    let Some(age) = history.age(latest) else {
        return Err(format!(
            "{} points at {latest:?}, which was never stored",
            after.key
        ));
    };
    match before.latest.as_ref().and_then(|old| history.age(old)) {
        Some(old) if age < old => Err(format!(
            "{} went back from {:?} to {latest:?}",
            after.key, before.latest
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{actor, after, recorded};
    use holdfast_core::actor::Actor;

    fn at(latest: Option<&str>) -> Actor {
        Actor {
            latest: latest.map(|name| Snapshot::External(name.into())),
            ..actor(State::Suspended)
        }
    }

    fn saved(name: &str) -> Fact {
        Fact::Saved {
            snapshot: name.into(),
            node: None,
        }
    }

    #[test]
    fn a_pointer_to_what_was_never_stored_is_seen() {
        let moved = recorded(at(None), at(Some("1")));
        assert!(check(&History::default(), &moved).is_err());
        assert_eq!(check(&after([saved("1")]), &moved), Ok(()));
    }

    #[test]
    fn a_snapshot_that_is_deleted_although_a_record_points_at_it_is_seen() {
        let discarded = |wanted_by| Fact::Discarded {
            snapshot: "1".into(),
            wanted_by,
        };
        let history = History::default();
        assert_eq!(check(&history, &discarded(None)), Ok(()));
        assert!(check(&history, &discarded(Some(crate::invariant::tests::key()))).is_err());
    }

    #[test]
    fn a_pointer_that_moves_back_or_is_forgotten_is_seen() {
        let history = after([saved("1"), saved("2")]);
        assert_eq!(check(&history, &recorded(at(Some("1")), at(Some("2")))), Ok(()));
        assert!(check(&history, &recorded(at(Some("2")), at(Some("1")))).is_err());
        assert!(check(&history, &recorded(at(Some("2")), at(None))).is_err());
    }
}
