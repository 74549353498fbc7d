//! What is said of everything that the world tells: to whom it happens, what it is, and whom it concerns.

use super::line::Line;
use super::record::{About, Kind};
use super::words::{condensed, full, name, variant};
use crate::fact::Fact;
use holdfast_core::actor::Actor;
use holdfast_core::effect::{NodeCall, StoreError, StoreOp};
use holdfast_core::id::{ActorKey, Name, PodUid, RequestId};
use holdfast_core::node::{self, Order};
use holdfast_core::replica;
use holdfast_core::request::Request;
use holdfast_core::table::Kind as _;
use holdfast_core::worker::Worker;

/// Somebody in the world, as the world knows them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Faults,
    Callers,
    Replica(usize),
    Store,
    Node(usize),
    NodeNamed(Name),
    Worker(PodUid),
    Objects,
    Actor(ActorKey),
    /// Wherever it came from.
    Same,
}

/// Something that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub place: Place,
    pub kind: Kind,
    pub about: About,
    /// Whether it is about whatever its cause was about, where it does not say so itself.
    pub inherits: bool,
    /// Whose request it concerns, in a machine's own words.
    pub request: Option<RequestId>,
}

impl Seen {
    pub(crate) fn new(place: Place, kind: Kind, about: About) -> Seen {
        Seen {
            place,
            kind,
            about,
            inherits: matches!(kind, Kind::Hears | Kind::Arrives | Kind::Done | Kind::Lost),
            request: None,
        }
    }

    /// What a line says; none if it says only what others say, too.
    pub(crate) fn of(line: &Line<'_>) -> Option<Seen> {
        let process = |place, label: &str| Seen::new(place, Kind::Process, About::of(label, line));
        Some(match *line {
            Line::Fact(fact) => return of_fact(fact),
            Line::Fault(fault) => Seen::new(Place::Faults, Kind::Fault, About::of(name(fault), fault)),
            Line::Cut(fault, number, what, who) => {
                let label = format!("{:?} {:?} at effect {number}", fault.mishap, fault.cut);
                let about = About::of(label, &(what, who));
                Seen::new(Place::Faults, Kind::Fault, about)
            }
            Line::Calm => Seen::new(
                Place::Faults,
                Kind::Fault,
                About::of("calm: no fault from here on", line),
            ),
            Line::ReplicaStarts(index, _) => process(Place::Replica(index), "starts"),
            Line::ReplicaDies(index) => process(Place::Replica(index), "dies"),
            Line::NodeStarts(index, _) => process(Place::Node(index), "atelet starts"),
            Line::NodeDies(index) => process(Place::Node(index), "atelet dies"),
            Line::AteomStarts(_, uid) => process(Place::Worker(uid.clone()), "ateom starts"),
            Line::AteomDies(_, uid) => process(Place::Worker(uid.clone()), "ateom dies"),
            Line::PodReplaced(_, _, new) => process(Place::Worker(new.clone()), "another pod"),
            Line::ReplicaWakes(index, timer) => {
                let about = About::of(format!("timer: {}", name(timer)), timer);
                Seen::new(Place::Replica(index), Kind::Wakes, about)
            }
            Line::NodeWakes(index, timer) => {
                let about = About::of(format!("timer: {}", name(timer)), timer);
                Seen::new(Place::Node(index), Kind::Wakes, about)
            }
            Line::ReplicaHears(index, input) => replica_hears(index, input),
            Line::ReplicaDoes(index, output) => return replica_does(index, output),
            Line::NodeHears(index, input) => node_hears(index, input),
            Line::NodeDoes(index, output) => return node_does(index, output),
        })
    }
}

impl About {
    pub(crate) fn of(label: impl Into<String>, what: &impl std::fmt::Debug) -> About {
        About {
            label: label.into(),
            detail: full(what),
            ..About::default()
        }
    }

    fn on(self, actor: &ActorKey) -> About {
        About {
            actor: Some(actor.clone()),
            ..self
        }
    }

    fn at(self, worker: &PodUid) -> About {
        About {
            worker: Some(worker.clone()).filter(|uid| !uid.is_empty()),
            ..self
        }
    }

