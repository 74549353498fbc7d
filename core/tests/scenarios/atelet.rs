//! A real node machine with its disk and its ateoms, which do what they are asked unless the story says
//! otherwise.

use crate::words;
use crate::world::{Mail, World};
use holdfast_core::effect::{NodeCall, NodeFailure, NodeReply, NodeRow};
use holdfast_core::id::{EffectId, Fence, Name, NodeName, PodUid, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::node::{
    Alive, Described, Input, Kept, Memory, Node, Order, Output, Sandbox, Tend, Work, WorkResult,
};
use holdfast_core::pull::{self, Attempt};
use holdfast_core::registry::{Report, Sighting};
use holdfast_core::replica;
use holdfast_core::session::{Answered, Grant};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub struct Atelet {
    /// None while it does not run.
    pub machine: Option<Node>,
    pub life: u32,
    pub disk: Memory,
    /// What each ateom says of itself.
    pub ateoms: BTreeMap<PodUid, Described>,
    /// Steps, looks, journal writes and pulls that wait for the story.
    pub steps: Vec<(EffectId, Work, Arc<Order>)>,
    pub looks: Vec<(EffectId, PodUid)>,
    pub keeps: Vec<(EffectId, Kept)>,
    pub pulls: Vec<(Name, Attempt)>,
    pub held: BTreeSet<Held>,
    /// Whoever waits for an answer.
    pub callers: BTreeMap<RequestId, Caller>,
    /// Answers are lost on their way.
    pub is_mute: bool,
    /// Nothing gets through in either direction.
    pub is_cut: bool,
    told: Vec<Sighting>,
}

/// What the story holds back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// The steps and looks of this worker.
    Steps(PodUid),
    /// Writes of the journal.
    Disk,
    /// Pulls.
    Pulls,
}

/// Who ordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    Replica(char, EffectId),
    /// The story, counting its orders.
    Hand(u64),
}

impl Atelet {
    pub fn new() -> Atelet {
        Atelet {
            machine: None,
            life: 0,
            disk: Memory::default(),
            ateoms: BTreeMap::new(),
            steps: Vec::new(),
            looks: Vec::new(),
            keeps: Vec::new(),
            pulls: Vec::new(),
            held: BTreeSet::new(),
            callers: BTreeMap::new(),
            is_mute: false,
            is_cut: false,
            told: Vec::new(),
        }
    }

    /// What an ateom has done about a step changes what it says of itself.
    fn acted(&mut self, work: &Work, order: &Order, is_ok: bool) -> Option<(PodUid, Described)> {
        let described = self.ateoms.get_mut(&order.worker)?;
        if !matches!(work, Work::Boot { .. } | Work::Capture | Work::Stop) {
            return None;
        }
        match work {
            Work::Boot { .. } if is_ok => {
                described.sandbox = Some(Alive {
                    actor: order.actor.name.clone(),
                    op: order.op,
                    sandbox: Sandbox::Running,
                });
            }
            Work::Capture | Work::Stop if is_ok => described.sandbox = None,
            _ => {}
        }
        Some((order.worker.clone(), described.clone()))
    }
}

impl World {
    /// Starts, or starts again, the atelet of a node on what its disk has. It has not found a worker yet.
    pub fn start_atelet(&mut self, name: &NodeName) {
        let settings = self.settings;
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        atelet.life += 1;
        let row = NodeRow {
            incarnation: format!("atelet-{}", atelet.life).into(),
            sequence: 0,
            ..words::node_row(name, "address")
        };
        atelet.machine = Some(Node::new(row, settings));
        let start = Input::Start(atelet.disk.clone());
        self.mail.push_back(Mail::Node(name.clone(), start));
    }

    /// Ends an atelet as a crash does: what it waited for is nobody's any more.
    pub fn kill_atelet(&mut self, name: &NodeName) {
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        atelet.machine = None;
        (atelet.steps, atelet.looks) = (Vec::new(), Vec::new());
        (atelet.keeps, atelet.pulls) = (Vec::new(), Vec::new());
        for (_, caller) in std::mem::take(&mut atelet.callers) {
            self.answer_caller(
                name,
                caller,
                Err(NodeFailure::unreachable("the connection broke")),
            );
        }
    }

