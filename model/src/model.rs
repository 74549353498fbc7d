//! The world as something that can be explored: the core's own machines, and what they have done before.
//!
//! A machine is a pure function of its state, its clock and its input. So what it does is worked out once
//! per distinct question and looked up from then on.

use crate::catalog::{catalog, template};
use crate::host::{Ateom, Host};
use crate::part::{Part, Parts, Quick};
use crate::scene::{Scene, replica_id};
use crate::scope::{Answers, Budget, Scope, actor_name};
use crate::state::{Atelet, Caller, NODES, Name, Outside, Pools, SEATS, Seat, State};
use crate::step::Step;
use crate::store::Store;
use crate::{history::History, search::System};
use holdfast_core::actor::Actor;
use holdfast_core::catalog::{Catalog, Selector, Template, Workload};
use holdfast_core::effect::NodeRow;
use holdfast_core::id::{ActorKey, Incarnation, PodUid, RequestId, WorkerKey};
use holdfast_core::licence::Licence;
use holdfast_core::machine::Machine;
use holdfast_core::node::{self, Node};
use holdfast_core::replica::{self, Replica};
use holdfast_core::time::{Duration, Instant};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// What was asked for before the world begins has ids of this kind.
const EARLIER: u64 = 1 << 31;

type Known<Part, Output> = HashMap<(u32, u32), (Part, Rc<[Output]>), Quick>;

/// How much is looked at in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// From every state the world comes to rest if nothing goes wrong any more.
    Everywhere,
    /// Only what happens is looked at.
    Off,
}

/// A world, and everything that has been seen of it.
pub struct Model {
    /// What it consists of.
    pub scope: Scope,
    pub(crate) liveness: Liveness,
    pub(crate) pools: Pools,
    pub(crate) workload: Arc<Workload>,
    /// States from which the world is known to come to rest.
    pub(crate) calmed: HashSet<Name, Quick>,
    /// What happens in a calm, in words, while somebody wants to read it.
    pub(crate) log: Option<Vec<String>>,
    template: Arc<Template>,
    catalog: Catalog,
    replica_inputs: Parts<replica::Input>,
    node_inputs: Parts<node::Input>,
    replica_known: Known<Part<Seat>, replica::Output>,
    node_known: Known<Part<Atelet>, node::Output>,
}

impl Model {
    /// A world of this scope.
    pub fn new(scope: Scope, liveness: Liveness) -> Model {
        let template = template();
        Model {
            scope,
            liveness,
            pools: Pools::default(),
            workload: Arc::new(template.workload.clone()),
            calmed: HashSet::default(),
            log: None,
            catalog: catalog(&template),
            template,
            replica_inputs: Parts::default(),
            node_inputs: Parts::default(),
            replica_known: HashMap::default(),
            node_known: HashMap::default(),
        }
    }

    /// The key of an actor.
    pub fn actor(index: usize) -> ActorKey {
        ActorKey::new("space", actor_name(index))
    }

    pub(crate) fn replica_hears(
        &mut self,
        seat: &Part<Seat>,
        input: replica::Input,
    ) -> (Part<Seat>, Rc<[replica::Output]>) {
        let Some(machine) = &seat.machine else {
            return (seat.clone(), Rc::from([]));
        };
        let input = self.replica_inputs.part(input);
        let question = (seat.number(), input.number());
        if let Some((after, outputs)) = self.replica_known.get(&question) {
            return (after.clone(), outputs.clone());
        }
        let mut machine = machine.clone();
        machine.handle(seat.now, replica::Input::clone(&input));
        let outputs: Rc<[_]> = std::iter::from_fn(|| machine.poll_output()).collect();
        let after = self.pools.seats.part(Seat {
            machine: Some(machine),
            now: seat.now,
            watch: seat.watch.clone(),
            is_lagging: seat.is_lagging,
        });
        self.replica_known
            .insert(question, (after.clone(), outputs.clone()));
        (after, outputs)
    }

    pub(crate) fn replica_wakes(
        &mut self,
        seat: &Part<Seat>,
        now: Instant,
    ) -> (Part<Seat>, Vec<replica::Output>) {
        let mut after = Seat::clone(seat);
        after.now = now;
        let mut outputs = Vec::new();
        if let Some(machine) = &mut after.machine {
            machine.handle_timeout(now);
            outputs.extend(std::iter::from_fn(|| machine.poll_output()));
        }
        (self.pools.seats.part(after), outputs)
    }

    pub(crate) fn node_hears(
        &mut self,
        atelet: &Part<Atelet>,
        input: node::Input,
    ) -> (Part<Atelet>, Rc<[node::Output]>) {
        let Some(machine) = &atelet.machine else {
            return (atelet.clone(), Rc::from([]));
        };
        let input = self.node_inputs.part(input);
        let question = (atelet.number(), input.number());
        if let Some((after, outputs)) = self.node_known.get(&question) {
            return (after.clone(), outputs.clone());
        }
        let mut machine = machine.clone();
        machine.handle(atelet.now, node::Input::clone(&input));
        let outputs: Rc<[_]> = Rc::from(drain_node(&mut machine, atelet.now));
        let after = self.pools.atelets.part(Atelet {
            machine: Some(machine),
            now: atelet.now,
        });
        self.node_known.insert(question, (after.clone(), outputs.clone()));
        (after, outputs)
    }

