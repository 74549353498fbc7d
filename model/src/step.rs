//! What can happen next in a state, and what it does.

use crate::defect::Defect;
use crate::fact::{Asked, Ending, Fact};
use crate::flight::Message;
use crate::host::{Luck, fails};
use crate::model::{Model, answers_travel};
use crate::part::Part;
use crate::scene::{Scene, home_of, is_write, replica_id, unavailable, unreachable};
use crate::scope::{Scope, Wish};
use crate::state::{SEATS, Seat, State};
use crate::store::Store;
use holdfast_core::actor::Boot;
use holdfast_core::effect::StoreEvent;
use holdfast_core::id::{ActorKey, LeaseToken, PodUid, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, WorkFailureKind};
use holdfast_core::replica::{self, Replica};
use holdfast_core::request::Request;
use holdfast_core::time::{Duration, Instant};

/// How many requests one caller may make, at most.
const REQUESTS_PER_CALLER: u64 = 16;

/// One thing that can happen. Places in the flight are those of the state in which it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A caller asks a replica.
    Ask {
        /// Which caller.
        caller: usize,
        /// Which replica.
        seat: usize,
    },
    /// A message arrives.
    Arrive(usize),
    /// A report arrives at a replica.
    ReportArrives {
        /// Which message.
        at: usize,
        /// Which replica.
        seat: usize,
    },
    /// A replica's watch catches up by one event.
    CatchUp(usize),
    /// A replica's next timer fires.
    ReplicaWakes(usize),
    /// A node's next timer fires.
    NodeWakes(usize),
    /// The store forgets the session of a dead replica.
    SessionEnds(usize),
    /// A lease that nobody renews any more ends.
    LeaseEnds(ActorKey),
    /// A replica dies.
    Crash(usize, Sent),
    /// A replica is told to leave.
    Leave(usize),
    /// A replica is not scheduled for a while.
    Pause(usize, Pause),
    /// Something befalls a message.
    Disturb(usize, Disturbance),
    /// A report is lost on its way, or heard twice.
    DisturbReport(usize, Disturbance, usize),
    /// A step of a node fails.
    Fail(usize),
    /// A sandbox dies.
    KillSandbox(usize, PodUid),
    /// An atelet dies and starts again.
    Restart(usize, Sent),
    /// A replica's watch falls behind.
    Lag(usize),
    /// A report is held up.
    Hold(usize),
}

/// What becomes of what a dying process has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Arrives,
    /// It never left.
    Lost,
}

/// How long a replica is not scheduled, as far as others and itself can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Longer than its session lives, shorter than it believes in its leases.
    BeyondSession,
    /// Longer than its leases live; its clock tells it.
    BeyondLease,
    /// Longer than its leases live, and its clock does not tell it: it drifts beyond all bounds.
    BeyondLeaseUnnoticed,
}

/// What befalls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// It is lost; its sender hears of no answer.
    Lost,
    /// It arrives; the answer is lost.
    AnswerLost,
    /// Its sender gives up waiting; it arrives later.
    Delayed,
    /// It arrives, and once more later.
    Repeated,
}

/// Everything that can happen next.
pub(crate) fn enabled(scope: &Scope, state: &State) -> Vec<Step> {
    let mut steps = prompt_steps(state);
    if !steps.is_empty() {
        return steps;
    }
    let budget = &state.outside.budget;
    ask_steps(scope, state, &mut steps);
    for (at, message) in state.flight.messages().iter().enumerate() {
        if state.flight.may_arrive(at) {
            message_steps(state, at, message, &mut steps);
        }
    }
    for seat in 0..SEATS {
        replica_steps(state, seat, &mut steps);
    }
    steps.extend(orphans(&state.seats, &state.store).map(Step::LeaseEnds));
    for node in 0..scope.nodes {
        if let Some(machine) = &state.atelets[node].machine
            && let Some((at, timer)) = machine.poll_timeout()
        {
            // A heartbeat that is due because nothing has changed tells nobody anything.
            let is_soon = at < state.atelets[node].now.plus(scope.settings.node.heartbeat_every);
            let is_news = matches!(timer, node::Timer::Retry(_)) || is_soon;
            if is_news && may_fire(state) {
                steps.push(Step::NodeWakes(node));
            }
        }
        let host = &state.hosts[node];
        if budget.losses > 0 {
            let alive = host.ateoms.iter().filter(|(_, ateom)| ateom.sandbox.is_some());
            steps.extend(alive.map(|(uid, _)| Step::KillSandbox(node, uid.clone())));
        }
        // An atelet that remembers nothing yet has nothing to lose.
        if budget.restarts > 0 && !host.entries.is_empty() {
            steps.push(Step::Restart(node, Sent::Arrives));
            steps.push(Step::Restart(node, Sent::Lost));
        }
    }
    steps
}