    /// What is asked of the store.
    pub(crate) fn of_store_op(op: &StoreOp) -> About {
        let debug = format!("{op:?}");
        let about = About {
            label: variant(&debug).to_string(),
            detail: condensed(&debug),
            ..About::default()
        };
        match op {
            StoreOp::PutActor { actor, .. } => about.of_actor(actor),
            StoreOp::GetActor(key)
            | StoreOp::DeleteActor { key, .. }
            | StoreOp::AcquireLease { key, .. }
            | StoreOp::RenewLease { key, .. }
            | StoreOp::ReleaseLease { key, .. }
            | StoreOp::DropGrave { key, .. } => about.on(key),
            StoreOp::PutGrave(grave) => about.on(&grave.actor),
            StoreOp::PutWorker { worker, .. } => about.of_worker(worker),
            _ => about,
        }
    }

    fn of_actor(self, actor: &Actor) -> About {
        About {
            label: format!("{} {} v{}", self.label, actor.status().name(), actor.version),
            actor: Some(actor.key.clone()),
            worker: actor.assignment().map(|on| on.pod_uid.clone()),
            op: actor.operation(),
            fence: actor.claim.map(|claim| claim.fence),
            ..self
        }
    }

    fn of_worker(self, worker: &Worker) -> About {
        About {
            actor: worker.hosts.as_ref().map(|hosted| hosted.actor.clone()),
            worker: Some(worker.pod_uid.clone()),
            fence: worker.hosts.as_ref().map(|hosted| hosted.fence),
            ..self
        }
    }

    /// What is asked of a node.
    pub(crate) fn of_call(call: &NodeCall) -> About {
        About {
            label: name(&call.verb),
            detail: full(call),
            actor: Some(call.actor.clone()),
            worker: call.worker.as_ref().map(|target| target.pod_uid.clone()),
            op: Some(call.op),
            fence: Some(call.fence),
        }
    }

    /// What is asked of a worker, or done by a node, for an order.
    pub(crate) fn of_order(label: impl Into<String>, order: &Order) -> About {
        About {
            label: label.into(),
            detail: full(order),
            actor: Some(order.actor.clone()),
            op: order.op,
            fence: Some(order.fence),
            worker: None,
        }
        .at(&order.worker)
    }
}

fn replica_hears(index: usize, input: &replica::Input) -> Seen {
    use replica::Input;
    let detail = format!("{input:?}");
    let label = match input {
        Input::Stored(_, Ok(reply)) => format!("Stored: {}", name(reply)),
        Input::Stored(_, Err(StoreError::Unavailable(_))) => "Stored: no answer".to_string(),
        Input::Stored(_, Err(StoreError::Refused(_))) => "Stored: refused".to_string(),
        Input::Called(_, Ok(())) => "Called: done".to_string(),
        Input::Called(_, Err(failure)) => format!("Called: {}", name(&failure.kind)),
        Input::Discarded(_, Ok(())) => "Discarded".to_string(),
        Input::Discarded(_, Err(_)) => "Discarded: no answer".to_string(),
        Input::Request(_, request) => format!("asked: {}", name(request)),
        Input::Watched(event) => format!("watch: {}", name(event)),
        _ => variant(&detail).to_string(),
    };
    let about = About {
        label,
        detail: condensed(&detail),
        ..About::default()
    };
    let about = match input {
        Input::Request(_, Request::Resume(key, _) | Request::Suspend(key) | Request::Pause(key))
        | Input::Request(_, Request::Delete(key) | Request::Revert(key) | Request::GetActor(key))
        | Input::Request(_, Request::CreateActor { key, .. } | Request::UpdateActor { key, .. }) => {
            about.on(key)
        }
        Input::Watched(holdfast_core::effect::StoreEvent::Worker(worker)) => about.of_worker(worker),
        _ => about,
    };
    Seen::new(Place::Replica(index), Kind::Hears, about)
}

