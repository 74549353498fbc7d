//! The simulated world: replicas, nodes, a store, an object store, an image registry and callers, in
//! virtual time, one event after the other. Nothing here decides anything; the core does.

mod ateoms;
mod callers;
mod faults;
mod flawed;
pub mod knife;
mod nodes;
mod outside;
mod queue;
mod recorded;
mod replicas;
pub(crate) mod stage;

use crate::caught::caught;
use crate::clock::Clock;
use crate::fact::{Ending, Fact};
use crate::host::{Ateom, Host};
use crate::latency::{STORE_PATIENCE, STORE_STEP, Span};
use crate::museum::flaw::Flaw;
use crate::oracle::{Nearness, Oracles, Violation};
use crate::plan::{Kind, MILLI, Plan, SECOND};
use crate::rng::{self, Rng};
use crate::store::Store;
use crate::story::line::Line;
use crate::story::recorder::{Recorder, Window};
use ateoms::Waiter;
use callers::{Ask, Caller};
use holdfast_core::actor::Snapshot;
use holdfast_core::bounds::Bound;
use holdfast_core::catalog::{
    Catalog, ConfigRole, Container, LabelSelector, Pool, SandboxConfig, Scope, Template, Workload,
};
use holdfast_core::effect::{Discard, NodeCall, NodeReply, StoreOp};
use holdfast_core::id::{ActorKey, EffectId, Name, PodUid, RequestId, WorkerKey};
use holdfast_core::licence::Licensed;
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, Kept, Order, Tend, Work};
use holdfast_core::pull::Attempt;
use holdfast_core::registry::Report;
use holdfast_core::replica;
use holdfast_core::request::Verdict;
use holdfast_core::settings::Settings;
use holdfast_core::table::Moved;
use holdfast_core::time::Instant;
use knife::{Knife, Mishap, Who};
use outside::Outside;
use queue::Queue;
use recorded::Touched;
use replicas::{Call, Process};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The world of one run.
#[derive(Clone)]
pub struct World {
    plan: Arc<Plan>,
    settings: Settings,
    rng: Rng,
    now: u64,
    queue: Queue<Event>,
    events: u64,
    digest: u64,
    catalog: Catalog,
    store: Store,
    store_away_until: u64,
    objects: BTreeMap<Name, Option<u64>>,
    objects_away_until: u64,
    registry_hung_until: u64,
    replicas: Vec<Process>,
    hosts: Vec<Host>,
    calls: BTreeMap<u64, Call>,
    asks: BTreeMap<RequestId, Ask>,
    callers: Vec<Caller>,
    next_id: u64,
    calm: bool,
    oracles: Oracles,
    /// Snapshots that nobody has to collect: the store has forgotten that it knew of them, or they were
    /// written after they had been collected.
    excused: BTreeSet<Name>,
    outside: Outside,
    knife: Knife,
    /// What does not keep its contract, in a world of the museum.
    flaw: Option<Box<dyn Flaw>>,
    /// When the part of the run that is looked at began.
    began: u64,
    telling: Telling,
}

/// What becomes of the lines of a story.
#[derive(Clone, Debug)]
enum Telling {
    Dropped,
    Digested(u64),
    Kept(Vec<String>),
    Recorded(Box<Recorder>),
}

/// What is under way in the world.
#[derive(Clone, Debug)]
enum Event {
    Replica(usize, u32, replica::Input),
    ReplicaWake(usize, u32),
    ReplicaStarts(usize),
    WatchHeals(usize),
    AtStore(usize, u32, EffectId, StoreOp, Answered),
    Node(usize, u32, node::Input),
    NodeWake(usize, u32),
    NodeStarts(usize),
    OrderArrives(u64, Box<NodeCall>),
    CallEnds(u64, NodeReply),
    DiscardArrives(usize, u32, EffectId, Name, Discard),
    ReportArrives(usize, u32, Report),
    ReportWaits(RequestId, usize, u32, Report, usize),
    Step(usize, u32, EffectId, Work, Arc<Order>),
    AtAteom(usize, u32, EffectId, Work, Arc<Order>),
    AteomAsked(usize, u32, EffectId, PodUid),
    AteomDone(usize, Waiter, Arc<Order>),
    AteomJoined(usize, PodUid, ActorKey, Waiter),
    AteomStarts(usize, PodUid),
    PodEnds(usize, PodUid),
    AteomTended(usize, PodUid, ActorKey, Tend),
    AteomWakes(usize, PodUid),
    Kept(usize, u32, EffectId, Box<Kept>),
    PullMoves(usize, u32, Attempt, Name, u64),
    Told(RequestId, Option<Box<Verdict>>),
    Caller(usize),
    CallerLeaves(RequestId),
    CountSent(ActorKey, usize, PodUid),
    Count(u64, ActorKey, usize, PodUid),
    CountTold(u64, u64),
    Traffic,
    Strike(usize),
    Wish(usize),
    Befalls(Who, u32, Mishap),
}

