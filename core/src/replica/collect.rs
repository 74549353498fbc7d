//! What a replica does about snapshots that nothing points at any more.

use super::{Origin, Output, Phase, Replica, Timer};
use crate::actor::{Actor, Garbage};
use crate::collection::{Collection, Note, Onward};
use crate::effect::{Grave, StoreError, StoreOp, StoreReply};
use crate::id::{ActorKey, EffectId, Name};
use crate::time::{Instant, jittered};
use crate::workflow::World;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

/// How many collections run at once.
const COLLECTIONS_MAX: usize = 16;
/// How many actors wait for their collection. Of those that come when it is full, the next workflow thinks again.
const WAITING_MAX: usize = 65_536;
/// How many notes of deleted actors are read by one store operation.
const GRAVES_PER_PAGE: u32 = 1024;
/// How many such operations there are at one look: a page may hold little or nothing.
const PAGES_MAX: u32 = 64;
/// How many notes are held, of actors that are still to be looked for, and as many of actors that were not there.
const GRAVES_MAX: usize = 16_384;

/// What a replica knows of what is to be collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Leftovers {
    /// Actors that have let go of something, and when it may be deleted, in that order.
    waiting: VecDeque<(Instant, ActorKey)>,
    /// What they have let go of, each of it once however many workflows have seen it since, and from when on it
    /// may be deleted. Nothing that the record did not name any more when it was last seen.
    let_go: BTreeMap<ActorKey, Vec<(Instant, Garbage)>>,
    /// Notes of actors that are still to be looked for.
    graves: VecDeque<Grave>,
    /// Notes of actors that were not there, and when that can no more be lost, in that order.
    absent: VecDeque<(Instant, Box<Grave>)>,
    /// Where the list of them is read on, and how many pages this look may still have.
    after: Option<Name>,
    pages: u32,
    /// How many collections are under way.
    under_way: usize,
    /// Every note that is held or acted upon.
    mourned: BTreeSet<Note>,
    /// What is collected next: each kind has its turn.
    turn: Turn,
}

/// A kind of leftovers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Turn {
    /// What an actor that exists has let go of.
    #[default]
    Garbage,
    /// What an actor has left that was not there a while ago.
    Absent,
    /// What an actor has left that is still to be looked for.
    Grave,
}

impl Turn {
    /// Who is next.
    fn next(self) -> Turn {
        match self {
            Turn::Garbage => Turn::Absent,
            Turn::Absent => Turn::Grave,
            Turn::Grave => Turn::Garbage,
        }
    }
}

impl Leftovers {
    /// What waits of this actor. What its record does not name any more need not.
    fn keep_of(&mut self, actor: &Actor) -> &[(Instant, Garbage)] {
        if let Some(known) = self.let_go.get_mut(&actor.key) {
            known.retain(|(_, garbage)| actor.garbage.contains(garbage));
            if known.is_empty() {
                self.let_go.remove(&actor.key);
            }
        }
        self.let_go.get(&actor.key).map_or(&[], Vec::as_slice)
    }

    /// An actor that has let go of something which may be deleted now, and all of that.
    fn ripe(&mut self, now: Instant) -> Option<(ActorKey, Vec<Garbage>)> {
        loop {
            let (_, actor) = self.waiting.pop_front_if(|(due, _)| *due <= now)?;
            let known = self.let_go.remove(&actor).unwrap_or_default();
            let (ripe, rest): (Vec<_>, Vec<_>) = known.into_iter().partition(|(due, _)| *due <= now);
            if !rest.is_empty() {
                self.let_go.insert(actor.clone(), rest);
            }
            if !ripe.is_empty() {
                return Some((actor, ripe.into_iter().map(|(_, garbage)| garbage).collect()));
            }
        }
    }

    fn ended(&mut self, mourned: Option<&Note>) {
        self.under_way -= 1;
        if let Some(note) = mourned {
            self.mourned.remove(note);
        }
    }
}

impl Replica {
    /// What this actor has let go of is collected when the store has had time to lose that.
    pub(super) fn collect_garbage_of(&mut self, now: Instant, actor: &Actor) {
        let known = self.leftovers.keep_of(actor);
        let is_new = |garbage: &&Garbage| !known.iter().any(|(_, known)| known == *garbage);
        let new: Vec<Garbage> = actor.garbage.iter().filter(is_new).cloned().collect();
        if !new.is_empty() {
            self.collect_later(now, actor.key.clone(), new);
        }
    }

