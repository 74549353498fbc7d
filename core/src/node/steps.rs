//! How an operation goes on from step to step, and how it ends.

use super::{ASKS_MAX, Node, Output, SAVES_MAX, Stage, Step, Timer};
use crate::effect::{NodeFailure, NodeFailureKind, NodeReply, Verb};
use crate::failure::Code;
use crate::id::{EffectId, Name, PodUid};
use crate::machine::Machine;
use crate::node::admission::failure;
use crate::node::journal::{Done, Sandbox};
use crate::node::looks::Age;
use crate::node::operation::Event;
use crate::node::order::is_place_of_uploads;
use crate::node::promises::unkept;
use crate::node::work::{Work, WorkFailure, WorkFailureKind, WorkResult};
use crate::pull;
use crate::time::{Instant, backoff};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Node {
    pub(super) fn worked(&mut self, now: Instant, effect: EffectId, result: WorkResult) {
        let Some(uid) = self.effects.remove(&effect) else {
            return;
        };
        let Some(running) = self.slots.get_mut(&uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        let Some(Step::Work(work)) = running.pending.remove(&effect) else {
            return;
        };
        self.befall(&uid, Event::worked(&result), |node| match result {
            Ok(files) => node.succeeded(now, &uid, &work, files),
            Err(failure) => node.failed(now, &uid, &work, failure),
        });
    }

    fn succeeded(&mut self, now: Instant, uid: &PodUid, work: &Work, files: Vec<Name>) {
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        running.failures = 0;
        match (&mut running.stage, work) {
            (Stage::Preparing { is_cleared }, Work::Clear) => {
                *is_cleared = true;
                self.maybe_assemble(now, uid);
            }
            (
                Stage::Assembling {
                    is_assembled,
                    is_fetched,
                },
                work @ (Work::Assemble | Work::Fetch),
            ) => {
                match work {
                    Work::Fetch => *is_fetched = true,
                    _ => *is_assembled = true,
                }
                if *is_assembled && *is_fetched {
                    self.enter(now, uid, Stage::Booting);
                }
            }
            (Stage::Booting, Work::Boot { .. }) | (Stage::Thawing, Work::Thaw { .. }) => {
                self.end(now, uid, Ok(()));
            }
            (Stage::Capturing, Work::Capture) => {
                if let Some(slot) = self.slots.get_mut(uid)
                    && let Some(pending) = &mut slot.entry.current
                {
                    pending.captured = Some(files.clone());
                }
                self.keep(uid);
                self.enter(now, uid, Stage::Saving(files));
            }
            (Stage::Saving(_), Work::Save(_)) | (Stage::Uploading, Work::Upload) => {
                self.end(now, uid, Ok(()));
            }
            (Stage::Stopping(reply), Work::Stop) => {
                let reply = reply.clone();
                self.end(now, uid, reply);
            }
            _ => {}
        }
    }

    fn failed(&mut self, now: Instant, uid: &PodUid, work: &Work, cause: WorkFailure) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let is_worker_gone = slot.described.is_none() && !slot.is_awaited;
        let Some(running) = &mut slot.running else { return };
        running.failures = running.failures.saturating_add(1);
        let tries = running.failures;
        // What has crashed is answered only when nothing of it is left that could go on by itself.
        let is_cleaning = matches!(running.stage, Stage::Stopping(Err(_)));
        let is_gone = is_worker_gone && cause.kind == WorkFailureKind::Unreachable;
        if let (Stage::Stopping(reply), true) = (&running.stage, is_gone) {
            // Where nothing is, nothing runs.
            let reply = reply.clone();
            return self.end(now, uid, reply);
        }
        let can_retry = match (work, cause.kind) {
            (Work::Save(_), WorkFailureKind::Transient) => tries < SAVES_MAX,
            (Work::Stop, _) if is_cleaning => true,
            (
                Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop,
                WorkFailureKind::Unreachable,
            ) => !is_gone && tries < ASKS_MAX,
            _ => false,
        };
        if can_retry {
            let pauses = self.settings.workflow;
            let pause = backoff(pauses.retry_from, pauses.retry_to, tries - 1, running.waiter.0);
            self.timers.set(Timer::Retry(uid.clone()), Some(now.plus(pause)));
            self.outputs
                .push_back(Output::Note(format!("{}; trying again ({tries})", cause.message)));
            return;
        }
        let is_restore = matches!(running.order.verb, Verb::Restore { .. });
        let kind = match (work, cause.kind) {
            (Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop, WorkFailureKind::Gone) => {
                NodeFailureKind::SandboxGone
            }
            (Work::Boot { .. } | Work::Thaw { .. } | Work::Capture, _) if is_gone => {
                NodeFailureKind::SandboxGone
            }
            (Work::Fetch, WorkFailureKind::Fatal) => NodeFailureKind::Crash,
            (Work::Boot { .. }, WorkFailureKind::Fatal) if is_restore => NodeFailureKind::Crash,
            (Work::Capture | Work::Save(_), _) => NodeFailureKind::Crash,
            _ => NodeFailureKind::Failed,
        };
        let code = if kind == NodeFailureKind::Crash {
            Code::DataLoss
        } else {
            cause.code
        };
        let reply = Err(NodeFailure {
            code,
            message: cause.message,
            kind,
        });
        if kind == NodeFailureKind::Crash && matches!(work, Work::Boot { .. } | Work::Capture) {
            self.enter(now, uid, Stage::Stopping(reply));
        } else {
            self.end(now, uid, reply);
        }
    }

    /// The operation is over: what became of the sandbox is noted, kept on disk, then told.
    pub(super) fn end(&mut self, now: Instant, uid: &PodUid, result: NodeReply) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let Some(running) = &mut slot.running else { return };
        let others = core::mem::take(&mut running.pending);
        let waiter = running.waiter;
        let sets_running = matches!(
            running.order.verb,
            Verb::Run { .. } | Verb::Restore { .. } | Verb::Thaw
        );
        let is_final = match &result {
            Ok(()) => true,
            Err(failure) => matches!(
                failure.kind,
                NodeFailureKind::Crash | NodeFailureKind::SandboxGone
            ),
        };
        let sandbox = match (&result, sets_running) {
            (Ok(()), true) => Some(Sandbox::Running),
            // Nobody knows what it is at.
            (Err(failure), _) if failure.kind == NodeFailureKind::Busy => Some(Sandbox::Busy),
            (Err(failure), true) if failure.kind == NodeFailureKind::Failed => match running.order.verb {
                Verb::Thaw => Some(Sandbox::Frozen),
                _ => Some(Sandbox::Stopped),
            },
            (Err(failure), false) if failure.kind == NodeFailureKind::NotBegun => Some(Sandbox::Running),
            (Err(failure), false) if failure.kind == NodeFailureKind::Failed => match running.order.verb {
                // Whatever it was that should be stopped, it does not serve.
                Verb::Stop => Some(Sandbox::Stopped),
                _ => Some(Sandbox::Running),
            },
            _ => None,
        };
        match (sandbox, &mut slot.entry.hosted) {
            (Some(sandbox), Some(hosted)) => hosted.sandbox = sandbox,
            (None, _) if !matches!(running.order.verb, Verb::Upload { .. }) => slot.entry.vacate(),
            _ => {}
        }
        if running.order.verb == Verb::Stop && result.is_ok() {
            slot.entry.void(running.order.worker_fence);
        }
        if slot.is_lost {
            slot.entry.outlive();
        }
        // What was refused was not begun, except by an earlier atelet, whose checkpoint may have been taken. An
        // upload is not noted as under way: what is, is not its own.
        if !matches!(running.order.verb, Verb::Upload { .. }) && (is_final || !running.is_resumed) {
            slot.entry.current = None;
        }
        // An upload is repeated safely; what concerns the sandbox must not be.
        if is_final && !matches!(running.order.verb, Verb::Upload { .. } | Verb::Stop | Verb::Thaw) {
            slot.entry.last = Some(Done {
                op: running.op,
                result: result.clone(),
            });
        }
        running.stage = Stage::Ending(result);
        self.timers.set(Timer::Retry(uid.clone()), None);
        self.cancel(others);
        self.pulls.handle(now, pull::Input::Unwant(waiter));
        self.heed_pulls(now);
        self.keep(uid);
        self.changed(now);
    }

    /// Nobody waits for these steps any more. What the disk was given it takes all the same.
    fn cancel(&mut self, steps: BTreeMap<EffectId, Step>) {
        for (effect, step) in steps {
            if let Step::Work(_) = step {
                self.effects.remove(&effect);
                self.outputs.push_back(Output::Cancel(effect));
            }
        }
    }

    /// A boot that a Stop overtakes: its callers are told, its steps are ended.
    pub(super) fn supersede(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let Some(running) = slot.running.take() else {
            return;
        };
        self.cancel(running.pending);
        for caller in running.callers.into_keys() {
            let message = format!("operation {} was stopped by a newer order", running.op);
            self.outputs.push_back(Output::Reply(
                caller,
                Err(failure(Code::Aborted, message, NodeFailureKind::Failed)),
            ));
        }
        self.timers.set(Timer::Retry(uid.clone()), None);
        self.pulls.handle(now, pull::Input::Unwant(running.waiter));
        self.heed_pulls(now);
    }

    pub(super) fn kept(&mut self, now: Instant, effect: EffectId, result: Result<(), String>) {
        let Some(uid) = self.on_disk(effect, &result) else {
            return;
        };
        let running = self.slots.get_mut(&uid).and_then(|slot| slot.running.as_mut());
        if running.is_some_and(|running| running.pending.remove(&effect).is_some()) {
            let event = if result.is_ok() {
                Event::Kept
            } else {
                Event::Unkept
            };
            self.befall(&uid, event, |node| node.go_on_kept(now, &uid, &result));
        }
        self.pay(&result);
    }

    /// The disk has what the stage wanted to be kept, or cannot take it.
    fn go_on_kept(&mut self, now: Instant, uid: &PodUid, result: &Result<(), String>) {
        let Some(running) = self.slots.get_mut(uid).and_then(|slot| slot.running.as_mut()) else {
            return;
        };
        // What cannot be remembered must not be begun; what has been captured is saved all the same.
        let is_begun = matches!(running.stage, Stage::Saving(_) | Stage::Ending(_));
        if let (Err(why), false) = (result, is_begun) {
            // What an earlier atelet may have begun may have happened: nobody is told that it has not.
            let is_checkpoint = matches!(running.order.verb, Verb::Checkpoint { .. });
            let kind = match (running.is_resumed, is_checkpoint) {
                (true, _) => NodeFailureKind::Busy,
                (false, true) => NodeFailureKind::NotBegun,
                (false, false) => NodeFailureKind::Failed,
            };
            let op = running.op;
            if let Some(slot) = self.slots.get_mut(uid) {
                slot.refused = Some(op).filter(|_| kind == NodeFailureKind::NotBegun);
            }
            return self.end(now, uid, Err(unkept(why, kind)));
        }
        match running.stage.clone() {
            Stage::Ending(reply) => {
                let callers = core::mem::take(&mut running.callers);
                if let Some(slot) = self.slots.get_mut(uid) {
                    slot.running = None;
                }
                self.weigh(uid, Age::Unknown);
                self.tend(now, uid);
                for (caller, shown) in callers {
                    self.answer(caller, uid, shown, reply.clone());
                }
                if is_place_of_uploads(uid) {
                    self.slots.remove(uid);
                }
            }
            Stage::Preparing { .. } => self.resume_stage(uid, Work::Clear),
            Stage::Thawing => self.set_running(now, uid),
            Stage::Capturing => self.resume_stage(uid, Work::Capture),
            Stage::Stopping(_) => self.resume_stage(uid, Work::Stop),
            Stage::Assembling { .. } | Stage::Booting | Stage::Saving(_) | Stage::Uploading => {}
        }
    }

    fn resume_stage(&mut self, uid: &PodUid, work: Work) {
        if self.running(uid).is_some_and(|r| r.pending.is_empty()) {
            self.work(uid, work);
        }
    }

    /// Bundles are laid out when the directories are clear and every image is here.
    pub(super) fn maybe_assemble(&mut self, now: Instant, uid: &PodUid) {
        let Some(running) = self.running(uid) else { return };
        let is_ready = running.stage == (Stage::Preparing { is_cleared: true }) && running.images.is_empty();
        if is_ready {
            let is_fetched = !matches!(running.order.verb, Verb::Restore { .. });
            self.enter(
                now,
                uid,
                Stage::Assembling {
                    is_assembled: false,
                    is_fetched,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{NodeRow, Place};
    use crate::id::{ActorKey, Fence, Incarnation, OpId, ReplicaId, RequestId, WorkerKey};
    use crate::node::{Described, Input, Order};
    use crate::settings::Settings;
    use crate::worker::Duty;
    use alloc::boxed::Box;
    use alloc::sync::Arc;

    const NOW: Instant = Instant::from_micros(1_000_000);

    fn order(seq: u64, verb: Verb) -> Input {
        let order = Order {
            worker: "uid".into(),
            worker_fence: Fence(1),
            actor: ActorKey::new("space", "a"),
            incarnation: Incarnation(1),
            fence: Fence(seq),
            op: Some(OpId {
                replica: ReplicaId(1),
                seq,
            }),
            template: Default::default(),
            workload: Arc::default(),
            session: 0,
            run: Name::default(),
            verb,
        };
        Input::Order(RequestId(seq), Box::new(order))
    }

    /// A node whose worker restores an actor: bundles are laid out, and the snapshot is fetched.
    fn assembling() -> (Node, Vec<(EffectId, Work)>) {
        let row = NodeRow {
            name: "node".into(),
            address: "address".into(),
            incarnation: "atelet".into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        let mut node = Node::new(row, Settings::DEFAULT);
        let described = Described {
            key: WorkerKey::new("ns", "pool", "w"),
            ip: "ip".into(),
            incarnation: "run".into(),
            duty: Duty::Serving,
            sandbox: None,
        };
        node.handle(NOW, Input::Worker("uid".into(), described));
        let verb = Verb::Restore {
            from: Place::Local("s".into()),
            scope: crate::catalog::Scope::Full,
        };
        node.handle(NOW, order(1, verb));
        let mut steps = Vec::new();
        while let Some(output) = node.poll_output() {
            match output {
                Output::Work(effect, Work::Clear, _) => {
                    node.handle(NOW, Input::Worked(effect, Ok(Vec::new())))
                }
                Output::Work(effect, work, _) => steps.push((effect, work)),
                Output::Keep(effect, _) => node.handle(NOW, Input::Kept(effect, Ok(()))),
                Output::Pull(_, attempt) => {
                    node.handle(NOW, Input::Pull(pull::Input::Ended(attempt, Ok(()))))
                }
                _ => {}
            }
        }
        assert_eq!((steps.len(), node.effects.len()), (2, 2));
        (node, steps)
    }

    #[test]
    fn steps_that_were_ended_are_forgotten() {
        let (mut node, steps) = assembling();
        let (fetch, _) = steps
            .iter()
            .find(|(_, work)| *work == Work::Fetch)
            .expect("it fetches");
        let failure = WorkFailure {
            code: Code::Unavailable,
            message: String::new(),
            kind: WorkFailureKind::Transient,
        };
        node.handle(NOW, Input::Worked(*fetch, Err(failure)));
        assert!(node.effects.is_empty(), "the other step's too");

        let (mut node, _) = assembling();
        node.handle(NOW, order(2, Verb::Stop));
        assert!(node.effects.is_empty(), "none of what was overtaken");
    }
}
