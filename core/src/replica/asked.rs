//! What a replica has asked for and not heard of yet.

use crate::collection::Collection;
use crate::effect::{NodeRow, StoreOp};
use crate::id::{ActorKey, EffectId, RequestId, WorkerKey};
use crate::request::Errand;
use crate::trie::Trie;
use crate::worker::{self, Worker};
use crate::workflow::Lane;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The effects that wait for their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    origins: Trie<EffectId, Origin>,
    so_far: u64,
}

/// Whom an effect's answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    Flow(u64, Lane, Note),
    Call(u64),
    Errand(RequestId, Errand, Box<StoreOp>),
    Repair(WorkerKey, Note),
    Lapse(Box<NodeRow>),
    Stray(WorkerKey, ActorKey),
    Collection(Box<Collection>),
    ListGraves,
    Session,
    ListWorkers,
    ListNodes,
    DropSession,
}

/// What the registry learns from an answer, whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Note {
    Nothing,
    Written(Option<worker::Edition>, Box<Worker>),
    Deleted(worker::Edition, WorkerKey),
}

impl Asked {
    /// The name of a new effect.
    pub(super) fn ask(&mut self, origin: Origin) -> EffectId {
        let effect = EffectId(self.next());
        self.so_far += 1;
        self.origins.insert(effect, origin);
        effect
    }

    /// An effect is waited for no more. Whom its answer is for, if that still matters.
    pub(super) fn answered(&mut self, effect: EffectId) -> Option<Origin> {
        self.origins.remove(&effect)
    }

    /// The number of the next effect.
    pub(super) fn next(&self) -> u64 {
        self.so_far + 1
    }

    /// Gives up every errand; whose they were.
    pub(super) fn give_up_errands(&mut self) -> Vec<RequestId> {
        let is_errand = |(id, origin): (&EffectId, &Origin)| match origin {
            Origin::Errand(request, ..) => Some((*id, *request)),
            _ => None,
        };
        let errands: Vec<(EffectId, RequestId)> = self.origins.iter().filter_map(is_errand).collect();
        let give_up = |(effect, request)| {
            self.origins.remove(&effect);
            request
        };
        errands.into_iter().map(give_up).collect()
    }
}

/// What is to be learnt from the answer to this.
pub(super) fn note_of(op: &StoreOp) -> Note {
    match op {
        StoreOp::PutWorker { expect, worker } => Note::Written(expect.clone(), worker.clone()),
        StoreOp::DeleteWorker { key, expect } => Note::Deleted(expect.clone(), key.clone()),
        _ => Note::Nothing,
    }
}
