//! What a recorder sees of the world beside what is told: messages that come, and what lasts.

use super::callers::AskedBy;
use super::knife::name_of_step;
use super::{Event, Telling, World};
use crate::host::{Ateom, Host};
use crate::story::line::Line;
use crate::story::recorder::{Recorder, Track};
use crate::story::seen::{Place, Seen};
use crate::story::{About, Kind, Record, Span};
use holdfast_core::licence::Hold;
use std::ops::Range;

/// Whose state an event may have changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Touched {
    Replica(usize),
    /// An atelet, and the workers beside it.
    Node(usize),
    Store,
    Anybody,
}

impl Touched {
    pub(super) fn by(event: &Event) -> Touched {
        match event {
            Event::Replica(index, ..) | Event::ReplicaWake(index, _) | Event::ReplicaStarts(index) => {
                Touched::Replica(*index)
            }
            Event::Node(index, ..)
            | Event::NodeWake(index, _)
            | Event::NodeStarts(index)
            | Event::Step(index, ..)
            | Event::AtAteom(index, ..)
            | Event::AteomAsked(index, ..)
            | Event::AteomDone(index, ..)
            | Event::AteomJoined(index, ..)
            | Event::AteomStarts(index, _)
            | Event::AteomTended(index, ..)
            | Event::AteomWakes(index, _)
            | Event::Kept(index, ..)
            | Event::PullMoves(index, ..)
            | Event::PodEnds(index, _) => Touched::Node(*index),
            Event::AtStore(..) => Touched::Store,
            _ => Touched::Anybody,
        }
    }
}

impl World {
    /// Plays it to its end, or until a machine panics, and gives the part of it that was recorded.
    ///
    /// # Panics
    /// It does not record.
    pub(crate) fn record(mut self) -> Record {
        self.record_state(Touched::Anybody);
        self.play_out();
        let violation = self.oracles.violation().cloned();
        let telling = std::mem::replace(&mut self.telling, Telling::Dropped);
        let Telling::Recorded(recorder) = telling else {
            panic!("this world does not record");
        };
        let verdicts = self.oracles.verdicts();
        recorder.end(self.now, self.events, verdicts, violation.as_ref())
    }

    /// Whether anybody listens to what is told.
    pub(super) fn is_told(&self) -> bool {
        !matches!(self.telling, Telling::Dropped)
    }

    /// An event is about to be performed.
    pub(super) fn record_event(&mut self, seq: u64, event: &Event) {
        let seen = self.arrival(event);
        if let Telling::Recorded(recorder) = &mut self.telling {
            recorder.begins(seq);
            if let Some(seen) = seen {
                recorder.sees(self.now, seen);
            }
        }
    }

