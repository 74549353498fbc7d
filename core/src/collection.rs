//! Collection: what no record points at any more is deleted, after a while.
//!
//! A record remembers what it has let go of, in the very write that lets go of it; an actor that is
//! deleted leaves a note. So what is to be collected is never known to one process alone. Names of
//! snapshots are given once, so nothing that was let go of is ever pointed at again, unless the store
//! loses that write: it is given time for that, from that very write on. A note is written before the deletion and says nothing of when
//! that was: the actor must be seen not to be there twice, with that time between.

use crate::actor::{Actor, Change, Garbage, Snapshot};
use crate::effect::{Discard, Grave, Place, StoreOp, StoreReply};
use crate::id::{ActorKey, Incarnation, Name, Version};
use crate::workflow::World;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// How often the note that something is gone is tried against concurrent writers.
const WRITES_MAX: u32 = 5;

/// One actor's leftovers, on their way out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Collection {
    /// Reading the record of an actor that has let go of these a while ago.
    Reading(ActorKey, Vec<Garbage>),
    /// Having a node delete what a record has let go of.
    Discarding(Box<Actor>, Share),
    /// Noting in the record what is gone; others have written it so often meanwhile.
    Noting(ActorKey, Share, u32),
    /// Reading the record of the actor that a note is about: whether it is there.
    Mourning(Box<Grave>),
    /// Reading once more what was not there a while ago.
    Burying(Box<Grave>),
    /// Having a node delete what a deleted actor left behind: these of it.
    Clearing(Box<Grave>, Vec<Snapshot>),
    /// Writing the note anew, without what is gone, or dropping it.
    Closing(Note),
}

/// Which note: of which actor, which life of it, and which attempt at deleting it.
pub(crate) type Note = (ActorKey, Incarnation, Version);

impl Grave {
    pub(crate) fn note(&self) -> Note {
        (self.actor.clone(), self.incarnation, self.version)
    }
}

/// What is deleted at once, and what is deleted after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    now: Vec<Garbage>,
    rest: Vec<Garbage>,
}

/// What a collection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// Ask the store.
    Ask(Collection, StoreOp),
    /// Have the atelet at this address delete.
    Discard(Collection, Name, Discard),
    /// The actor is not there: go on with [`Collection::of_absent`] when the store can no more lose that.
    Wait(Box<Grave>),
    /// There is nothing more to do, or nothing that can be done now.
    Over,
}

impl Collection {
    /// These leftovers of an actor that exists. What it has let go of since then is left for later.
    pub(crate) fn of_actor(key: ActorKey, ripe: Vec<Garbage>) -> Onward {
        let op = StoreOp::GetActor(key.clone());
        Onward::Ask(Collection::Reading(key, ripe), op)
    }

    /// The leftovers of an actor that was deleted.
    pub(crate) fn of_grave(grave: Grave) -> Onward {
        let op = StoreOp::GetActor(grave.actor.clone());
        Onward::Ask(Collection::Mourning(Box::new(grave)), op)
    }

    /// The same, of one that has not been there for a while.
    pub(crate) fn of_absent(grave: Box<Grave>) -> Onward {
        let op = StoreOp::GetActor(grave.actor.clone());
        Onward::Ask(Collection::Burying(grave), op)
    }

    /// The note that it is about, if it is about one.
    pub(crate) fn mourned(&self) -> Option<Note> {
        match self {
            Collection::Mourning(grave) | Collection::Burying(grave) | Collection::Clearing(grave, _) => {
                Some(grave.note())
            }
            Collection::Closing(note) => Some(note.clone()),
            Collection::Reading(..) | Collection::Discarding(..) | Collection::Noting(..) => None,
        }
    }

    /// What is still to be collected when this one cannot go on. What a deleted actor has left is found
    /// again by the list.
    pub(crate) fn unfinished(self) -> Option<(ActorKey, Vec<Garbage>)> {
        match self {
            Collection::Reading(key, ripe) => Some((key, ripe)),
            Collection::Discarding(actor, share) => Some((actor.key, share.all())),
            Collection::Noting(key, share, _) => Some((key, share.all())),
            Collection::Mourning(_)
            | Collection::Burying(_)
            | Collection::Clearing(..)
            | Collection::Closing(_) => None,
        }
    }

    /// The store answered.
    pub(crate) fn stored(self, reply: StoreReply, world: World<'_>) -> Onward {
        match (self, reply) {
            (Collection::Reading(_, ripe), StoreReply::Actor(Some(actor))) => {
                let mut garbage = ripe;
                garbage.retain(|snapshot| actor.garbage.contains(snapshot));
                discard_garbage(actor, garbage, world)
            }
            (Collection::Noting(_, share, conflicts), StoreReply::ActorConflict(Some(actor)))
                if conflicts < WRITES_MAX =>
            {
                note(&actor, share, conflicts + 1)
            }
            // Another node has the rest.
            (Collection::Noting(key, share, _), StoreReply::Done) if !share.rest.is_empty() => {
                Collection::of_actor(key, share.rest)
            }
            (Collection::Mourning(grave) | Collection::Burying(grave), StoreReply::Actor(Some(actor)))
                if actor.incarnation == grave.incarnation =>
            {
                // A record that has been written since can no more be deleted by whoever left this note. One
                // that has not may be, in this moment.
                if actor.version > grave.version {
                    drop_note(&grave)
                } else {
                    Onward::Over
                }
            }
            (Collection::Mourning(grave), StoreReply::Actor(_)) => Onward::Wait(grave),
            (Collection::Burying(grave), StoreReply::Actor(_)) => {
                clear(&grave, world).unwrap_or(Onward::Over)
            }
            _ => Onward::Over,
        }
    }