    fn collect_later(&mut self, now: Instant, actor: ActorKey, garbage: Vec<Garbage>) {
        let due = now.plus(self.settings.workflow.collect_after);
        if self.phase != Phase::Serving || self.leftovers.waiting.len() >= WAITING_MAX {
            return;
        }
        let waiting = self.leftovers.let_go.entry(actor.clone()).or_default();
        waiting.extend(garbage.into_iter().map(|garbage| (due, garbage)));
        self.leftovers.waiting.push_back((due, actor));
        self.set_collection_timer();
    }

    /// Nothing is due while there is no room for it.
    fn set_collection_timer(&mut self) {
        let has_room = self.leftovers.under_way < COLLECTIONS_MAX && self.phase == Phase::Serving;
        let garbage = self.leftovers.waiting.front().map(|(due, _)| *due);
        let absent = self.leftovers.absent.front().map(|(due, _)| *due);
        let first = garbage.into_iter().chain(absent).min().filter(|_| has_room);
        self.timers.set(Timer::Collect, first);
    }

    /// Notes of deleted actors are looked at for the first time, or once more.
    pub(super) fn look_at_graves_later(&mut self, now: Instant) {
        let every = self.settings.workflow.collect_after;
        // Each replica has a pause of its own, as with the sweep, and none is shorter than the store needs.
        let pause = every.saturating_add(jittered(every / 5, self.id.0));
        self.timers.set(Timer::Graves, Some(now.plus(pause)));
    }

    /// More of them are read when all that were read have been looked for.
    pub(super) fn look_at_graves(&mut self, now: Instant) {
        if self.leftovers.graves.is_empty() {
            self.leftovers.pages = PAGES_MAX;
            self.list_graves();
        }
        self.look_at_graves_later(now);
    }

    fn list_graves(&mut self) {
        self.leftovers.pages -= 1;
        let op = StoreOp::ListGraves {
            after: self.leftovers.after.take(),
            limit: GRAVES_PER_PAGE,
        };
        self.store(Origin::ListGraves, op);
    }

    pub(super) fn graves_listed(&mut self, now: Instant, answer: Result<StoreReply, StoreError>) {
        if let Ok(StoreReply::Graves { graves, next }) = answer {
            // One that is looked for already has been listed once more.
            for grave in graves {
                if self.leftovers.mourned.insert(grave.note()) {
                    self.leftovers.graves.push_back(grave);
                }
            }
            self.leftovers.after = next;
            let has_room = self.leftovers.graves.len() < GRAVES_MAX && self.leftovers.pages > 0;
            if self.leftovers.after.is_some() && has_room && self.phase == Phase::Serving {
                self.list_graves();
            }
            self.collect_on(now);
        }
    }

    /// Begins as many collections as there is room for.
    pub(super) fn collect_on(&mut self, now: Instant) {
        while self.phase == Phase::Serving && self.leftovers.under_way < COLLECTIONS_MAX {
            let Some((mourned, begun)) = self.next_collection(now) else {
                break;
            };
            self.leftovers.under_way += 1;
            self.collect(now, mourned, begun);
        }
        self.set_collection_timer();
    }

    /// What there is to collect, of each kind in turn, and the note of it, if there is one.
    fn next_collection(&mut self, now: Instant) -> Option<(Option<Note>, Onward)> {
        let first = self.leftovers.turn;
        let turns = [first, first.next(), first.next().next()];
        turns.into_iter().find_map(|turn| {
            self.leftovers.turn = turn.next();
            match turn {
                Turn::Garbage => {
                    let (actor, garbage) = self.leftovers.ripe(now)?;
                    Some((None, Collection::of_actor(actor, garbage)))
                }
                Turn::Absent => {
                    let is_due = |(due, _): &mut (Instant, Box<Grave>)| *due <= now;
                    let (_, grave) = self.leftovers.absent.pop_front_if(is_due)?;
                    Some((Some(grave.note()), Collection::of_absent(grave)))
                }
                Turn::Grave => {
                    let grave = self.leftovers.graves.pop_front()?;
                    Some((Some(grave.note()), Collection::of_grave(grave)))
                }
            }
        })
    }

    pub(super) fn collection_stored(
        &mut self,
        now: Instant,
        collection: Collection,
        answer: Result<StoreReply, StoreError>,
    ) {
        let mourned = collection.mourned();
        match answer {
            Ok(reply) => {
                let onward = collection.stored(reply, self.world());
                self.collect(now, mourned, onward);
            }
            Err(_) => self.collect_again(now, collection),
        }
        self.collect_on(now);
    }

