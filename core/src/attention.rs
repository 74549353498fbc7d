//! Who looks after which actor: the workers that are promised to actors, and the actors that a workflow of this
//! replica attends to, which are those whose lease it has or asks for.
//!
//! Actors to which workers are promised and that nobody attends to lie apart from the others: they are what the
//! reconciler walks along, however many leases there are.

use crate::digits::Filed;
use crate::id::{ActorKey, WorkerKey};
use crate::trie::Trie;
use alloc::vec::Vec;

/// What one replica knows of who looks after which actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attention {
    attended: Trie<Filed<ActorKey>, Attended>,
    /// None of them without a promise.
    left_alone: Trie<Filed<ActorKey>, Promised>,
}

/// The workers that are promised to one actor, in order.
type Promised = Vec<WorkerKey>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attended {
    by: u64,
    promised: Promised,
}

impl Attention {
    /// A worker is promised to an actor.
    pub fn promised(&mut self, actor: &ActorKey, worker: &WorkerKey) {
        let actor = Filed::new(actor.clone());
        match self.promises_mut(&actor) {
            Some(promised) => {
                if let Err(place) = promised.binary_search(worker) {
                    promised.insert(place, worker.clone());
                }
            }
            None => {
                self.left_alone.insert(actor, [worker.clone()].into());
            }
        }
    }

    /// It is not any more.
    pub fn freed(&mut self, actor: &ActorKey, worker: &WorkerKey) {
        let actor = Filed::new(actor.clone());
        if let Some(promised) = self.promises_mut(&actor) {
            promised.retain(|known| known != worker);
            if promised.is_empty() {
                self.left_alone.remove(&actor);
            }
        }
    }

    /// The workers that are promised to an actor, in order.
    pub fn promises(&self, actor: &Filed<ActorKey>) -> &[WorkerKey] {
        let attended = self.attended.get(actor).map(|attended| &attended.promised);
        attended
            .or_else(|| self.left_alone.get(actor))
            .map_or(&[], Vec::as_slice)
    }

    fn promises_mut(&mut self, actor: &Filed<ActorKey>) -> Option<&mut Promised> {
        match self.attended.get_mut(actor) {
            Some(attended) => Some(&mut attended.promised),
            None => self.left_alone.get_mut(actor),
        }
    }

    /// A workflow begins to attend to an actor, unless another does; says whether it may.
    pub fn attend(&mut self, actor: &ActorKey, workflow: u64) -> bool {
        let actor = Filed::new(actor.clone());
        if let Some(attended) = self.attended.get(&actor) {
            return attended.by == workflow;
        }
        let attended = Attended {
            by: workflow,
            promised: self.left_alone.remove(&actor).unwrap_or_default(),
        };
        self.attended.insert(actor, attended);
        true
    }

    /// A workflow attends to an actor no longer, if it was the one that did.
    pub fn leave(&mut self, actor: &Filed<ActorKey>, workflow: u64) {
        if self
            .attended
            .get(actor)
            .is_none_or(|attended| attended.by != workflow)
        {
            return;
        }
        if let Some(attended) = self.attended.remove(actor)
            && !attended.promised.is_empty()
        {
            self.left_alone.insert(actor.clone(), attended.promised);
        }
    }

    /// The workflow that attends to an actor.
    pub fn attendant(&self, actor: &Filed<ActorKey>) -> Option<u64> {
        self.attended.get(actor).map(|attended| attended.by)
    }

    /// The actors after this one that have promises and no attendant, and their workers.
    pub fn left_alone_after<'a>(
        &'a self,
        actor: Option<&Filed<ActorKey>>,
    ) -> impl Iterator<Item = (&'a Filed<ActorKey>, &'a Vec<WorkerKey>)> + use<'a> {
        self.left_alone.after(actor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Act {
        Promised(u8, u8),
        Freed(u8, u8),
        Attend(u8, u64),
        Leave(u8, u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..4u8, 0..3u8).prop_map(|(actor, worker)| Act::Promised(actor, worker)),
            (0..4u8, 0..3u8).prop_map(|(actor, worker)| Act::Freed(actor, worker)),
            (0..4u8, 0..3u64).prop_map(|(actor, workflow)| Act::Attend(actor, workflow)),
            (0..4u8, 0..3u64).prop_map(|(actor, workflow)| Act::Leave(actor, workflow)),
        ]
    }

    fn actor(number: u8) -> ActorKey {
        ActorKey::new("space", format!("a{number}"))
    }

    fn worker(number: u8) -> WorkerKey {
        WorkerKey::new("ns", "pool", format!("w{number}"))
    }

    proptest! {
        #[test]
        fn it_is_two_plain_tables_whatever_comes_first(acts in vec(act(), 0..60)) {
            let mut attention = Attention::default();
            let mut promises: BTreeSet<(u8, u8)> = BTreeSet::new();
            let mut attendants: BTreeMap<u8, u64> = BTreeMap::new();
            for act in acts {
                match act {
                    Act::Promised(a, w) => {
                        attention.promised(&actor(a), &worker(w));
                        promises.insert((a, w));
                    }
                    Act::Freed(a, w) => {
                        attention.freed(&actor(a), &worker(w));
                        promises.remove(&(a, w));
                    }
                    Act::Attend(a, workflow) => {
                        let holder = *attendants.entry(a).or_insert(workflow);
                        prop_assert_eq!(attention.attend(&actor(a), workflow), holder == workflow);
                    }
                    Act::Leave(a, workflow) => {
                        attention.leave(&Filed::new(actor(a)), workflow);
                        if attendants.get(&a) == Some(&workflow) {
                            attendants.remove(&a);
                        }
                    }
                }
            }
            // The same from the beginning, in another order.
            let mut straight = Attention::default();
            for (a, workflow) in &attendants {
                straight.attend(&actor(*a), *workflow);
            }
            for (a, w) in promises.iter().rev() {
                straight.promised(&actor(*a), &worker(*w));
            }
            prop_assert_eq!(&attention, &straight);
            let mut left_alone = BTreeSet::new();
            for a in 0..4 {
                let filed = Filed::new(actor(a));
                let of_actor = || promises.iter().filter(move |(of, _)| *of == a).map(|(_, w)| worker(*w));
                prop_assert!(attention.promises(&filed).iter().cloned().eq(of_actor()));
                prop_assert_eq!(attention.attendant(&filed), attendants.get(&a).copied());
                if of_actor().next().is_some() && !attendants.contains_key(&a) {
                    left_alone.insert(filed);
                }
            }
            prop_assert!(attention.left_alone_after(None).map(|(actor, _)| actor).eq(&left_alone));
        }
    }
}
