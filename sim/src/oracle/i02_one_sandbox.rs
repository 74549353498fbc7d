//! I2: at most one sandbox of an actor runs, in true time, and nothing is done over the head of a live
//! one. One that is held still does not run.
//!
//! A store that has forgotten where an actor runs may have it run elsewhere too, until the nodes have said
//! what they run: for so long, and for that actor only, two are allowed. That nothing is done over the head
//! of a live one holds for ever.
//!
//! Where clocks drift apart further than is declared, two are allowed as well.

use super::{Assumed, Oracle};
use crate::fact::Fact;
use holdfast_core::bounds::Bound;
use holdfast_core::id::{ActorKey, PodUid};
use holdfast_core::settings::Settings;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneSandbox {
    running: BTreeMap<ActorKey, BTreeSet<PodUid>>,
    /// How long it takes until every node has said what it runs and heard what it must not, in
    /// microseconds.
    until_heard: u64,
    /// Whether time alone keeps two from running.
    is_by_time: bool,
    /// Until when two are allowed.
    forgotten: BTreeMap<ActorKey, u64>,
}

impl OneSandbox {
    /// For worlds with these settings in which this is so.
    pub fn new(settings: &Settings, assumed: Assumed) -> OneSandbox {
        let heard = Bound::Elsewhere.of(settings) + 3 * settings.node.heartbeat_every;
        OneSandbox {
            is_by_time: assumed.drift,
            until_heard: heard.as_micros() as u64,
            ..OneSandbox::default()
        }
    }

    fn runs(&mut self, now: u64, actor: &ActorKey, worker: &PodUid) -> Result<(), String> {
        let all = self.running.entry(actor.clone()).or_default();
        let other = all.first().cloned();
        all.insert(worker.clone());
        let is_allowed = !self.is_by_time || self.forgotten.get(actor).is_some_and(|until| now < *until);
        match other {
            Some(other) if !is_allowed => Err(format!("{actor} runs on {worker} and on {other}")),
            _ => Ok(()),
        }
    }

    fn rests(&mut self, actor: &ActorKey, worker: &PodUid) {
        if let Some(all) = self.running.get_mut(actor) {
            all.remove(worker);
            if all.is_empty() {
                self.running.remove(actor);
            }
        }
    }
}

impl Oracle for OneSandbox {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Up { worker, actor, .. } | Fact::Thawed { worker, actor } => {
                return self.runs(now, actor, worker);
            }
            Fact::Down { worker, actor, .. } | Fact::Frozen { worker, actor } => self.rests(actor, worker),
            Fact::Forgot(forgotten) => {
                for (before, after) in &forgotten.actors {
                    let keys = before.iter().chain(after).map(|a| a.key.clone());
                    let until = now + self.until_heard;
                    self.forgotten.extend(keys.map(|key| (key, until)));
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

    fn within() -> OneSandbox {
        OneSandbox::new(&Settings::DEFAULT, Assumed { drift: true })
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
}
