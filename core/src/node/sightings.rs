//! What ateom says of workers, and what the control plane is told of it.

use super::{Alive, Described, Hosted, Node, Output, Sandbox, Stage, Timer};
use crate::effect::Verb;
use crate::id::{ActorKey, Incarnation, OpId, PodUid, ReplicaId};
use crate::registry::{Hosting, Report, Sighting};
use crate::time::Instant;
use alloc::format;

impl Node {
    pub(super) fn worker(&mut self, now: Instant, uid: PodUid, described: Described) {
        let slot = self.slots.entry(uid.clone()).or_default();
        let was_silent = core::mem::take(&mut slot.is_silent);
        if slot.described.as_ref() == Some(&described) && !was_silent {
            return;
        }
        let alive = described.sandbox.clone();
        let last_op = described.last_op;
        slot.described = Some(described);
        slot.is_awaited = false;
        // While an operation is under way its own answer tells what became of it, also when ateom was
        // restarted meanwhile: what is asked of the new one is under the same promise.
        if slot.running.is_none() {
            self.take_note_of(&uid, alive, last_op);
            self.tend(now, &uid);
        }
        self.changed(now);
    }

    /// With no operation under way, what ateom says about the sandbox is the truth.
    fn take_note_of(&mut self, uid: &PodUid, alive: Option<Alive>, last_op: Option<OpId>) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let before = slot.entry.hosted.clone();
        // A checkpoint may have been taken although nobody heard of it: its files are the actor then,
        // and its sandbox is expected to be gone. The operation's repetition finds out.
        let is_sleeping = slot
            .entry
            .current
            .as_ref()
            .is_some_and(|p| matches!(p.verb, Verb::Checkpoint { .. }));
        // What ateom said before it heard of the operation that brought the actor is old news.
        let is_old = matches!((&slot.entry.hosted, last_op), (Some(h), Some(op)) if h.op != op);
        match (&mut slot.entry.hosted, alive) {
            _ if is_sleeping => {}
            (Some(_), None) if is_old => {}
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
            if slot.entry.hosted.is_none() {
                self.outputs
                    .push_back(Output::Note(format!("worker {uid} lost its sandbox")));
            }
            self.keep(uid);
        }
    }

    /// What ateom said while an operation was under way was not looked at, and will not be said again.
    /// If it was about the sandbox that the operation brought, it is the truth now.
    pub(super) fn look_again(&mut self, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let (Some(hosted), Some(said)) = (&mut slot.entry.hosted, &slot.described) else {
            return;
        };
        if said.last_op != Some(hosted.op) {
            return;
        }
        let before = hosted.sandbox;
        match &said.sandbox {
            Some(alive)
                if alive.op == Some(hosted.op)
                    && matches!(alive.sandbox, Sandbox::Running | Sandbox::Frozen) =>
            {
                hosted.sandbox = alive.sandbox;
            }
            None if matches!(hosted.sandbox, Sandbox::Running | Sandbox::Frozen) => {
                slot.entry.vacate();
            }
            Some(_) | None => {}
        }
        if slot.entry.hosted.as_ref().map(|h| h.sandbox) != Some(before) {
            self.keep(uid);
        }
    }

    /// Silence is no proof that a sandbox is gone: what was there is taken to be there. A worker that neither
    /// the journal knows nor anybody has heard is not there yet.
    pub(super) fn worker_silent(&mut self, now: Instant, uid: &PodUid, known: Described) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        if slot.described.is_none() && !slot.is_awaited {
            return;
        }
        let was_silent = core::mem::replace(&mut slot.is_silent, true);
        let before = slot.described.take();
        let now_known = match before.clone() {
            Some(said) => Described {
                key: known.key,
                ip: known.ip,
                duty: known.duty,
                ..said
            },
            None => known,
        };
        let is_news = !was_silent || before.as_ref() != Some(&now_known);
        slot.described = Some(now_known);
        if !was_silent {
            self.outputs.push_back(Output::Note(format!(
                "worker {uid} does not answer; nothing new is given to it"
            )));
        }
        if is_news {
            self.changed(now);
        }
    }

    pub(super) fn worker_lost(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let was_awaited = core::mem::take(&mut slot.is_awaited);
        slot.is_silent = false;
        if slot.described.take().is_none() && !was_awaited {
            return;
        }
        let is_idle = slot
            .running
            .as_ref()
            .is_none_or(|r| matches!(r.stage, Stage::Ending(_)));
        if is_idle && slot.entry.current.as_ref().is_none_or(|p| p.captured.is_none()) {
            slot.entry.vacate();
            self.keep(uid);
        }
        self.changed(now);
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.is_changed = true;
        if self.reporting.is_none() {
            self.timers.set(Timer::Report, Some(now));
        }
    }

    /// Reports, as soon as every worker that the journal knows has been found, or found missing or silent: a
    /// worker that a report does not name is taken to be gone, and its actor with it.
    pub(super) fn report(&mut self, now: Instant) {
        if self.slots.values().any(|slot| slot.is_awaited && !slot.is_silent) {
            return;
        }
        self.reporting = Some(now);
        self.is_changed = false;
        self.row.sequence += 1;
        self.row.session = self.session.number();
        self.row.lapsed = self.row.session.saturating_sub(1);
        let workers = self.slots.iter().filter_map(|(uid, slot)| {
            let described = slot.described.as_ref()?;
            Some(Sighting {
                key: described.key.clone(),
                pod_uid: uid.clone(),
                incarnation: described.incarnation.clone(),
                ip: described.ip.clone(),
                node: self.row.name.clone(),
                duty: described.duty,
                is_silent: slot.is_silent,
                highest_fence: slot.entry.highest,
                hosting: slot.entry.hosted.as_ref().map(|h| Hosting {
                    actor: h.actor.clone(),
                    incarnation: h.incarnation,
                    session: h.session,
                }),
            })
        });
        let report = Report {
            node: self.row.clone(),
            workers: workers.collect(),
        };
        self.outputs.push_back(Output::Report(report));
    }
}
