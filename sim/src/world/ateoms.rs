//! Workers: what their ateoms do, and what their atelet sees of them.

use super::knife::{Cut, Trap, Who};
use super::nodes::op_of;
use super::outside::Trap as Hung;
use super::{Event, World};
use crate::fact::{Ending, Fact};
use crate::host::{Act, Ateom, Live, fails};
use crate::plan::{MILLI, SECOND};
use crate::story::line::Line;
use holdfast_core::effect::Verb;
use holdfast_core::id::{ActorKey, EffectId, OpId, PodUid};
use holdfast_core::licence::{Do, Licensed};
use holdfast_core::machine::Machine;
use holdfast_core::node::{Input, Order, Tend, Work, WorkFailureKind, WorkResult};
use std::sync::Arc;

/// Who waits for an ateom: its run, the operation, the atelet's life and effect.
pub(super) type Waiter = (u32, OpId, u32, EffectId);

impl World {
    /// An order reaches the ateom of its worker.
    pub(super) fn at_ateom(
        &mut self,
        index: usize,
        life: u32,
        effect: EffectId,
        work: Work,
        order: Arc<Order>,
    ) {
        let op = op_of(&order);
        let Some(ateom) = self.hosts[index]
            .ateoms
            .get_mut(&order.worker)
            .filter(|a| a.is_up)
        else {
            let gone = fails(WorkFailureKind::Unreachable, "ateom does not answer");
            self.fact(Fact::Failed(order.actor.clone()));
            return self.after(
                MILLI,
                200 * MILLI,
                Event::Node(index, life, Input::Worked(effect, gone)),
            );
        };
        if let Some((last, done, result)) = &ateom.last
            && *last == op
            && is_same(done, &work)
            // What could not be ended is ended when it is asked for again.
            && (work != Work::Stop || result.is_ok())
        {
            let again = Input::Worked(effect, result.clone());
            return self.after(MILLI, 5 * MILLI, Event::Node(index, life, again));
        }
        if let Some(current) = &ateom.current {
            if current.op == op && is_same(&current.work, &work) {
                let waiter = (ateom.run, op, life, effect);
                return self.after(
                    MILLI,
                    50 * MILLI,
                    Event::AteomJoined(index, order.worker.clone(), order.actor.clone(), waiter),
                );
            }
            if work == Work::Stop {
                // A boot that is stopped comes to nothing.
                ateom.current = None;
            } else {
                let busy = fails(
                    WorkFailureKind::Transient,
                    "another operation is under way in this worker",
                );
                self.fact(Fact::Failed(order.actor.clone()));
                return self.after(
                    MILLI,
                    5 * MILLI,
                    Event::Node(index, life, Input::Worked(effect, busy)),
                );
            }
        }
        self.cut_act(index, &order.worker, op, &work);
        let Some(ateom) = self.hosts[index]
            .ateoms
            .get_mut(&order.worker)
            .filter(|a| a.is_up)
        else {
            let gone = fails(WorkFailureKind::Unreachable, "ateom went away");
            self.fact(Fact::Failed(order.actor.clone()));
            return self.after(
                MILLI,
                50 * MILLI,
                Event::Node(index, life, Input::Worked(effect, gone)),
            );
        };
        ateom.current = Some(Act {
            op,
            work: work.clone(),
            actor: order.actor.clone(),
        });
        let run = ateom.run;
        self.describe(index, &order.worker);
        let longest = if work == Work::Stop {
            50 * MILLI
        } else {
            600 * MILLI
        };
        let hangs = self.runsc_hangs(index, &order.worker, op);
        self.after(
            20 * MILLI + hangs,
            longest + hangs,
            Event::AteomDone(index, (run, op, life, effect), order),
        );
    }

