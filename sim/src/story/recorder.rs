//! Writes a record while the world plays.
//!
//! What follows from what is told by the queue: while an event is performed, the first thing that is seen follows from
//! whatever had put the event there, what a machine does follows from what it heard, and what it puts into the queue
//! will follow from what it did.

use super::line::Line;
use super::record::{About, Bar, Entry, Group, Kind, Lane, Record, Span};
use super::seen::{Place, Seen};
use crate::clock::Clock;
use crate::fact::Fact;
use crate::oracle::Violation;
use crate::plan::{Fault, Plan};
use holdfast_core::actor::Actor;
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, Edition, EffectId, LeaseToken, NodeName, PodUid, RequestId};
use holdfast_core::replica::{Input, Output};
use holdfast_core::table::Kind as _;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The first two lanes.
const FAULTS: usize = 0;
const CALLERS: usize = 1;

/// Which part of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From when on, in microseconds of true time.
    pub from: u64,
    /// Up to when.
    pub until: u64,
    /// How many entries at most: the latest.
    pub entries: usize,
}

impl Window {
    /// How many entries a page has unless it is told otherwise: any browser scrolls through them with ease.
    pub const ENTRIES: usize = 100_000;

    /// All of a run, or its end if it is a long one.
    pub const WHOLE: Window = Window {
        from: 0,
        until: u64::MAX,
        entries: Window::ENTRIES,
    };
}

/// Writes a record.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    plan: Arc<Plan>,
    window: Window,
    lanes: Vec<Lane>,
    replicas: Vec<usize>,
    store: usize,
    nodes: Vec<usize>,
    nodes_named: BTreeMap<NodeName, usize>,
    workers: BTreeMap<PodUid, usize>,
    objects: usize,
    actors: BTreeMap<ActorKey, usize>,
    entries: VecDeque<Entry>,
    next: u32,
    dropped: (u64, u64),
    bars: Vec<Bar>,
    open: BTreeMap<(usize, Track), Bar>,
    /// The entry that put each event into the queue.
    sent: BTreeMap<u64, u32>,
    step: Step,
    asks: BTreeMap<RequestId, ActorKey>,
    leases: BTreeMap<(usize, EffectId), (LeaseToken, u64)>,
    /// From when on each lease is believed in, once it is.
    granted: BTreeMap<LeaseToken, u64>,
    /// What the store had when it was last looked at: leases, and records.
    held: BTreeMap<ActorKey, (LeaseToken, u64)>,
    stored: BTreeMap<ActorKey, Edition>,
    calm: Option<u64>,
}

/// What can last on a lane, beside each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Track {
    Runs,
    Sleeps,
    Away,
    Fault(u32),
    Request(RequestId),
    Lease(ActorKey),
    Belief(ActorKey, usize),
    Session,
    Sandbox,
    Act,
    State(ActorKey),
}

/// What has been seen while the current event is performed.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// What put the event into the queue.
    cause: Option<u32>,
    /// What was seen first.
    head: Option<u32>,
    /// What a machine did last.
    deed: Option<u32>,
    /// What was seen last.
    last: Option<u32>,
}

impl Recorder {
    pub(crate) fn new(plan: &Arc<Plan>, window: Window) -> Recorder {
        let mut recorder = Recorder {
            plan: plan.clone(),
            window,
            lanes: Vec::new(),
            replicas: Vec::new(),
            store: 0,
            nodes: Vec::new(),
            nodes_named: BTreeMap::new(),
            workers: BTreeMap::new(),
            objects: 0,
            actors: BTreeMap::new(),
            entries: VecDeque::new(),
            next: 0,
            dropped: (0, 0),
            bars: Vec::new(),
            open: BTreeMap::new(),
            sent: BTreeMap::new(),
            step: Step::default(),
            asks: BTreeMap::new(),
            leases: BTreeMap::new(),
            granted: BTreeMap::new(),
            held: BTreeMap::new(),
            stored: BTreeMap::new(),
            calm: None,
        };
        recorder.lay_out();
        recorder
    }

    fn lay_out(&mut self) {
        let plan = self.plan.clone();
        self.lane("faults", Group::Faults, None);
        self.lane("callers", Group::Callers, None);
        for (index, clock) in plan.world.replicas.iter().enumerate() {
            let lane = self.lane(format!("replica-{index}"), Group::Replica, Some(*clock));
            self.replicas.push(lane);
        }
        self.store = self.lane("store", Group::Store, Some(plan.world.store));
        for (index, node) in plan.world.nodes.iter().enumerate() {
            let name = format!("node-{index}");
            let lane = self.lane(name.clone(), Group::Node, Some(node.clock));
            self.nodes.push(lane);
            self.nodes_named.insert(name.into(), lane);
            for worker in 0..node.workers {
                let lane = self.lane(
                    format!("worker {index}.{worker}"),
                    Group::Worker,
                    Some(node.clock),
                );
                self.workers.insert(format!("uid-{index}-{worker}").into(), lane);
            }
        }
        self.objects = self.lane("objects", Group::Objects, None);
        for actor in 0..plan.world.actors {
            let key = ActorKey::new("space", format!("actor-{actor}"));
            let lane = self.lane(key.name.as_str(), Group::Actor, None);
            self.actors.insert(key, lane);
        }
    }

