//! I5, as far as one counter per actor can show it: a sandbox comes up with everything that its actor has
//! acknowledged, unless the record has said that something was lost; and what a successful Suspend or Pause
//! has vouched for survives even that.

use crate::fact::Fact;
use crate::history::History;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let (Fact::Up { worker, actor, count } | Fact::Thawed(worker, actor, count)) = fact else {
        return Ok(());
    };
    // What is held still before it could serve shows what it has when it goes on.
    if matches!(fact, Fact::Up { .. }) && history.frozen.contains(worker) {
        return Ok(());
    }
    let Some(known) = history.counts.get(actor) else {
        return Ok(());
    };
    if *count < known.vouched {
        return Err(format!(
            "{actor} came up on {worker} with {count}; a sleep vouched for {}",
            known.vouched
        ));
    }
    if *count < known.acknowledged && !known.is_lost {
        return Err(format!(
            "{actor} came up on {worker} with {count} after {} was acknowledged, and nothing says why",
            known.acknowledged
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Asked;
    use crate::invariant::tests::{actor, after, key, recorded, up};
    use holdfast_core::actor::{Actor, Loss, Snapshot, State};
    use holdfast_core::id::{RequestId, WorkerKey};

    fn lost() -> Fact {
        let loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "its sandbox died".into(),
        });
        recorded(
            actor(State::Suspended),
            Actor {
                loss,
                ..actor(State::Suspended)
            },
        )
    }

    #[test]
    fn a_lower_count_is_seen_unless_the_record_says_why() {
        let counted = Fact::Counted(key(), 2);
        let history = after([counted.clone()]);
        assert_eq!(check(&history, &up("w", 2)), Ok(()));
        assert!(check(&history, &up("w", 1)).is_err());
        assert_eq!(check(&after([counted, lost()]), &up("w", 1)), Ok(()));
    }

    #[test]
    fn what_a_sleep_has_vouched_for_survives_a_loss() {
        let uploaded = Actor {
            latest: Some(Snapshot::External("1".into())),
            ..actor(State::Suspended)
        };
        let facts = [
            Fact::Counted(key(), 2),
            Fact::Asked(RequestId(1), key(), Asked::Sleep),
            recorded(actor(State::Paused), uploaded),
            Fact::Told(RequestId(1), Ok(())),
            lost(),
        ];
        assert!(check(&after(facts), &up("w", 1)).is_err());
    }
}
