//! I3: a worker runs at most one actor, and store and nodes agree or come to agree.
//!
//! Formally: for every worker *w* and every moment *t* there is at most one actor of which a sandbox is
//! alive in *w* at *t*; and in a calm, for every worker that is there, its row exists and names exactly the actor
//! that is alive in it, whose record says the same; and no row is of a worker that is not there.

use super::{Oracle, moment};
use crate::fact::{Fact, Still};
use holdfast_core::actor::State;
use holdfast_core::id::{ActorKey, PodUid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneActor {
    /// Who is alive in a worker, and since when.
    tenants: BTreeMap<PodUid, (ActorKey, u64)>,
}

impl Oracle for OneActor {
    fn see(&mut self, now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Up { worker, actor, .. } => {
                match self.tenants.insert(worker.clone(), (actor.clone(), now)) {
                    Some((other, since)) if other != *actor => Err(format!(
                        "{actor} came up on {worker}, where {other} has been alive since {}",
                        moment(since)
                    )),
                    _ => Ok(()),
                }
            }
            Fact::Down { worker, .. } => {
                self.tenants.remove(worker);
                Ok(())
            }
            Fact::Calm(still) => agree(still),
            _ => Ok(()),
        }
    }
}

/// Whether store and nodes say the same.
pub(crate) fn agree(still: &Still) -> Result<(), String> {
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
            let promise = row
                .hosts
                .as_ref()
                .map_or("nobody".into(), |h| h.actor.to_string());
            let tenant = tenant.map_or("nobody".into(), ToString::to_string);
            return Err(format!(
                "worker {uid} is promised to {promise} and hosts {tenant}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Ending;

    fn up(actor: &str) -> Fact {
        Fact::Up {
            worker: "w".into(),
            actor: ActorKey::new("s", actor),
            count: 0,
            is_recorded: true,
        }
    }

    #[test]
    fn a_second_actor_in_a_worker_is_seen_until_the_first_has_gone() {
        let mut oracle = OneActor::default();
        assert_eq!(oracle.see(1_500_000, &up("a")), Ok(()));
        let mut other = oracle.clone();
        let what = other.see(2, &up("b")).unwrap_err();
        assert!(what.contains("s/b came up on w, where s/a has been alive since 1.500000s"));
        let down = Fact::Down {
            worker: "w".into(),
            actor: ActorKey::new("s", "a"),
            how: Ending::Stopped,
        };
        oracle.see(3, &down).unwrap();
        assert_eq!(oracle.see(4, &up("b")), Ok(()));
    }

    #[test]
    fn a_worker_that_hosts_what_nobody_knows_is_seen() {
        let sandboxes = [("uid".into(), ActorKey::new("s", "x"))].into();
        let still = Still {
            sandboxes,
            present: vec!["uid".into()],
            ..Still::default()
        };
        let what = OneActor::default()
            .see(0, &Fact::Calm(Box::new(still)))
            .unwrap_err();
        assert!(what.contains("not recorded"), "{what}");
    }
}
