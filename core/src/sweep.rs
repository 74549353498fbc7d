//! The reconciler's walk along the workers that are promised to actors, and the actors that it looks at.
//!
//! Every promise has its turn in every walk, a few at a time, except those whose actor a workflow of this replica
//! is working on: that workflow leaves nothing behind, or somebody who looks after it.

use crate::digits::{Digits, Filed};
use crate::id::{ActorKey, WorkerKey};
use crate::trie::Trie;
use alloc::vec::Vec;

/// A worker's promise to an actor. Promises to one actor lie together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Promise {
    /// The actor.
    pub actor: Filed<ActorKey>,
    /// The worker.
    pub worker: WorkerKey,
}

impl Digits for Promise {
    fn digits(&self) -> u64 {
        self.actor.digits()
    }
}

/// Promises, in the order in which they are walked along.
pub type Promises = Trie<Promise, ()>;

/// One replica's walk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sweep {
    is_under_way: bool,
    /// The last promise that it has passed.
    at: Option<Promise>,
    /// The actors that are looked at, and the workers of theirs that were met meanwhile: of two workers that
    /// are promised to one actor one must be freed, so each has its turn.
    settling: Trie<Filed<ActorKey>, Vec<WorkerKey>>,
    /// Promises that were met while their actor was looked at because of another one, which is over.
    again: Vec<Promise>,
}

/// How many promises are passed in one go: other inputs have their turn.
pub const STEPS_MAX: u32 = 256;

/// What a walk has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// A promise that is to be looked at.
    Promise(Promise),
    /// [`STEPS_MAX`] promises have been passed.
    Pause,
    /// The end.
    End,
}

impl Sweep {
    /// Begins a walk, unless one is under way; says whether it did.
    pub fn begin(&mut self) -> bool {
        !core::mem::replace(&mut self.is_under_way, true)
    }

    /// Goes on to the next promise whose actor nobody looks at and that is not `busy`. `steps` counts the
    /// promises that have been passed in this go.
    pub fn next(
        &mut self,
        promises: &Promises,
        is_busy: impl Fn(&Filed<ActorKey>) -> bool,
        steps: &mut u32,
    ) -> Met {
        while let Some(promise) = self.again.pop() {
            if promises.contains_key(&promise) && !is_busy(&promise.actor) {
                return Met::Promise(promise);
            }
        }
        if !self.is_under_way {
            return Met::End;
        }
        let from = self.at.take();
        let mut passed: Option<&Promise> = None;
        for (promise, ()) in promises.after(from.as_ref()) {
            if *steps == STEPS_MAX {
                self.at = passed.cloned().or(from);
                return Met::Pause;
            }
            *steps += 1;
            passed = Some(promise);
            if let Some(met) = self.settling.get_mut(&promise.actor) {
                if !met.contains(&promise.worker) {
                    met.push(promise.worker.clone());
                }
            } else if !is_busy(&promise.actor) {
                self.at = Some(promise.clone());
                return Met::Promise(promise.clone());
            }
        }
        self.is_under_way = false;
        Met::End
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
        let promise = |worker| Promise {
            actor: actor.clone(),
            worker,
        };
        self.again.extend(met.into_iter().map(promise));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    fn promise(actor: &str, worker: &str) -> Promise {
        Promise {
            actor: Filed::new(ActorKey::new("space", actor)),
            worker: WorkerKey::new("ns", "pool", worker),
        }
    }

    fn promises(of: &[Promise]) -> Promises {
        let mut promises = Promises::default();
        for promise in of {
            promises.insert(promise.clone(), ());
        }
        promises
    }

    /// Everything that one go meets.
    fn go(sweep: &mut Sweep, promises: &Promises, busy: &[Promise]) -> (Vec<Promise>, Met) {
        let (mut met, mut steps) = (Vec::new(), 0);
        loop {
            match sweep.next(
                promises,
                |actor| busy.iter().any(|b| b.actor == *actor),
                &mut steps,
            ) {
                Met::Promise(promise) => met.push(promise),
                end => return (met, end),
            }
        }
    }

    #[test]
    fn a_walk_meets_every_promise_once_and_passes_those_that_are_attended_to() {
        let all: Vec<Promise> = (0..1000).map(|i| promise(&format!("a{i}"), "w")).collect();
        let known = promises(&all);
        let mut sweep = Sweep::default();
        assert_eq!(
            go(&mut sweep, &known, &[]),
            (vec![], Met::End),
            "it has not begun"
        );
        assert!(sweep.begin());
        assert!(!sweep.begin(), "it is under way");
        let mut met = Vec::new();
        let gos = 1 + core::iter::repeat_with(|| go(&mut sweep, &known, &all[..10]))
            .map(|(some, end)| {
                assert!(some.len() <= STEPS_MAX as usize);
                met.extend(some);
                end
            })
            .take_while(|end| *end == Met::Pause)
            .count();
        assert_eq!(gos, 1000usize.div_ceil(STEPS_MAX as usize));
        met.sort();
        let mut expected = all[10..].to_vec();
        expected.sort();
        assert_eq!(met, expected);
    }

    #[test]
    fn promises_that_come_and_go_behind_and_before_it_do_not_lead_it_astray() {
        let all: Vec<Promise> = (0..600).map(|i| promise(&format!("a{i}"), "w")).collect();
        let known = promises(&all);
        let mut sweep = Sweep::default();
        assert!(sweep.begin());
        let (first, end) = go(&mut sweep, &known, &[]);
        assert_eq!(end, Met::Pause);
        let left: Vec<Promise> = all.iter().filter(|p| !first.contains(p)).cloned().collect();
        let (second, _) = go(&mut sweep, &promises(&left), &[]);
        let (third, end) = go(&mut sweep, &promises(&left), &[]);
        assert_eq!(end, Met::End);
        assert_eq!(second.len() + third.len(), left.len());
    }

    #[test]
    fn two_workers_that_are_promised_to_one_actor_are_looked_at_one_after_the_other() {
        let (one, other) = (promise("a", "w1"), promise("a", "w2"));
        let known = promises(&[one.clone(), other.clone()]);
        let mut sweep = Sweep::default();
        assert!(sweep.begin());
        let mut steps = 0;
        let Met::Promise(first) = sweep.next(&known, |_| false, &mut steps) else {
            panic!("a promise is met")
        };
        assert!(sweep.settle(first.actor.clone()));
        assert!(!sweep.settle(first.actor.clone()), "it is looked at already");
        assert_eq!(go(&mut sweep, &known, &[]), (vec![], Met::End));
        sweep.settled(&first.actor);
        let second = if first == one { other } else { one };
        assert_eq!(go(&mut sweep, &known, &[]), (vec![second], Met::End));
        assert_eq!(sweep, Sweep::default());
    }
}
