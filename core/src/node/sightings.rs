//! What ateom says of workers, and what the control plane is told of it.

use super::admission::failure;
use super::{Alive, Described, Hosted, Node, Output, Sandbox, Stage, Timer};
use crate::effect::{NodeFailureKind, Verb};
use crate::failure::Code;
use crate::id::{ActorKey, Incarnation, OpId, PodUid, ReplicaId};
use crate::registry::{Hosting, Report, Sighting};
use crate::time::{Duration, Instant};
use alloc::format;
use alloc::string::String;

impl Node {
    pub(super) fn worker(&mut self, now: Instant, uid: PodUid, described: Described) {
        let slot = self.slots.entry(uid.clone()).or_default();
        if slot.described.as_ref() == Some(&described) {
            return;
        }
        let is_restarted = slot
            .described
            .as_ref()
            .is_some_and(|before| before.incarnation != described.incarnation);
        let alive = described.sandbox.clone();
        let last_op = described.last_op;
        slot.described = Some(described);
        slot.is_awaited = false;
        if let Some(running) = &slot.running {
            let is_lost = is_restarted
                && !matches!(
                    running.stage,
                    Stage::Saving(_) | Stage::Uploading | Stage::Ending(_)
                );
            if is_lost {
                let message = format!("worker {uid} was restarted");
                self.end(
                    now,
                    &uid,
                    Err(failure(Code::Unavailable, message, NodeFailureKind::SandboxGone)),
                );
            }
        } else {
            self.take_note_of(&uid, alive, last_op);
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

    /// What ateom said while an operation was under way was not looked at. If it was that the sandbox
    /// which the operation brought is dead, nobody will say so again.
    pub(super) fn take_note_of_death(&mut self, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let is_dead = match (&slot.entry.hosted, &slot.described) {
            (Some(hosted), Some(said)) => {
                hosted.sandbox == Sandbox::Running
                    && said.sandbox.is_none()
                    && said.last_op == Some(hosted.op)
            }
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_dead {
            slot.entry.vacate();
            self.keep(uid);
        }
    }

    pub(super) fn worker_lost(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get_mut(uid) else {
            return;
        };
        let was_awaited = core::mem::take(&mut slot.is_awaited);
        if slot.described.take().is_none() && !was_awaited {
            return;
        }
        if slot
            .running
            .as_ref()
            .is_some_and(|r| !matches!(r.stage, Stage::Ending(_) | Stage::Saving(_)))
        {
            let message = format!("worker {uid} is gone");
            self.end(
                now,
                uid,
                Err(failure(Code::Unavailable, message, NodeFailureKind::SandboxGone)),
            );
        } else if let Some(slot) = self.slots.get_mut(uid)
            && slot.running.is_none()
            && slot.entry.current.as_ref().is_none_or(|p| p.captured.is_none())
        {
            slot.entry.vacate();
            self.keep(uid);
        }
        self.changed(now);
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.is_changed = true;
        if !self.is_reporting {
            self.timers.set(Timer::Report, Some(now));
        }
    }

    /// Reports, as soon as every worker that the journal knows has been found or found missing: a worker
    /// that a report does not name is taken to be gone, and its actor with it.
    pub(super) fn report(&mut self) {
        if self.slots.values().any(|slot| slot.is_awaited) {
            return;
        }
        self.is_reporting = true;
        self.is_changed = false;
        self.row.sequence += 1;
        let workers = self.slots.iter().filter_map(|(uid, slot)| {
            let described = slot.described.as_ref()?;
            Some(Sighting {
                key: described.key.clone(),
                pod_uid: uid.clone(),
                incarnation: described.incarnation.clone(),
                ip: described.ip.clone(),
                node: self.row.name.clone(),
                duty: described.duty,
                highest_fence: slot.entry.highest,
                hosting: slot.entry.hosted.as_ref().map(|h| Hosting {
                    actor: h.actor.clone(),
                    incarnation: h.incarnation,
                }),
            })
        });
        let report = Report {
            node: self.row.clone(),
            workers: workers.collect(),
        };
        self.outputs.push_back(Output::Report(report));
    }

    pub(super) fn reported(&mut self, now: Instant, answer: &Result<Duration, String>) {
        self.is_reporting = false;
        let pause = match answer {
            Ok(_) if self.is_changed => Duration::ZERO,
            Ok(every) => *every,
            Err(_) => self.settings.workflow.retry_to / 10,
        };
        self.timers.set(Timer::Report, Some(now.plus(pause)));
    }
}
