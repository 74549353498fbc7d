//! The node's session: what may run under it, and what becomes of it when it ends.

use super::{Node, Output, Running, Sandbox, Stage, Tend, Timer};
use crate::effect::{NodeFailure, NodeFailureKind, Verb};
use crate::failure::Code;
use crate::id::{Incarnation, PodUid};
use crate::node::admission::failure;
use crate::node::order::Order;
use crate::node::work::Work;
use crate::session::{Answered, Eviction, Session};
use crate::table::Moved;
use crate::time::{Duration, Instant};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Node {
    /// The control plane has answered a report, or could not be reached.
    pub(super) fn reported(&mut self, now: Instant, answer: Result<Answered, String>) {
        // An answer that comes twice says nothing more.
        let Some(sent_at) = self.reporting.take() else {
            return;
        };
        let pause = match answer {
            Ok(Answered::Granted(grant)) => {
                let believed = self.settings.session_believed_for(grant.ttl);
                let moved = self.session.granted(now, sent_at, believed);
                self.tell(moved);
                self.tend_all(now);
                for eviction in grant.evict {
                    self.evict(now, &eviction);
                }
                if self.is_changed {
                    Duration::ZERO
                } else {
                    grant.heartbeat_every
                }
            }
            Ok(Answered::Over { lapsed }) => {
                let moved = self.session.over(lapsed);
                self.tell(moved);
                self.outputs.push_back(Output::Note(format!(
                    "the control plane has declared sessions up to {lapsed} over; what runs is held still until it agrees"
                )));
                self.tend_all(now);
                Duration::ZERO
            }
            Err(_) => self.settings.workflow.retry_to / 10,
        };
        self.timers.set(Timer::Report, Some(now.plus(pause)));
        self.timers.set(Timer::Session, self.session.ends());
    }

    /// The session ends unless it was renewed.
    pub(super) fn session_ends(&mut self, now: Instant) {
        let moved = self.session.expire(now);
        if moved.is_some() {
            self.tell(moved);
            self.outputs.push_back(Output::Note(
                "no control plane has answered for too long; what runs is held still until one does".into(),
            ));
            self.tend_all(now);
        }
    }

    fn tell(&mut self, moved: Option<Moved>) {
        let node = self.row.name.clone();
        self.outputs.extend(moved.map(|moved| Output::Moved(node, moved)));
    }

    /// This node's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn tend_all(&mut self, now: Instant) {
        let uids: Vec<PodUid> = self.slots.keys().cloned().collect();
        for uid in uids {
            self.tend(now, &uid);
        }
    }

    /// Has a worker's actor go on for as long as the session covers it, and no longer.
    pub(super) fn tend(&mut self, now: Instant, uid: &PodUid) {
        let Some(slot) = self.slots.get(uid) else { return };
        let (Some(hosted), true) = (&slot.entry.hosted, slot.described.is_some()) else {
            return;
        };
        // What came from a control plane without sessions is not bound to any.
        if hosted.session == 0 {
            return;
        }
        let tend = match (hosted.sandbox, self.session.covers(hosted.session, now)) {
            (Sandbox::Running | Sandbox::Busy, Some(until)) => Tend::Extend(until),
            (Sandbox::Frozen, Some(until)) => Tend::Thaw(until),
            (Sandbox::Running, None) => Tend::Freeze,
            (Sandbox::Busy | Sandbox::Frozen | Sandbox::Stopped, None) | (Sandbox::Stopped, Some(_)) => {
                return;
            }
        };
        self.outputs.push_back(Output::Tend {
            worker: uid.clone(),
            actor: hosted.actor.clone(),
            template: hosted.template.clone(),
            tend,
        });
    }

    /// Until when an order's actor may run, if any session bounds it.
    ///
    /// # Errors
    /// If the order was given under a session that is not this node's, or is over.
    pub(super) fn licensed(&self, now: Instant, order: &Order) -> Result<Option<Instant>, NodeFailure> {
        if order.session == 0 {
            return Ok(None);
        }
        let until = self.session.covers(order.session, now);
        until.map(Some).ok_or_else(|| {
            let (ordered, number) = (order.session, self.session.number());
            if ordered < number {
                let message = format!("session {ordered} of this node is over; it is at session {number}");
                failure(Code::Unavailable, message, NodeFailureKind::SessionOver)
            } else {
                let message = format!("session {ordered} of this node is not granted at the moment");
                failure(Code::Unavailable, message, NodeFailureKind::Busy)
            }
        })
    }

    /// Has ateom let the actor run, if the session still covers it.
    pub(super) fn set_running(&mut self, now: Instant, uid: &PodUid) {
        let Some(Running { order, stage, .. }) = self.running(uid) else {
            return;
        };
        let is_thaw = *stage == Stage::Thawing;
        match (self.licensed(now, order), is_thaw) {
            (Ok(until), false) => self.work_when_kept(uid, Work::Boot { until }),
            (Ok(Some(until)), true) => self.work_when_kept(uid, Work::Thaw { until }),
            (Ok(None), true) => self.end(now, uid, Ok(())),
            (Err(cause), _) => {
                let cause = NodeFailure {
                    kind: NodeFailureKind::Failed,
                    ..cause
                };
                self.end(now, uid, Err(cause));
            }
        }
    }

    /// Ends what no record knows of, unless its worker has been promised anew.
    fn evict(&mut self, now: Instant, eviction: &Eviction) {
        let Some(slot) = self.slots.get(&eviction.pod_uid) else {
            return;
        };
        let Some(hosted) = &slot.entry.hosted else { return };
        let is_newer = slot.entry.highest > eviction.fence || hosted.incarnation == Incarnation(0);
        if is_newer || slot.running.is_some() {
            return;
        }
        let (actor, incarnation, template) =
            (hosted.actor.clone(), hosted.incarnation, hosted.template.clone());
        let op = self.nameless();
        let order = Order {
            worker: eviction.pod_uid.clone(),
            worker_fence: eviction.fence,
            fence: self.fences.highest(&(actor.clone(), incarnation)),
            actor,
            incarnation,
            op: Some(op),
            template,
            workload: Arc::default(),
            session: 0,
            run: Default::default(),
            verb: Verb::Stop,
        };
        let note = format!(
            "no record knows of actor {} on worker {}; it is ended",
            order.actor, order.worker
        );
        self.outputs.push_back(Output::Note(note));
        self.raise_fences(&order);
        self.answer_or_begin(now, None, op, Arc::new(order));
    }
}