    pub fn order_atelet(&mut self, caller: Caller, call: NodeCall) {
        let workload = Arc::new(call.template.workload.clone());
        let order = Order {
            worker: call
                .worker
                .as_ref()
                .map_or(Name::default(), |t| t.pod_uid.clone()),
            worker_fence: call.worker.as_ref().map_or(Fence(0), |t| t.fence),
            actor: call.actor,
            incarnation: call.incarnation,
            fence: call.fence,
            op: Some(call.op),
            template: (call.template.namespace.clone(), call.template.name.clone()),
            workload,
            session: call.worker.map_or(0, |t| t.session),
            run: Name::default(),
            verb: call.verb,
        };
        self.order(&call.node, caller, order);
    }

    pub fn order(&mut self, node: &NodeName, caller: Caller, order: Order) {
        self.orders += 1;
        let id = RequestId(self.orders);
        let Some(atelet) = self.atelets.get_mut(node) else {
            return;
        };
        if atelet.is_cut || atelet.machine.is_none() {
            return self.answer_caller(node, caller, Err(NodeFailure::unreachable("no connection")));
        }
        atelet.callers.insert(id, caller);
        self.mail
            .push_back(Mail::Node(node.clone(), Input::Order(id, Box::new(order))));
    }

    /// A caller waits no more.
    pub fn leave_atelets(&mut self, caller: Caller) {
        for (name, atelet) in &mut self.atelets {
            let left: Vec<_> = atelet
                .callers
                .iter()
                .filter(|(_, c)| **c == caller)
                .map(|(id, _)| *id)
                .collect();
            for id in left {
                atelet.callers.remove(&id);
                self.mail
                    .push_back(Mail::Node(name.clone(), Input::CallerGone(id)));
            }
        }
    }

    fn answer_caller(&mut self, node: &NodeName, caller: Caller, reply: NodeReply) {
        match caller {
            Caller::Hand(number) => self.say(
                node.as_str(),
                &format!("tells !{number}: {}", words::node_reply(&reply)),
            ),
            Caller::Replica(name, effect) => {
                self.say(
                    node.as_str(),
                    &format!("tells {name}: {}", words::node_reply(&reply)),
                );
                self.mail
                    .push_back(Mail::Replica(name, replica::Input::Called(effect, reply)));
            }
        }
    }

    pub fn drain_atelet(&mut self, name: &NodeName) {
        loop {
            let Some(atelet) = self.atelets.get_mut(name) else {
                return;
            };
            let Some(output) = atelet.machine.as_mut().and_then(|machine| machine.poll_output()) else {
                return;
            };
            match output {
                Output::Work(effect, work, order) => {
                    let is_held = atelet.held.contains(&Held::Steps(order.worker.clone()));
                    self.say(
                        name.as_str(),
                        &format!("{} {}", words::pod(&order.worker), words::work(&work)),
                    );
                    if is_held {
                        if let Some(atelet) = self.atelets.get_mut(name) {
                            atelet.steps.push((effect, work, order));
                        }
                    } else {
                        self.work(name, effect, &work, &order, Ok(files_of(&work)));
                    }
                }
                Output::Look(effect, uid) => {
                    let is_held = atelet.held.contains(&Held::Steps(uid.clone()));
                    if is_held {
                        atelet.looks.push((effect, uid.clone()));
                    }
                    self.say(name.as_str(), &format!("{} look", words::pod(&uid)));
                    if !is_held {
                        self.look(name, effect, &uid);
                    }
                }
                Output::Cancel(effect) => {
                    let looks: Vec<_> = atelet.looks.extract_if(.., |(id, _)| *id == effect).collect();
                    let ended: Vec<_> = atelet.steps.extract_if(.., |(id, ..)| *id == effect).collect();
                    let steps = ended
                        .iter()
                        .map(|(_, work, order)| (&order.worker, words::work(work)));
                    let looks = looks.iter().map(|(_, uid)| (uid, "look"));
                    for (uid, what) in steps.chain(looks) {
                        self.say(name.as_str(), &format!("{} cancel {what}", words::pod(uid)));
                    }
                }
                Output::Keep(effect, kept) => {
                    let is_held = atelet.held.contains(&Held::Disk);
                    if is_held {
                        atelet.keeps.push((effect, (*kept).clone()));
                    }
                    self.say(
                        name.as_str(),
                        &format!("journal {}", words::entry(&kept.worker, &kept.entry)),
                    );
                    if !is_held {
                        self.keep(name, effect, *kept);
                    }
                }
                Output::Pull(image, attempt) => {
                    if atelet.held.contains(&Held::Pulls) {
                        atelet.pulls.push((image.clone(), attempt));
                        self.say(name.as_str(), &format!("pull {image}, attempt {}", attempt.0));
                    } else {
                        let ended = pull::Input::Ended(attempt, Ok(()));
                        self.mail.push_back(Mail::Node(name.clone(), Input::Pull(ended)));
                    }
                }
                Output::CancelPull(attempt) => {
                    self.say(name.as_str(), &format!("cancel pull attempt {}", attempt.0))
                }
                Output::Reply(id, reply) => {
                    let is_lost = atelet.is_mute || atelet.is_cut;
                    let Some(caller) = atelet.callers.remove(&id) else {
                        continue;
                    };
                    if is_lost {
                        self.say(
                            name.as_str(),
                            &format!("its answer is lost: {}", words::node_reply(&reply)),
                        );
                        let lost = NodeFailure::unreachable("the answer was lost");
                        self.answer_caller(name, caller, Err(lost));
                    } else {
                        self.answer_caller(name, caller, reply);
                    }
                }
                Output::Report(report) => self.send_report(name, report),
                Output::Moved(..) => {}
                Output::Tend { worker, tend, .. } => {
                    let tend = match tend {
                        Tend::Extend(until) => format!("may run until {}", words::time(until).trim_start()),
                        other => format!("{other:?}").to_lowercase(),
                    };
                    self.say(name.as_str(), &format!("{} {tend}", words::pod(&worker)));
                }
                Output::Note(text) => self.say(name.as_str(), &format!("notes: {text}")),
            }
        }
    }