    /// A repetition waits for the operation that is under way.
    pub(super) fn ateom_joined(&mut self, index: usize, uid: &PodUid, actor: ActorKey, waiter: Waiter) {
        let (run, op, life, effect) = waiter;
        let ateom = self.hosts[index]
            .ateoms
            .get(uid)
            .filter(|a| a.is_up && a.run == run);
        let is_current = ateom.is_some_and(|a| a.current.as_ref().is_some_and(|act| act.op == op));
        if is_current {
            return self.after(
                20 * MILLI,
                100 * MILLI,
                Event::AteomJoined(index, uid.clone(), actor, waiter),
            );
        }
        let result = match ateom.and_then(|a| a.last.clone()) {
            Some((last, _, result)) if last == op => result,
            _ => fails(WorkFailureKind::Unreachable, "ateom went away"),
        };
        if result.is_err() {
            self.fact(Fact::Failed(actor));
        }
        self.deliver_to_node(index, life, Input::Worked(effect, result));
    }

    pub(super) fn ateom_done(&mut self, index: usize, waiter: Waiter, order: &Order) {
        let (run, op, life, effect) = waiter;
        let uid = &order.worker;
        let is_current = self.hosts[index]
            .ateoms
            .get(uid)
            .is_some_and(|a| a.is_up && a.run == run && a.current.as_ref().is_some_and(|act| act.op == op));
        if !is_current {
            let gone = fails(WorkFailureKind::Unreachable, "ateom went away");
            self.fact(Fact::Failed(order.actor.clone()));
            return self.after(
                MILLI,
                50 * MILLI,
                Event::Node(index, life, Input::Worked(effect, gone)),
            );
        }
        let trap = self.runsc_trap(uid, op);
        let is_unlucky = self.is_unlucky() || trap == Hung::NoEffect;
        let is_deaf = self.is_unlucky() || trap == Hung::NoExit;
        let Some(ateom) = self.hosts[index].ateoms.get_mut(uid) else {
            return;
        };
        let Some(act) = ateom.current.take() else { return };
        ateom.captured = (act.work == Work::Capture).then(|| act.actor.clone());
        let is_broken = self.knife.is_broken(&act.work);
        let instead = self.acted_instead(index, uid, &act, order);
        let result = match instead {
            Some(result) => result,
            None => self.act(index, uid, &act, order, is_unlucky || is_broken),
        };
        if self.ateom_may_note(&act)
            && let Some(ateom) = self.hosts[index].ateoms.get_mut(uid)
        {
            ateom.last = Some((op, act.work, result.clone()));
        }
        self.describe(index, uid);
        let answered = self.now + self.rng.between(MILLI, 20 * MILLI);
        let mut is_cut = false;
        if let Some(fault) = self.sprung(&Trap::Act(uid.clone(), op)) {
            let who = Who::Ateom(index, uid.clone());
            is_cut = fault.cut == Cut::NotAcknowledged;
            if is_cut {
                self.befall(&who, run, fault.mishap);
            } else {
                self.at(answered, Event::Befalls(who, run, fault.mishap));
            }
        }
        let heard = if is_deaf || is_cut {
            fails(WorkFailureKind::Unreachable, "ateom's answer was lost")
        } else {
            result
        };
        if heard.is_err() {
            self.fact(Fact::Failed(order.actor.clone()));
        }
        self.at(answered, Event::Node(index, life, Input::Worked(effect, heard)));
    }

