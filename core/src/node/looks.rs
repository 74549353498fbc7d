//! Whether what ateom says of itself is believed at once, or asked about first.
//!
//! What ateom says by itself it says once, and when it is heard it may be old: it may be about what an operation has
//! changed since. So it is believed where it bears out the journal. Where it contradicts it, ateom is asked, when no
//! operation is under way, and its answer is believed unless one has begun meanwhile: nothing can have changed between
//! question and answer that ateom does not know. The first word of an ateom is as good as an answer, if no operation
//! has begun there before it is heard.
//!
//! Nor is anything overheard: what ateom says last is weighed when it is heard, or else when the operation has ended in
//! whose middle it was heard. A question takes the place of the one before, and is asked until it is answered.

use super::{Alive, Described, Hosted, Node, Output, Sandbox, Slot, Timer};
use crate::effect::Verb;
use crate::id::{ActorKey, EffectId, Incarnation, OpId, PodUid, ReplicaId};
use crate::time::Instant;
use alloc::format;
use alloc::string::String;

/// How old a word of ateom may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It is the first that is heard of that ateom, and nothing has been asked of it.
    New,
    /// It was on its way for who knows how long.
    Unknown,
}

/// What a word of ateom is worth.
enum Word {
    /// It tells nothing.
    Idle,
    /// It bears out the journal.
    Borne(Alive),
    /// It contradicts the journal.
    Contrary(Option<Alive>),
}

impl Node {
    /// With no operation under way: believes what ateom has said last, or has it asked.
    pub(super) fn weigh(&mut self, uid: &PodUid, age: Age) {
        self.look_away(uid);
        let Some(slot) = self.slots.get(uid) else {
            return;
        };
        match (slot.word(), age) {
            (Word::Idle, _) => {}
            (Word::Borne(alive), _) => self.believe(uid, Some(alive)),
            (Word::Contrary(alive), Age::New) => self.believe(uid, alive),
            (Word::Contrary(_), Age::Unknown) => {
                let effect = self.effect();
                if let Some(slot) = self.slots.get_mut(uid) {
                    slot.look = Some(effect);
                }
                self.outputs.push_back(Output::Look(effect, uid.clone()));
            }
        }
    }

    /// What was asked is not wanted any more.
    pub(super) fn look_away(&mut self, uid: &PodUid) {
        self.timers.set(Timer::Look(uid.clone()), None);
        if let Some(effect) = self.slots.get_mut(uid).and_then(|slot| slot.look.take()) {
            self.outputs.push_back(Output::Cancel(effect));
        }
    }

    /// ateom has answered, or could not.
    pub(super) fn looked(&mut self, now: Instant, effect: EffectId, answer: Result<Described, String>) {
        let asked = self.slots.iter_mut().find(|(_, slot)| slot.look == Some(effect));
        let Some((uid, slot)) = asked else { return };
        slot.look = None;
        let uid = uid.clone();
        match answer {
            Ok(described) => {
                let alive = described.sandbox.clone();
                slot.described = Some(described);
                self.believe(&uid, alive);
                self.tend(now, &uid);
                self.changed(now);
            }
            Err(why) => {
                let again = now.plus(self.settings.workflow.retry_to);
                self.timers.set(Timer::Look(uid.clone()), Some(again));
                let note = format!("worker {uid} does not say what it has, and is asked again: {why}");
                self.outputs.push_back(Output::Note(note));
            }
        }
    }

    /// This is what there is.
    fn believe(&mut self, uid: &PodUid, alive: Option<Alive>) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let before = slot.entry.hosted.clone();
        match (&mut slot.entry.hosted, alive) {
            (Some(hosted), Some(alive)) if alive.actor == hosted.actor.name => {
                hosted.sandbox = alive.sandbox;
                hosted.op = alive.op.unwrap_or(hosted.op);
            }
            // Something that this node does not remember: the worker is not free.
            (hosted, Some(alive)) => {
                *hosted = Some(Hosted {
                    actor: ActorKey::new("", alive.actor),
                    incarnation: Incarnation(0),
                    template: Default::default(),
                    session: 0,
                    op: alive.op.unwrap_or(OpId {
                        replica: ReplicaId(0),
                        seq: 0,
                    }),
                    sandbox: alive.sandbox,
                });
            }
            (Some(hosted), None) if hosted.sandbox == Sandbox::Stopped => {}
            (Some(_), None) => slot.entry.vacate(),
            (None, None) => {}
        }
        if slot.entry.hosted != before {
            if let (Some(hosted), None) = (before, &slot.entry.hosted) {
                let note = format!("worker {uid} lost the sandbox of actor {}", hosted.actor);
                self.outputs.push_back(Output::Note(note));
            }
            self.keep(uid);
        }
    }
}

impl Slot {
    fn word(&self) -> Word {
        let Some(said) = self.described.as_ref().filter(|_| !self.is_silent) else {
            return Word::Idle;
        };
        // A checkpoint may have been taken although nobody heard of it: its files are the actor then,
        // and its sandbox is expected to be gone. The operation's repetition finds out.
        let current = self.entry.current.as_ref();
        if current.is_some_and(|pending| matches!(pending.verb, Verb::Checkpoint { .. })) {
            return Word::Idle;
        }
        match (&self.entry.hosted, said.sandbox.clone()) {
            (None, None) => Word::Idle,
            (Some(hosted), None) if hosted.sandbox == Sandbox::Stopped => Word::Idle,
            (Some(hosted), Some(alive)) if hosted.is_in(&alive) => match (hosted.sandbox, alive.sandbox) {
                // Said in the middle of an operation that has ended: how it ended is known.
                (Sandbox::Running | Sandbox::Frozen, Sandbox::Busy) => Word::Idle,
                _ => Word::Borne(alive),
            },
            (_, alive) => Word::Contrary(alive),
        }
    }
}

impl Hosted {
    /// Whether this sandbox is the one that the journal means. An operation that was not named is not compared.
    fn is_in(&self, alive: &Alive) -> bool {
        alive.actor == self.actor.name && alive.op.is_none_or(|op| op == self.op)
    }

    /// The same, and it serves or is held still.
    pub(super) fn is_settled_in(&self, alive: &Alive) -> bool {
        let settled = |sandbox| matches!(sandbox, Sandbox::Running | Sandbox::Frozen);
        self.is_in(alive) && settled(self.sandbox) && settled(alive.sandbox)
    }
}