/// What a watch or a report brings is known at once, unless it is held up: nothing else happens before that
/// is decided.
fn prompt_steps(state: &State) -> Vec<Step> {
    let budget = &state.outside.budget;
    let is_prompt = |seat: &Part<Seat>| !seat.is_lagging && !seat.watch.is_empty();
    if let Some(seat) = state.seats.iter().position(is_prompt) {
        let mut steps = vec![Step::CatchUp(seat)];
        steps.extend((budget.lags > 0).then_some(Step::Lag(seat)));
        return steps;
    }
    for (at, message) in state.flight.messages().iter().enumerate() {
        if let Message::Report {
            node, is_held: false, ..
        } = &**message
            && let Some(seat) = home_of(&state.seats, *node)
        {
            let mut steps = vec![Step::ReportArrives { at, seat }];
            steps.extend((budget.reports > 0).then_some(Step::Hold(at)));
            if budget.messages > 0 {
                steps.push(Step::DisturbReport(at, Disturbance::Repeated, seat));
                steps.push(Step::DisturbReport(at, Disturbance::Lost, seat));
            }
            return steps;
        }
    }
    Vec::new()
}

fn ask_steps(scope: &Scope, state: &State, steps: &mut Vec<Step>) {
    let is_first = state.outside.callers.iter().all(|caller| caller.asked == 0);
    for (index, caller) in state.outside.callers.iter().enumerate() {
        let is_done = caller.asked == scope.callers[index].len();
        if is_done || caller.waits.is_some() {
            continue;
        }
        for seat in 0..SEATS {
            // The replicas differ in nothing but their ids: whom the first caller asks first is all the same.
            let is_mirrored = is_first && index == 0 && seat > 0 && is_alive(state, 0);
            if is_alive(state, seat) && !is_mirrored {
                steps.push(Step::Ask { caller: index, seat });
            }
        }
    }
}

fn message_steps(state: &State, at: usize, message: &Message, steps: &mut Vec<Step>) {
    use Disturbance::{AnswerLost, Delayed, Lost, Repeated};
    let budget = &state.outside.budget;
    let has_disturbance = budget.messages > 0;
    let mut disturb = |how: &[Disturbance]| {
        if has_disturbance {
            steps.extend(how.iter().map(|how| Step::Disturb(at, *how)));
        }
    };
    match message {
        Message::ToStore {
            from: Some(_), op, ..
        } => {
            if is_write(op) {
                disturb(&[Lost, AnswerLost, Delayed, Repeated]);
            } else {
                disturb(&[Lost]);
            }
            steps.push(Step::Arrive(at));
        }
        Message::ToNode { from: Some(_), .. } => {
            disturb(&[Lost, Delayed, Repeated]);
            steps.push(Step::Arrive(at));
        }
        Message::FromNode { .. } => {
            disturb(&[AnswerLost]);
            steps.push(Step::Arrive(at));
        }
        Message::Step { .. } => {
            if message.is_of_ateom() {
                disturb(&[Lost, AnswerLost]);
            }
            if budget.mishaps > 0 {
                steps.push(Step::Fail(at));
            }
            steps.push(Step::Arrive(at));
        }
        Message::Report { .. } => {
            let alive = (0..SEATS).filter(|seat| is_alive(state, *seat));
            steps.extend(alive.map(|seat| Step::ReportArrives { at, seat }));
        }
        Message::ToStore { from: None, .. }
        | Message::ToNode { from: None, .. }
        | Message::FromStore { .. } => steps.push(Step::Arrive(at)),
    }
}

fn replica_steps(state: &State, seat: usize, steps: &mut Vec<Step>) {
    let budget = &state.outside.budget;
    let process = &state.seats[seat];
    let id = replica_id(seat);
    let has_session = state.store.sessions.contains(&id);
    let has_lease = state.store.holds_lease(id);
    let Some(machine) = &process.machine else {
        if has_session {
            steps.push(Step::SessionEnds(seat));
        }
        return;
    };
    if !process.watch.is_empty() {
        steps.push(Step::CatchUp(seat));
    }
    if may_wake(state, seat) {
        steps.push(Step::ReplicaWakes(seat));
    }
    if budget.crashes > 0 {
        steps.push(Step::Crash(seat, Sent::Arrives));
        steps.push(Step::Crash(seat, Sent::Lost));
        steps.push(Step::Leave(seat));
    }
    // A pause of a replica that is at nothing changes nothing.
    let is_busy = machine.workflows().next().is_some();
    if budget.pauses > 0 && is_busy {
        if has_session {
            steps.push(Step::Pause(seat, Pause::BeyondSession));
        }
        if has_lease {
            steps.push(Step::Pause(seat, Pause::BeyondLease));
            steps.push(Step::Pause(seat, Pause::BeyondLeaseUnnoticed));
        }
    }
}

