//! Nodes: atelets with their disks, the workers beside them, images and snapshots.

use super::callers::{Ask, AskedBy};
use super::knife::{Carrier, Message, Who, name_of_step};
use super::replicas::unreachable;
use super::{Event, World};
use crate::fact::{Fact, Pulling};
use crate::host::{fails, whereabouts};
use crate::latency;
use crate::plan::{Ill, MILLI, SECOND, Way};
use crate::story::line::Line;
use holdfast_core::effect::{Discard, NodeCall, NodeFailureKind, NodeRow, Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{EffectId, Name, OpId, PodUid, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::node::{Input, Kept, Node, Order, Output, Work, WorkFailureKind, WorkResult};
use holdfast_core::pull::{self, Attempt, PullFailure, Retry};
use holdfast_core::registry::Report;
use holdfast_core::replica;
use holdfast_core::request::{Answer, Request, Verdict};
use std::sync::Arc;

/// How long a replica may take to answer a report, in microseconds.
const REPORT_WAITS: u64 = 5 * SECOND;
/// What a full disk says.
const DISK_FULL: &str = "no space left on the device";
/// A node has one report under way at a time, and gives it no number.
const REPORT: EffectId = EffectId(0);

impl World {
    pub(super) fn start_node(&mut self, index: usize) {
        if self.hosts[index].atelet.is_some() || self.is_node_lost(index, Event::NodeStarts(index)) {
            return;
        }
        let settings = self.settings_of_nodes();
        let host = &mut self.hosts[index];
        host.life += 1;
        let row = NodeRow {
            name: host.name.clone(),
            address: host.name.clone(),
            incarnation: format!("atelet-{}", host.life).into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        host.atelet = Some(Node::new(row, settings));
        host.wake = None;
        host.fuse = None;
        host.pulls.clear();
        let (life, disk) = (host.life, host.disk.clone());
        let entries = disk.entries.clone();
        self.tell(Line::NodeStarts(index, life));
        self.deliver_to_node(index, life, Input::Start(disk));
        // Workers that the journal knows and that are not there any more, or not now.
        let is_up = |uid: &PodUid| self.hosts[index].ateoms.get(uid).is_some_and(|a| a.is_up);
        for uid in entries
            .into_keys()
            .filter(|uid| !uid.is_empty() && !is_up(uid))
            .collect::<Vec<_>>()
        {
            self.sighted(index, &uid, Input::WorkerLost(uid.clone()));
        }
        for uid in self.hosts[index].ateoms.keys().cloned().collect::<Vec<_>>() {
            self.describe(index, &uid);
        }
    }

    pub(super) fn kill_node(&mut self, index: usize) {
        if self.hosts[index].atelet.take().is_none() {
            return;
        }
        self.tell(Line::NodeDies(index));
        self.fact(Fact::NodeDied(index));
        let calls: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, c)| !c.is_over && c.node == index)
            .map(|(id, _)| *id)
            .collect();
        for call in calls {
            self.after(MILLI, SECOND, Event::CallEnds(call, unreachable()));
        }
        self.after(10 * MILLI, 5 * SECOND, Event::NodeStarts(index));
    }

    pub(super) fn deliver_to_node(&mut self, index: usize, life: u32, mut input: Input) {
        if self.hosts[index].life != life || self.hosts[index].atelet.is_none() {
            return;
        }
        if self.hosts[index].paused_until > self.now {
            let until = self.hosts[index].paused_until;
            return self.at(until, Event::Node(index, life, input));
        }
        let answered = match &input {
            Input::Worked(effect, _) | Input::Looked(effect, _) | Input::Kept(effect, _) => Some(*effect),
            Input::Reported(_) => Some(REPORT),
            _ => None,
        };
        if let Some(effect) = answered
            && self.is_felled(Who::Node(index), life, effect)
        {
            return self.deliver_to_node(index, life, input);
        }
        if !self.node_may_hear(index, &mut input) {
            return;
        }
        self.tell(Line::NodeHears(index, &input));
        let now = self.node_clock(index).shows(self.now);
        if let Some(atelet) = &mut self.hosts[index].atelet {
            atelet.handle(now, input);
        }
        self.drain_node(index);
    }

    pub(super) fn wake_node(&mut self, index: usize, life: u32) {
        if self.hosts[index].life != life {
            return;
        }
        // One that was meant for later has been told again, or is not wanted any more.
        if self.hosts[index].wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        self.hosts[index].wake = None;
        if self.hosts[index].paused_until > self.now {
            return self.wake_node_at(index, self.hosts[index].paused_until);
        }
        let atelet = self.hosts[index].atelet.as_ref().filter(|_| self.is_told());
        if let Some((_, timer)) = atelet.and_then(Machine::poll_timeout) {
            self.tell(Line::NodeWakes(index, &timer));
        }
        let now = self.node_clock(index).shows(self.now);
        if let Some(atelet) = &mut self.hosts[index].atelet {
            atelet.handle_timeout(now);
        }
        self.drain_node(index);
    }

    fn drain_node(&mut self, index: usize) {
        let mut outputs = 0;
        while self.hosts[index].paused_until <= self.now
            && let Some(output) = self.hosts[index].atelet.as_mut().and_then(Machine::poll_output)
        {
            outputs += 1;
            self.perform_on_node(index, output);
            if let Some(fuse) = &mut self.hosts[index].fuse {
                *fuse = fuse.saturating_sub(1);
                if *fuse == 0 {
                    return self.kill_node(index);
                }
            }
        }
        self.did("an atelet", outputs);
        let clock = self.node_clock(index);
        let host = &self.hosts[index];
        if host.paused_until > self.now {
            return self.wake_node_at(index, host.paused_until);
        }
        let next = host.atelet.as_ref().and_then(Machine::poll_timeout);
        if let Some((at, _)) = next {
            self.wake_node_at(index, clock.moment(at));
        }
    }

    /// The atelet is woken then at the latest.
    fn wake_node_at(&mut self, index: usize, at: u64) {
        let at = at.max(self.now);
        let host = &mut self.hosts[index];
        if host.wake.is_none_or(|wake| at < wake) {
            host.wake = Some(at);
            let life = host.life;
            self.at(at, Event::NodeWake(index, life));
        }
    }

    fn perform_on_node(&mut self, index: usize, mut output: Output) {
        let life = self.hosts[index].life;
        if !self.node_may_say(index, &mut output) {
            return;
        }
        self.tell(Line::NodeDoes(index, &output));
        match output {
            Output::Work(effect, work, order) => self.begin_step(index, life, effect, work, order),
            Output::Cancel(effect) => {
                let is_it = |event: &Event| matches!(event, Event::Step(n, l, e, ..) if (*n, *l, *e) == (index, life, effect));
                self.queue.drop_all(is_it);
            }
            Output::Look(effect, uid) => {
                let arrives = self.reaches_ateom(index, &uid);
                self.send(Message {
                    who: Who::Node(index),
                    life,
                    effect,
                    carrier: Carrier::Ask,
                    what: "Look",
                    arrives,
                    event: Event::AteomAsked(index, life, effect, uid),
                });
            }
            Output::Keep(effect, kept) => {
                let at = (self.now + self.rng.between(500, 3 * MILLI)).max(self.hosts[index].journal_until);
                self.hosts[index].journal_until = at;
                self.send(Message {
                    who: Who::Node(index),
                    life,
                    effect,
                    carrier: Carrier::Own,
                    what: "Keep",
                    arrives: at,
                    event: Event::Kept(index, life, effect, kept),
                });
            }
            Output::Pull(image, attempt) => self.begin_pull(index, life, image, attempt),
            Output::CancelPull(attempt) => {
                self.hosts[index].pulls.remove(&attempt);
                self.pulled(index, attempt, Pulling::Over);
            }
            Output::Reply(RequestId(call), reply) => {
                // One that is told to wait, that there is no such worker, that it is taken, or that nothing
                // can be remembered, has not been heeded either: what was there before may still be ended under its own fence.
                let is_refused = reply.as_ref().is_err_and(|failure| {
                    matches!(
                        failure.kind,
                        NodeFailureKind::StaleFence { .. }
                            | NodeFailureKind::Busy
                            | NodeFailureKind::SessionOver
                            | NodeFailureKind::NotBegun
                            | NodeFailureKind::Occupied
                            | NodeFailureKind::SandboxGone
                    ) || failure.message.contains("cannot keep its journal")
                });
                if !is_refused {
                    self.note_heeded(index, call);
                }
                self.answer_call(call, reply);
            }
            Output::Report(report) => {
                let arrives = self.now + self.drawn(latency::REPORT);
                self.send(Message {
                    who: Who::Node(index),
                    life,
                    effect: REPORT,
                    carrier: Carrier::Report,
                    what: "Report",
                    arrives,
                    event: Event::ReportArrives(index, life, report),
                });
            }
            Output::Tend {
                worker, actor, tend, ..
            } => {
                let at = self.reaches_ateom(index, &worker);
                self.at(at, Event::AteomTended(index, worker, actor, tend));
            }
            Output::Note(_) => {}
            Output::Moved(_, moved) => self.fact(Fact::Moved(moved)),
        }
    }

    pub(super) fn order_arrives(&mut self, call: u64, order: Box<NodeCall>) {
        let Some(node) = self.calls.get(&call).map(|c| c.node) else {
            return;
        };
        if self.hosts[node].atelet.is_none() || self.is_cut(node, Way::There) {
            return self.after(MILLI, 2 * SECOND, Event::CallEnds(call, unreachable()));
        }
        if self.hosts[node].paused_until > self.now {
            let until = self.hosts[node].paused_until;
            return self.at(until, Event::OrderArrives(call, order));
        }
        let template = &order.template;
        let mut order = Order {
            worker: order
                .worker
                .as_ref()
                .map(|t| t.pod_uid.clone())
                .unwrap_or_default(),
            worker_fence: order.worker.as_ref().map(|t| t.fence).unwrap_or_default(),
            actor: order.actor,
            incarnation: order.incarnation,
            fence: order.fence,
            op: Some(order.op),
            template: (template.namespace.clone(), template.name.clone()),
            workload: Arc::new(template.workload.clone()),
            session: order.worker.as_ref().map(|t| t.session).unwrap_or_default(),
            run: order.run,
            verb: order.verb,
        };
        if let Some(known) = self.calls.get_mut(&call) {
            known.order = Some(Box::new(order.clone()));
        }
        self.flaw_of_order(node, &mut order);
        let life = self.hosts[node].life;
        self.deliver_to_node(node, life, Input::Order(RequestId(call), Box::new(order)));
    }

    /// A node deletes what it is told to, and the replica hears of it, or not.
    pub(super) fn discard_arrives(
        &mut self,
        replica: usize,
        life: u32,
        effect: EffectId,
        address: &Name,
        discard: &Discard,
    ) {
        let index = self.hosts.iter().position(|host| host.name == *address);
        let index = index.filter(|index| {
            let host = &self.hosts[*index];
            host.atelet.is_some() && !self.is_cut(*index, Way::There) && self.now >= host.paused_until
        });
        let is_deaf = self.is_unlucky();
        let is_away = self.now < self.objects_away_until;
        let result = match index {
            Some(index) if !is_away => {
                for place in &discard.snapshots {
                    self.discard(index, place);
                }
                Ok(())
            }
            Some(_) => Err("the object store does not answer".into()),
            None => Err("the node does not answer".into()),
        };
        let result = if is_deaf {
            Err("the answer was lost".into())
        } else {
            result
        };
        let answer = replica::Input::Discarded(effect, result);
        self.after(MILLI, 200 * MILLI, Event::Replica(replica, life, answer));
    }

    pub(super) fn discard(&mut self, index: usize, place: &Place) {
        let (snapshot, node) = match place {
            Place::External(prefix) => {
                self.objects.remove(prefix);
                self.excused.insert(prefix.clone());
                (prefix.clone(), None)
            }
            Place::Local(name) => {
                self.hosts[index].locals.remove(name);
                (name.clone(), Some(self.hosts[index].name.clone()))
            }
        };
        self.fact(Fact::Discarded { snapshot, node });
    }

    fn note_heeded(&mut self, index: usize, call: u64) {
        let Some(order) = self.calls.get(&call).and_then(|c| c.order.clone()) else {
            return;
        };
        self.fact(Fact::Heeded {
            node: self.hosts[index].name.clone(),
            worker: order.worker,
            actor: order.actor,
            incarnation: order.incarnation,
            fence: order.fence,
            worker_fence: order.worker_fence,
        });
    }

    pub(super) fn report_arrives(&mut self, node: usize, life: u32, report: Report) {
        let ready: Vec<usize> = (0..self.replicas.len())
            .filter(|r| self.replicas[*r].is_ready || self.replicas[*r].machine.is_some())
            .collect();
        if ready.is_empty() || self.is_cut(node, Way::Back) {
            let answer = Input::Reported(Err("no replica answers".into()));
            return self.after(MILLI, SECOND, Event::Node(node, life, answer));
        }
        let replica = ready[self.rng.index(ready.len())];
        self.report_to(replica, node, life, report, 1);
    }

    fn report_to(&mut self, replica: usize, node: usize, life: u32, report: Report, tries: usize) {
        let id = RequestId(self.id());
        let replica_life = self.replicas[replica].life;
        self.asks.insert(
            id,
            Ask {
                by: AskedBy::Node(node, life),
                replica,
                life: replica_life,
                is_open: true,
                verdict: None,
            },
        );
        self.at(
            self.now + REPORT_WAITS,
            Event::ReportWaits(id, node, life, report.clone(), tries),
        );
        self.deliver_to_replica(
            replica,
            replica_life,
            replica::Input::Request(id, Request::Heartbeat(report)),
        );
    }

    /// A report that is not answered in time goes to the next replica, as it stands.
    pub(super) fn report_waits(
        &mut self,
        id: RequestId,
        node: usize,
        life: u32,
        report: Report,
        tries: usize,
    ) {
        let Some(ask) = self.asks.get_mut(&id).filter(|ask| ask.is_open) else {
            return;
        };
        ask.is_open = false;
        let next = (ask.replica + 1) % self.replicas.len();
        if tries < self.replicas.len() && self.replicas[next].machine.is_some() {
            self.report_to(next, node, life, report, tries + 1);
        } else {
            let answer = Input::Reported(Err("no replica answers".into()));
            self.deliver_to_node(node, life, answer);
        }
    }

    pub(super) fn report_answered(&mut self, node: usize, life: u32, verdict: Option<Verdict>) {
        let answer = match verdict {
            Some(Ok(Answer::Reported(_, answered))) => Ok(answered),
            Some(Ok(other)) => panic!("a report was answered with {other:?}"),
            Some(Err(failure)) => Err(failure.message),
            None => Err("the replica died".into()),
        };
        self.deliver_to_node(node, life, Input::Reported(answer));
    }

    pub(super) fn kept(&mut self, index: usize, life: u32, effect: EffectId, kept: &Kept) {
        let is_unlucky = self.is_unlucky() && self.rng.permille(200);
        let is_full = self.disk_is_full(index);
        let host = &mut self.hosts[index];
        if host.life == life && host.atelet.is_some() {
            let is_refused = host.refusals > 0;
            host.refusals = host.refusals.saturating_sub(1);
            if is_full || is_unlucky || is_refused {
                let full = Err(DISK_FULL.into());
                return self.deliver_to_node(index, life, Input::Kept(effect, full));
            }
            host.keep(kept);
            self.deliver_to_node(index, life, Input::Kept(effect, Ok(())));
        } else if host.life == life && !is_full && self.rng.permille(500) {
            self.hosts[index].keep(kept);
        }
    }

    pub(super) fn disk_is_full(&self, index: usize) -> bool {
        self.now < self.hosts[index].disk_full_until
    }

    fn begin_pull(&mut self, index: usize, life: u32, image: Name, attempt: Attempt) {
        self.hosts[index].pulls.insert(attempt);
        self.pulled(index, attempt, Pulling::Moves);
        let left = if self.hosts[index].images.contains(&image) {
            0
        } else {
            self.rng.between(1, 4)
        };
        self.after(
            MILLI,
            20 * MILLI,
            Event::PullMoves(index, life, attempt, image, left),
        );
    }

    pub(super) fn pull_moves(&mut self, index: usize, life: u32, attempt: Attempt, image: Name, left: u64) {
        let host = &self.hosts[index];
        if host.life != life || host.atelet.is_none() || !host.pulls.contains(&attempt) {
            return;
        }
        if left > 0 && self.now < self.registry_hung_until {
            let until = self.registry_hung_until;
            return self.at(until, Event::PullMoves(index, life, attempt, image, left));
        }
        let ill = self.registry_ill().filter(|_| left > 0);
        let is_cut = ill == Some(Ill::Garbles) && left == 1 || ill == Some(Ill::Cuts) && left < 4;
        if self.is_unlucky() || is_cut {
            self.hosts[index].pulls.remove(&attempt);
            self.pulled(index, attempt, Pulling::Over);
            let failure = self.pull_failure();
            let ended = pull::Input::Ended(attempt, Err(failure));
            self.deliver_to_node(index, life, Input::Pull(ended));
        } else if left == 0 {
            self.hosts[index].pulls.remove(&attempt);
            self.pulled(index, attempt, Pulling::Over);
            self.hosts[index].images.insert(image);
            self.deliver_to_node(index, life, Input::Pull(pull::Input::Ended(attempt, Ok(()))));
        } else {
            let bytes = self.trickled(5 - left);
            let left = left - u64::from(ill != Some(Ill::Trickles));
            self.pulled(index, attempt, Pulling::Moves);
            self.deliver_to_node(index, life, Input::Pull(pull::Input::Progress(attempt, bytes)));
            self.after(
                200 * MILLI,
                3 * SECOND,
                Event::PullMoves(index, life, attempt, image, left),
            );
        }
    }

    fn pulled(&mut self, node: usize, attempt: Attempt, pulling: Pulling) {
        self.fact(Fact::Pulled {
            node,
            attempt,
            pulling,
        });
    }

    fn pull_failure(&mut self) -> PullFailure {
        let retry = if self.rng.permille(800) {
            Retry::Helps
        } else {
            Retry::Useless
        };
        PullFailure {
            code: Code::Unavailable,
            message: "the registry is unwell".into(),
            retry,
        }
    }

    /// When what an ateom is asked or told now arrives there: over one connection, in order.
    fn reaches_ateom(&mut self, index: usize, uid: &PodUid) -> u64 {
        let at = self.now + self.rng.between(MILLI, 5 * MILLI);
        let last = self.hosts[index].asked_until.entry(uid.clone()).or_default();
        *last = at.max(*last);
        *last
    }

    fn begin_step(&mut self, index: usize, life: u32, effect: EffectId, work: Work, order: Arc<Order>) {
        // What only makes ready does not wait for the journal, and is forgotten with it.
        if matches!(
            work,
            Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop
        ) {
            let (fence, worker_fence) = self.fences_of(&order);
            self.fact(Fact::Begun {
                node: self.hosts[index].name.clone(),
                worker: order.worker.clone(),
                actor: order.actor.clone(),
                incarnation: order.incarnation,
                op: op_of(&order),
                fence,
                worker_fence,
            });
        }
        let (what, carrier) = name_of_step(&work);
        let (arrives, event) = match work {
            Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop => {
                let at = self.reaches_ateom(index, &order.worker);
                (at, Event::AtAteom(index, life, effect, work, order))
            }
            Work::Clear | Work::Assemble => {
                let at = self.now + self.rng.between(MILLI, 10 * MILLI);
                (at, Event::Step(index, life, effect, work, order))
            }
            Work::Fetch | Work::Save(_) | Work::Upload => {
                let at = self.now + self.rng.between(10 * MILLI, 400 * MILLI) + self.objects_take();
                (at, Event::Step(index, life, effect, work, order))
            }
        };
        self.send(Message {
            who: Who::Node(index),
            life,
            effect,
            carrier,
            what,
            arrives,
            event,
        });
    }

    pub(super) fn is_unlucky(&mut self) -> bool {
        let chance = self.plan.noise.steps_fail;
        !self.calm && self.rng.permille(chance)
    }

    /// A step that the atelet performs itself is done.
    pub(super) fn step_ends(
        &mut self,
        index: usize,
        life: u32,
        effect: EffectId,
        work: &Work,
        order: &Order,
    ) {
        if self.hosts[index].life != life || self.hosts[index].atelet.is_none() {
            return;
        }
        let writes = matches!(work, Work::Fetch | Work::Assemble | Work::Save(_));
        let mut result = if self.is_unlucky() || self.knife.is_broken(work) {
            fails(WorkFailureKind::Transient, "bad luck")
        } else if writes && self.disk_is_full(index) {
            fails(WorkFailureKind::Transient, DISK_FULL)
        } else {
            self.step_result(index, work, order)
        };
        self.flaw_of_step(index, work, order, &mut result);
        if result.is_err() {
            self.fact(Fact::Failed(order.actor.clone()));
        }
        self.deliver_to_node(index, life, Input::Worked(effect, result));
    }

    fn step_result(&mut self, index: usize, work: &Work, order: &Order) -> WorkResult {
        let is_away = self.now < self.objects_away_until;
        match work {
            Work::Clear => {
                let is_live = self.hosts[index].ateoms.get(&order.worker).is_some_and(|a| {
                    a.sandbox.is_some()
                        || a.current
                            .as_ref()
                            .is_some_and(|act| matches!(act.work, Work::Boot { .. }))
                });
                if is_live {
                    self.fact(Fact::Trampled(order.actor.clone(), order.worker.clone(), "Clear"));
                }
                self.hosts[index].staged.remove(&order.worker);
                Ok(Vec::new())
            }
            Work::Assemble => Ok(Vec::new()),
            Work::Fetch => match whereabouts(&order.verb) {
                Some((name, true)) => self.staged(
                    index,
                    order,
                    self.hosts[index].locals.get(name).copied().flatten(),
                ),
                Some((_, false)) if is_away => {
                    fails(WorkFailureKind::Transient, "the object store does not answer")
                }
                Some((name, false)) => self.staged(index, order, self.objects.get(name).copied().flatten()),
                None => panic!("a Fetch for {:?}", order.verb),
            },
            Work::Save(_) => {
                let Some(count) = self.hosts[index].captures.get(&op_of(order)).copied() else {
                    return fails(WorkFailureKind::Fatal, "the checkpoint's files are not there");
                };
                match whereabouts(&order.verb) {
                    Some((_, false)) if is_away => {
                        fails(WorkFailureKind::Transient, "the object store does not answer")
                    }
                    Some((name, is_local)) => self.saved(index, name.clone(), is_local, count),
                    None => panic!("a Save for {:?}", order.verb),
                }
            }
            Work::Upload => {
                let Verb::Upload { name, to } = &order.verb else {
                    panic!("an Upload for {:?}", order.verb)
                };
                match self.hosts[index].locals.get(name).copied().flatten() {
                    _ if is_away => fails(WorkFailureKind::Transient, "the object store does not answer"),
                    Some(count) => self.saved(index, to.clone(), false, count),
                    None => fails(WorkFailureKind::Fatal, "the local snapshot is not there"),
                }
            }
            Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop => {
                panic!("{work:?} is ateom's")
            }
        }
    }

    fn staged(&mut self, index: usize, order: &Order, count: Option<u64>) -> WorkResult {
        match count {
            Some(count) => {
                self.hosts[index].staged.insert(order.worker.clone(), count);
                Ok(Vec::new())
            }
            None => fails(WorkFailureKind::Fatal, "the snapshot is missing or corrupt"),
        }
    }

    fn saved(&mut self, index: usize, snapshot: Name, is_local: bool, count: u64) -> WorkResult {
        let node = is_local.then(|| self.hosts[index].name.clone());
        if is_local {
            self.hosts[index].locals.insert(snapshot.clone(), Some(count));
        } else {
            self.objects.insert(snapshot.clone(), Some(count));
        }
        self.fact(Fact::Saved {
            snapshot,
            node,
            count,
        });
        if !is_local && self.objects_lie() {
            return fails(WorkFailureKind::Transient, "the object store hung up");
        }
        Ok(Vec::new())
    }
}

pub(super) fn op_of(order: &Order) -> OpId {
    order.op.expect("our replicas name every operation")
}
