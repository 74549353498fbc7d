//! The reconciler's walk along the actors to which workers are promised, and the actors that it looks at.
//!
//! Every such actor has its turn in every walk, a few at a time, except those that a workflow of this replica
//! attends to: that workflow leaves nothing behind, or somebody who looks after it.

use crate::attention::Attention;
use crate::digits::Filed;
use crate::id::{ActorKey, WorkerKey};
use crate::trie::Trie;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// One replica's walk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sweep {
    is_under_way: bool,
    /// The last actor that it has passed.
    at: Option<Filed<ActorKey>>,
    /// The actors that are looked at, and the workers of theirs that were met meanwhile: of two workers that
    /// are promised to one actor one must be freed, so each has its turn.
    settling: Trie<Filed<ActorKey>, Vec<WorkerKey>>,
    /// Those of them whose node has been asked: they wait for it and ask the store for little.
    waiting: BTreeSet<ActorKey>,
    /// Promises that were met while their actor was looked at because of another one, which is over.
    again: Vec<(Filed<ActorKey>, WorkerKey)>,
}

impl Sweep {
    /// Begins a walk, unless one is under way; says whether it did.
    pub fn begin(&mut self) -> bool {
        !core::mem::replace(&mut self.is_under_way, true)
    }

    /// Goes on to the next actor that nobody looks at or attends to, which is looked at from now on because this worker
    /// is promised to it. What it passes on the way are actors that are looked at: no more than
    /// [`Sweep::settling`].
    pub fn next(&mut self, attention: &Attention) -> Option<(ActorKey, WorkerKey)> {
        while let Some((actor, worker)) = self.again.pop() {
            let is_free = attention.attendant(&actor).is_none() && !self.settling.contains_key(&actor);
            if is_free && attention.promises(&actor).contains(&worker) {
                return Some(self.meet(actor, worker, Vec::new()));
            }
        }
        if !self.is_under_way {
            return None;
        }
        let from = self.at.take();
        for (actor, promised) in attention.left_alone_after(from.as_ref()) {
            if let Some(met) = self.settling.get_mut(actor) {
                met.clone_from(promised);
            } else if let Some((worker, others)) = promised.split_first() {
                self.at = Some(actor.clone());
                return Some(self.meet(actor.clone(), worker.clone(), others.to_vec()));
            }
        }
        self.is_under_way = false;
        None
    }

    fn meet(
        &mut self,
        actor: Filed<ActorKey>,
        worker: WorkerKey,
        others: Vec<WorkerKey>,
    ) -> (ActorKey, WorkerKey) {
        let met = (actor.key().clone(), worker);
        self.settling.insert(actor, others);
        met
    }

    /// How many actors are looked at and do not wait for their nodes.
    pub fn busy(&self) -> usize {
        self.settling.len() - self.waiting.len()
    }

    /// How many actors are looked at.
    pub fn settling(&self) -> usize {
        self.settling.len()
    }

    /// Notes that an actor that is looked at waits for its node from now on.
    pub fn waits(&mut self, actor: &Filed<ActorKey>) {
        if self.settling.contains_key(actor) {
            self.waiting.insert(actor.key().clone());
        }
    }

    /// Notes that an actor is looked at; `false` if it was already.
    pub fn settle(&mut self, actor: Filed<ActorKey>) -> bool {
        let is_new = !self.settling.contains_key(&actor);
        if is_new {
            self.settling.insert(actor, Vec::new());
        }
        is_new
    }

