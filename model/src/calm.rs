//! I8: from any state, if nothing goes wrong any more, everything comes to rest, and then every actor can be
//! served.
//!
//! The calm is one fair schedule: whatever is on its way arrives, one message after the other; when nothing
//! is on its way, the clocks move on together to the next timer of all. The dead are forgotten by the
//! store, the paused are back. How long it may take is bounded by the machines' own settings.

use crate::fact::Asked;
use crate::flight::Message;
use crate::host::{Luck, Snapshots};
use crate::invariant::settled;
use crate::model::Model;
use crate::scene::{PROBES, Scene, replica_id};
use crate::scope::Budget;
use crate::state::{NODES, SEATS, Seat, State};
use crate::step::orphans;
use crate::store::Store;
use crate::story;
use holdfast_core::actor::{Actor, Boot, Snapshot, Status};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::replica;
use holdfast_core::request::{Request, Verdict};
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use std::collections::BTreeSet;

/// How many messages may arrive without a moment of quiet: far more than any exchange takes.
const RESTLESS: usize = 2_000;
/// How often an actor is asked to serve, or to sleep, before it counts as beyond reach.
const TRIES_MAX: usize = 10;

/// How many times as long as the store is given to lose a write it may take until all is collected.
const COLLECTIONS_MAX: u32 = 8;

/// How long the world may take to come to rest: a workflow runs to its deadline, what it left is found by
/// the next sweep and settled, and found once more if two replicas looked at it at once.
pub fn recovery(settings: &Settings) -> Duration {
    let s = settings;
    s.workflow.deadline
        + s.lease.ttl
        + (s.workflow.sweep_every + s.workflow.settle_after + s.workflow.retry_to) * 3
}

/// Whether the world comes to rest from `state`, and serves.
///
/// # Errors
/// What does not come to rest, or whom it does not serve.
pub(crate) fn comes_to_rest(model: &mut Model, state: &State) -> Result<(), String> {
    if state.seats.iter().all(|seat| seat.machine.is_none()) {
        return Ok(());
    }
    let mut path = Vec::new();
    let mut state = calmed(model, state)?;
    let mut left = recovery(&model.scope.settings);
    let mut restless = 0;
    let reached = loop {
        let name = state.name();
        if model.calmed.contains(&name) {
            break Ok(());
        }
        path.push(name);
        let mut scene = Scene::open(model, &state);
        if scene.deliver_one() {
            restless += 1;
            if restless > RESTLESS {
                break Err(String::from("I8: messages without end"));
            }
        } else {
            restless = 0;
            let rest = scene.is_at_rest();
            if rest.is_ok() {
                break scene.serves_everyone();
            }
            match scene.until_next_timer() {
                Some(pause) if pause <= left => {
                    left -= pause;
                    scene.pass(pause);
                }
                _ => break rest,
            }
        }
        state = scene.close()?;
    };
    reached?;
    model.calmed.extend(path);
    Ok(())
}

/// The same state, in which nothing goes wrong any more and nobody asks for anything new.
fn calmed(model: &mut Model, state: &State) -> Result<State, String> {
    let mut scene = Scene::open(model, state);
    if scene.outside.budget != Budget::default() {
        scene.outside.budget = Budget::default();
    }
    for caller in 0..scene.outside.callers.len() {
        let wishes = scene.model.scope.callers[caller].len();
        if scene.outside.callers[caller].asked != wishes {
            scene.outside.callers[caller].asked = wishes;
        }
    }
    if scene.outside.silent.is_some() {
        scene.outside.silent = None;
    }
    for seat in 0..SEATS {
        let id = replica_id(seat);
        let is_alive = scene.seats[seat].machine.is_some();
        if is_alive != scene.store.sessions.contains(&id) {
            if is_alive {
                scene.store.sessions.insert(id);
            } else {
                scene.store.sessions.remove(&id);
            }
        }
        if scene.seats[seat].is_lagging && scene.seats[seat].watch.is_empty() {
            let mut process = Seat::clone(&scene.seats[seat]);
            process.is_lagging = false;
            scene.seats[seat] = scene.model.pools.seats.part(process);
        }
    }
    scene.close()
}

