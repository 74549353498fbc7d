//! I8 (and I3): some time after the last fault every actor is at rest or serves, every worker that is
//! promised has its actor on it, none is taken by anything else, and every actor can be served.

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

fn look(still: &Still) -> Result<(), String> {
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
    for worker in &still.workers {
        if !still.present.contains(&worker.pod_uid) {
            return Err(format!(
                "worker {} ({}) is gone and still recorded",
                worker.key, worker.pod_uid
            ));
        }
        let Some(hosted) = &worker.hosts else { continue };
        let is_there = still
            .actors
            .get(&hosted.actor)
            .is_some_and(|a| matches!(&a.state, State::Running { on } if on.worker == worker.key));
        if !is_there {
            return Err(format!(
                "worker {} is promised to {}, which is not on it",
                worker.key, hosted.actor
            ));
        }
    }
    for uid in &still.present {
        let row = still.workers.iter().find(|w| w.pod_uid == *uid);
        let Some(row) = row else {
            return Err(format!("worker {uid} is not recorded"));
        };
        let tenant = still.sandboxes.get(uid);
        if tenant != row.hosts.as_ref().map(|h| &h.actor) {
            return Err(format!(
                "worker {uid} is promised to {:?} and hosts {tenant:?}",
                row.hosts
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::actor;
    use holdfast_core::actor::{Assignment, Boot};
    use holdfast_core::id::{Fence, OpId, ReplicaId, WorkerKey};

    fn on() -> Assignment {
        Assignment {
            worker: WorkerKey::new("n", "p", "w"),
            pod_uid: "uid".into(),
            incarnation: "1".into(),
            ip: "ip".into(),
            node: "node".into(),
            fence: Fence(1),
            session: 1,
        }
    }

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
        let op = OpId {
            replica: ReplicaId(1),
            seq: 1,
        };
        let resuming = State::Resuming {
            op,
            on: on(),
            boot: Boot::Golden,
        };
        assert!(
            Settled
                .see(0, &still(resuming))
                .unwrap_err()
                .contains("still STATUS_RESUMING")
        );
    }

    #[test]
    fn an_actor_that_runs_nowhere_is_seen() {
        let what = Settled.see(0, &still(State::Running { on: on() })).unwrap_err();
        assert!(what.contains("no sandbox of it"), "{what}");
    }

    #[test]
    fn a_worker_that_hosts_what_nobody_knows_is_seen() {
        let sandboxes = [("uid".into(), holdfast_core::id::ActorKey::new("s", "x"))].into();
        let still = Still {
            sandboxes,
            present: vec!["uid".into()],
            ..Still::default()
        };
        assert!(
            Settled
                .see(0, &Fact::Calm(Box::new(still)))
                .unwrap_err()
                .contains("not recorded")
        );
    }
}
