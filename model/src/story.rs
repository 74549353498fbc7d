//! A way through the states, in words.

use crate::flight::Message;
use crate::model::Model;
use crate::search::System;
use crate::state::State;
use crate::step::{Disturbance, Pause, Sent, Step};
use holdfast_core::actor::Actor;
use holdfast_core::effect::{StoreOp, Verb};
use holdfast_core::node::Work;
use holdfast_core::worker::Worker;

/// What happens on a way, one line per step.
pub fn tell(model: &mut Model, way: &[Step]) -> Vec<String> {
    let mut state = model.initial();
    let mut lines = Vec::new();
    for step in way {
        lines.push(describe(model, &state, step));
        match model.after(&state, step) {
            Ok(after) => state = after,
            Err(_) => return lines,
        }
    }
    // What is wrong shows itself in what follows when nothing goes wrong any more.
    lines.push(String::from("CALM"));
    model.log = Some(Vec::new());
    let _ = model.check(&state);
    lines.extend(model.log.take().into_iter().flatten());
    lines
}

fn describe(model: &Model, state: &State, step: &Step) -> String {
    let message = |at: &usize| words(&state.flight.messages()[*at]);
    match step {
        Step::Ask { caller, seat } => {
            let wish = model.scope.callers[*caller][state.outside.callers[*caller].asked];
            format!("caller {caller} asks replica {seat}: {wish}")
        }
        Step::Arrive(at) => format!("arrives: {}", message(at)),
        Step::ReportArrives { at, seat } => format!("arrives at replica {seat}: {}", message(at)),
        Step::CatchUp(seat) => format!(
            "the watch of replica {seat} brings {:?}",
            state.seats[*seat].watch.front()
        ),
        Step::ReplicaWakes(seat) => {
            let next = state.seats[*seat].machine.as_ref();
            let timer = next.and_then(holdfast_core::machine::Machine::poll_timeout);
            format!(
                "timer of replica {seat} fires: {:?}",
                timer.map(|(_, timer)| timer)
            )
        }
        Step::NodeWakes(node) => {
            let next = state.atelets[*node].machine.as_ref();
            let timer = next.and_then(holdfast_core::machine::Machine::poll_timeout);
            format!("timer of node {node} fires: {:?}", timer.map(|(_, timer)| timer))
        }
        Step::SessionEnds(seat) => format!("the session of dead replica {seat} ends"),
        Step::LeaseEnds(actor) => format!("the lease of {actor} ends: nobody renews it"),
        Step::Crash(seat, Sent::Arrives) => {
            format!("FAULT replica {seat} dies; what it has sent is on its way")
        }
        Step::Crash(seat, Sent::Lost) => {
            format!("FAULT replica {seat} dies before it has sent anything more")
        }
        Step::Leave(seat) => format!("FAULT replica {seat} is told to leave"),
        Step::Pause(seat, Pause::BeyondSession) => {
            format!("FAULT replica {seat} is paused beyond its session")
        }
        Step::Pause(seat, Pause::BeyondLease) => format!("FAULT replica {seat} is paused beyond its leases"),
        Step::Pause(seat, Pause::BeyondLeaseUnnoticed) => {
            format!("FAULT replica {seat} is paused beyond its leases, and its clock stood still")
        }
        Step::Disturb(at, how) | Step::DisturbReport(at, how, _) => {
            let how = match how {
                Disturbance::Lost => "is lost",
                Disturbance::AnswerLost => "arrives, and its answer is lost",
                Disturbance::Delayed => "is given up, and still on its way",
                Disturbance::Repeated => "arrives, and will arrive once more",
            };
            format!("FAULT {how}: {}", message(at))
        }
        Step::Fail(at) => format!("FAULT fails: {}", message(at)),
        Step::KillSandbox(node, uid) => format!("FAULT the sandbox in {uid} of node {node} dies"),
        Step::Restart(node, Sent::Arrives) => {
            format!("FAULT the atelet of node {node} dies and starts again; what it has asked is done")
        }
        Step::Restart(node, Sent::Lost) => {
            format!("FAULT the atelet of node {node} dies and starts again; what it has asked is lost")
        }
        Step::Hold(at) => format!("held up: {}", message(at)),
        Step::Silence(node) => format!("FAULT node {node} and the replicas do not reach each other"),
        Step::Lapse(node) => format!("the session of silent node {node} ends"),
        Step::Outlast(node) => format!("time passes, until silent node {node} is surely frozen"),
        Step::Return(node) => format!("node {node} and the replicas reach each other again"),
        Step::Lag(seat) => format!("FAULT the watch of replica {seat} falls behind"),
    }
}

