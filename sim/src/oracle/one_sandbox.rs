//! I2: at most one sandbox serves for an actor, in true time, and nothing is done over the
//! head of a live one.

use super::Oracle;
use crate::fact::Fact;
use holdfast_core::id::{ActorKey, PodUid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneSandbox {
    alive: BTreeMap<ActorKey, PodUid>,
}

impl Oracle for OneSandbox {
    fn see(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Up { worker, actor, .. } => match self.alive.insert(actor.clone(), worker.clone()) {
                Some(other) => Err(format!("{actor} serves on {worker} and on {other}")),
                None => Ok(()),
            },
            Fact::Down { actor, .. } => {
                self.alive.remove(actor);
                Ok(())
            }
            Fact::Trampled(actor, worker, step) => Err(format!(
                "{step} for {actor} in {worker}, where a sandbox is alive"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Ending;

    #[test]
    fn a_second_sandbox_is_seen_unless_the_first_has_ended() {
        let mut oracle = OneSandbox::default();
        let actor = ActorKey::new("s", "a");
        let up = |worker: &str| Fact::Up {
            worker: worker.into(),
            actor: actor.clone(),
            count: 0,
        };
        assert_eq!(oracle.see(&up("w1")), Ok(()));
        let down = Fact::Down {
            worker: "w1".into(),
            actor: actor.clone(),
            how: Ending::Killed,
        };
        assert_eq!(oracle.see(&down), Ok(()));
        assert_eq!(oracle.see(&up("w2")), Ok(()));
        assert!(oracle.see(&up("w1")).unwrap_err().contains("w1 and on w2"));
    }
}
