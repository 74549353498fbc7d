//! What a step does.

use super::{Disturbance, Pause, Sent, Step};
use crate::defect::Defect;
use crate::fact::{Asked, Ending, Fact};
use crate::flight::Message;
use crate::host::{How, Luck, fails};
use crate::model::{Model, answers_travel};
use crate::scene::{Scene, caller_of, replica_id, unavailable, unreachable};
use crate::scope::Wish;
use crate::state::Seat;
use holdfast_core::actor::Boot;
use holdfast_core::bounds::Bound;
use holdfast_core::effect::StoreEvent;
use holdfast_core::id::{EffectId, PodUid, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, WorkFailureKind};
use holdfast_core::replica;
use holdfast_core::request::Request;
use holdfast_core::time::{Duration, Instant};

/// How many requests one caller may make, at most.
const REQUESTS_PER_CALLER: u64 = 16;

impl Scene<'_> {
    /// Does what a step says.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Ask { caller, seat } => self.ask(*caller, *seat),
            Step::Arrive(at) => {
                let message = self.flight.take(*at);
                self.arrive(&message, Luck::Good);
            }
            Step::ReportArrives { at, seat } => {
                let message = self.flight.take(*at);
                self.report(*seat, &message);
                self.run();
            }
            Step::CatchUp(seat) => self.catch_up(*seat),
            Step::ReplicaWakes(seat) => self.fire_replica(*seat),
            Step::NodeWakes(node) => self.fire_node(*node),
            Step::SessionEnds(seat) => {
                self.store.sessions.remove(&replica_id(*seat));
            }
            Step::LeaseEnds(actor) => {
                self.store.leases.remove(actor);
            }
            Step::Crash(seat, sent) => {
                self.outside.budget.crashes -= 1;
                if *sent == Sent::Lost {
                    self.flight.retain(|message| {
                        !matches!(&**message,
                            Message::ToStore { from: Some(from), .. } | Message::ToNode { from: Some(from), .. }
                                if from == seat)
                    });
                }
                self.remove_replica(*seat);
            }
            Step::Leave(seat) => {
                self.outside.budget.crashes -= 1;
                self.tell_replica(*seat, replica::Input::Shutdown);
            }
            Step::Pause(seat, how) => self.pause(*seat, *how),
            Step::Disturb(at, how) => {
                self.outside.budget.messages -= 1;
                let message = self.flight.take(*at);
                self.disturb(&message, *how);
            }
            Step::DisturbReport(at, how, seat) => {
                self.outside.budget.messages -= 1;
                let message = self.flight.take(*at);
                self.disturb_report(&message, *how, *seat);
            }
            Step::Fail(at) => {
                let message = self.flight.take(*at);
                match &*message {
                    Message::Keep { .. } => self.outside.budget.journals -= 1,
                    _ => self.outside.budget.mishaps -= 1,
                }
                self.arrive(&message, Luck::Bad);
            }
            Step::KillSandbox(node, uid) => {
                self.outside.budget.losses -= 1;
                let mut facts = Vec::new();
                self.hosts[*node].end_sandbox(uid, Ending::Killed, &mut facts);
                self.facts(facts);
                self.describe(*node, uid);
                self.run();
            }
            Step::Restart(node, sent) => {
                self.outside.budget.restarts -= 1;
                self.restart(*node, *sent);
            }
            Step::Silence(node) => {
                self.outside.budget.silences -= 1;
                self.outside.silent = Some(*node);
            }
            Step::Lapse(node) => self.lapse(*node),
            Step::Outlast(node) => self.outlast(*node),
            Step::Return(node) => {
                self.outside.silent = None;
                let next = self.atelets[*node]
                    .machine
                    .as_ref()
                    .and_then(Machine::poll_timeout);
                if let Some((at, _)) = next {
                    let now = self.atelets[*node].now;
                    self.wake_node(*node, at.max(now));
                }
            }
            Step::Lag(seat) => {
                self.outside.budget.lags -= 1;
                let mut process = Seat::clone(&self.seats[*seat]);
                process.is_lagging = true;
                self.seats[*seat] = self.model.pools.seats.part(process);
            }
            Step::Hold(at) => {
                let mut held = Message::clone(&self.flight.take(*at));
                match &mut held {
                    Message::Report { is_held, .. } => {
                        self.outside.budget.reports -= 1;
                        *is_held = true;
                    }
                    Message::Keep { is_held, .. } => {
                        self.outside.budget.journals -= 1;
                        *is_held = true;
                    }
                    other => unreachable!("nothing else is held up: {other:?}"),
                }
                self.send(held);
            }
        }
    }

    fn ask(&mut self, caller: usize, seat: usize) {
        let asked = self.outside.callers[caller].asked;
        let id = RequestId(1 + caller as u64 * REQUESTS_PER_CALLER + asked as u64);
        self.outside.callers[caller].asked += 1;
        self.outside.callers[caller].waits = Some((id, seat));
        let wish = self.model.scope.callers[caller][asked];
        self.wish(seat, id, wish);
    }

    /// Somebody asks a replica for this.
    pub(crate) fn wish(&mut self, seat: usize, id: RequestId, wish: Wish) {
        let (actor, asked, request) = match wish {
            Wish::Resume(actor) => {
                let key = Model::actor(actor);
                (key.clone(), Asked::Wake, Request::Resume(key, Boot::Golden))
            }
            Wish::Suspend(actor) => {
                let key = Model::actor(actor);
                (key.clone(), Asked::Sleep, Request::Suspend(key))
            }
            Wish::Pause(actor) => {
                let key = Model::actor(actor);
                (key.clone(), Asked::Sleep, Request::Pause(key))
            }
            Wish::Delete(actor) => {
                let key = Model::actor(actor);
                (key.clone(), Asked::Delete, Request::Delete(key))
            }
            Wish::Revert(actor) => {
                let key = Model::actor(actor);
                (key.clone(), Asked::Revert, Request::Revert(key))
            }
        };
        self.fact(Fact::Asked(id, actor, asked));
        self.tell_replica(seat, replica::Input::Request(id, request));
    }

    /// A message that is not a report arrives.
    pub(crate) fn arrive(&mut self, message: &Message, luck: Luck) {
        match message {
            Message::ToStore { from, effect, op } => {
                let reply = self.perform(op);
                match from {
                    Some(seat) if answers_travel(&self.model.scope) => self.send(Message::FromStore {
                        to: *seat,
                        effect: *effect,
                        reply,
                    }),
                    Some(seat) => self.answer_store(*seat, *effect, Ok(reply)),
                    None => {}
                }
                self.run();
            }
            Message::FromStore { to, effect, reply } => {
                self.answer_store(*to, *effect, Ok(reply.clone()));
                self.run();
            }
            Message::ToNode {
                from,
                effect,
                node,
                call,
            } if self.outside.silent == Some(*node) => {
                if let Some(seat) = from {
                    self.answer_call(*seat, *effect, unreachable());
                } else {
                    // It is still on its way when they reach each other again.
                    self.send(Message::ToNode {
                        from: None,
                        effect: *effect,
                        node: *node,
                        call: call.clone(),
                    });
                }
            }
            Message::ToNode {
                from,
                effect,
                node,
                call,
            } => self.order(*node, *from, *effect, call),
            Message::FromNode { to, effect, reply } => {
                let effect = self.awaited(*to).unwrap_or(*effect);
                self.answer_call(*to, effect, reply.clone());
            }
            Message::Step { .. } => self.perform_step(message, luck, None),
            Message::Discard {
                from, effect, node, ..
            } if self.outside.silent == Some(*node) => {
                if let Some(seat) = from {
                    let lost = Err("the node does not answer".into());
                    self.tell_replica(*seat, replica::Input::Discarded(*effect, lost));
                }
            }
            Message::Discard {
                from,
                effect,
                node,
                discard,
            } => {
                self.discard(*node, discard);
                if let Some(seat) = from {
                    self.tell_replica(*seat, replica::Input::Discarded(*effect, Ok(())));
                }
            }
            Message::Keep {
                node,
                run,
                effect,
                kept,
                ..
            } => {
                if self.hosts[*node].run == *run {
                    self.kept(*node, *effect, kept, luck);
                }
                self.run();
            }
            Message::Report { .. } => unreachable!("reports arrive at a replica of their choice"),
        }
    }

    /// Where answers are mixed up, the call for whose answer any answer is taken.
    fn awaited(&self, seat: usize) -> Option<EffectId> {
        if self.model.scope.defect != Some(Defect::StaleAnswersAccepted) {
            return None;
        }
        let under_way = self
            .flight
            .messages()
            .iter()
            .filter_map(|message| match &**message {
                Message::ToNode {
                    from: Some(from),
                    effect,
                    ..
                } if *from == seat => Some(*effect),
                _ => None,
            });
        under_way.max()
    }

    fn perform_step(&mut self, message: &Message, luck: Luck, heard: Option<WorkFailureKind>) {
        let Message::Step {
            node,
            run,
            effect,
            work,
            order,
        } = message
        else {
            unreachable!("only steps are performed");
        };
        let mut facts = Vec::new();
        let how = How {
            luck,
            now: self.atelets[*node].now,
            defect: self.model.scope.defect,
        };
        let objects = &mut self.outside.objects;
        let result = self.hosts[*node].perform(work, order, how, objects, &mut facts);
        self.facts(facts);
        if self.hosts[*node].run == *run {
            if message.is_of_ateom() {
                self.describe(*node, &order.worker);
            }
            let heard = match heard {
                Some(kind) => fails(kind, "the answer was lost"),
                None => result,
            };
            self.tell_node(*node, node::Input::Worked(*effect, heard));
        }
        self.run();
    }

    fn disturb(&mut self, message: &Message, how: Disturbance) {
        match (message, how) {
            (
                Message::ToStore {
                    from: Some(seat),
                    effect,
                    op,
                },
                how,
            ) => {
                let later = Message::ToStore {
                    from: None,
                    effect: *effect,
                    op: op.clone(),
                };
                match how {
                    Disturbance::Lost => {}
                    Disturbance::AnswerLost => {
                        self.perform(op);
                    }
                    Disturbance::Delayed => self.send(later),
                    Disturbance::Repeated => {
                        self.send(later);
                        return self.arrive(message, Luck::Good);
                    }
                }
                self.answer_store(*seat, *effect, unavailable());
                self.run();
            }
            (
                Message::ToNode {
                    from: Some(seat),
                    effect,
                    node,
                    call,
                },
                how,
            ) => {
                let later = Message::ToNode {
                    from: None,
                    effect: *effect,
                    node: *node,
                    call: call.clone(),
                };
                match how {
                    Disturbance::Delayed => self.send(later),
                    Disturbance::Repeated => {
                        self.send(later);
                        return self.arrive(message, Luck::Good);
                    }
                    Disturbance::Lost | Disturbance::AnswerLost => {}
                }
                self.answer_call(*seat, *effect, unreachable());
            }
            (
                Message::Discard {
                    from: Some(seat),
                    effect,
                    node,
                    discard,
                },
                how,
            ) => {
                let later = Message::Discard {
                    from: None,
                    effect: *effect,
                    node: *node,
                    discard: discard.clone(),
                };
                match how {
                    Disturbance::Lost => {}
                    Disturbance::AnswerLost => self.discard(*node, discard),
                    Disturbance::Delayed => self.send(later),
                    Disturbance::Repeated => {
                        self.send(later);
                        return self.arrive(message, Luck::Good);
                    }
                }
                let lost = Err("the node does not answer".into());
                self.tell_replica(*seat, replica::Input::Discarded(*effect, lost));
            }
            (Message::FromNode { to, effect, .. }, _) => self.answer_call(*to, *effect, unreachable()),
            (Message::Step { node, effect, .. }, Disturbance::Lost) => {
                let lost = fails(WorkFailureKind::Unreachable, "ateom does not answer");
                self.tell_node(*node, node::Input::Worked(*effect, lost));
            }
            (Message::Step { .. }, _) => {
                self.perform_step(message, Luck::Good, Some(WorkFailureKind::Unreachable));
            }
            (message, how) => unreachable!("{how:?} for {message:?}"),
        }
    }

    fn disturb_report(&mut self, message: &Message, how: Disturbance, seat: usize) {
        let Message::Report {
            node, run, report, ..
        } = message
        else {
            unreachable!("only reports are disturbed as reports");
        };
        if how == Disturbance::Repeated {
            self.send(Message::Report {
                node: *node,
                run: *run,
                is_awaited: false,
                is_held: true,
                report: report.clone(),
            });
            self.report(seat, message);
            self.run();
        } else if self.hosts[*node].run == *run {
            let lost = node::Input::Reported(Err("no replica answers".into()));
            self.tell_node(*node, lost);
        }
    }

    /// The watch brings its next event; when there is none left it is behind no more.
    pub(crate) fn catch_up(&mut self, seat: usize) {
        let mut process = Seat::clone(&self.seats[seat]);
        let event: Option<StoreEvent> = process.watch.pop_front();
        process.is_lagging &= !process.watch.is_empty();
        self.seats[seat] = self.model.pools.seats.part(process);
        if let Some(event) = event {
            self.tell_replica(seat, replica::Input::Watched(event));
        }
    }

    fn fire_replica(&mut self, seat: usize) {
        let process = self.seats[seat].clone();
        let Some((at, timer)) = process.machine.as_ref().and_then(Machine::poll_timeout) else {
            return;
        };
        if at > process.now {
            self.pay_for_firing();
            if timer == replica::Timer::Sweep {
                self.outside.budget.sweeps -= 1;
            }
        }
        self.wake_replica(seat, at.max(process.now));
    }

    fn fire_node(&mut self, node: usize) {
        let process = self.atelets[node].clone();
        let Some((at, _)) = process.machine.as_ref().and_then(Machine::poll_timeout) else {
            return;
        };
        self.pay_for_firing();
        self.wake_node(node, at.max(process.now));
    }

    fn pay_for_firing(&mut self) {
        let is_quiet = self.flight.is_empty() && self.seats.iter().all(|seat| seat.watch.is_empty());
        self.outside.budget.fires -= 1;
        if !is_quiet {
            self.outside.budget.hastes -= 1;
        }
    }

    fn pause(&mut self, seat: usize, how: Pause) {
        self.outside.budget.pauses -= 1;
        let id = replica_id(seat);
        self.store.sessions.remove(&id);
        if how != Pause::BeyondSession {
            self.store.end_leases(id);
        }
        if how == Pause::BeyondLease {
            let lease = self.model.scope.settings.lease.ttl;
            self.set_replica_clock(seat, |now| now.plus(lease + Duration::from_secs(1)));
        }
    }

    /// The clock of a silent node passes the end of its session: its workers hold still what they run, and
    /// it notices that itself.
    fn lapse(&mut self, node: usize) {
        let session = self.atelets[node]
            .machine
            .as_ref()
            .and_then(|machine| machine.session().ends());
        let Some(end) = session else { return };
        let now = self.atelets[node].now.max(end);
        self.heed_licences(node, now);
        self.wake_node(node, now);
    }

    /// Time passes, for all alike, until a replica is sure that a silent node has frozen what it runs and has
    /// declared its session over, or for as long as that may take.
    fn outlast(&mut self, node: usize) {
        let settings = &self.model.scope.settings;
        let mut left = Bound::Elsewhere.of(settings) + settings.lease.margin;
        let lapsed = |scene: &Scene<'_>| {
            let row = scene.store.nodes.get(&scene.hosts[node].name);
            row.map(|row| row.lapsed)
        };
        let before = lapsed(self);
        while lapsed(self) == before
            && let Some(pause) = self.until_next_timer()
            && pause <= left
        {
            left -= pause;
            self.pass(pause);
            self.rest_of_replicas();
        }
    }

    /// Only the clock moves; what is due fires when the replica is woken.
    pub(crate) fn set_replica_clock(&mut self, seat: usize, to: impl Fn(Instant) -> Instant) {
        let mut process = Seat::clone(&self.seats[seat]);
        process.now = to(process.now);
        self.seats[seat] = self.model.pools.seats.part(process);
    }

    /// An atelet starts with what its disk kept, and finds its workers.
    pub(crate) fn start_node(&mut self, node: usize) {
        let disk = if self.model.scope.defect == Some(Defect::JournalForgets) {
            Default::default()
        } else {
            self.hosts[node].disk.clone()
        };
        self.tell_node(node, node::Input::Start(disk));
        let workers: Vec<PodUid> = self.hosts[node].ateoms.keys().cloned().collect();
        for uid in workers {
            self.describe(node, &uid);
            self.run();
        }
    }

    /// What an atelet has asked of ateom goes over a socket on one machine: it has arrived when the next
    /// atelet looks, or it never will.
    fn restart(&mut self, node: usize, sent: Sent) {
        let mut asked = Vec::new();
        self.flight.retain(|message| {
            let is_ours = matches!(&**message, Message::Step { node: n, .. } | Message::Keep { node: n, .. } if *n == node);
            if is_ours {
                asked.push(message.clone());
            }
            !is_ours
        });
        self.hosts[node].run += 1;
        // Of what the disk has not acknowledged it has nothing, or all, in the order in which it was given it.
        let mut kept: Vec<_> = asked
            .iter()
            .filter_map(|message| match &**message {
                Message::Keep { effect, kept, .. } if sent == Sent::Arrives => Some((*effect, kept.clone())),
                _ => None,
            })
            .collect();
        kept.sort_by_key(|(effect, _)| *effect);
        for (_, kept) in kept {
            self.hosts[node].keep(&kept);
        }
        for message in asked.into_iter().filter(|message| message.is_of_ateom()) {
            if sent == Sent::Arrives {
                self.perform_step(&message, Luck::Good, None);
            }
        }
        let calls = std::mem::take(&mut self.hosts[node].calls);
        let run = self.hosts[node].run;
        let now = self.atelets[node].now;
        self.atelets[node] = self.model.fresh_node(node, run, now);
        for id in calls {
            let (to, effect) = caller_of(id);
            self.send(Message::FromNode {
                to,
                effect,
                reply: unreachable(),
            });
        }
        self.start_node(node);
    }
}
