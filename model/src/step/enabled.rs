//! What can happen next in a state.

use super::{Disturbance, Pause, Sent, Step};
use crate::flight::Message;
use crate::part::Part;
use crate::scene::{home_of, is_write, replica_id};
use crate::scope::Scope;
use crate::state::{SEATS, Seat, State};
use crate::store::Store;
use holdfast_core::id::{ActorKey, LeaseToken};
use holdfast_core::machine::Machine;
use holdfast_core::node;
use holdfast_core::replica::{self, Replica};
use holdfast_core::session::Term;

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
            let is_silent = state.outside.silent == Some(node);
            let is_news = matches!(timer, node::Timer::Retry(_)) || (is_soon && !is_silent);
            if is_news && may_fire(state) {
                steps.push(Step::NodeWakes(node));
            }
        }
        silence_steps(state, node, &mut steps);
        let host = &state.hosts[node];
        if budget.losses > 0 {
            let alive = host.ateoms.iter().filter(|(_, ateom)| ateom.sandbox.is_some());
            steps.extend(alive.map(|(uid, _)| Step::KillSandbox(node, uid.clone())));
        }
        // An atelet that remembers nothing yet has nothing to lose.
        if budget.restarts > 0 && !host.disk.entries.is_empty() {
            steps.push(Step::Restart(node, Sent::Arrives));
            steps.push(Step::Restart(node, Sent::Lost));
        }
    }
    steps
}

fn silence_steps(state: &State, node: usize, steps: &mut Vec<Step>) {
    let Some(machine) = &state.atelets[node].machine else {
        return;
    };
    if state.outside.silent.is_none() {
        steps.extend((state.outside.budget.silences > 0).then_some(Step::Silence(node)));
        return;
    }
    if state.outside.silent != Some(node) {
        return;
    }
    steps.push(Step::Return(node));
    if matches!(machine.session().term(), Term::Until(_)) {
        steps.push(Step::Lapse(node));
    } else if is_left_alone(state) && !is_declared_over(state, node) {
        // By T1 nobody takes the session for over before the node itself does.
        steps.push(Step::Outlast(node));
    }
}

/// Whether nothing is on its way that a replica waits for: then it takes less time than anything lasts.
fn is_left_alone(state: &State) -> bool {
    state.flight.messages().iter().all(|message| {
        matches!(
            &**message,
            Message::ToStore { from: None, .. }
                | Message::ToNode { from: None, .. }
                | Message::Discard { from: None, .. }
                | Message::Step { .. }
                | Message::Keep { .. }
        )
    })
}

fn is_declared_over(state: &State, node: usize) -> bool {
    let session = state.atelets[node]
        .machine
        .as_ref()
        .map(|machine| machine.session().number());
    let row = state.store.nodes.get(&state.hosts[node].name);
    row.is_some_and(|row| Some(row.lapsed) >= session)
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
        if matches!(&**message, Message::Keep { is_held: false, .. }) && state.flight.may_arrive(at) {
            let mut steps = vec![Step::Arrive(at)];
            if budget.journals > 0 {
                steps.extend([Step::Fail(at), Step::Hold(at)]);
            }
            return steps;
        }
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
        // Callers who want the same differ in nothing but their ids: the first of them begins.
        let is_twin = caller.asked == 0
            && (0..index).any(|other| {
                state.outside.callers[other].asked == 0 && scope.callers[other] == scope.callers[index]
            });
        if is_done || is_twin || caller.waits.is_some() {
            continue;
        }
        for seat in 0..SEATS {
            // The replicas differ in nothing but their ids: whom the first caller asks first is all the same.
            let is_mirrored =
                is_first && scope.before.is_empty() && index == 0 && seat > 0 && is_alive(state, 0);
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
        Message::Discard { from: Some(_), .. } => {
            disturb(&[Lost, AnswerLost, Delayed, Repeated]);
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
        | Message::Discard { from: None, .. }
        | Message::Keep { .. }
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
        // Where nothing is collected they are put off for ever.
        replica::Timer::Collect | replica::Timer::Graves => may_fire(state),
        replica::Timer::Sweep => budget.sweeps > 0 && may_fire(state),
        replica::Timer::Flow(_) | replica::Timer::Settle(..) | replica::Timer::Relist => may_fire(state),
    }
}