    /// A node has deleted what it was asked to.
    pub(crate) fn discarded(self, world: World<'_>) -> Onward {
        match self {
            Collection::Discarding(actor, share) => note(&actor, share, 0),
            Collection::Clearing(mut grave, gone) => {
                grave.snapshots.retain(|snapshot| !gone.contains(snapshot));
                // What is on the disk of a node that is away stays noted.
                let onward = clear(&grave, world);
                onward.unwrap_or_else(|| {
                    let closing = Collection::Closing(grave.note());
                    Onward::Ask(closing, StoreOp::PutGrave(grave))
                })
            }
            Collection::Reading(..)
            | Collection::Noting(..)
            | Collection::Mourning(_)
            | Collection::Burying(_)
            | Collection::Closing(_) => Onward::Over,
        }
    }
}

impl Share {
    fn all(mut self) -> Vec<Garbage> {
        self.now.append(&mut self.rest);
        self.now
    }
}

fn discard_garbage(actor: Box<Actor>, garbage: Vec<Garbage>, world: World<'_>) -> Onward {
    match share(garbage, |garbage| &garbage.snapshot, world) {
        Some((address, now, rest)) => {
            let batch = now.iter().map(|garbage| &garbage.snapshot);
            let discard = discard(&actor.key, actor.template(), batch);
            Onward::Discard(
                Collection::Discarding(actor, Share { now, rest }),
                address,
                discard,
            )
        }
        // Nothing of it can be deleted now; the next workflow of the actor finds it again.
        None => Onward::Over,
    }
}

/// What is next for the note of a deleted actor; none if what is left must wait.
fn clear(grave: &Grave, world: World<'_>) -> Option<Onward> {
    if grave.snapshots.is_empty() {
        return Some(drop_note(grave));
    }
    let (address, now, _) = share(grave.snapshots.clone(), |snapshot| snapshot, world)?;
    let discard = discard(&grave.actor, grave.template.clone(), now.iter());
    let clearing = Collection::Clearing(Box::new(grave.clone()), now);
    Some(Onward::Discard(clearing, address, discard))
}

/// What one node that has been heard lately can delete at once, where it listens, and the rest: what is on its disk,
/// or, by whichever node, what is in the object store. What a template starts new actors from stays (scenario S30).
fn share<T>(
    leftovers: Vec<T>,
    snapshot: impl Fn(&T) -> &Snapshot,
    world: World<'_>,
) -> Option<(Name, Vec<T>, Vec<T>)> {
    let node_of = |left: &T| match snapshot(left) {
        Snapshot::External(_) => None,
        Snapshot::Local { nodes, .. } => nodes.first().cloned(),
    };
    let is_borrowed = |left: &T| match snapshot(left) {
        Snapshot::External(prefix) => world.catalog.is_golden(prefix),
        Snapshot::Local { .. } => false,
    };
    let in_reach = |left: &T| {
        let node = node_of(left);
        let address = world.registry.in_reach(node.as_ref())?.clone();
        Some((node, address))
    };
    let free: Vec<T> = leftovers.into_iter().filter(|left| !is_borrowed(left)).collect();
    let (node, address) = free.iter().find_map(in_reach)?;
    let (now, rest) = free.into_iter().partition(|left| node_of(left) == node);
    Some((address, now, rest))
}

fn discard<'a>(
    actor: &ActorKey,
    template: (Name, Name),
    batch: impl Iterator<Item = &'a Snapshot>,
) -> Discard {
    let places = batch.map(|snapshot| match snapshot {
        Snapshot::External(prefix) => Place::External(prefix.clone()),
        Snapshot::Local { name, .. } => Place::Local(name.clone()),
    });
    Discard {
        actor: actor.clone(),
        template,
        snapshots: places.collect(),
    }
}

/// The record as it was read, or as somebody has written it meanwhile, without what is gone.
fn note(stored: &Actor, share: Share, conflicts: u32) -> Onward {
    let gone = share.now.iter().map(|garbage| garbage.snapshot.clone());
    let change = Change::Collected(gone.collect());
    match stored.after(&change, None, Version::FIRST) {
        Ok(next) => {
            let op = StoreOp::PutActor {
                expect: Some(stored.edition()),
                actor: Box::new(next),
                release: None,
            };
            Onward::Ask(Collection::Noting(stored.key.clone(), share, conflicts), op)
        }
        Err(_) => Onward::Over,
    }
}

fn drop_note(grave: &Grave) -> Onward {
    let op = StoreOp::DropGrave {
        key: grave.actor.clone(),
        incarnation: grave.incarnation,
        version: grave.version,
    };
    Onward::Ask(Collection::Closing(grave.note()), op)
}
