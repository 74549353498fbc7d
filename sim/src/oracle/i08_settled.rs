//! I8: after faults stop, every actor is stable and servable, and nothing is leaked, within a bound.
//!
//! Formally: let the last fault be over at true time *t*. At *t* plus [`crate::plan::Plan::recovery`], which is
//! [`holdfast_core::bounds::Bound::Settled`] on the slowest clock after the last pause, no actor's record stands in
//! a transition; one that is RUNNING has its sandbox on a worker that is promised to it; every snapshot in the
//! object store is one that something will collect or use; and each actor then goes to sleep, serves,
//! and goes to sleep again, when it is asked to. (That workers are as their rows say is I3.)
//!
//! A store that has forgotten how an actor went to rest, or that a worker is promised to it, may have it RUNNING where
//! nothing runs any more. Nobody sees that before it is asked for; then it is served like every other.

use super::Oracle;
use crate::fact::{Fact, Still};
use holdfast_core::actor::State;
use holdfast_core::id::ActorKey;
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Actors of which the store has forgotten something.
    forgotten: BTreeSet<ActorKey>,
}

impl Oracle for Settled {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Calm(still) => look(still, &self.forgotten),
            Fact::Forgot(forgotten) => {
                let actors = forgotten.actors.iter();
                let actors = actors.flat_map(|(before, after)| before.iter().chain(after));
                let actors = actors.map(|actor| &actor.key);
                self.forgotten.extend(actors.chain(forgotten.promises()).cloned());
                Ok(())
            }
            Fact::Unserved(actor, why) => Err(format!("{actor} cannot be served: {why}")),
            _ => Ok(()),
        }
    }
}

/// Whether everything is at rest; of the actors of which the store has `forgotten` something a record may say that they
/// run.
pub(crate) fn look(still: &Still, forgotten: &BTreeSet<ActorKey>) -> Result<(), String> {
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
            let is_there = still.sandboxes.get(&on.pod_uid) == Some(&actor.key);
            if !is_there && forgotten.contains(&actor.key) {
                continue;
            }
            if !is_there {
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
    use crate::store::Forgotten;

    fn still(state: State) -> Fact {
        let actor = actor(state);
        Fact::Calm(Box::new(Still {
            actors: [(actor.key.clone(), actor)].into(),
            ..Still::default()
        }))
    }

    #[test]
    fn a_transition_that_stands_still_is_seen() {
        assert_eq!(Settled::default().see(0, &still(State::Suspended)), Ok(()));
        assert!(
            Settled::default()
                .see(0, &still(resuming()))
                .unwrap_err()
                .contains("still STATUS_RESUMING")
        );
    }

    #[test]
    fn an_actor_that_runs_nowhere_is_seen() {
        let runs = State::Running { on: on() };
        let mut oracle = Settled::default();
        let what = oracle.see(0, &still(runs.clone())).unwrap_err();
        assert!(what.contains("no sandbox of it"), "{what}");
        let forgot = Forgotten {
            actors: vec![(Some(actor(State::Suspended)), Some(actor(runs.clone())))],
            ..Forgotten::default()
        };
        oracle.see(0, &Fact::Forgot(Box::new(forgot))).unwrap();
        assert_eq!(oracle.see(0, &still(runs)), Ok(()), "until it is asked for");
    }
}