    /// What arrives with an event, where whoever hears of it does not say so.
    fn arrival(&self, event: &Event) -> Option<Seen> {
        Some(match event {
            Event::AtStore(_, _, _, op, _) => Seen::new(Place::Store, Kind::Arrives, About::of_store_op(op)),
            Event::OrderArrives(call, order) => {
                let node = self.calls.get(call)?.node;
                let host = &self.hosts[node];
                let is_reached = host.atelet.is_some() && self.now >= host.cut_until;
                // What comes to somebody who sleeps is on its way until it is heard.
                if is_reached && self.now < host.paused_until {
                    return None;
                }
                let kind = if is_reached { Kind::Arrives } else { Kind::Lost };
                Seen::new(Place::Node(node), kind, About::of_call(order))
            }
            Event::DiscardArrives(_, _, _, address, discard) => Seen::new(
                Place::NodeNamed(address.clone()),
                Kind::Arrives,
                About::of("Discard", discard),
            ),
            Event::Step(node, life, _, work, order) => {
                let (what, _) = name_of_step(work);
                let kind = self.done_by(*node, *life);
                Seen::new(Place::Node(*node), kind, About::of_order(what, order))
            }
            Event::Kept(node, life, _, kept) => {
                let kind = self.done_by(*node, *life);
                Seen::new(Place::Node(*node), kind, About::of("journal", kept))
            }
            Event::AtAteom(_, _, _, work, order) => {
                let (what, _) = name_of_step(work);
                let place = Place::Worker(order.worker.clone());
                Seen::new(place, Kind::Arrives, About::of_order(what, order))
            }
            Event::AteomDone(_, _, order) => {
                let place = Place::Worker(order.worker.clone());
                Seen::new(place, Kind::Done, About::of_order("ateom is done", order))
            }
            Event::AteomAsked(_, _, _, uid) => {
                Seen::new(Place::Worker(uid.clone()), Kind::Arrives, About::of("Look", uid))
            }
            Event::AteomTended(_, uid, _, tend) => {
                Seen::new(Place::Worker(uid.clone()), Kind::Arrives, About::of("Tend", tend))
            }
            Event::Told(id, verdict) => {
                let by = self.asks.get(id)?.by;
                let label = match verdict.as_deref() {
                    Some(Ok(_)) => "hears its verdict".to_string(),
                    Some(Err(failure)) => format!("hears {:?}", failure.code),
                    None => "hears nothing more".to_string(),
                };
                let about = About::of(label, verdict);
                match by {
                    AskedBy::Node(..) => return None,
                    AskedBy::Caller(_) | AskedBy::Script => Seen::new(Place::Callers, Kind::Arrives, about),
                }
            }
            Event::Replica(index, life, input) => {
                let process = &self.replicas[*index];
                if process.life == *life && process.machine.is_some() {
                    return None;
                }
                lost(Seen::of(&Line::ReplicaHears(*index, input))?)
            }
            Event::Node(index, life, input) => {
                let host = &self.hosts[*index];
                if host.life == *life && host.atelet.is_some() {
                    return None;
                }
                lost(Seen::of(&Line::NodeHears(*index, input))?)
            }
            _ => return None,
        })
    }

    /// What a process was about to do is not done by the next one.
    fn done_by(&self, node: usize, life: u32) -> Kind {
        let host = &self.hosts[node];
        if host.life == life && host.atelet.is_some() {
            Kind::Done
        } else {
            Kind::Lost
        }
    }

    /// An event has been performed: this is how things are now with those whom it may have changed.
    pub(super) fn record_state(&mut self, touched: Touched) {
        let Telling::Recorded(mut recorder) = std::mem::replace(&mut self.telling, Telling::Dropped) else {
            return;
        };
        match touched {
            Touched::Replica(index) => self.record_replicas(&mut recorder, index..index + 1),
            Touched::Node(index) => self.record_nodes(&mut recorder, index..index + 1),
            Touched::Store => self.record_store(&mut recorder),
            Touched::Anybody => {
                self.record_replicas(&mut recorder, 0..self.replicas.len());
                self.record_nodes(&mut recorder, 0..self.hosts.len());
                self.record_store(&mut recorder);
            }
        }
        self.telling = Telling::Recorded(recorder);
    }

    fn record_replicas(&self, recorder: &mut Recorder, indices: Range<usize>) {
        let now = self.now;
        for index in indices {
            let process = &self.replicas[index];
            let Some(lane) = recorder.lane_of(&Place::Replica(index)) else {
                continue;
            };
            let runs = process.machine.is_some().then(|| plain(Span::Runs, process.life));
            recorder.lasts(now, lane, Track::Runs, runs);
            sleeps(
                recorder,
                now,
                lane,
                process.paused_until,
                process.machine.is_some(),
            );
        }
    }

    fn record_nodes(&self, recorder: &mut Recorder, indices: Range<usize>) {
        let now = self.now;
        for index in indices {
            let host = &self.hosts[index];
            self.record_workers(recorder, host);
            let Some(lane) = recorder.lane_of(&Place::Node(index)) else {
                continue;
            };
            let runs = host.atelet.is_some().then(|| plain(Span::Runs, host.life));
            recorder.lasts(now, lane, Track::Runs, runs);
            sleeps(recorder, now, lane, host.paused_until, host.atelet.is_some());
            let reached = [(host.cut_until, "cut off"), (host.disk_full_until, "disk full")];
            let trouble = reached.into_iter().find(|(until, _)| now < *until);
            away(recorder, now, lane, trouble);
            let session = host.atelet.as_ref().map(|atelet| atelet.session());
            let ends = session.and_then(|session| session.ends());
            let believed = session.filter(|_| ends.is_some());
            recorder.lasts(
                now,
                lane,
                Track::Session,
                believed.map(|session| plain(Span::Session, session.number())),
            );
            if let Some(ends) = ends {
                recorder.expires(lane, Track::Session, self.node_clock(index).moment(ends));
            }
        }
    }