/// Whether an answer finds its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Heard,
    Lost,
    /// Nobody waits for it, and yet it lands.
    Cut,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many events there were.
    pub events: u64,
    /// How much time has passed in it, in microseconds.
    pub micros: u64,
    /// A digest of all of them: two runs of one plan are equal.
    pub digest: u64,
    /// How many requests of callers were answered, by what they were told.
    pub verdicts: BTreeMap<String, u64>,
    /// How near it came to each bound that was put to the test.
    pub nearness: BTreeMap<Bound, Nearness>,
    /// The transitions that records have made.
    pub moves: BTreeSet<Moved>,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// What went wrong as it is known to, and not mended yet: see `sim/corpus/open`.
    pub known: Option<Violation>,
    /// A digest of the whole story, of all that machines heard and did, if that was asked for.
    pub told: u64,
    /// The whole story, if it was asked for.
    pub timeline: Vec<String>,
}

/// Whether the story of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// It is.
    Kept,
    /// This part of it is, as a [`crate::story::Record`] instead of lines.
    Recorded(Window),
    /// Only a digest of all its lines is.
    Digested,
    /// It is not, which is faster.
    Dropped,
}

impl World {
    /// The world at its beginning.
    pub fn new(plan: Plan, story: Story) -> World {
        let plan = Arc::new(plan);
        let sizes = &plan.world;
        let settings = plan.settings.settings();
        let hosts = sizes
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| host(n, node.workers))
            .collect();
        let callers = (0..sizes.callers).map(|_| Caller::default()).collect();
        let mut world = World {
            rng: Rng::new(plan.noise.seed),
            now: 0,
            queue: Queue::new(),
            events: 0,
            digest: 0,
            catalog: catalog(),
            store: Store::with_atespace("space".into()),
            store_away_until: 0,
            objects: BTreeMap::new(),
            objects_away_until: 0,
            registry_hung_until: 0,
            replicas: (0..sizes.replicas.len()).map(|_| Process::default()).collect(),
            hosts,
            calls: BTreeMap::new(),
            asks: BTreeMap::new(),
            callers,
            next_id: 1,
            calm: false,
            excused: BTreeSet::new(),
            outside: Outside::default(),
            oracles: Oracles::new(&plan),
            knife: Knife::default(),
            flaw: None,
            began: 0,
            telling: match story {
                Story::Kept => Telling::Kept(Vec::new()),
                Story::Recorded(window) => Telling::Recorded(Box::new(Recorder::new(&plan, window))),
                Story::Digested => Telling::Digested(0),
                Story::Dropped => Telling::Dropped,
            },
            settings,
            plan: plan.clone(),
        };
        for replica in 0..world.replicas.len() {
            world.after(MILLI, 100 * MILLI, Event::ReplicaStarts(replica));
        }
        for node in 0..world.hosts.len() {
            world.after(MILLI, 100 * MILLI, Event::NodeStarts(node));
        }
        for (number, wish) in plan.requests.iter().enumerate() {
            world.at(wish.at_us, Event::Wish(number));
        }
        for (number, strike) in plan.faults.iter().enumerate() {
            world.at(strike.at_us, Event::Strike(number));
        }
        if plan.has(Kind::StoreFailsOver) {
            world.store.remember(settings.workflow.collect_after);
        }
        world
    }

    /// Runs it: a storm, a calm, then every actor is asked to serve once more. A machine that panics is a
    /// violation like any other.
    pub fn run(mut self) -> Outcome {
        self.play_out();
        self.outcome()
    }

    fn play_out(&mut self) {
        if let Err(what) = caught(|| self.play()) {
            let now = self.now;
            self.oracles.panicked(now, what);
        }
    }

    fn play(&mut self) {
        self.run_until(self.plan.storm_us);
        if self.oracles.violation().is_none() {
            self.heal();
            self.run_until(self.plan.storm_us + self.plan.recovery());
        }
        if self.oracles.violation().is_none() {
            self.look_around();
            self.serve_everyone();
        }
        self.oracles.end();
    }

    fn outcome(mut self) -> Outcome {
        Outcome {
            events: self.events,
            micros: self.now,
            digest: self.digest,
            verdicts: self.oracles.verdicts().clone(),
            nearness: self.oracles.nearness(),
            moves: self.oracles.moves().clone(),
            violation: self.oracles.violation().cloned(),
            known: self.oracles.known().cloned(),
            told: match self.telling {
                Telling::Digested(digest) => digest,
                _ => 0,
            },
            timeline: self.story(),
        }
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while self.oracles.violation().is_none() && self.queue.next_at().is_some_and(|at| at < end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Performs the next event.
    pub(crate) fn step(&mut self) {
        let Some((at, seq, event)) = self.queue.take() else {
            return;
        };
        self.now = at;
        self.events += 1;
        self.digest = Rng::new(self.digest ^ at.rotate_left(20) ^ seq).any();
        if !matches!(self.telling, Telling::Recorded(_)) {
            return self.perform_event(*event);
        }
        let touched = Touched::by(&event);
        self.record_event(seq, &event);
        self.perform_event(*event);
        self.record_state(touched);
    }

    fn perform_event(&mut self, event: Event) {
        match event {
            Event::Replica(replica, life, input) => self.deliver_to_replica(replica, life, input),
            Event::ReplicaWake(replica, life) => self.wake_replica(replica, life),
            Event::ReplicaStarts(replica) => self.start_replica(replica),
            Event::WatchHeals(replica) => self.watch_heals(replica),
            Event::AtStore(replica, life, effect, op, answered) => {
                self.at_store(replica, life, effect, &op, answered)
            }
            Event::Node(node, life, input) => self.deliver_to_node(node, life, input),
            Event::NodeWake(node, life) => self.wake_node(node, life),
            Event::NodeStarts(node) => self.start_node(node),
            Event::OrderArrives(call, order) => self.order_arrives(call, order),
            Event::CallEnds(call, reply) => self.call_ends(call, reply),
            Event::DiscardArrives(replica, life, effect, address, discard) => {
                self.discard_arrives(replica, life, effect, &address, &discard);
            }
            Event::ReportArrives(node, life, report) => self.report_arrives(node, life, report),
            Event::ReportWaits(id, node, life, report, tries) => {
                self.report_waits(id, node, life, report, tries)
            }
            Event::Step(node, life, effect, work, order) => self.step_ends(node, life, effect, &work, &order),
            Event::AtAteom(node, life, effect, work, order) => self.at_ateom(node, life, effect, work, order),
            Event::AteomAsked(node, life, effect, uid) => self.ateom_asked(node, life, effect, &uid),
            Event::AteomDone(node, waiter, order) => self.ateom_done(node, waiter, &order),
            Event::AteomJoined(node, uid, actor, waiter) => self.ateom_joined(node, &uid, actor, waiter),
            Event::AteomStarts(node, uid) => self.start_ateom(node, &uid),
            Event::PodEnds(node, uid) => self.replace_pod(node, &uid),
            Event::AteomTended(node, uid, actor, tend) => self.ateom_tended(node, &uid, &actor, tend),
            Event::AteomWakes(node, uid) => self.ateom_wakes(node, &uid),
            Event::Kept(node, life, effect, kept) => self.kept(node, life, effect, &kept),
            Event::PullMoves(node, life, attempt, image, left) => {
                self.pull_moves(node, life, attempt, image, left)
            }
            Event::Told(id, verdict) => self.told(id, verdict.map(|v| *v)),
            Event::Caller(caller) => self.caller_acts(caller),
            Event::CallerLeaves(id) => self.caller_leaves(id),
            Event::CountSent(actor, node, uid) => self.send_count(actor, node, uid),
            Event::Count(id, actor, node, uid) => self.count(id, &actor, node, &uid),
            Event::CountTold(id, count) => self.fact(Fact::Answered(id, count)),
            Event::Traffic => self.traffic(),
            Event::Strike(number) => self.strike(number),
            Event::Wish(number) => self.wish(number),
            Event::Befalls(who, life, mishap) => self.befall(&who, life, mishap),
        }
    }

    /// Schedules an event between `low` and `high` microseconds from now.
    fn after(&mut self, low: u64, high: u64, event: Event) {
        let at = self.now + self.rng.between(low, high);
        self.at(at, event);
    }

    /// Schedules an event as far from now as such a message takes.
    fn within(&mut self, span: Span, event: Event) {
        self.after(span.least, span.most, event);
    }

    /// How long such a message takes.
    fn drawn(&mut self, span: Span) -> u64 {
        self.rng.between(span.least, span.most)
    }

    fn at(&mut self, at: u64, event: Event) {
        let seq = self.queue.put(at, event);
        if let Telling::Recorded(recorder) = &mut self.telling {
            recorder.sends(seq);
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn replica_clock(&self, index: usize) -> Clock {
        self.plan.world.replicas[index]
    }

    /// The clock that all processes of a node share.
    fn node_clock(&self, index: usize) -> Clock {
        self.plan.world.nodes[index].clock
    }

    fn store_now(&self) -> Instant {
        let shown = self.plan.world.store.shows(self.now).as_micros();
        Instant::from_micros(shown - shown % STORE_STEP)
    }

    fn fact(&mut self, fact: Fact) {
        self.tell(Line::Fact(&fact));
        let now = self.now;
        self.oracles.see(now, &fact);
    }

    fn did(&mut self, who: &'static str, outputs: usize) {
        if outputs > 0 {
            let now = self.now;
            self.oracles.see(now, &Fact::Did { who, outputs });
        }
    }

    /// The store is not as it should be from now on for so long, and who asks it meanwhile may be told later.
    fn wrong_for(&mut self, micros: u64) {
        let until = self.now + micros + STORE_PATIENCE;
        self.fact(Fact::Wrong { until });
    }

    fn tell(&mut self, line: Line<'_>) {
        let (secs, micros) = (self.now / SECOND, self.now % SECOND);
        let text = || format!("{secs:>4}.{micros:06} {line}");
        match &mut self.telling {
            Telling::Dropped => {}
            Telling::Digested(digest) => *digest = rng::digest(*digest, text().as_bytes()),
            Telling::Kept(lines) => lines.push(text()),
            Telling::Recorded(recorder) => recorder.tells(self.now, &line),
        }
    }

    /// The sandbox in a worker ends.
    fn sandbox_ends(&mut self, node: usize, uid: &PodUid, how: Ending) {
        let now = self.node_clock(node).shows(self.now);
        let Some(ateom) = self.hosts[node].ateoms.get_mut(uid) else {
            return;
        };
        ateom.licence.handle(now, Licensed::Ended);
        if let Some(live) = ateom.sandbox.take() {
            self.fact(Fact::Down {
                worker: uid.clone(),
                actor: live.actor,
                how,
            });
        }
    }

    /// Snapshots in the object store that will never be collected, of those that should be.
    fn forgotten(&self) -> Vec<Name> {
        let of_actors = self
            .store
            .actors
            .values()
            .flat_map(|actor| actor.snapshots().into_iter().chain(actor.let_go().cloned()));
        let of_graves = self
            .store
            .graves
            .values()
            .flat_map(|grave| grave.snapshots.iter().cloned());
        let known: BTreeSet<Snapshot> = of_actors.chain(of_graves).collect();
        let is_forgotten = |name: &&Name| {
            !known.contains(&Snapshot::External((*name).clone()))
                && !self.catalog.is_golden(name)
                && !self.excused.contains(*name)
        };
        self.objects.keys().filter(is_forgotten).cloned().collect()
    }

    fn look_around(&mut self) {
        let mut still = self.still();
        still.forgotten = self.forgotten();
        self.fact(Fact::Calm(Box::new(still)));
    }
}

impl Drop for World {
    /// A machine that panics ends the run; its seed and the end of its story are told all the same.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "a run of seed {} panicked at {}us",
                self.plan.noise.seed, self.now
            );
            if let Telling::Kept(lines) = &self.telling {
                for line in lines.iter().skip(lines.len().saturating_sub(400)) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// What the pod in that place of a node is called, whichever it is.
fn pod_name(node: usize, worker: usize) -> Name {
    format!("pod-{node}-{worker}").into()
}

/// What an actor is called.
fn actor_key(actor: usize) -> ActorKey {
    ActorKey::new("space", format!("actor-{actor}"))
}

fn host(index: usize, workers: usize) -> Host {
    let mut host = Host::new(format!("node-{index}").into());
    for worker in 0..workers {
        let key = WorkerKey::new("ns", "pool", pod_name(index, worker));
        host.ateoms
            .insert(format!("uid-{index}-{worker}").into(), Ateom::new(key, 1));
    }
    host
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    catalog.add_template(Template {
        namespace: "ns".into(),
        name: "counter".into(),
        workload: Workload {
            pause_image: "pause".into(),
            containers: vec![Container {
                name: "main".into(),
                image: "counter".into(),
                command: Vec::new(),
                env: Vec::new(),
                readyz: None,
                mounts: Vec::new(),
            }],
            durable_volumes: Vec::new(),
        },
        snapshot_location: "mem://snapshots".into(),
        on_pause: Scope::Full,
        on_commit: Scope::Full,
        sandbox_class: "gvisor".into(),
        worker_selector: LabelSelector::default(),
        golden_snapshot: None,
    });
    catalog.add_pool(Pool {
        namespace: "ns".into(),
        name: "pool".into(),
        labels: BTreeMap::new(),
        sandbox_class: "gvisor".into(),
        sandbox_config: None,
    });
    catalog.add_sandbox_config(SandboxConfig {
        name: "default".into(),
        sandbox_class: "gvisor".into(),
        role: ConfigRole::Default,
        assets: BTreeMap::new(),
    });
    catalog
}

/// Runs a plan.
pub fn run(plan: Plan) -> Outcome {
    World::new(plan, Story::Dropped).run()
}
