//! The world of a story: real replicas and real atelets, a store that keeps its contract, and one clock.
//!
//! What a machine asks for is done at once and in order, unless the story holds it back. Every effect is
//! noted with the time at which it left its machine.

use crate::atelet::{Atelet, Caller};
use crate::stage::{self, store::Store};
use crate::words;
use holdfast_core::catalog::Catalog;
use holdfast_core::effect::*;
use holdfast_core::id::{EffectId, LeaseToken, NodeName, ReplicaId, RequestId};
use holdfast_core::lease::{self, Keeper};
use holdfast_core::machine::Machine;
use holdfast_core::node;
use holdfast_core::pull::Pulls;
use holdfast_core::registry::Report;
use holdfast_core::replica::{self, Event, Output, Replica};
use holdfast_core::request::{Answer, Request, Verdict};
use holdfast_core::session::OnLapse;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};

/// Far more than any story needs: a world that goes on by itself for so long never stops.
const STEPS_MAX: usize = 10_000;

pub struct World {
    pub now: Instant,
    pub settings: Settings,
    pub catalog: Catalog,
    pub store: Store,
    pub mode: StoreMode,
    /// What the store has been asked and has not answered.
    pub asked: VecDeque<(char, EffectId, StoreOp)>,
    /// Whether replicas hear what others write.
    pub is_watched: bool,
    pub replicas: BTreeMap<char, Seat>,
    /// Calls to nodes that the story itself plays.
    pub calls: Vec<(char, EffectId, NodeCall)>,
    /// The reports so far of nodes that the story itself plays.
    pub rows: BTreeMap<NodeName, NodeRow>,
    pub atelets: BTreeMap<NodeName, Atelet>,
    pub keeper: Option<Keeper>,
    pub pulls: Option<Pulls>,
    pub mail: VecDeque<Mail>,
    /// Heartbeats under way, whose answers are not worth a line, and the atelet that sent each.
    pub heartbeats: BTreeMap<RequestId, Option<NodeName>>,
    pub requests: u64,
    pub orders: u64,
    beats: u64,
    /// The replicas that the story begins with.
    pub cast: Vec<char>,
    /// The session that nodes are at; none if they have none.
    pub session: u64,
    pub shows_sessions: bool,
    pub shows_heartbeats: bool,
    pub is_started: bool,
    pub is_quiet: bool,
    lines: Vec<String>,
}

/// A replica, and what it will find when it is scheduled again.
pub struct Seat {
    pub machine: Replica,
    pub frozen: Option<Vec<replica::Input>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// It answers at once.
    Up,
    /// It answers when the story says so.
    Held,
    /// It cannot be reached.
    Down,
}

pub enum Mail {
    Replica(char, replica::Input),
    Node(NodeName, node::Input),
}

impl World {
    pub fn new() -> World {
        World {
            now: words::START,
            settings: unbound(),
            catalog: stage::catalog(Some(stage::template())),
            store: Store::default(),
            mode: StoreMode::Up,
            asked: VecDeque::new(),
            is_watched: true,
            replicas: BTreeMap::new(),
            calls: Vec::new(),
            rows: BTreeMap::new(),
            atelets: BTreeMap::new(),
            keeper: None,
            pulls: None,
            mail: VecDeque::new(),
            heartbeats: BTreeMap::new(),
            requests: 0,
            orders: 0,
            beats: 0,
            cast: Vec::new(),
            session: 0,
            shows_sessions: false,
            shows_heartbeats: false,
            is_started: false,
            is_quiet: false,
            lines: Vec::new(),
        }
    }

    pub fn say(&mut self, who: &str, what: &str) {
        if !self.is_quiet {
            self.lines.push(
                format!("{}  {who:<6}  {what}", words::time(self.now))
                    .trim_end()
                    .into(),
            );
        }
    }

