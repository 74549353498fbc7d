//! What nobody asked for: workflows that finish or undo what others left, free what is promised to nobody, and
//! keep rows and nodes in agreement.

use super::{News, Origin, Phase, Replica, Timer, WantedBy, note_of};
use crate::actor::Actor;
use crate::digits::Filed;
use crate::effect::StoreOp;
use crate::id::{ActorKey, WorkerKey};
use crate::plan::{Goal, Unfinished};
use crate::registry::Wish;
use crate::time::{Instant, jittered};
use crate::workflow::Workflow;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// How many sweeping workflows run at once.
const SWEEPERS_MAX: usize = 16;
/// How many more wait for their nodes at most.
const WAITERS_MAX: usize = 4096;

impl Replica {
    /// The workflow of this replica that has, or asks for, an actor's lease.
    fn attendant(&self, actor: &ActorKey) -> Option<u64> {
        let actor = Filed::new(actor.clone());
        self.registry.attention().attendant(&actor)
    }

    /// Starts a workflow of the reconciler, unless it is looking at that actor already.
    pub(super) fn settle(&mut self, now: Instant, actor: ActorKey, goal: Goal) {
        if self.phase == Phase::Serving && self.sweep.settle(Filed::new(actor.clone())) {
            self.start(now, goal, actor, WantedBy::Reconciler);
        }
    }

    /// A transition that failed here is looked at again, if nobody else has moved it on by then.
    pub(super) fn leave_unfinished(&mut self, now: Instant, actor: &Actor, workflow: &Workflow) {
        let Some(on) = actor.assignment() else { return };
        if actor.operation().is_some() && actor.is_claimed_by(workflow.token()) {
            let at = now.plus(jittered(
                self.settings.workflow.settle_after,
                workflow.token().seq,
            ));
            let of = Box::new((actor.key.clone(), on.worker.clone()));
            self.timers.set(Timer::Settle(of), Some(at));
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let every = self.settings.workflow.sweep_every;
        // Each replica has a pause of its own, so that those that started together do not sweep together.
        let next = now.plus(jittered(every, self.id.0));
        self.timers.set(Timer::Sweep, Some(next));
        let is_new = self.sweep.begin();
        self.sweep_on(now);
        if is_new {
            self.look_at_strays();
        }
    }

    /// What was stray at the last sweep, too, is no report that comes before its write or after it.
    pub(super) fn look_at_strays(&mut self) {
        let strays = self.registry.strays().clone();
        for worker in strays.intersection(&self.suspects).cloned().collect::<Vec<_>>() {
            if let Some(hosting) = self.registry.stray(&worker) {
                let actor = hosting.actor.clone();
                let op = StoreOp::GetActor(actor.clone());
                self.store(Origin::Stray(worker, actor), op);
            }
        }
        // Of one whose node has told another replica meanwhile it is not known that it is none any more.
        let before = core::mem::replace(&mut self.suspects, strays);
        let unheard = before
            .into_iter()
            .filter(|worker| self.registry.is_unheard(worker));
        self.suspects.extend(unheard);
    }

    /// Goes on with the sweep as far as it may at once.
    pub(super) fn sweep_on(&mut self, now: Instant) {
        while self.phase == Phase::Serving
            && self.sweep.busy() < SWEEPERS_MAX
            && self.sweep.settling() < WAITERS_MAX
        {
            let Some((actor, worker)) = self.sweep.next(self.registry.attention()) else {
                return;
            };
            let resume = Unfinished::Finish;
            self.start(now, Goal::Settle { worker, resume }, actor, WantedBy::Reconciler);
        }
    }

    fn repair(&mut self, worker: WorkerKey, op: StoreOp) {
        self.store(Origin::Repair(worker, note_of(&op)), op);
    }

    /// Grants the registry its wishes, and tells workflows that wait for what is gone.
    pub(super) fn heed_registry(&mut self, now: Instant) {
        while let Some(wish) = self.registry.poll_wish() {
            match wish {
                Wish::Write { expect, worker } => {
                    self.repair(worker.key.clone(), StoreOp::PutWorker { expect, worker });
                }
                Wish::Drop { key, expect } => {
                    self.repair(key.clone(), StoreOp::DeleteWorker { key, expect });
                }
                Wish::Release { actor, worker } => {
                    if let Some(number) = self.attendant(&actor)
                        && self.flows.contains_key(&number)
                    {
                        self.tell(now, number, News::Nudged);
                    } else {
                        self.settle(
                            now,
                            actor,
                            Goal::Settle {
                                worker,
                                resume: Unfinished::Finish,
                            },
                        );
                    }
                }
                Wish::Thaw { actor, worker } => {
                    if self.attendant(&actor).is_none() {
                        let resume = Unfinished::Finish;
                        self.settle(now, actor, Goal::Settle { worker, resume });
                    }
                }
                // Whoever leaves is told nothing any more: silence means nothing.
                Wish::Lapse(_) if self.phase == Phase::Leaving => {}
                Wish::Lapse(row) => {
                    self.store(Origin::Lapse(Box::new(row.clone())), StoreOp::LapseNode(row));
                }
                Wish::Drain { actor } => {
                    if self.attendant(&actor).is_none() {
                        self.settle(now, actor, Goal::Suspend);
                    }
                }
            }
        }
    }
}