    fn act(&mut self, index: usize, uid: &PodUid, act: &Act, order: &Order, is_unlucky: bool) -> WorkResult {
        match act.work {
            Work::Boot { .. } if is_unlucky => fails(WorkFailureKind::Fatal, "runsc restore failed"),
            Work::Boot { until } => {
                let count = match &order.verb {
                    Verb::Run { .. } => 0,
                    _ => match self.hosts[index].staged.get(uid) {
                        Some(count) => *count,
                        None => return fails(WorkFailureKind::Fatal, "nothing was fetched"),
                    },
                };
                if self.hosts[index]
                    .ateoms
                    .get(uid)
                    .is_some_and(|a| a.sandbox.is_some())
                {
                    self.fact(Fact::Trampled(act.actor.clone(), uid.clone(), "Boot"));
                }
                let live = Live {
                    actor: act.actor.clone(),
                    op: act.op,
                    count,
                };
                if let Some(ateom) = self.hosts[index].ateoms.get_mut(uid) {
                    ateom.sandbox = Some(live);
                }
                let record = self.store.actors.get(&act.actor);
                let is_recorded = record.is_some_and(|actor| actor.operation() == Some(act.op));
                self.fact(Fact::Up {
                    worker: uid.clone(),
                    actor: act.actor.clone(),
                    count,
                    is_recorded,
                });
                self.licensed(index, uid, Licensed::Booted(until));
                Ok(Vec::new())
            }
            Work::Thaw { until } => {
                if self.hosts[index].sandbox_of(uid, &act.actor).is_none() {
                    return fails(WorkFailureKind::Gone, "no sandbox to thaw");
                }
                self.licensed(index, uid, Licensed::Thaw(Some(until)));
                Ok(Vec::new())
            }
            Work::Capture => {
                let Some(live) = self.hosts[index].sandbox_of(uid, &act.actor) else {
                    return fails(WorkFailureKind::Gone, "no sandbox to checkpoint");
                };
                let count = live.count;
                if is_unlucky {
                    self.fact(Fact::Harmed(act.actor.clone()));
                    // It may have been left running, or not.
                    if self.rng.permille(500) {
                        self.sandbox_ends(index, uid, Ending::Killed);
                    }
                    return fails(WorkFailureKind::Fatal, "runsc checkpoint failed");
                }
                self.hosts[index].captures.insert(act.op, count);
                self.sandbox_ends(index, uid, Ending::Captured);
                Ok(vec!["pages.img".into()])
            }
            Work::Stop if is_unlucky && self.rng.permille(500) => {
                fails(WorkFailureKind::Transient, "no memory to run runsc in")
            }
            Work::Stop if is_unlucky => fails(WorkFailureKind::Fatal, "runsc delete failed"),
            _ => {
                if self.hosts[index].sandbox_of(uid, &act.actor).is_some() {
                    self.sandbox_ends(index, uid, Ending::Stopped);
                }
                Ok(Vec::new())
            }
        }
    }

    /// Its atelet tells it for how long its actor may run.
    pub(super) fn ateom_tended(&mut self, index: usize, uid: &PodUid, actor: &ActorKey, tend: Tend) {
        let is_there = self.hosts[index].sandbox_of(uid, actor).is_some();
        let is_idle = self.hosts[index]
            .ateoms
            .get(uid)
            .is_some_and(|a| a.is_up && a.current.is_none());
        match tend {
            Tend::Extend(until) if is_there => self.licensed(index, uid, Licensed::Extended(until)),
            // What is being checkpointed or stopped is left alone.
            Tend::Freeze if is_there && is_idle => self.licensed(index, uid, Licensed::Freeze),
            Tend::Thaw(until) if is_there && is_idle => {
                self.licensed(index, uid, Licensed::Thaw(Some(until)))
            }
            Tend::Extend(_) | Tend::Freeze | Tend::Thaw(_) => {}
        }
    }

    pub(super) fn ateom_wakes(&mut self, index: usize, uid: &PodUid) {
        let now = self.node_clock(index).shows(self.now);
        let true_now = self.now;
        let is_due = |ateom: &Ateom| ateom.wake.is_some_and(|wake| wake <= true_now);
        let Some(ateom) = self.hosts[index].ateoms.get_mut(uid).filter(|a| is_due(a)) else {
            return;
        };
        ateom.wake = None;
        if ateom.is_up {
            ateom.licence.handle_timeout(now);
        }
        self.heed_licence(index, uid);
    }

    pub(super) fn licensed(&mut self, index: usize, uid: &PodUid, mut input: Licensed) {
        if !self.licence_may_hear(&mut input) {
            return;
        }
        let now = self.node_clock(index).shows(self.now);
        if let Some(ateom) = self.hosts[index].ateoms.get_mut(uid) {
            ateom.licence.handle(now, input);
        }
        self.heed_licence(index, uid);
    }