    fn lane(&mut self, name: impl Into<String>, group: Group, clock: Option<Clock>) -> usize {
        self.lanes.push(Lane {
            name: name.into(),
            group,
            clock,
        });
        self.lanes.len() - 1
    }

    /// Where that is.
    pub(crate) fn lane_of(&self, place: &Place) -> Option<usize> {
        match place {
            Place::Faults => Some(FAULTS),
            Place::Callers => Some(CALLERS),
            Place::Store => Some(self.store),
            Place::Objects => Some(self.objects),
            Place::Replica(index) => self.replicas.get(*index).copied(),
            Place::Node(index) => self.nodes.get(*index).copied(),
            Place::NodeNamed(name) => self.nodes_named.get(name).copied(),
            Place::Worker(uid) => self.workers.get(uid).copied(),
            Place::Actor(key) => self.actors.get(key).copied(),
            Place::Same => None,
        }
    }

    /// An event was put into the queue.
    pub(crate) fn sends(&mut self, event: u64) {
        let from = self.step.deed.or(self.step.head).or(self.step.cause);
        self.sent.extend(from.map(|from| (event, from)));
    }

    /// An event is performed.
    pub(crate) fn begins(&mut self, event: u64) {
        self.step = Step {
            cause: self.sent.remove(&event),
            ..Step::default()
        };
    }

    /// The world tells something.
    pub(crate) fn tells(&mut self, now: u64, line: &Line<'_>) {
        match line {
            Line::PodReplaced(_, old, new) => {
                if let Some(lane) = self.workers.get(*old).copied() {
                    self.workers.insert((*new).clone(), lane);
                }
            }
            Line::Calm => {
                self.calm = Some(now);
                self.ends(now, |track| matches!(track, Track::Fault(_)));
            }
            _ => {}
        }
        if let Some(seen) = Seen::of(line) {
            self.sees(now, seen);
        }
        match line {
            Line::Fact(fact) => self.learns(now, fact),
            Line::Fault(fault) => {
                let number = self.next;
                let lasts = match fault {
                    Fault::StoreFailsOver { away_us, .. } => Some(*away_us),
                    _ => (*fault).clone().duration().copied(),
                };
                if let Some(lasts) = lasts {
                    let about = self.about_last();
                    let fault = self.bar(now, FAULTS, Span::Fault, about);
                    let until = Some(now + lasts);
                    self.open
                        .insert((FAULTS, Track::Fault(number)), Bar { until, ..fault });
                }
            }
            Line::ReplicaDoes(
                index,
                Output::Store(
                    effect,
                    StoreOp::AcquireLease { token, .. } | StoreOp::RenewLease { token, .. },
                ),
            ) => {
                self.leases.insert((*index, *effect), (*token, now));
            }
            Line::ReplicaHears(index, Input::Stored(effect, reply)) => {
                if let Some((token, sent_at)) = self.leases.remove(&(*index, *effect))
                    && let Ok(StoreReply::Acquired(_) | StoreReply::Done) = reply
                {
                    self.granted.insert(token, sent_at);
                    self.covers(*index, token);
                }
            }
            Line::ReplicaDies(index) => {
                self.ends(now, |track| matches!(track, Track::Belief(_, of) if of == index));
                self.leases.retain(|(replica, _), _| replica != index);
            }
            _ => {}
        }
    }

    /// Something is seen.
    pub(crate) fn sees(&mut self, now: u64, seen: Seen) {
        let Step {
            cause,
            head,
            deed,
            last,
        } = self.step;
        let cause = match seen.kind {
            Kind::Does => head.or(cause),
            Kind::Wakes => None,
            Kind::Violation => last.or(cause),
            _ => deed.or(head).or(cause),
        };
        let parent = cause.and_then(|number| self.entry(number));
        let lane = self.lane_of(&seen.place);
        let lane = lane.or(parent.map(|entry| entry.lane)).unwrap_or(FAULTS);
        let mut about = seen.about;
        let asked = seen.request.and_then(|id| self.asks.get(&id));
        about.actor = about.actor.or_else(|| asked.cloned());
        if let Some(parent) = parent.filter(|_| seen.inherits) {
            let parent = &parent.about;
            about.actor = about.actor.or_else(|| parent.actor.clone());
            about.worker = about.worker.or_else(|| parent.worker.clone());
            about.op = about.op.or(parent.op);
            about.fence = about.fence.or(parent.fence);
        }
        if let (Some(id), Some(actor)) = (seen.request, &about.actor) {
            self.asks.insert(id, actor.clone());
        }
        let number = self.next;
        self.next += 1;
        self.step.head = head.or(Some(number));
        self.step.last = Some(number);
        if seen.kind == Kind::Does {
            self.step.deed = Some(number);
        }
        if now > self.window.until {
            self.dropped.1 += 1;
            return;
        }
        self.entries.push_back(Entry {
            at: now,
            lane,
            kind: seen.kind,
            about,
            cause,
        });
        // Before the window some are kept, so that what comes first in it knows what it is about.
        if self.entries.len() > self.window.entries {
            self.entries.pop_front();
            self.dropped.0 += 1;
        }
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        let back = self.written().checked_sub(number)?;
        let index = self.entries.len().checked_sub(back as usize)?;
        self.entries.get(index)
    }

