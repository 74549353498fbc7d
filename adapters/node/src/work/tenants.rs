//! Which worker's sandbox lives in which actor's directory.
//!
//! The original's layout leaves the atespace out of an actor's directory (compat.md 7.1). So two actors
//! of one name, or two lives of one, would share it, and must not be on one node at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_core::id::PodUid;
use holdfast_core::node::{Entry, Sandbox};
use holdfast_sandbox::names::ActorRef;

use super::failure::StepError;

/// Which worker's sandbox lives where.
#[derive(Default)]
pub(crate) struct Tenants(Mutex<Tenancies>);

#[derive(Default)]
struct Tenancies {
    /// Where each worker's actor was last laid out.
    homes: BTreeMap<PodUid, ActorRef>,
    /// The workers that host something, or are about to.
    hosting: BTreeSet<PodUid>,
}

impl Tenants {
    /// Takes note of what a worker hosts.
    pub fn note(&self, worker: &PodUid, entry: &Entry) {
        let mut tenancies = self.lock();
        let is_hosting = entry
            .hosted
            .as_ref()
            .is_some_and(|hosted| hosted.sandbox != Sandbox::Stopped);
        if is_hosting {
            tenancies.hosting.insert(worker.clone());
        } else {
            tenancies.hosting.remove(worker);
            tenancies.homes.remove(worker);
        }
    }

    /// Lets a worker have an actor's directory, if no other worker's sandbox lives there.
    pub fn move_in(&self, worker: &PodUid, actor: &ActorRef) -> Result<(), StepError> {
        let mut tenancies = self.lock();
        if let Some(tenant) = tenancies.other_tenant(worker, actor) {
            return Err(StepError::InUse {
                actor: actor.clone(),
                tenant: tenant.clone(),
            });
        }
        tenancies.homes.insert(worker.clone(), actor.clone());
        Ok(())
    }

    /// Whether no other worker's sandbox lives in the actor's directory.
    pub fn is_alone(&self, worker: &PodUid, actor: &ActorRef) -> bool {
        self.lock().other_tenant(worker, actor).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Tenancies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenancies {
    fn other_tenant(&self, worker: &PodUid, actor: &ActorRef) -> Option<&PodUid> {
        let is_here = |(tenant, home): &(&PodUid, &ActorRef)| {
            *tenant != worker && *home == actor && self.hosting.contains(*tenant)
        };
        self.homes.iter().find(is_here).map(|(tenant, _)| tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::{ActorKey, Incarnation, OpId, ReplicaId};
    use holdfast_core::node::Hosted;

    fn hosting(sandbox: Option<Sandbox>) -> Entry {
        Entry {
            hosted: sandbox.map(|sandbox| Hosted {
                actor: ActorKey::new("x", "a"),
                incarnation: Incarnation(1),
                op: OpId {
                    replica: ReplicaId(1),
                    seq: 1,
                },
                sandbox,
            }),
            ..Entry::default()
        }
    }

    #[test]
    fn a_directory_has_one_tenant_until_that_hosts_nothing_any_more() {
        let actor = ActorRef::parse("ns", "t", "a").unwrap();
        let (one, two) = (PodUid::from("one"), PodUid::from("two"));
        for gone in [hosting(None), hosting(Some(Sandbox::Stopped))] {
            let tenants = Tenants::default();
            tenants.note(&one, &hosting(Some(Sandbox::Busy)));
            tenants.move_in(&one, &actor).unwrap();
            tenants.note(&two, &hosting(Some(Sandbox::Busy)));
            let error = tenants.move_in(&two, &actor).unwrap_err();
            assert!(error.to_string().contains("worker one"), "{error}");
            assert!(tenants.is_alone(&one, &actor) && !tenants.is_alone(&two, &actor));
            tenants.move_in(&one, &actor).unwrap();

            tenants.note(&one, &gone);
            tenants.move_in(&two, &actor).unwrap();
        }
    }
}
