//! I2: at most one sandbox of an actor runs, in true time, and nothing is done over the head of a live
//! one. One that is held still does not run.
//!
//! A store that has forgotten where an actor runs may have it run elsewhere too, until the nodes have been heard and
//! told. So of such an actor one more is allowed to run, as far as its record knew nothing of it when it came up, or it
//! was up when that was forgotten; and that none of these is left in the end is I8's. That nothing is done over the
//! head of a live one holds for ever.
//!
//! Where clocks drift apart further than is declared, two are allowed as well.

use super::{Assumed, Oracle};
use crate::fact::Fact;
use holdfast_core::id::{ActorKey, PodUid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneSandbox {
    running: BTreeMap<ActorKey, BTreeSet<PodUid>>,
    /// Held still.
    frozen: BTreeMap<ActorKey, BTreeSet<PodUid>>,
    /// Whether time alone keeps two from running.
    is_by_time: bool,
    /// Actors of which the store has forgotten something, and where they run without their records' knowing.
    astray: BTreeMap<ActorKey, BTreeSet<PodUid>>,
}

impl OneSandbox {
    /// For worlds in which this is so.
    pub fn new(assumed: Assumed) -> OneSandbox {
        OneSandbox {
            is_by_time: assumed.drift,
            ..OneSandbox::default()
        }
    }

    fn runs(&mut self, actor: &ActorKey, worker: &PodUid) -> Result<(), String> {
        let all = self.running.entry(actor.clone()).or_default();
        let is_astray = |worker: &PodUid| self.astray.get(actor).is_some_and(|at| at.contains(worker));
        let other = all
            .iter()
            .find(|other| *other != worker && !is_astray(other))
            .cloned();
        all.insert(worker.clone());
        match other {
            Some(other) if self.is_by_time && !is_astray(worker) => {
                Err(format!("{actor} runs on {worker} and on {other}"))
            }
            _ => Ok(()),
        }
    }
}

fn leave(all: &mut BTreeMap<ActorKey, BTreeSet<PodUid>>, actor: &ActorKey, worker: &PodUid) {
    if let Some(workers) = all.get_mut(actor) {
        workers.remove(worker);
        if workers.is_empty() {
            all.remove(actor);
        }
    }
}

impl Oracle for OneSandbox {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Up {
                worker,
                actor,
                is_recorded,
                ..
            } => {
                if let (false, Some(astray)) = (is_recorded, self.astray.get_mut(actor)) {
                    astray.insert(worker.clone());
                }
                return self.runs(actor, worker);
            }
            Fact::Thawed { worker, actor } => {
                leave(&mut self.frozen, actor, worker);
                return self.runs(actor, worker);
            }
            Fact::Down { worker, actor, .. } => {
                for all in [&mut self.running, &mut self.frozen] {
                    leave(all, actor, worker);
                }
                if let Some(astray) = self.astray.get_mut(actor) {
                    astray.remove(worker);
                }
            }
            Fact::Frozen { worker, actor } => {
                leave(&mut self.running, actor, worker);
                self.frozen
                    .entry(actor.clone())
                    .or_default()
                    .insert(worker.clone());
            }
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    for actor in before.iter().chain(after) {
                        let there = [&self.running, &self.frozen].map(|of| of.get(&actor.key));
                        let there = there.into_iter().flatten().flatten().cloned();
                        self.astray.entry(actor.key.clone()).or_default().extend(there);
                    }
                }
            }
            Fact::Trampled(actor, worker, step) => {
                return Err(format!(
                    "{step} for {actor} in {worker}, where a sandbox is alive"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Ending;
    use crate::store::Forgotten;

    fn within() -> OneSandbox {
        OneSandbox::new(Assumed { drift: true })
    }

    fn actor() -> ActorKey {
        ActorKey::new("s", "a")
    }

    fn up(worker: &str) -> Fact {
        Fact::Up {
            worker: worker.into(),
            actor: actor(),
            count: 0,
            is_recorded: true,
        }
    }

    #[test]
    fn a_second_sandbox_is_seen_unless_the_first_has_ended() {
        let mut oracle = within();
        assert_eq!(oracle.see(0, &up("w1")), Ok(()));
        let down = Fact::Down {
            worker: "w1".into(),
            actor: actor(),
            how: Ending::Killed,
        };
        assert_eq!(oracle.see(0, &down), Ok(()));
        assert_eq!(oracle.see(0, &up("w2")), Ok(()));
        assert!(oracle.see(0, &up("w1")).unwrap_err().contains("w1 and on w2"));
    }

    #[test]
    fn a_frozen_sandbox_may_have_a_successor_and_must_not_thaw_beside_it() {
        let mut oracle = within();
        let (worker, actor) = (PodUid::from("w1"), actor());
        oracle.see(0, &up("w1")).unwrap();
        let frozen = Fact::Frozen {
            worker: worker.clone(),
            actor: actor.clone(),
        };
        oracle.see(0, &frozen).unwrap();
        assert_eq!(oracle.see(0, &up("w2")), Ok(()));
        assert!(
            oracle
                .see(0, &Fact::Thawed { worker, actor })
                .unwrap_err()
                .contains("w1 and on w2")
        );
    }

    #[test]
    fn of_an_actor_that_was_forgotten_only_what_its_record_knows_nothing_of_may_run_beside_another() {
        let unrecorded = |worker: &str| Fact::Up {
            worker: worker.into(),
            actor: actor(),
            count: 0,
            is_recorded: false,
        };
        let forgot = || {
            let actor = crate::made_up::actor(holdfast_core::actor::State::Suspended);
            Fact::Forgot(Box::new(Forgotten {
                actors: vec![(Some(actor), None)],
                ..Forgotten::default()
            }))
        };
        let mut oracle = within();
        oracle.see(0, &up("w1")).unwrap();
        oracle.see(0, &forgot()).unwrap();
        assert_eq!(oracle.see(1, &up("w2")), Ok(()), "w1 was up");
        assert_eq!(oracle.see(2, &unrecorded("w3")), Ok(()), "an order from before");
        let (worker, actor) = (PodUid::from("w1"), actor());
        let frozen = Fact::Frozen {
            worker: worker.clone(),
            actor: actor.clone(),
        };
        oracle.see(2, &frozen).unwrap();
        assert_eq!(oracle.see(2, &Fact::Thawed { worker, actor }), Ok(()));
        assert!(oracle.see(3, &up("w4")).unwrap_err().contains("w4 and on w2"));
        let mut oracle = within();
        oracle.see(0, &up("w1")).unwrap();
        assert!(oracle.see(0, &unrecorded("w2")).is_err(), "nothing was forgotten");
    }
}