/// The actors whose leases nobody renews: their replica is dead, or has no workflow of that token.
pub(crate) fn orphans<'a>(
    seats: &'a [Part<Seat>; SEATS],
    store: &'a Store,
) -> impl Iterator<Item = ActorKey> + 'a {
    let is_kept = |token: &LeaseToken| {
        let mut flows = seats
            .iter()
            .filter_map(|seat| seat.machine.as_ref())
            .flat_map(Replica::workflows);
        flows.any(|flow| flow.token() == *token)
    };
    let orphans = store.leases.iter().filter(move |(_, token)| !is_kept(token));
    orphans.map(|(actor, _)| actor.clone())
}

fn is_alive(state: &State, seat: usize) -> bool {
    state.seats[seat].machine.is_some()
}

/// Whether nothing is on its way.
fn is_quiet(state: &State) -> bool {
    state.flight.is_empty() && state.seats.iter().all(|seat| seat.watch.is_empty())
}

/// What is on its way is faster than timers, except as often as the budget says.
fn may_fire(state: &State) -> bool {
    let budget = &state.outside.budget;
    budget.fires > 0 && (is_quiet(state) || budget.hastes > 0)
}

fn may_wake(state: &State, seat: usize) -> bool {
    let process = &state.seats[seat];
    let Some((at, timer)) = process.machine.as_ref().and_then(Machine::poll_timeout) else {
        return false;
    };
    if at <= process.now {
        return true;
    }
    let budget = &state.outside.budget;
    match timer {
        replica::Timer::Session | replica::Timer::Registry => false,
        replica::Timer::Sweep => budget.sweeps > 0 && may_fire(state),
        replica::Timer::Flow(_) | replica::Timer::Settle(..) | replica::Timer::Relist => may_fire(state),
    }
}

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
                self.outside.budget.mishaps -= 1;
                let message = self.flight.take(*at);
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
            Step::Lag(seat) => {
                self.outside.budget.lags -= 1;
                let mut process = Seat::clone(&self.seats[*seat]);
                process.is_lagging = true;
                self.seats[*seat] = self.model.pools.seats.part(process);
            }
            Step::Hold(at) => {
                self.outside.budget.reports -= 1;
                let mut held = Message::clone(&self.flight.take(*at));
                if let Message::Report { is_held, .. } = &mut held {
                    *is_held = true;
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
        let (actor, asked, request) = match self.model.scope.callers[caller][asked] {
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
            } => self.order(*node, *from, *effect, call),
            Message::FromNode { to, effect, reply } => {
                let effect = self.awaited(*to).unwrap_or(*effect);
                self.answer_call(*to, effect, reply.clone());
            }
            Message::Step { .. } => self.perform_step(message, luck, None),
            Message::Report { .. } => unreachable!("reports arrive at a replica of their choice"),
        }
    }

    /// Where answers are mixed up, the call for whose answer any answer is taken.
    fn awaited(&self, seat: usize) -> Option<holdfast_core::id::EffectId> {
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
        let result = self.hosts[*node].perform(
            work,
            order,
            luck,
            &mut self.outside.objects,
            self.model.scope.defect,
            &mut facts,
        );
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

    /// Only the clock moves; what is due fires when the replica is woken.
    pub(crate) fn set_replica_clock(&mut self, seat: usize, to: impl Fn(Instant) -> Instant) {
        let mut process = Seat::clone(&self.seats[seat]);
        process.now = to(process.now);
        self.seats[seat] = self.model.pools.seats.part(process);
    }

    /// An atelet starts with what its disk kept, and finds its workers.
    pub(crate) fn start_node(&mut self, node: usize) {
        let (entries, fences) = if self.model.scope.defect == Some(Defect::JournalForgets) {
            Default::default()
        } else {
            (self.hosts[node].entries.clone(), self.hosts[node].fences.clone())
        };
        self.tell_node(node, node::Input::Start { entries, fences });
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
            let is_ours = matches!(&**message, Message::Step { node: n, .. } if *n == node);
            if is_ours {
                asked.push(message.clone());
            }
            !is_ours
        });
        self.hosts[node].run += 1;
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
            let (to, effect) = crate::scene::caller_of(id);
            self.send(Message::FromNode {
                to,
                effect,
                reply: unreachable(),
            });
        }
        self.start_node(node);
    }
}
