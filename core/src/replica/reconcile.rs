//! What a replica does that nobody has asked it for: the reconciler.

use super::{Note, Origin, Phase, Replica, SWEEPERS_MAX, Timer, WantedBy};
use crate::actor::Actor;
use crate::effect::StoreOp;
use crate::id::ActorKey;
use crate::plan::{Goal, Unfinished};
use crate::registry::Wish;
use crate::time::{Instant, jittered};
use crate::workflow::{Workflow, World};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Replica {
    /// Starts a workflow of the reconciler, unless it is looking at that actor already.
    pub(super) fn settle(&mut self, now: Instant, actor: ActorKey, goal: Goal) {
        if matches!(self.phase, Phase::Serving) && self.settling.insert(actor.clone()) {
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
            self.timers
                .set(Timer::Settle(actor.key.clone(), on.worker.clone()), Some(at));
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        let every = self.settings.workflow.sweep_every;
        // Each replica has a pause of its own, so that those that started together do not sweep together.
        let pause = jittered(every, self.id.0);
        self.timers.set(Timer::Sweep, Some(now.plus(pause)));
        let promised = self
            .registry
            .rows()
            .filter(|row| row.hosts.is_some())
            .map(|row| row.key.clone());
        self.to_sweep = promised.collect();
        self.sweep_on(now);
        self.look_at_strays();
    }

    /// What was stray at the last sweep, too, is no report that comes before its write or after it.
    fn look_at_strays(&mut self) {
        let strays = self.registry.strays().clone();
        for worker in strays.intersection(&self.suspects).cloned().collect::<Vec<_>>() {
            if let Some(hosting) = self.registry.stray(&worker) {
                let op = StoreOp::GetActor(hosting.actor.clone());
                self.store(Origin::Stray(worker), op);
            }
        }
        self.suspects = strays;
    }

    pub(super) fn sweep_on(&mut self, now: Instant) {
        // Two workers may be promised to one actor, of which one must be freed: each has its turn.
        let mut waiting = BTreeSet::new();
        while self.settling.len() < SWEEPERS_MAX {
            let Some(worker) = self.to_sweep.pop_first() else {
                break;
            };
            let hosted = self.registry.row(&worker).and_then(|row| row.hosts.as_ref());
            let Some(actor) = hosted.map(|hosted| hosted.actor.clone()) else {
                continue;
            };
            if self.settling.contains(&actor) {
                waiting.insert(worker);
                continue;
            }
            let resume = Unfinished::Finish;
            self.settle(now, actor, Goal::Settle { worker, resume });
        }
        self.to_sweep.append(&mut waiting);
    }

    /// Grants the registry its wishes, and tells workflows that wait for what is gone.
    pub(super) fn heed_registry(&mut self, now: Instant) {
        while let Some(wish) = self.registry.poll_wish() {
            match wish {
                Wish::Write { expect, worker } => {
                    let origin = Origin::Repair(worker.key.clone(), Note::Written(worker.clone()));
                    self.store(origin, StoreOp::PutWorker { expect, worker });
                }
                Wish::Drop { key, expect } => {
                    let origin = Origin::Repair(key.clone(), Note::Deleted(key.clone()));
                    self.store(origin, StoreOp::DeleteWorker { key, expect });
                }
                Wish::Release { actor, worker } => {
                    if let Some(number) = self.exclusive.get(&actor).copied()
                        && let Some(flow) = self.flows.get_mut(&number)
                    {
                        let world = World {
                            registry: &self.registry,
                            catalog: &self.catalog,
                            settings: &self.settings,
                        };
                        flow.workflow.nudge(now, world);
                        self.drain(now, number);
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
                    if !self.exclusive.contains_key(&actor) {
                        let resume = Unfinished::Finish;
                        self.settle(now, actor, Goal::Settle { worker, resume });
                    }
                }
                Wish::Lapse {
                    node,
                    incarnation,
                    sequence,
                } => {
                    let origin = Origin::Lapse(node.clone(), incarnation.clone(), sequence);
                    let op = StoreOp::LapseNode {
                        name: node,
                        incarnation,
                        sequence,
                    };
                    self.store(origin, op);
                }
                Wish::Drain { actor } => {
                    if !self.exclusive.contains_key(&actor) {
                        self.settle(now, actor, Goal::Suspend);
                    }
                }
            }
        }
        self.timers.set(Timer::Registry, self.registry.poll_timeout());
    }
}