    /// Notes that an actor is looked at no more.
    pub fn settled(&mut self, actor: &Filed<ActorKey>) {
        let met = self.settling.remove(actor).unwrap_or_default();
        self.waiting.remove(actor.key());
        self.again
            .extend(met.into_iter().map(|worker| (actor.clone(), worker)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::format;

    fn actor(name: &str) -> ActorKey {
        ActorKey::new("space", name)
    }

    fn worker(name: &str) -> WorkerKey {
        WorkerKey::new("ns", "pool", name)
    }

    /// As many actors as that, each with a worker of its own.
    fn promises(actors: usize) -> Attention {
        let mut attention = Attention::default();
        for i in 0..actors {
            attention.promised(&actor(&format!("a{i}")), &worker(&format!("w{i}")));
        }
        attention
    }

    /// The next so many whom a walk meets; fewer if it comes to its end.
    fn go(sweep: &mut Sweep, attention: &Attention, count: usize) -> Vec<ActorKey> {
        let met = core::iter::from_fn(|| sweep.next(attention));
        met.take(count).map(|(actor, _)| actor).collect()
    }

    #[test]
    fn a_walk_meets_everybody_once_who_is_not_attended_to() {
        let mut attention = promises(1000);
        for i in 0..10 {
            assert!(attention.attend(&actor(&format!("a{i}")), 1));
        }
        let mut sweep = Sweep::default();
        assert_eq!(go(&mut sweep, &attention, 1), [], "none is under way");
        assert!(sweep.begin());
        assert!(!sweep.begin(), "it is under way");
        let met = go(&mut sweep, &attention, usize::MAX);
        assert_eq!(met.len(), 990);
        let met: BTreeSet<ActorKey> = met.into_iter().collect();
        let expected: BTreeSet<ActorKey> = (10..1000).map(|i| actor(&format!("a{i}"))).collect();
        assert_eq!(met, expected);
        assert!(sweep.begin(), "it is over");
    }

    #[test]
    fn whoever_is_looked_at_from_elsewhere_is_passed() {
        let attention = promises(100);
        let mut sweep = Sweep::default();
        assert!(sweep.settle(Filed::new(actor("a5"))));
        assert!(sweep.begin());
        let met = go(&mut sweep, &attention, usize::MAX);
        assert_eq!((met.len(), met.contains(&actor("a5"))), (99, false));
        assert_eq!((sweep.settling(), sweep.busy()), (100, 100));
        sweep.waits(&Filed::new(actor("a7")));
        assert_eq!((sweep.settling(), sweep.busy()), (100, 99));
        // The worker that was passed has its turn when that is over.
        sweep.settled(&Filed::new(actor("a5")));
        assert_eq!(sweep.next(&attention), Some((actor("a5"), worker("w5"))));
    }

    #[test]
    fn promises_that_come_and_go_behind_and_before_it_do_not_lead_it_astray() {
        let mut attention = promises(600);
        let mut sweep = Sweep::default();
        assert!(sweep.begin());
        let first = go(&mut sweep, &attention, 250);
        for met in &first {
            let workers = attention.promises(&Filed::new(met.clone())).to_vec();
            workers.iter().for_each(|worker| attention.freed(met, worker));
        }
        let rest = go(&mut sweep, &attention, usize::MAX);
        assert_eq!(first.len() + rest.len(), 600);
    }

    #[test]
    fn a_promise_that_was_passed_is_left_if_it_is_over_or_somebody_looks_after_its_actor() {
        let key = actor("a0");
        let cases: [fn(&mut Sweep, &mut Attention, &ActorKey); 3] = [
            |_, attention, key| assert!(attention.attend(key, 1)),
            |sweep, _, key| assert!(sweep.settle(Filed::new(key.clone()))),
            |_, attention, key| attention.freed(key, &worker("w0")),
        ];
        for meanwhile in cases {
            let mut attention = promises(1);
            let mut sweep = Sweep::default();
            assert!(sweep.settle(Filed::new(key.clone())) && sweep.begin());
            assert_eq!(sweep.next(&attention), None);
            sweep.settled(&Filed::new(key.clone()));
            meanwhile(&mut sweep, &mut attention, &key);
            assert_eq!(sweep.next(&attention), None);
        }
    }

    #[test]
    fn two_workers_that_are_promised_to_one_actor_are_looked_at_one_after_the_other() {
        let key = actor("a");
        let mut attention = Attention::default();
        attention.promised(&key, &worker("w2"));
        attention.promised(&key, &worker("w1"));
        let mut sweep = Sweep::default();
        assert!(sweep.begin());
        for name in ["w1", "w2"] {
            assert_eq!(sweep.next(&attention), Some((key.clone(), worker(name))));
            let filed = Filed::new(key.clone());
            assert!(!sweep.settle(filed.clone()), "it is looked at already");
            assert_eq!(sweep.next(&attention), None);
            sweep.settled(&filed);
        }
        assert_eq!(sweep.next(&attention), None);
        assert_eq!(sweep, Sweep::default());
    }
}