    fn record_workers(&self, recorder: &mut Recorder, host: &Host) {
        for (uid, ateom) in &host.ateoms {
            let Some(lane) = recorder.lane_of(&Place::Worker(uid.clone())) else {
                continue;
            };
            let runs = ateom.is_up.then(|| About {
                label: format!("{uid}#{}", ateom.run),
                worker: Some(uid.clone()),
                ..About::default()
            });
            recorder.lasts(self.now, lane, Track::Runs, runs.map(|about| (Span::Runs, about)));
            recorder.lasts(self.now, lane, Track::Sandbox, sandbox(ateom, uid));
            let act = ateom.current.as_ref().map(|act| {
                let (what, _) = name_of_step(&act.work);
                let about = About {
                    label: what.to_string(),
                    actor: Some(act.actor.clone()),
                    worker: Some(uid.clone()),
                    op: Some(act.op),
                    ..About::default()
                };
                (Span::Act, about)
            });
            recorder.lasts(self.now, lane, Track::Act, act);
        }
    }

    fn record_store(&self, recorder: &mut Recorder) {
        let now = self.now;
        if let Some(lane) = recorder.lane_of(&Place::Store) {
            away(recorder, now, lane, Some((self.store_away_until, "away")));
        }
        if let Some(lane) = recorder.lane_of(&Place::Objects) {
            away(recorder, now, lane, Some((self.objects_away_until, "away")));
        }
        let leases = self
            .store
            .leases()
            .map(|(key, token, until)| (key.clone(), token, until));
        let until = |shown| self.plan.world.store.moment(shown);
        let held = leases.map(|(key, token, shown)| (key, (token, until(shown))));
        recorder.holds(now, &held.filter(|(_, (_, until))| now < *until).collect());
        recorder.stores(now, &self.store.actors);
    }
}

fn lost(seen: Seen) -> Seen {
    Seen {
        kind: Kind::Lost,
        ..seen
    }
}

fn plain(span: Span, number: impl std::fmt::Display) -> (Span, About) {
    let label = match span {
        Span::Session => format!("session {number}"),
        _ => format!("life {number}"),
    };
    let about = About {
        label,
        ..About::default()
    };
    (span, about)
}

fn sleeps(recorder: &mut Recorder, now: u64, lane: usize, until: u64, is_up: bool) {
    let about = About {
        label: "not scheduled".to_string(),
        ..About::default()
    };
    let asleep = (now < until && is_up).then_some((Span::Sleeps, about));
    let is_asleep = asleep.is_some();
    recorder.lasts(now, lane, Track::Sleeps, asleep);
    if is_asleep {
        recorder.expires(lane, Track::Sleeps, until);
    }
}

/// Somebody is not reached until then.
fn away(recorder: &mut Recorder, now: u64, lane: usize, trouble: Option<(u64, &str)>) {
    let trouble = trouble.filter(|(until, _)| now < *until);
    let what = trouble.map(|(_, label)| {
        let about = About {
            label: label.to_string(),
            ..About::default()
        };
        (Span::Away, about)
    });
    recorder.lasts(now, lane, Track::Away, what);
    if let Some((until, _)) = trouble {
        recorder.expires(lane, Track::Away, until);
    }
}

fn sandbox(ateom: &Ateom, uid: &holdfast_core::id::PodUid) -> Option<(Span, About)> {
    let live = ateom.sandbox.as_ref()?;
    let span = match ateom.licence.hold() {
        Hold::Frozen => Span::Frozen,
        Hold::Running(_) | Hold::Empty => Span::Sandbox,
    };
    let about = About {
        label: live.actor.name.to_string(),
        actor: Some(live.actor.clone()),
        worker: Some(uid.clone()),
        op: Some(live.op),
        ..About::default()
    };
    Some((span, about))
}