    /// The number after the last entry that is kept.
    fn written(&self) -> u32 {
        self.next - u32::try_from(self.dropped.1).unwrap_or(self.next)
    }

    fn about_last(&self) -> About {
        self.entries
            .back()
            .map(|entry| entry.about.clone())
            .unwrap_or_default()
    }

    fn learns(&mut self, now: u64, fact: &Fact) {
        match fact {
            Fact::Asked(id, actor, what) => {
                let about = About {
                    label: format!("{what:?}"),
                    actor: Some(actor.clone()),
                    ..About::default()
                };
                self.lasts(now, CALLERS, Track::Request(*id), Some((Span::Request, about)));
            }
            Fact::Told(id, _) | Fact::Unheard(id) => self.lasts(now, CALLERS, Track::Request(*id), None),
            Fact::Believes {
                actor,
                replica,
                token,
            } => {
                let about = About {
                    label: format!("replica-{replica}"),
                    detail: format!("lease {token}"),
                    actor: Some(actor.clone()),
                    ..About::default()
                };
                for lane in self.lanes_of_belief(actor, *replica) {
                    let belief = Some((Span::Belief, about.clone()));
                    self.lasts(now, lane, Track::Belief(actor.clone(), *replica), belief);
                }
                self.covers(*replica, *token);
            }
            Fact::Doubts { actor, replica } => {
                for lane in self.lanes_of_belief(actor, *replica) {
                    self.lasts(now, lane, Track::Belief(actor.clone(), *replica), None);
                }
            }
            _ => {}
        }
    }

    fn lanes_of_belief(&self, actor: &ActorKey, replica: usize) -> Vec<usize> {
        let places = [Place::Replica(replica), Place::Actor(actor.clone())];
        places.iter().filter_map(|place| self.lane_of(place)).collect()
    }

    /// How far the settings cover a belief in a lease: from before it was asked for, on the replica's own clock.
    fn covers(&mut self, replica: usize, token: LeaseToken) {
        let Some(sent_at) = self.granted.get(&token).copied() else {
            return;
        };
        let clock = self.plan.world.replicas[replica];
        let believed_for = self.plan.settings.settings().lease.believed_for();
        let until = clock.moment(clock.shows(sent_at).plus(believed_for));
        let detail = format!("lease {token}");
        for ((_, track), bar) in &mut self.open {
            if matches!(track, Track::Belief(_, of) if *of == replica) && bar.about.detail == detail {
                bar.covered = Some(until);
            }
        }
    }

    /// From now on this is what lasts there, or nothing.
    pub(crate) fn lasts(&mut self, now: u64, lane: usize, track: Track, what: Option<(Span, About)>) {
        let key = (lane, track);
        if let (Some(open), Some((span, about))) = (self.open.get_mut(&key), &what)
            && open.span == *span
            && open.about.is_same(about)
        {
            return;
        }
        if let Some(open) = self.open.remove(&key) {
            self.close(open, now);
        }
        if let Some((span, about)) = what {
            let bar = self.bar(now, lane, span, about);
            self.open.insert(key, bar);
        }
    }

    /// The leases that the store has, each with its holder and its end in true time.
    pub(crate) fn holds(&mut self, now: u64, held: &BTreeMap<ActorKey, (LeaseToken, u64)>) {
        let over = |track: &Track| matches!(track, Track::Lease(key) if !held.contains_key(key));
        self.ends(now, over);
        for (key, (token, until)) in held {
            if self.held.get(key) == Some(&(*token, *until)) {
                continue;
            }
            let about = About {
                label: key.name.to_string(),
                detail: format!("lease {token}"),
                actor: Some(key.clone()),
                ..About::default()
            };
            for lane in [Some(self.store), self.actors.get(key).copied()]
                .into_iter()
                .flatten()
            {
                let track = Track::Lease(key.clone());
                self.lasts(now, lane, track.clone(), Some((Span::Lease, about.clone())));
                self.expires(lane, track, *until);
            }
        }
        self.held = held.clone();
    }