/// Events of a machine are told as facts where they are facts.
fn replica_does(index: usize, output: &replica::Output) -> Option<Seen> {
    use replica::Output;
    let (about, inherits, request) = match output {
        Output::Store(_, op) => (About::of_store_op(op), false, None),
        Output::Node(_, _, call) => (About::of_call(call), false, None),
        Output::Discard(_, _, discard) => (About::of("Discard", discard).on(&discard.actor), false, None),
        Output::Cancel(_) => (About::of("Cancel", output), true, None),
        Output::Reply(id, verdict) => {
            let label = match verdict {
                Ok(answer) => format!("verdict: {}", name(answer)),
                Err(failure) => format!("verdict: {:?}", failure.code),
            };
            (About::of(label, verdict), true, Some(*id))
        }
        Output::Event(replica::Event::Settled { actor, .. }) => {
            (About::of("settled", output).on(actor), false, None)
        }
        Output::Event(replica::Event::Setback { actor, .. }) => {
            (About::of("setback", output).on(actor), false, None)
        }
        Output::Ready | Output::Left | Output::Event(_) => return None,
    };
    Some(Seen {
        inherits,
        request,
        ..Seen::new(Place::Replica(index), Kind::Does, about)
    })
}

fn node_hears(index: usize, input: &node::Input) -> Seen {
    use node::Input;
    let label = match input {
        Input::Order(_, order) => format!("order: {}", name(&order.verb)),
        Input::Worked(_, Ok(_)) => "step done".to_string(),
        Input::Worked(_, Err(failure)) => format!("step failed: {}", name(&failure.kind)),
        Input::Kept(_, Ok(())) => "journal written".to_string(),
        Input::Kept(_, Err(_)) => "journal refused".to_string(),
        Input::Reported(Ok(answered)) => format!("report answered: {}", name(answered)),
        Input::Reported(Err(_)) => "report: no answer".to_string(),
        Input::Pull(moved) => format!("pull: {}", name(moved)),
        other => name(other),
    };
    let about = match input {
        Input::Order(_, order) => About::of_order(label, order),
        Input::Worker(uid, _) | Input::WorkerSilent(uid, _) | Input::WorkerLost(uid) => {
            About::of(label, input).at(uid)
        }
        _ => About::of(label, input),
    };
    Seen::new(Place::Node(index), Kind::Hears, about)
}

fn node_does(index: usize, output: &node::Output) -> Option<Seen> {
    use node::Output;
    let mut inherits = false;
    let about = match output {
        Output::Work(_, work, order) => About::of_order(name(work), order),
        Output::Tend {
            worker, actor, tend, ..
        } => About::of(name(tend), output).at(worker).on(actor),
        Output::Look(_, uid) => About::of("Look", output).at(uid),
        Output::Reply(_, reply) => {
            inherits = true;
            match reply {
                Ok(()) => About::of("answers: done", reply),
                Err(failure) => About::of(format!("answers: {}", name(&failure.kind)), reply),
            }
        }
        Output::Keep(..) | Output::Cancel(_) => {
            inherits = true;
            About::of(name(output), output)
        }
        Output::Moved(..) => return None,
        _ => About::of(name(output), output),
    };
    Some(Seen {
        inherits,
        ..Seen::new(Place::Node(index), Kind::Does, about)
    })
}

