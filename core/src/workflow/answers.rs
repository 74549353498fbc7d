//! What the store's answers mean to a workflow.

use super::{Output, Step, Workflow, World};
use crate::actor::Actor;
use crate::effect::{StoreError, StoreReply};
use crate::failure::Failure;
use crate::id::LeaseToken;
use crate::lease;
use crate::machine::Machine;
use crate::plan::{self, Goal, Next, Then};
use crate::time::Instant;
use alloc::boxed::Box;

impl Workflow {
    pub(super) fn replied(&mut self, now: Instant, reply: StoreReply, world: World<'_>) {
        if matches!(self.step, Step::Over) {
            return;
        }
        match (core::mem::replace(&mut self.step, Step::Rest), reply) {
            (Step::Load, StoreReply::Actor(actor)) => self.loaded(now, actor, world),
            (Step::Acquire { .. }, reply) if self.verdict.is_some() => match reply {
                StoreReply::Acquired(_) => self.enter(now, Step::Release),
                _ => self.over(),
            },
            (Step::Acquire { .. }, StoreReply::Acquired(actor)) => {
                // Decided when the keeper confirms that the grant came in time.
                self.lease.handle(now, lease::Input::Granted);
                self.actor = actor;
            }
            (Step::Acquire { .. }, StoreReply::Held(holder)) => self.held(now, holder),
            (Step::AskHolder(holder), StoreReply::Missing) => {
                self.enter(now, Step::Acquire { steal: Some(holder) });
            }
            (Step::AskHolder(_), _) => self.end(Err(Failure::lease_held())),
            (
                Step::Write {
                    actor,
                    then,
                    is_release,
                },
                StoreReply::Done,
            ) => {
                self.written(now, actor, then, is_release, world);
            }
            (
                Step::Write {
                    actor,
                    then,
                    is_release,
                },
                StoreReply::ActorConflict(stored),
            ) => {
                // Our own write, whose first acknowledgement was lost?
                if stored.as_deref() == Some(&*actor) {
                    self.written(now, actor, then, is_release, world);
                } else {
                    self.reload(now, stored, world);
                }
            }
            (Step::Bury, StoreReply::Done) => self.enter(now, Step::Delete),
            (Step::Delete, StoreReply::Done | StoreReply::ActorConflict(None)) => {
                self.lease.handle(now, lease::Input::Release);
                self.end(Ok(()));
            }
            (Step::Delete, StoreReply::ActorConflict(stored)) => self.reload(now, stored, world),
            (Step::Promise(worker), StoreReply::Done) => {
                self.promised = Some(worker);
                self.decide(now, world);
            }
            (Step::Promise(worker), StoreReply::WorkerConflict(stored)) => {
                if stored.as_deref() == Some(&*worker) {
                    self.promised = Some(worker);
                }
                self.decide(now, world);
            }
            (Step::ReadRow(on), StoreReply::Worker(row)) => self.free(now, &on, row.as_deref(), world),
            (Step::Free { .. }, StoreReply::Done) => self.freed(now, world),
            (Step::Free { .. }, StoreReply::WorkerConflict(stored)) => match self.leaving.clone() {
                Some(on) => self.free(now, &on, stored.as_deref(), world),
                None => self.freed(now, world),
            },
            (Step::Release, _) => self.over(),
            // An answer that does not fit its question is a defect of the store; ask again.
            (step, _) => {
                self.step = step;
                self.store_failed(
                    now,
                    &StoreError::Unavailable("the answer does not fit".into()),
                    world,
                );
            }
        }
    }

    pub(super) fn loaded(&mut self, now: Instant, actor: Option<Box<Actor>>, world: World<'_>) {
        self.actor = actor;
        self.stray = self.promise_to_settle(world);
        let next = match (&self.goal, &self.actor) {
            (Goal::Resume(_), None) => Next::Finish(Err(Failure::actor_not_found(&self.key.name))),
            // A worker may be promised to an actor that is no more.
            (_, None) => Next::CallAgain,
            (_, Some(actor)) => plan::next(&self.goal, actor, &self.facts(world)),
        };
        match next {
            Next::Finish(result) => self.end(result),
            _ => self.enter(now, Step::Acquire { steal: None }),
        }
    }

    pub(super) fn held(&mut self, now: Instant, holder: LeaseToken) {
        if holder.replica == self.token.replica {
            // A replica asks for one workflow at a time: this is left over from one that has ended.
            self.enter(now, Step::Acquire { steal: Some(holder) });
        } else {
            self.enter(now, Step::AskHolder(holder));
        }
    }

    pub(super) fn written(
        &mut self,
        now: Instant,
        actor: Box<Actor>,
        then: Then,
        is_release: bool,
        world: World<'_>,
    ) {
        self.promised = None;
        self.errand = None;
        self.follow(actor);
        if is_release {
            self.lease.handle(now, lease::Input::Release);
        }
        match then {
            Then::GoOn => self.decide(now, world),
            Then::Finish => self.finish(now, Ok(())),
            Then::FinishRefused => {
                let said = self.outcome.as_ref().and_then(|outcome| outcome.1.as_ref().err());
                let failure = said.map_or_else(Failure::conflict, Failure::node);
                self.finish(now, Err(failure));
            }
        }
    }

    /// What has become of the actor by what this workflow has written: which worker it has left, and what was lost.
    fn follow(&mut self, stored: Box<Actor>) {
        let before = self.actor.as_deref();
        let left = before
            .and_then(Actor::assignment)
            .filter(|_| stored.assignment().is_none());
        let setback = before.and_then(|before| stored.setback_since(before));
        self.leaving = left.cloned().map(Box::new);
        self.outputs.extend(setback.map(Box::new).map(Output::Setback));
        self.actor = Some(stored);
    }

    /// Somebody else wrote. Under our claim that is nobody's business of ours: go on from what is
    /// stored. Under another claim, our time is over.
    pub(super) fn reload(&mut self, now: Instant, stored: Option<Box<Actor>>, world: World<'_>) {
        let Some(stored) = stored else {
            self.actor = None;
            let failure = Failure::actor_not_found(&self.key.name);
            return self.finish(now, Err(failure));
        };
        let known = self.actor.as_deref();
        let is_another_life = known.is_some_and(|known| known.incarnation != stored.incarnation);
        let is_claimed =
            stored.claim != known.and_then(|known| known.claim) && !stored.is_claimed_by(self.token);
        let is_overtaken = is_another_life || is_claimed;
        if is_overtaken {
            self.actor = Some(stored);
            self.finish(now, Err(Failure::conflict()));
        } else {
            // A write of ours may be in it whose answer was lost.
            self.follow(stored);
            self.decide(now, world);
        }
    }
}