    /// The records that the store has.
    pub(crate) fn stores(&mut self, now: u64, actors: &BTreeMap<ActorKey, Actor>) {
        let gone = |track: &Track| matches!(track, Track::State(key) if !actors.contains_key(key));
        self.ends(now, gone);
        self.stored.retain(|key, _| actors.contains_key(key));
        for (key, actor) in actors {
            let Some(lane) = self.actors.get(key).copied() else {
                continue;
            };
            if self.stored.get(key) == Some(&actor.edition()) {
                continue;
            }
            self.stored.insert(key.clone(), actor.edition());
            let about = About {
                label: actor.status().name().to_string(),
                actor: Some(key.clone()),
                worker: actor.assignment().map(|on| on.pod_uid.clone()),
                op: actor.operation(),
                ..About::default()
            };
            self.lasts(now, lane, Track::State(key.clone()), Some((Span::State, about)));
        }
    }

    fn ends(&mut self, now: u64, is_it: impl Fn(&Track) -> bool) {
        let tracks: Vec<_> = self
            .open
            .keys()
            .filter(|(_, track)| is_it(track))
            .cloned()
            .collect();
        for (lane, track) in tracks {
            self.lasts(now, lane, track, None);
        }
    }

    /// It is there until then, if nobody says otherwise before.
    pub(crate) fn expires(&mut self, lane: usize, track: Track, until: u64) {
        if let Some(open) = self.open.get_mut(&(lane, track)) {
            open.until = Some(until);
        }
    }

    fn bar(&self, now: u64, lane: usize, span: Span, about: About) -> Bar {
        Bar {
            from: now,
            until: None,
            lane,
            span,
            about,
            covered: None,
            cause: self.step.last.or(self.step.cause),
        }
    }

    fn close(&mut self, bar: Bar, now: u64) {
        let until = bar.until.unwrap_or(now).min(now);
        if until >= self.window.from && bar.from <= self.window.until {
            let covered = bar.covered.filter(|covered| *covered < until);
            self.bars.push(Bar {
                until: Some(until),
                covered,
                ..bar
            });
        }
    }

    /// The run is over.
    pub(crate) fn end(
        mut self,
        end: u64,
        events: u64,
        verdicts: &BTreeMap<String, u64>,
        violation: Option<&Violation>,
    ) -> Record {
        // Nothing is played any more after that.
        let end = violation.map_or(end, |violation| violation.at);
        let mut violated = None;
        if let Some(violation) = violation.filter(|violation| violation.at <= self.window.until) {
            let about = About {
                label: format!("{} is violated", violation.invariant),
                detail: violation.what.clone(),
                ..About::default()
            };
            violated = Some(self.next);
            let seen = Seen::new(Place::Same, Kind::Violation, about);
            self.sees(
                violation.at,
                Seen {
                    inherits: true,
                    ..seen
                },
            );
        }
        let until = self.window.until.min(end);
        for ((_, _), bar) in std::mem::take(&mut self.open) {
            let ends = bar.until.filter(|ends| *ends <= until);
            let is_seen = ends.is_none_or(|ends| ends >= self.window.from) && bar.from <= until;
            if is_seen {
                let covered = bar.covered.filter(|covered| *covered < ends.unwrap_or(until));
                self.bars.push(Bar {
                    until: ends,
                    covered,
                    ..bar
                });
            }
        }
        let before = self
            .entries
            .iter()
            .take_while(|entry| entry.at < self.window.from);
        let before = before.count();
        let mut dropped = self.dropped;
        // Of a moment of which something was dropped nothing can be said.
        let since = match self.entries.front() {
            Some(entry) if dropped.0 > 0 => entry.at,
            _ => 0,
        };
        let from = self.window.from.max(since).min(until);
        let first = self.written() - u32::try_from(self.entries.len() - before).unwrap_or(u32::MAX);
        let entries = self.entries.into_iter().skip(before).collect();
        dropped.0 += before as u64;
        let mut bars = self.bars;
        bars.retain(|bar| bar.until.is_none_or(|until| until >= from));
        bars.sort_by_key(|bar| (bar.from, bar.lane));
        Record {
            plan: Plan::clone(&self.plan),
            lanes: self.lanes,
            first,
            entries,
            bars,
            from,
            until,
            end,
            calm: self.calm,
            events,
            left_out: dropped,
            verdicts: verdicts.clone(),
            violation: violation.cloned(),
            violated: violated.filter(|number| *number >= first),
        }
    }
}

impl About {
    /// Whether two that follow each other are one.
    fn is_same(&self, other: &About) -> bool {
        self.label == other.label
            && self.detail == other.detail
            && self.actor == other.actor
            && self.worker == other.worker
            && self.op == other.op
    }
}
