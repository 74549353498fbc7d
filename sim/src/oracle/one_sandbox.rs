//! I2: at most one sandbox of an actor runs, in true time, and nothing is done over the head of a live
//! one. One that is held still does not run.

use super::Oracle;
use crate::fact::Fact;
use holdfast_core::id::{ActorKey, PodUid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneSandbox {
    running: BTreeMap<ActorKey, PodUid>,
}

impl OneSandbox {
    fn runs(&mut self, actor: &ActorKey, worker: &PodUid) -> Result<(), String> {
        match self.running.insert(actor.clone(), worker.clone()) {
            Some(other) => Err(format!("{actor} runs on {worker} and on {other}")),
            None => Ok(()),
        }
    }

    fn rests(&mut self, actor: &ActorKey, worker: &PodUid) {
        if self.running.get(actor) == Some(worker) {
            self.running.remove(actor);
        }
    }
}

impl Oracle for OneSandbox {
    fn see(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Up { worker, actor, .. } | Fact::Thawed { worker, actor } => {
                return self.runs(actor, worker);
            }
            Fact::Down { worker, actor, .. } | Fact::Frozen { worker, actor } => self.rests(actor, worker),
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

    fn actor() -> ActorKey {
        ActorKey::new("s", "a")
    }

    fn up(worker: &str) -> Fact {
        Fact::Up {
            worker: worker.into(),
            actor: actor(),
            count: 0,
        }
    }

    #[test]
    fn a_second_sandbox_is_seen_unless_the_first_has_ended() {
        let mut oracle = OneSandbox::default();
        assert_eq!(oracle.see(&up("w1")), Ok(()));
        let down = Fact::Down {
            worker: "w1".into(),
            actor: actor(),
            how: Ending::Killed,
        };
        assert_eq!(oracle.see(&down), Ok(()));
        assert_eq!(oracle.see(&up("w2")), Ok(()));
        assert!(oracle.see(&up("w1")).unwrap_err().contains("w1 and on w2"));
    }

    #[test]
    fn a_frozen_sandbox_may_have_a_successor_and_must_not_thaw_beside_it() {
        let mut oracle = OneSandbox::default();
        let (worker, actor) = (PodUid::from("w1"), actor());
        oracle.see(&up("w1")).unwrap();
        let frozen = Fact::Frozen {
            worker: worker.clone(),
            actor: actor.clone(),
        };
        oracle.see(&frozen).unwrap();
        assert_eq!(oracle.see(&up("w2")), Ok(()));
        assert!(
            oracle
                .see(&Fact::Thawed { worker, actor })
                .unwrap_err()
                .contains("w1 and on w2")
        );
    }
}