    /// What happened since the last look.
    pub fn happened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub fn add_replica(&mut self, name: char) {
        let id = ReplicaId(u64::from(u32::from(name)));
        let machine = Replica::new(id, self.settings, self.catalog.clone());
        self.replicas.insert(
            name,
            Seat {
                machine,
                frozen: None,
            },
        );
        self.mail.push_back(Mail::Replica(name, replica::Input::Start));
    }

    /// Delivers what is under way until nothing moves by itself.
    pub fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            match self.mail.pop_front() {
                None => return,
                Some(Mail::Replica(name, input)) => {
                    let Some(seat) = self.replicas.get_mut(&name) else {
                        continue;
                    };
                    match &mut seat.frozen {
                        Some(inbox) => inbox.push(input),
                        None => seat.machine.handle(self.now, input),
                    }
                    self.drain_replica(name);
                }
                Some(Mail::Node(name, input)) => {
                    let now = self.now;
                    let Some(atelet) = self.atelets.get_mut(&name) else {
                        continue;
                    };
                    if let Some(machine) = &mut atelet.machine {
                        machine.handle(now, input);
                    }
                    self.drain_atelet(&name);
                }
            }
        }
        panic!("it never comes to rest");
    }

    /// Turns the clock to `end` and wakes every machine exactly when it wants to be woken.
    pub fn advance(&mut self, end: Instant) {
        for _ in 0..STEPS_MAX {
            let Some((at, who)) = self.next_wake() else { break };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let now = self.now;
            match who {
                Who::Replica(name) => {
                    if let Some(seat) = self.replicas.get_mut(&name) {
                        seat.machine.handle_timeout(now);
                    }
                    self.drain_replica(name);
                }
                Who::Atelet(name) => {
                    if let Some(machine) = self.atelets.get_mut(&name).and_then(|a| a.machine.as_mut()) {
                        machine.handle_timeout(now);
                    }
                    self.drain_atelet(&name);
                }
                Who::Keeper => self.with_keeper(|keeper| keeper.handle_timeout(now)),
                Who::Pulls => self.with_pulls(|pulls| pulls.handle_timeout(now)),
            }
            self.run();
        }
        self.now = self.now.max(end);
    }

    fn next_wake(&self) -> Option<(Instant, Who)> {
        let replicas = self.replicas.iter().filter(|(_, seat)| seat.frozen.is_none());
        let replicas =
            replicas.filter_map(|(name, seat)| Some((seat.machine.poll_timeout()?.0, Who::Replica(*name))));
        let atelets = self.atelets.iter().filter_map(|(name, atelet)| {
            Some((
                atelet.machine.as_ref()?.poll_timeout()?.0,
                Who::Atelet(name.clone()),
            ))
        });
        let keeper = self
            .keeper
            .as_ref()
            .and_then(|k| Some((k.poll_timeout()?.0, Who::Keeper)));
        let pulls = self
            .pulls
            .as_ref()
            .and_then(|p| Some((p.poll_timeout()?.0, Who::Pulls)));
        replicas.chain(atelets).chain(keeper).chain(pulls).min()
    }

    /// When each machine wants to be woken, and why.
    pub fn say_timers(&mut self) {
        let mut lines = Vec::new();
        for (name, seat) in &self.replicas {
            lines.extend(
                seat.machine
                    .poll_timeout()
                    .map(|(at, why)| (name.to_string(), at, format!("{why:?}"))),
            );
        }
        for (name, atelet) in &self.atelets {
            let next = atelet.machine.as_ref().and_then(|machine| machine.poll_timeout());
            lines.extend(next.map(|(at, why)| (name.to_string(), at, format!("{why:?}"))));
        }
        let keeper = self.keeper.as_ref().and_then(|k| k.poll_timeout());
        lines.extend(keeper.map(|(at, why)| ("keeper".into(), at, format!("{why:?}"))));
        let pulls = self.pulls.as_ref().and_then(|p| p.poll_timeout());
        lines.extend(pulls.map(|(at, why)| ("pulls".into(), at, format!("{why:?}"))));
        for (who, at, why) in lines {
            self.say(&who, &format!("wakes at {}: {why}", words::time(at).trim_start()));
        }
    }

    pub fn with_keeper(&mut self, act: impl FnOnce(&mut Keeper)) {
        let Some(keeper) = &mut self.keeper else { return };
        act(keeper);
        let outputs: Vec<_> = std::iter::from_fn(|| keeper.poll_output()).collect();
        for output in outputs {
            if !matches!(output, lease::Output::Moved(_)) {
                self.say("keeper", &format!("{output:?}"));
            }
        }
    }

    pub fn with_pulls(&mut self, act: impl FnOnce(&mut Pulls)) {
        use holdfast_core::pull::Output;
        let Some(pulls) = &mut self.pulls else { return };
        act(pulls);
        let outputs: Vec<_> = std::iter::from_fn(|| pulls.poll_output()).collect();
        for output in outputs {
            let line = match output {
                Output::Start(image, attempt) => format!("attempt {} at {image}", attempt.0),
                Output::Cancel(attempt) => format!("cancel attempt {}", attempt.0),
                Output::Ready(waiter, image) => format!("{image} is ready for {}", waiter.0),
                Output::Failed(waiter, _, why) => {
                    format!("tell {}: {:?}: {}", waiter.0, why.code, why.message)
                }
                Output::Retrying(_, why) => format!("again later: {why}"),
                Output::Moved(..) => continue,
            };
            self.say("pulls", &line);
        }
    }

    pub fn drain_replica(&mut self, name: char) {
        let who = name.to_string();
        while let Some(output) = self
            .replicas
            .get_mut(&name)
            .and_then(|seat| seat.machine.poll_output())
        {
            match output {
                Output::Store(effect, op) => self.ask_store(name, effect, op),
                Output::Node(effect, _, call) => self.call_node(name, effect, *call),
                Output::Discard(effect, _, discard) => {
                    let snapshots = words::places(&discard.snapshots);
                    self.say(&who, &format!("has a node delete {snapshots}"));
                    let done = replica::Input::Discarded(effect, Ok(()));
                    self.mail.push_back(Mail::Replica(name, done));
                }
                Output::Cancel(effect) => {
                    self.say(&who, "lets go of the call");
                    self.calls
                        .retain(|(by, waiting, _)| (*by, *waiting) != (name, effect));
                    self.leave_atelets(Caller::Replica(name, effect));
                }
                Output::Reply(id, verdict) => self.tell(name, id, &verdict),
                Output::Ready => self.say(&who, "ready"),
                Output::Left => self.say(&who, "left"),
                Output::Event(Event::Renewed { .. } | Event::Moved { .. }) => {}
                Output::Event(Event::Setback { actor, setback }) => {
                    self.say(&who, &format!("warns: {actor} {setback}"));
                }
                Output::Event(Event::Settled { actor, failure: None }) => {
                    self.say(&who, &format!("settled {actor}"))
                }
                Output::Event(Event::Settled {
                    actor,
                    failure: Some(why),
                }) => {
                    self.say(
                        &who,
                        &format!("could not settle {actor}: {}", words::refusal(&why)),
                    );
                }
            }
        }
    }

    fn tell(&mut self, name: char, id: RequestId, verdict: &Verdict) {
        match self.heartbeats.remove(&id) {
            None => self.say(
                &name.to_string(),
                &format!("tells #{}: {}", id.0, words::verdict(verdict)),
            ),
            Some(None) => {}
            Some(Some(node)) => {
                let answer = match verdict {
                    Ok(Answer::Reported(_, answer)) => Ok(answer.clone()),
                    _ => Err("no session".into()),
                };
                self.mail
                    .push_back(Mail::Node(node, node::Input::Reported(answer)));
            }
        }
    }

    fn ask_store(&mut self, name: char, effect: EffectId, op: StoreOp) {
        let is_routine = matches!(
            op,
            StoreOp::PutSession { .. } | StoreOp::PutNode(_) | StoreOp::ListGraves { .. }
        );
        match self.mode {
            StoreMode::Held if !is_routine => {
                self.say_op(name, &op, "...");
                self.asked.push_back((name, effect, op));
            }
            StoreMode::Down => {
                self.say_op(name, &op, "no answer");
                self.answer_store(name, effect, Err(StoreError::Unavailable("no answer".into())));
            }
            StoreMode::Up | StoreMode::Held => self.perform(name, effect, op),
        }
    }

    /// Performs one operation, and tells whoever asked and whoever watches.
    pub fn perform(&mut self, name: char, effect: EffectId, op: StoreOp) {
        let reply = self.apply(&op);
        // Looked for again and again, and almost never there.
        let is_nothing = matches!(&reply, StoreReply::Graves { graves, .. } if graves.is_empty());
        if !is_nothing {
            self.say_op(name, &op, &words::store_reply(&op, &reply));
        }
        self.answer_store(name, effect, Ok(reply));
    }

    pub fn apply(&mut self, op: &StoreOp) -> StoreReply {
        let mut news = Vec::new();
        let reply = self.store.perform(self.now, op, &mut news);
        if self.is_watched {
            for event in news {
                self.publish(&event);
            }
        }
        reply
    }

    pub fn publish(&mut self, event: &StoreEvent) {
        for name in self.replicas.keys() {
            self.mail
                .push_back(Mail::Replica(*name, replica::Input::Watched(event.clone())));
        }
    }

    pub fn answer_store(&mut self, name: char, effect: EffectId, answer: Result<StoreReply, StoreError>) {
        self.mail
            .push_back(Mail::Replica(name, replica::Input::Stored(effect, answer)));
    }

    /// Sessions and heartbeats go on all the time; few stories are about them.
    pub fn say_op(&mut self, name: char, op: &StoreOp, answer: &str) {
        let is_shown = match op {
            StoreOp::PutSession { .. } => self.shows_sessions,
            StoreOp::PutNode(_) => self.shows_heartbeats,
            _ => true,
        };
        if is_shown {
            let answer = if answer == "ok" {
                String::new()
            } else {
                format!("-> {answer}")
            };
            self.say(
                &name.to_string(),
                &format!("{:<28} {answer}", words::store_op(op)),
            );
        }
    }

    fn call_node(&mut self, name: char, effect: EffectId, call: NodeCall) {
        self.say(
            &name.to_string(),
            &format!("calls {} for {}", call.node, words::call(&call)),
        );
        if self.atelets.contains_key(&call.node) {
            self.order_atelet(Caller::Replica(name, effect), call);
        } else {
            self.calls.push((name, effect, call));
        }
    }

    pub fn request(&mut self, name: char, request: Request) {
        self.requests += 1;
        let input = replica::Input::Request(RequestId(self.requests), request);
        self.mail.push_back(Mail::Replica(name, input));
    }

    pub fn heartbeat(&mut self, name: char, node: Option<NodeName>, report: Report) {
        self.beats += 1;
        let id = RequestId(1_000_000 + self.beats);
        self.heartbeats.insert(id, node);
        self.mail.push_back(Mail::Replica(
            name,
            replica::Input::Request(id, Request::Heartbeat(report)),
        ));
    }

    /// The lease of an actor, as the store has it now.
    pub fn lease(&self, key: &holdfast_core::id::ActorKey) -> Option<(LeaseToken, Duration)> {
        let (token, until) = self.store.leases.get(key)?;
        (*until > self.now).then(|| (*token, until.since(self.now)))
    }
}

/// Who is to be woken; at the same instant, in this order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Replica(char),
    Atelet(NodeName),
    Keeper,
    Pulls,
}

/// Nodes of stories keep their sandboxes whatever happens, unless they are given sessions.
fn unbound() -> Settings {
    let mut settings = Settings::DEFAULT;
    settings.node.on_lapse = OnLapse::Keep;
    settings
}