/// A message, in words.
pub(crate) fn words(message: &Message) -> String {
    match message {
        Message::ToStore { from, op, .. } => format!("{} -> store: {}", sender(*from), operation(op)),
        Message::FromStore { to, reply, .. } => format!("store -> replica {to}: {reply:?}"),
        Message::ToNode { from, node, call, .. } => {
            let worker = call.worker.as_ref();
            format!(
                "{} -> node {node}: {} of {} under fence {}, operation {}, on {:?}",
                sender(*from),
                verb(&call.verb),
                call.actor,
                call.fence,
                call.op,
                worker.map(|target| (&target.pod_uid, target.fence.0))
            )
        }
        Message::FromNode { to, reply, .. } => match reply {
            Ok(()) => format!("node -> replica {to}: done"),
            Err(failure) => format!("node -> replica {to}: {:?}: {}", failure.kind, failure.message),
        },
        Message::Step {
            node,
            work,
            order,
            run,
            ..
        } => {
            let work = match work {
                Work::Save(_) => "Save",
                Work::Upload => "Upload",
                Work::Boot { .. } => "Boot",
                Work::Thaw { .. } => "Thaw",
                Work::Capture => "Capture",
                Work::Stop => "Stop",
                Work::Clear | Work::Fetch | Work::Assemble => "Prepare",
            };
            format!(
                "node {node} (run {run}) -> {}: {work} for {}",
                order.worker, order.actor
            )
        }
        Message::Discard {
            from, node, discard, ..
        } => format!("{} -> node {node}: delete {:?}", sender(*from), discard.snapshots),
        Message::Keep { node, run, kept, .. } => {
            format!("node {node} (run {run}) -> its journal: {:?}", kept.entry)
        }
        Message::Report { node, report, .. } => {
            let workers: Vec<_> = report
                .workers
                .iter()
                .map(|w| {
                    (
                        &w.pod_uid,
                        w.highest_fence.0,
                        w.hosting.as_ref().map(|h| &h.actor.name),
                    )
                })
                .collect();
            format!("report {} of node {node}: {workers:?}", report.node.sequence)
        }
    }
}

fn sender(from: Option<usize>) -> String {
    match from {
        Some(seat) => format!("replica {seat}"),
        None => String::from("(nobody waits)"),
    }
}

fn operation(op: &StoreOp) -> String {
    match op {
        StoreOp::PutActor {
            expect,
            actor,
            release,
        } => {
            let release = if release.is_some() { ", and release" } else { "" };
            format!("write {} over {expect:?}{release}", record(actor))
        }
        StoreOp::PutWorker { expect, worker } => format!("write {} over {expect:?}", row(worker)),
        StoreOp::AcquireLease { token, steal, .. } => format!("lease for {token}, stealing {steal:?}"),
        StoreOp::RenewLease { token, .. } => format!("renew {token}"),
        StoreOp::ReleaseLease { token, .. } => format!("release {token}"),
        other => format!("{other:?}"),
    }
}

fn record(actor: &Actor) -> String {
    let on = actor.assignment().map(|on| (&on.worker.pod, on.fence.0));
    format!(
        "{} {} on {on:?} (version {})",
        actor.key,
        actor.status(),
        actor.version
    )
}

fn row(worker: &Worker) -> String {
    let hosts = worker.hosts.as_ref().map(|h| (&h.actor.name, h.fence.0));
    format!("{} for {hosts:?} (version {})", worker.key.pod, worker.version)
}

fn verb(verb: &Verb) -> &'static str {
    match verb {
        Verb::Run { .. } => "Run",
        Verb::Restore { .. } => "Restore",
        Verb::Checkpoint { .. } => "Checkpoint",
        Verb::Upload { .. } => "Upload",
        Verb::Stop => "Stop",
        Verb::Thaw => "Thaw",
    }
}