/// Facts that say only what a machine or a message has said, and what oracles count, are left out.
fn of_fact(fact: &Fact) -> Option<Seen> {
    let seen = |place, about| Some(Seen::new(place, Kind::Fact, about));
    let about = |label: &str| About::of(label, fact);
    match fact {
        Fact::Up { worker, actor, .. } => seen(
            Place::Worker(worker.clone()),
            about("sandbox up").at(worker).on(actor),
        ),
        Fact::Down { worker, actor, how } => {
            let label = format!("sandbox down: {how:?}");
            seen(Place::Worker(worker.clone()), about(&label).at(worker).on(actor))
        }
        Fact::Frozen { worker, actor } => seen(
            Place::Worker(worker.clone()),
            about("sandbox frozen").at(worker).on(actor),
        ),
        Fact::Thawed { worker, actor } => seen(
            Place::Worker(worker.clone()),
            about("sandbox thawed").at(worker).on(actor),
        ),
        Fact::Trampled(actor, worker, step) => {
            let label = format!("{step} destroys a sandbox");
            seen(Place::Worker(worker.clone()), about(&label).at(worker).on(actor))
        }
        Fact::Harmed(actor) => seen(Place::Actor(actor.clone()), about("harmed").on(actor)),
        Fact::Lapsed { node, .. } => seen(Place::NodeNamed(node.clone()), about("session declared over")),
        Fact::Counted(actor, count) => {
            let label = format!("counts to {count}");
            seen(Place::Actor(actor.clone()), about(&label).on(actor))
        }
        Fact::Sent(_, actor) => seen(Place::Callers, about("request to the actor").on(actor)),
        Fact::Answered(_, count) => seen(Place::Callers, about(&format!("told {count}"))),
        Fact::Refused(_) => seen(Place::Callers, about("not there")),
        Fact::Believes { actor, replica, .. } => {
            seen(Place::Replica(*replica), about("believes in the lease").on(actor))
        }
        Fact::Doubts { actor, replica } => seen(
            Place::Replica(*replica),
            about("believes in it no more").on(actor),
        ),
        Fact::ReplicaReady(replica) => seen(Place::Replica(*replica), about("ready")),
        Fact::Slept { replica, .. } => seen(Place::Replica(*replica), about("is not scheduled")),
        Fact::NodeSlept { node, .. } => seen(Place::Node(*node), about("is not scheduled")),
        Fact::Recorded { before, after } => recorded(before.as_deref(), after.as_deref()),
        Fact::WorkerRecorded { before, after } => {
            let worker = after.as_deref().or(before.as_deref())?;
            let label = match (after, worker.hosts.as_ref()) {
                (None, _) => "row deleted".to_string(),
                (Some(_), Some(hosted)) => format!("promised, fence {}", hosted.fence),
                (Some(_), None) => "free".to_string(),
            };
            let about = About::of(label, after).of_worker(worker);
            seen(Place::Worker(worker.pod_uid.clone()), about)
        }
        Fact::Forgot(_) => seen(Place::Store, about("forgets what it had acknowledged")),
        Fact::Saved { node, .. } => seen(stored_at(node.as_ref()), about("snapshot saved")),
        Fact::Discarded { node, .. } => seen(stored_at(node.as_ref()), about("snapshot deleted")),
        Fact::Damaged { node, .. } => seen(stored_at(node.as_ref()), about("snapshot damaged")),
        Fact::Begun {
            node,
            worker,
            actor,
            op,
            fence,
            ..
        } => {
            let about = About {
                op: Some(*op),
                fence: Some(*fence),
                ..about(&format!("begins under fence {fence}")).at(worker).on(actor)
            };
            seen(Place::NodeNamed(node.clone()), about)
        }
        Fact::Heeded {
            node,
            worker,
            actor,
            fence,
            ..
        } => {
            let about = About {
                fence: Some(*fence),
                ..about(&format!("heeds fence {fence}")).at(worker).on(actor)
            };
            seen(Place::NodeNamed(node.clone()), about)
        }
        Fact::Asked(id, actor, what) => Some(Seen {
            request: Some(*id),
            ..seen(Place::Callers, about(&format!("asks: {what:?}")).on(actor))?
        }),
        Fact::Told(id, _) | Fact::Unheard(id) => {
            let label = match fact {
                Fact::Told(_, Ok(())) => "verdict: Ok".to_string(),
                Fact::Told(_, Err(failure)) => format!("verdict: {:?}", failure.code),
                _ => "no verdict".to_string(),
            };
            Some(Seen {
                request: Some(*id),
                inherits: true,
                ..seen(Place::Callers, about(&label))?
            })
        }
        Fact::Unserved(actor, _) => seen(Place::Actor(actor.clone()), about("cannot be served").on(actor)),
        Fact::ReplicaDied(_)
        | Fact::NodeDied(_)
        | Fact::Failed(_)
        | Fact::Renews(_)
        | Fact::Pulled { .. }
        | Fact::Did { .. }
        | Fact::Wrong { .. }
        | Fact::Moved(_) => None,
        // One that has no words of its own is shown where it came about.
        _ => Some(Seen {
            inherits: true,
            ..seen(Place::Same, about(&name(fact)))?
        }),
    }
}

fn recorded(before: Option<&Actor>, after: Option<&Actor>) -> Option<Seen> {
    let actor = after.or(before)?;
    let status = |actor: Option<&Actor>| actor.map_or("nothing", |actor| actor.status().name());
    let about = About::of("", &after).of_actor(actor);
    let label = format!("{} → {}, v{}", status(before), status(after), actor.version);
    Some(Seen::new(
        Place::Actor(actor.key.clone()),
        Kind::Fact,
        About { label, ..about },
    ))
}

fn stored_at(node: Option<&Name>) -> Place {
    node.map_or(Place::Objects, |node| Place::NodeNamed(node.clone()))
}