impl Scene<'_> {
    /// What replicas ask for, and are answered, arrives, while the clocks stand still; what is late, and what nodes
    /// do by themselves, does not.
    pub(crate) fn rest_of_replicas(&mut self) {
        for _ in 0..RESTLESS {
            let is_theirs = |message: &Message| match message {
                Message::ToStore { from, .. }
                | Message::ToNode { from, .. }
                | Message::Discard { from, .. } => from.is_some(),
                Message::FromStore { .. } | Message::FromNode { .. } | Message::Report { .. } => true,
                Message::Step { .. } | Message::Keep { .. } => false,
            };
            let theirs = self
                .flight
                .messages()
                .iter()
                .position(|message| is_theirs(message));
            match theirs {
                Some(at) => self.deliver(at),
                None => return,
            }
        }
    }

    /// Something that is on its way arrives, or something that is due fires; `false` if nothing is.
    fn deliver_one(&mut self) -> bool {
        if let Some(seat) = (0..SEATS).find(|seat| !self.seats[*seat].watch.is_empty()) {
            self.note(|| format!("the watch of replica {seat} catches up"));
            self.catch_up(seat);
            return true;
        }
        let is_due = |seat: &Seat| {
            let next = seat.machine.as_ref().and_then(Machine::poll_timeout);
            next.is_some_and(|(at, _)| at <= seat.now)
        };
        if let Some(seat) = (0..SEATS).find(|seat| is_due(&self.seats[*seat])) {
            self.note(|| format!("what is due at replica {seat} fires"));
            let now = self.seats[seat].now;
            self.wake_replica(seat, now);
            return true;
        }
        let Some(at) = (0..self.flight.messages().len()).find(|at| self.flight.may_arrive(*at)) else {
            return false;
        };
        self.deliver(at);
        true
    }

    fn deliver(&mut self, at: usize) {
        let message = self.flight.take(at);
        self.note(|| format!("arrives: {}", story::words(&message)));
        if let Message::Report { node, .. } = &*message {
            if let Some(seat) = self.home_of(*node) {
                self.report(seat, &message);
                self.run();
            }
        } else {
            self.arrive(&message, Luck::Good);
        }
    }

    fn note(&mut self, words: impl FnOnce() -> String) {
        if self.model.log.is_some() {
            let words = words();
            self.model.log.get_or_insert_default().push(words);
        }
    }

    fn is_at_rest(&self) -> Result<(), String> {
        settled::check(&self.store, self.hosts.iter().map(|host| &**host), &self.history)?;
        let is_working = |seat: &&Seat| {
            let machine = seat.machine.as_ref();
            machine.is_some_and(|machine| machine.workflows().next().is_some())
        };
        match self.seats.iter().map(|seat| &**seat).find(is_working) {
            Some(_) => Err(String::from("I8: a workflow does not end")),
            None => Ok(()),
        }
    }

    /// How long it is until something is due anywhere.
    pub(crate) fn until_next_timer(&self) -> Option<Duration> {
        let replicas = self.seats.iter().filter_map(|seat| {
            let (at, _) = seat.machine.as_ref()?.poll_timeout()?;
            Some(at.since(seat.now))
        });
        let nodes = self.atelets.iter().filter_map(|atelet| {
            let (at, _) = atelet.machine.as_ref()?.poll_timeout()?;
            Some(at.since(atelet.now))
        });
        let licences = (0..NODES).flat_map(|node| {
            let now = self.atelets[node].now;
            let ateoms = self.hosts[node].ateoms.values();
            ateoms.filter_map(move |ateom| Some(ateom.licence.poll_timeout()?.0.since(now)))
        });
        replicas.chain(nodes).chain(licences).min()
    }

    /// Every clock moves on, and what is due fires; leases that nobody renews end.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.note(|| format!("{time:?} pass"));
        let orphans: Vec<ActorKey> = orphans(&self.seats, &self.store).collect();
        for actor in orphans {
            self.store.leases.remove(&actor);
        }
        for seat in 0..SEATS {
            let now = self.seats[seat].now.plus(time);
            self.wake_replica(seat, now);
        }
        for node in 0..NODES {
            let now: Instant = self.atelets[node].now.plus(time);
            self.heed_licences(node, now);
            self.wake_node(node, now);
        }
    }

    /// Whatever is on its way arrives.
    pub(crate) fn rest(&mut self) {
        for _ in 0..RESTLESS {
            if !self.deliver_one() {
                return;
            }
        }
    }

    /// Every actor sleeps, serves, and sleeps again.
    fn serves_everyone(mut self) -> Result<(), String> {
        let actors: Vec<ActorKey> = self.store.actors.keys().cloned().collect();
        for actor in &actors {
            self.insist(actor, Asked::Sleep)?;
        }
        for actor in &actors {
            self.insist(actor, Asked::Wake)?;
            self.insist(actor, Asked::Sleep)?;
        }
        self.rest();
        self.is_at_rest()?;
        if self.model.scope.collects() {
            self.collects_everything()?;
        }
        self.close().map(|_| ())
    }

    /// What nothing points at any more is deleted after a while, and nothing is forgotten.
    fn collects_everything(&mut self) -> Result<(), String> {
        let mut left = self.model.scope.settings.workflow.collect_after * COLLECTIONS_MAX;
        while let Some(what) = leftover(&self.store, &self.outside.objects) {
            match self.until_next_timer() {
                Some(pause) if pause <= left => {
                    left -= pause;
                    self.pass(pause);
                    self.rest();
                }
                _ => return Err(format!("I8: {what}")),
            }
        }
        Ok(())
    }

    fn insist(&mut self, actor: &ActorKey, asked: Asked) -> Result<(), String> {
        let mut heard = Vec::new();
        for _ in 0..TRIES_MAX {
            let is_crashed = self.store.actors[actor].status() == Status::Crashed;
            let request = match asked {
                _ if is_crashed => Request::Revert(actor.clone()),
                Asked::Wake => Request::Resume(actor.clone(), Boot::Golden),
                Asked::Sleep => Request::Suspend(actor.clone()),
                Asked::Revert => Request::Revert(actor.clone()),
                Asked::Delete => Request::Delete(actor.clone()),
            };
            match self.probe(request) {
                Some(Ok(_)) if !is_crashed => return Ok(()),
                Some(Err(failure)) if failure.code == Code::DataLoss && asked == Asked::Sleep => {
                    return Ok(());
                }
                Some(Ok(_)) => {}
                Some(Err(failure)) => heard.push(failure.message),
                None => heard.push(String::from("no verdict")),
            }
            let pause = self.until_next_timer().unwrap_or(Duration::from_secs(1));
            self.pass(pause.min(Duration::from_secs(10)));
            self.rest();
        }
        Err(format!(
            "I8: {actor} cannot be served ({asked:?}): {}",
            heard.join("; ")
        ))
    }

    fn probe(&mut self, request: Request) -> Option<Verdict> {
        let seat = (0..SEATS).find(|seat| self.seats[*seat].machine.is_some())?;
        self.probed = None;
        self.tell_replica(seat, replica::Input::Request(RequestId(PROBES), request));
        self.rest();
        for _ in 0..TRIES_MAX {
            if self.probed.is_some() {
                break;
            }
            let pause = self.until_next_timer()?;
            self.pass(pause);
            self.rest();
        }
        self.probed.take()
    }
}

/// What is still to be collected.
fn leftover(store: &Store, objects: &Snapshots) -> Option<String> {
    if let Some(actor) = store.actors.values().find(|actor| !actor.garbage.is_empty()) {
        return Some(format!("{} still has garbage: {:?}", actor.key, actor.garbage));
    }
    if let Some(grave) = store.graves.values().next() {
        return Some(format!(
            "the note of {} is still there: {:?}",
            grave.actor, grave.snapshots
        ));
    }
    let pointed_at: BTreeSet<Snapshot> = store.actors.values().flat_map(Actor::snapshots).collect();
    let mut stored = objects.keys();
    let forgotten = stored.find(|name| !pointed_at.contains(&Snapshot::External((*name).clone())));
    forgotten.map(|name| format!("{name} is stored, and nothing will ever collect it"))
}