    pub(crate) fn node_wakes(
        &mut self,
        atelet: &Part<Atelet>,
        now: Instant,
    ) -> (Part<Atelet>, Vec<node::Output>) {
        let mut after = Atelet::clone(atelet);
        after.now = now;
        let mut outputs = Vec::new();
        if let Some(machine) = &mut after.machine {
            machine.handle_timeout(now);
            outputs = drain_node(machine, now);
        }
        (self.pools.atelets.part(after), outputs)
    }

    /// An atelet's process that has just begun.
    pub(crate) fn fresh_node(&mut self, node: usize, run: u32, now: Instant) -> Part<Atelet> {
        let name = node_name(node);
        let row = NodeRow {
            address: name.as_str().into(),
            name: name.into(),
            incarnation: format!("atelet-{run}").into(),
            sequence: 0,
            session: 0,
            lapsed: 0,
            version: 0,
        };
        self.pools.atelets.part(Atelet {
            machine: Some(Node::new(row, self.scope.settings)),
            now,
        })
    }

    /// The world before anything has happened in it.
    fn empty(&mut self) -> State {
        let origin = Instant::from_micros(1_000_000_000);
        let seats = std::array::from_fn(|seat| {
            let machine = Replica::new(replica_id(seat), self.scope.settings, self.catalog.clone());
            self.pools.seats.part(Seat {
                machine: Some(machine),
                now: origin,
                watch: VecDeque::new(),
                is_lagging: false,
            })
        });
        let mut hosts = [const { None }; NODES];
        let mut atelets = [const { None }; NODES];
        for node in 0..NODES {
            let is_there = node < self.scope.nodes;
            let host = if is_there {
                self.host(node)
            } else {
                Host::default()
            };
            hosts[node] = Some(self.pools.hosts.part(host));
            atelets[node] = Some(if is_there {
                self.fresh_node(node, 0, origin)
            } else {
                self.pools.atelets.part(Atelet {
                    machine: None,
                    now: origin,
                })
            });
        }
        let actors = (0..self.scope.actors).map(|index| {
            let key = Model::actor(index);
            let record = Actor::create(
                key.clone(),
                Incarnation(7),
                self.template.clone(),
                Selector::default(),
            );
            (key, record)
        });
        let store = Store {
            actors: actors.collect(),
            ..Store::default()
        };
        let outside = Outside {
            callers: vec![Caller::default(); self.scope.callers.len()],
            silent: None,
            objects: BTreeMap::new(),
            budget: Budget::default(),
        };
        State {
            seats,
            atelets: atelets.map(|atelet| atelet.expect("every place has been filled")),
            hosts: hosts.map(|host| host.expect("every place has been filled")),
            store: self.pools.stores.part(store),
            flight: self.pools.flights.part(crate::flight::Flight::default()),
            outside: self.pools.outsides.part(outside),
            history: self.pools.histories.part(History::default()),
        }
    }

    fn host(&self, node: usize) -> Host {
        let ateoms = (0..self.scope.workers_per_node).map(|worker| {
            let uid: PodUid = format!("w{}", node * self.scope.workers_per_node + worker + 1).into();
            let ateom = Ateom {
                key: WorkerKey::new("ns", "pool", uid.clone()),
                sandbox: None,
                licence: Licence::default(),
                last: None,
            };
            (uid, ateom)
        });
        Host {
            name: node_name(node).into(),
            ateoms: ateoms.collect(),
            ..Host::default()
        }
    }

    /// Replicas and nodes start, and find each other.
    fn started(&mut self) -> State {
        let empty = self.empty();
        let nodes = self.scope.nodes;
        let mut scene = Scene::open(self, &empty);
        for seat in 0..SEATS {
            scene.tell_replica(seat, replica::Input::Start);
        }
        for node in 0..nodes {
            scene.start_node(node);
        }
        scene.rest();
        scene.pass(Duration::from_secs(1));
        for (number, wish) in scene.model.scope.before.clone().into_iter().enumerate() {
            scene.wish(0, RequestId(EARLIER + number as u64), wish);
            scene.rest();
        }
        let budget = scene.model.scope.budget;
        scene.outside.budget = budget;
        scene.close().expect("nothing is wrong with a world that begins")
    }
}

impl System for Model {
    type State = State;
    type Name = Name;
    type Step = Step;

    fn initial(&mut self) -> State {
        self.started()
    }

    fn name(&self, state: &State) -> Name {
        state.name()
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        crate::step::enabled(&self.scope, state)
    }

    fn after(&mut self, state: &State, step: &Step) -> Result<State, String> {
        let mut scene = Scene::open(self, state);
        scene.take(step);
        scene.forget_futile();
        scene.close()
    }

    fn check(&mut self, state: &State) -> Result<(), String> {
        match self.liveness {
            Liveness::Everywhere => crate::calm::comes_to_rest(self, state),
            Liveness::Off => Ok(()),
        }
    }
}

/// Whether the store's answers are messages of their own.
pub(crate) fn answers_travel(scope: &Scope) -> bool {
    scope.answers == Answers::InFlight
}

fn node_name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// A node reports as soon as it wants to: what is due now fires at once.
fn drain_node(machine: &mut Node, now: Instant) -> Vec<node::Output> {
    let mut outputs = Vec::new();
    loop {
        outputs.extend(std::iter::from_fn(|| machine.poll_output()));
        match machine.poll_timeout() {
            Some((at, _)) if at <= now => machine.handle_timeout(now),
            _ => return outputs,
        }
    }
}
