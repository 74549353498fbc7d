//! The reconciler's walk along the actors to which workers are promised, and the actors that it looks at.
//!
//! Every such actor has its turn in every walk, a few at a time, except those that a workflow of this replica
//! attends to: that workflow leaves nothing behind, or somebody who looks after it.

use crate::attention::Attention;
use crate::digits::Filed;
use crate::id::{ActorKey, WorkerKey};
use crate::trie::Trie;
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
    /// Promises that were met while their actor was looked at because of another one, which is over.
    again: Vec<(Filed<ActorKey>, WorkerKey)>,
}

/// How many actors are passed in one go: other inputs have their turn.
pub const STEPS_MAX: u32 = 256;

/// What a walk has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// An actor that is looked at from now on, because this worker is promised to it.
    Promise(ActorKey, WorkerKey),
    /// [`STEPS_MAX`] actors have been passed.
    Pause,
    /// The end.
    End,
}

impl Sweep {
    /// Begins a walk, unless one is under way; says whether it did.
    pub fn begin(&mut self) -> bool {
        !core::mem::replace(&mut self.is_under_way, true)
    }

    /// Goes on to the next actor that nobody looks at or attends to. `steps` counts the actors that have been passed
    /// in this go.
    pub fn next(&mut self, attention: &Attention, steps: &mut u32) -> Met {
        while let Some((actor, worker)) = self.again.pop() {
            let is_free = attention.attendant(&actor).is_none() && !self.settling.contains_key(&actor);
            if is_free && attention.promises(&actor).contains(&worker) {
                return self.meet(actor, worker, Vec::new());
            }
        }
        if !self.is_under_way {
            return Met::End;
        }
        let from = self.at.take();
        let mut passed: Option<&Filed<ActorKey>> = None;
        for (actor, promised) in attention.left_alone_after(from.as_ref()) {
            if *steps == STEPS_MAX {
                self.at = passed.cloned().or(from);
                return Met::Pause;
            }
            *steps += 1;
            passed = Some(actor);
            if let Some(met) = self.settling.get_mut(actor) {
                met.clone_from(promised);
            } else if let Some((worker, others)) = promised.split_first() {
                self.at = Some(actor.clone());
                return self.meet(actor.clone(), worker.clone(), others.to_vec());
            }
        }
        self.is_under_way = false;
        Met::End
    }

    fn meet(&mut self, actor: Filed<ActorKey>, worker: WorkerKey, others: Vec<WorkerKey>) -> Met {
        let met = Met::Promise(actor.key().clone(), worker);
        self.settling.insert(actor, others);
        met
    }

    /// How many actors are looked at.
    pub fn settling(&self) -> usize {
        self.settling.len()
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

    /// Everybody whom one go meets.
    fn go(sweep: &mut Sweep, attention: &Attention) -> (Vec<ActorKey>, Met) {
        let (mut met, mut steps) = (Vec::new(), 0);
        loop {
            match sweep.next(attention, &mut steps) {
                Met::Promise(actor, _) => met.push(actor),
                end => return (met, end),
            }
        }
    }

    #[test]
    fn a_walk_meets_everybody_once_who_is_not_attended_to() {
        let mut attention = promises(1000);
        for i in 0..10 {
            assert!(attention.attend(&actor(&format!("a{i}")), 1));
        }
        let mut sweep = Sweep::default();
        assert_eq!(go(&mut sweep, &attention), (Vec::new(), Met::End));
        assert!(sweep.begin());
        assert!(!sweep.begin(), "it is under way");
        let mut met = BTreeSet::new();
        let gos = 1 + core::iter::repeat_with(|| go(&mut sweep, &attention))
            .map(|(some, end)| {
                assert!(some.len() <= STEPS_MAX as usize);
                for actor in some {
                    assert!(met.insert(actor), "it is met again");
                }
                end
            })
            .take_while(|end| *end == Met::Pause)
            .count();
        assert_eq!(gos, 990usize.div_ceil(STEPS_MAX as usize));
        let expected: BTreeSet<ActorKey> = (10..1000).map(|i| actor(&format!("a{i}"))).collect();
        assert_eq!(met, expected);
    }

    #[test]
    fn promises_that_come_and_go_behind_and_before_it_do_not_lead_it_astray() {
        let mut attention = promises(600);
        let mut sweep = Sweep::default();
        assert!(sweep.begin());
        let (first, end) = go(&mut sweep, &attention);
        assert_eq!(end, Met::Pause);
        for met in &first {
            let workers = attention.promises(&Filed::new(met.clone())).to_vec();
            workers.iter().for_each(|worker| attention.freed(met, worker));
        }
        let (second, _) = go(&mut sweep, &attention);
        let (third, end) = go(&mut sweep, &attention);
        assert_eq!(end, Met::End);
        assert_eq!(first.len() + second.len() + third.len(), 600);
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
            let met = sweep.next(&attention, &mut 0);
            assert_eq!(met, Met::Promise(key.clone(), worker(name)));
            let filed = Filed::new(key.clone());
            assert!(!sweep.settle(filed.clone()), "it is looked at already");
            assert_eq!(go(&mut sweep, &attention), (Vec::new(), Met::End));
            sweep.settled(&filed);
        }
        assert_eq!(go(&mut sweep, &attention), (Vec::new(), Met::End));
        assert_eq!(sweep, Sweep::default());
    }
}
