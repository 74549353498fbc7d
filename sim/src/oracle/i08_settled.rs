//! I8: after faults stop, every actor is stable and servable, and nothing is leaked, within a bound.
//!
//! Formally: let the last fault be over at true time *t*. At *t* plus [`crate::plan::Plan::recovery`], which is
//! [`holdfast_core::bounds::Bound::Settled`] on the slowest clock after the last pause, no actor's record stands in
//! a transition; one that is RUNNING has its sandbox on a worker that is promised to it; every snapshot in the
//! object store is one that something will collect or use; and each actor then goes to sleep, serves,
//! and goes to sleep again, when it is asked to. (That workers are as their rows say is I3.)

use super::Oracle;
use crate::fact::{Fact, Still};
use holdfast_core::actor::State;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Settled;

impl Oracle for Settled {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Calm(still) => look(still),
            Fact::Unserved(actor, why) => Err(format!("{actor} cannot be served: {why}")),
            _ => Ok(()),
        }
    }
}

pub(crate) fn look(still: &Still) -> Result<(), String> {
    if let Some(name) = still.forgotten.first() {
        return Err(format!(
            "snapshot {name} is stored and nothing will ever collect it"
        ));
    }
    for actor in still.actors.values() {
        if actor.operation().is_some() {
            return Err(format!(
                "{} is still {}: {:?}",
                actor.key,
                actor.status(),
                actor.state
            ));
        }
        if let State::Running { on } = &actor.state {
            if still.sandboxes.get(&on.pod_uid) != Some(&actor.key) {
                return Err(format!(
                    "{} is RUNNING on {} but no sandbox of it is there",
                    actor.key, on.pod_uid
                ));
            }
            let is_promised = still
                .workers
                .iter()
                .any(|w| w.key == on.worker && w.is_promised_to(&actor.key, actor.incarnation));
            if !is_promised {
                return Err(format!(
                    "{} is RUNNING on {} which is not promised to it",
                    actor.key, on.worker
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{actor, on, resuming};

    fn still(state: State) -> Fact {
        let actor = actor(state);
        Fact::Calm(Box::new(Still {
            actors: [(actor.key.clone(), actor)].into(),
            ..Still::default()
        }))
    }

    #[test]
    fn a_transition_that_stands_still_is_seen() {
        assert_eq!(Settled.see(0, &still(State::Suspended)), Ok(()));
        assert!(
            Settled
                .see(0, &still(resuming()))
                .unwrap_err()
                .contains("still STATUS_RESUMING")
        );
    }

    #[test]
    fn an_actor_that_runs_nowhere_is_seen() {
        let what = Settled.see(0, &still(State::Running { on: on() })).unwrap_err();
        assert!(what.contains("no sandbox of it"), "{what}");
    }
}