    pub(super) fn discarded(&mut self, now: Instant, effect: EffectId, result: &Result<(), String>) {
        let Some(Origin::Collection(collection)) = self.asked.answered(effect) else {
            return;
        };
        let mourned = collection.mourned();
        match result {
            Ok(()) => {
                let onward = collection.discarded(self.world());
                self.collect(now, mourned, onward);
            }
            Err(_) => self.collect_again(now, *collection),
        }
        self.collect_on(now);
    }

    /// The next step of a collection, of a deleted actor's leftovers or not.
    fn collect(&mut self, now: Instant, mourned: Option<Note>, onward: Onward) {
        match onward {
            // Whoever serves on finds it again.
            _ if self.phase != Phase::Serving => {}
            Onward::Ask(collection, op) => self.store(Origin::Collection(Box::new(collection)), op),
            Onward::Discard(collection, address, discard) => {
                let effect = self.asked.ask(Origin::Collection(Box::new(collection)));
                self.outputs.push_back(Output::Discard(effect, address, discard));
            }
            // Where there is no room for it, the list finds it again.
            Onward::Wait(grave) if self.leftovers.absent.len() < GRAVES_MAX => {
                let due = now.plus(self.settings.workflow.collect_after);
                self.leftovers.absent.push_back((due, grave));
                self.leftovers.under_way -= 1;
            }
            Onward::Wait(_) | Onward::Over => self.leftovers.ended(mourned.as_ref()),
        }
    }

    /// It did not work this time.
    fn collect_again(&mut self, now: Instant, collection: Collection) {
        self.leftovers.ended(collection.mourned().as_ref());
        if let Some((actor, garbage)) = collection.unfinished() {
            self.collect_later(now, actor, garbage);
        }
    }

    fn world(&self) -> World<'_> {
        World {
            registry: &self.registry,
            catalog: &self.catalog,
            settings: &self.settings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{GARBAGE_MAX, Snapshot};
    use crate::catalog::{Catalog, LabelSelector, Scope, Selector, Template, Workload};
    use crate::id::{Incarnation, ReplicaId, Version};
    use crate::settings::Settings;
    use crate::time::Duration;
    use alloc::format;
    use alloc::sync::Arc;

    fn serving() -> Replica {
        let mut replica = Replica::new(ReplicaId(1), Settings::DEFAULT, Catalog::new());
        replica.phase = Phase::Serving;
        replica
    }

    #[test]
    fn as_many_wait_as_there_is_room_for() {
        let mut replica = serving();
        let key = ActorKey::new("space", "a");
        let waiting = (Instant::ORIGIN, key.clone());
        replica.leftovers.waiting = alloc::vec![waiting; WAITING_MAX - 1].into();
        for _ in 0..2 {
            replica.collect_later(Instant::ORIGIN, key.clone(), Vec::new());
            assert_eq!(replica.leftovers.waiting.len(), WAITING_MAX);
        }
    }

    #[test]
    fn what_an_actor_has_let_go_of_waits_once_however_many_workflows_see_it() {
        let mut replica = serving();
        let template = Arc::new(Template {
            namespace: "ns".into(),
            name: "tmpl".into(),
            workload: Workload::default(),
            snapshot_location: "mem://".into(),
            on_pause: Scope::Full,
            on_commit: Scope::Full,
            sandbox_class: "gvisor".into(),
            worker_selector: LabelSelector::default(),
            golden_snapshot: None,
        });
        let key = ActorKey::new("space", "a");
        let mut actor = Actor::create(key.clone(), Incarnation(1), template, Selector::default());
        let mut now = Instant::ORIGIN;
        for number in 0..10 * GARBAGE_MAX as u64 {
            actor.garbage.push(Garbage {
                snapshot: Snapshot::External(format!("mem://{number}").into()),
                since: Version(number),
                by: None,
            });
            if actor.garbage.len() > GARBAGE_MAX {
                actor.garbage.remove(0);
            }
            now = now.plus(Duration::from_millis(1));
            // The workflow that lets go of it, and the next two.
            for _ in 0..3 {
                replica.collect_garbage_of(now, &actor);
            }
            let waiting = &replica.leftovers.let_go[&key];
            let names: Vec<Garbage> = waiting.iter().map(|(_, garbage)| garbage.clone()).collect();
            assert_eq!(names, actor.garbage);
        }
        assert_eq!(replica.leftovers.waiting.len(), 10 * GARBAGE_MAX);
        let (_, all) = replica
            .leftovers
            .ripe(now.plus(Duration::from_secs(3600)))
            .unwrap();
        assert_eq!(all, actor.garbage);
        assert_eq!(replica.leftovers.ripe(now.plus(Duration::from_secs(3600))), None);
        assert!(replica.leftovers.let_go.is_empty() && replica.leftovers.waiting.is_empty());
    }
}
