//! Which worker's sandbox lives in which actor's directory.
//!
//! Two lives of one actor share a directory. So do two actors of one name and template whose atespaces are
//! unknown, because the control plane is the original's (compat.md 7.1). They must not be on one node at the
//! same time.

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

    /// Lets a worker have an actor's directory, if no other worker's sandbox lives there. What was laid out
    /// before this process began is where ateom says: `occupant`, by worker.
    pub fn move_in(
        &self,
        worker: &PodUid,
        actor: &ActorRef,
        occupant: impl Fn(&PodUid) -> Option<ActorRef>,
    ) -> Result<(), StepError> {
        let mut tenancies = self.lock();
        if let Some(tenant) = tenancies.other_tenant(worker, actor, occupant) {
            return Err(StepError::InUse {
                actor: actor.clone(),
                tenant: tenant.clone(),
            });
        }
        tenancies.homes.insert(worker.clone(), actor.clone());
        Ok(())
    }

    /// Whether no other worker's sandbox lives in the actor's directory.
    pub fn is_alone(
        &self,
        worker: &PodUid,
        actor: &ActorRef,
        occupant: impl Fn(&PodUid) -> Option<ActorRef>,
    ) -> bool {
        self.lock().other_tenant(worker, actor, occupant).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, Tenancies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenancies {
    fn other_tenant(
        &self,
        worker: &PodUid,
        actor: &ActorRef,
        occupant: impl Fn(&PodUid) -> Option<ActorRef>,
    ) -> Option<&PodUid> {
        let mut others = self.hosting.iter().filter(|tenant| *tenant != worker);
        others.find(|tenant| match self.homes.get(*tenant) {
            Some(home) => home == actor,
            None => occupant(tenant).as_ref() == Some(actor),
        })
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
                template: ("ns".into(), "t".into()),
                op: OpId {
                    replica: ReplicaId(1),
                    seq: 1,
                },
                session: 1,
                sandbox,
            }),
            ..Entry::default()
        }
    }

    #[test]
    fn a_directory_has_one_tenant_until_that_hosts_nothing_any_more() {
        let actor = ActorRef::parse("ns", "t", "a").unwrap();
        let nobody = |_: &PodUid| None;
        let (one, two) = (PodUid::from("one"), PodUid::from("two"));
        for gone in [hosting(None), hosting(Some(Sandbox::Stopped))] {
            let tenants = Tenants::default();
            tenants.note(&one, &hosting(Some(Sandbox::Busy)));
            tenants.move_in(&one, &actor, nobody).unwrap();
            tenants.note(&two, &hosting(Some(Sandbox::Busy)));
            let error = tenants.move_in(&two, &actor, nobody).unwrap_err();
            assert!(error.to_string().contains("worker one"), "{error}");
            assert!(tenants.is_alone(&one, &actor, nobody));
            assert!(!tenants.is_alone(&two, &actor, nobody));
            tenants.move_in(&one, &actor, nobody).unwrap();

            tenants.note(&one, &gone);
            tenants.move_in(&two, &actor, nobody).unwrap();
        }
    }

    #[test]
    fn namesakes_in_two_atespaces_are_no_tenants_of_each_other() {
        let of = |atespace| ActorRef::parse("ns", "t", "a").unwrap().within(atespace).unwrap();
        let tenants = Tenants::default();
        let workers = [None, Some("team-a"), Some("team-b")].map(|atespace| {
            let worker = PodUid::from(atespace.unwrap_or("none"));
            tenants.note(&worker, &hosting(Some(Sandbox::Running)));
            tenants.move_in(&worker, &of(atespace), |_| None).unwrap();
            (worker, of(atespace))
        });
        for (worker, actor) in &workers {
            assert!(tenants.is_alone(worker, actor, |_| None));
        }
    }

    #[test]
    fn a_sandbox_from_before_this_process_is_where_its_ateom_says() {
        let actor = ActorRef::parse("ns", "t", "a").unwrap();
        let tenants = Tenants::default();
        let (one, two) = (PodUid::from("one"), PodUid::from("two"));
        let occupant = |worker: &PodUid| (*worker == one).then(|| actor.clone());
        tenants.move_in(&two, &actor, occupant).unwrap();
        tenants.note(&one, &hosting(Some(Sandbox::Running)));
        assert!(tenants.move_in(&two, &actor, occupant).is_err());
    }
}