    pub fn work(
        &mut self,
        name: &NodeName,
        effect: EffectId,
        work: &Work,
        order: &Order,
        result: WorkResult,
    ) {
        let is_ok = result.is_ok();
        self.mail
            .push_back(Mail::Node(name.clone(), Input::Worked(effect, result)));
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        if let Some((uid, described)) = atelet.acted(work, order, is_ok) {
            self.mail
                .push_back(Mail::Node(name.clone(), Input::Worker(uid, described)));
        }
    }

    /// A worker answers what it has.
    pub fn look(&mut self, name: &NodeName, effect: EffectId, uid: &PodUid) {
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        let answer = atelet.ateoms.get(uid).cloned().ok_or("nobody listens".to_owned());
        self.mail
            .push_back(Mail::Node(name.clone(), Input::Looked(effect, answer)));
    }

    pub fn keep(&mut self, name: &NodeName, effect: EffectId, kept: Kept) {
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        atelet.disk.take(&kept);
        self.mail
            .push_back(Mail::Node(name.clone(), Input::Kept(effect, Ok(()))));
    }

    /// A report goes to the first replica that runs. It is worth a line when it says something new.
    fn send_report(&mut self, name: &NodeName, report: Report) {
        let Some(atelet) = self.atelets.get_mut(name) else {
            return;
        };
        let is_news = std::mem::replace(&mut atelet.told, report.workers.clone()) != report.workers;
        let is_cut = atelet.is_cut;
        if is_news {
            let workers: Vec<String> = report.workers.iter().map(words::sighting).collect();
            self.say(name.as_str(), &format!("reports {}", workers.join("; ")));
        }
        let first = self
            .replicas
            .iter()
            .find(|(_, seat)| seat.frozen.is_none())
            .map(|(name, _)| *name);
        match first {
            Some(replica) if !is_cut => self.heartbeat(replica, Some(name.clone()), report),
            _ if is_cut => {
                let answer = Err("no connection".into());
                self.mail
                    .push_back(Mail::Node(name.clone(), Input::Reported(answer)));
            }
            _ => {
                let grant = Grant {
                    ttl: self.settings.node.session_ttl,
                    heartbeat_every: self.settings.node.heartbeat_every,
                    evict: Vec::new(),
                };
                let answer = Ok(Answered::Granted(grant));
                self.mail
                    .push_back(Mail::Node(name.clone(), Input::Reported(answer)));
            }
        }
    }
}

pub fn files_of(work: &Work) -> Vec<Name> {
    match work {
        Work::Capture => vec!["checkpoint.img".into()],
        _ => Vec::new(),
    }
}