    fn heed_licence(&mut self, index: usize, uid: &PodUid) {
        let mut has_changed = false;
        loop {
            let Some(ateom) = self.hosts[index].ateoms.get_mut(uid) else {
                return;
            };
            let (output, wake) = (ateom.licence.poll_output(), ateom.licence.poll_timeout());
            let actor = ateom.sandbox.as_ref().map(|live| live.actor.clone());
            if let Some(Do::Moved(moved)) = output {
                self.fact(Fact::Moved(moved));
                continue;
            }
            let (Some(output), Some(actor)) = (output, actor) else {
                if let Some((at, _)) = wake {
                    self.wake_ateom_at(index, uid, self.node_clock(index).moment(at));
                }
                break;
            };
            has_changed = true;
            let worker = uid.clone();
            match output {
                Do::Freeze => self.fact(Fact::Frozen { worker, actor }),
                Do::Thaw => self.fact(Fact::Thawed { worker, actor }),
                Do::Moved(moved) => self.fact(Fact::Moved(moved)),
            }
        }
        if has_changed {
            self.describe(index, uid);
        }
    }

    /// The ateom is woken then at the latest.
    fn wake_ateom_at(&mut self, index: usize, uid: &PodUid, at: u64) {
        let at = at.max(self.now);
        let ateoms = &mut self.hosts[index].ateoms;
        if let Some(ateom) = ateoms
            .get_mut(uid)
            .filter(|a| a.wake.is_none_or(|wake| at < wake))
        {
            ateom.wake = Some(at);
            self.at(at, Event::AteomWakes(index, uid.clone()));
        }
    }

    /// The atelet will see the worker as it is now, after what it was before.
    pub(super) fn describe(&mut self, index: usize, uid: &PodUid) {
        let ateom = self.hosts[index].ateoms.get(uid).filter(|a| a.is_up);
        if let Some(described) = ateom.map(|a| a.describe(uid)) {
            self.sighted(index, uid, Input::Worker(uid.clone(), described));
        }
    }

    /// An ateom answers what it has. The answer may come before what it has said earlier is seen.
    pub(super) fn ateom_asked(&mut self, index: usize, life: u32, effect: EffectId, uid: &PodUid) {
        let is_deaf = self.is_unlucky();
        let ateom = self.hosts[index].ateoms.get(uid).filter(|a| a.is_up);
        let (answer, longest) = match ateom.map(|a| a.describe(uid)) {
            Some(_) if is_deaf => (Err("ateom's answer was lost".into()), 5 * SECOND),
            Some(described) => (Ok(described), 20 * MILLI),
            None => (Err("ateom does not answer".into()), 200 * MILLI),
        };
        self.after(
            MILLI,
            longest,
            Event::Node(index, life, Input::Looked(effect, answer)),
        );
    }

    /// What happens to a worker is seen in order.
    pub(super) fn sighted(&mut self, index: usize, uid: &PodUid, input: Input) {
        let at = self.now + self.rng.between(MILLI, 40 * MILLI);
        let host = &mut self.hosts[index];
        let seen = host.seen_until.entry(uid.clone()).or_default();
        *seen = at.max(*seen);
        let (at, life) = (*seen, host.life);
        self.at(at, Event::Node(index, life, input));
    }

    pub(super) fn start_ateom(&mut self, index: usize, uid: &PodUid) {
        if self.is_node_lost(index, Event::AteomStarts(index, uid.clone())) {
            return;
        }
        let Some(ateom) = self.hosts[index].ateoms.get_mut(uid).filter(|a| !a.is_up) else {
            return;
        };
        *ateom = Ateom {
            duty: ateom.duty,
            ..Ateom::new(ateom.key.clone(), ateom.run + 1)
        };
        self.tell(Line::AteomStarts(index, uid));
        self.describe(index, uid);
    }
}

/// Whether two steps are the same one, asked for at different times.
fn is_same(one: &Work, other: &Work) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}
