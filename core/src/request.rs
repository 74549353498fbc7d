//! What callers ask, what they are told, and the errands that need no lease: reading, listing,
//! creating and updating.

use crate::actor::{Actor, Boot, Change};
use crate::catalog::{Catalog, Selector};
use crate::effect::{NodeRow, StoreError, StoreOp, StoreReply};
use crate::failure::{Code, Failure};
use crate::id::{ActorKey, Incarnation, Name, ReplicaId};
use crate::registry::Report;
use crate::session::{Answered, Eviction, Grant};
use crate::settings::NodeSettings;
use crate::worker::Worker;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

/// What a caller asks for. Names have been validated where they came in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read an actor.
    GetActor(ActorKey),
    /// Make an actor.
    CreateActor {
        /// Its place.
        key: ActorKey,
        /// Its template's namespace.
        template_namespace: Name,
        /// Its template's name.
        template_name: Name,
        /// Which pools it may run in.
        selector: Selector,
    },
    /// Replace an actor's selector.
    UpdateActor {
        /// The actor.
        key: ActorKey,
        /// The new selector, wholesale.
        selector: Selector,
    },
    /// List actors.
    ListActors {
        /// Of one atespace.
        atespace: Option<Name>,
        /// From the page before.
        after: Option<Name>,
        /// The most on one page.
        limit: u32,
    },
    /// Make an actor serve.
    Resume(ActorKey, Boot),
    /// Put an actor to sleep in the object store.
    Suspend(ActorKey),
    /// Put an actor to sleep on its node.
    Pause(ActorKey),
    /// Delete an actor.
    Delete(ActorKey),
    /// Bring a crashed actor back to its last good snapshot.
    Revert(ActorKey),
    /// List workers.
    ListWorkers,
    /// Make an atespace.
    CreateAtespace(Name),
    /// Ask for an atespace.
    GetAtespace(Name),
    /// List atespaces.
    ListAtespaces,
    /// Delete an atespace.
    DeleteAtespace(Name),
    /// A node's report.
    Heartbeat(Report),
}

/// What a caller is told when all went well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is done.
    Done,
    /// The actor as it is now.
    Actor(Box<Actor>),
    /// A page of actors.
    Actors {
        /// The actors.
        actors: Vec<Actor>,
        /// Where the next page begins.
        next: Option<Name>,
    },
    /// All workers.
    Workers(Vec<Worker>),
    /// The atespace.
    Atespace(Name),
    /// All atespaces.
    Atespaces(Vec<Name>),
    /// What a node that has reported is told, and by which replica.
    Reported(ReplicaId, Answered),
}

/// What a caller is told; every request gets exactly one.
pub type Verdict = Result<Answer, Failure>;

/// How often an update is tried against concurrent writers.
const UPDATES_MAX: u32 = 5;

/// A request that needs no lease: a few store operations, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    Read,
    /// Making sure of the atespace, then writing.
    Create(Box<Actor>),
    Creating(Box<Actor>),
    Update {
        selector: Selector,
        tries: u32,
    },
    Updating {
        actor: Box<Actor>,
        selector: Selector,
        tries: u32,
    },
    Atespace(Name),
    Heartbeat(ReplicaId, Grant),
}

/// What an errand does next.
pub(crate) enum Step {
    Ask(Errand, StoreOp),
    Tell(Verdict),
}

impl Errand {
    /// The first step of a request that needs no lease.
    pub(crate) fn start(request: Request, catalog: &Catalog, incarnation: Incarnation) -> Step {
        match request {
            Request::GetActor(key) => Step::Ask(Errand::Read, StoreOp::GetActor(key)),
            Request::CreateActor {
                key,
                template_namespace,
                template_name,
                selector,
            } => {
                let Some(template) = catalog.template(&template_namespace, &template_name) else {
                    return Step::Tell(Err(Failure::new(
                        Code::FailedPrecondition,
                        format!("ActorTemplate {template_namespace}/{template_name} not found"),
                    )));
                };
                let atespace = key.atespace.clone();
                let actor = Actor::create(key, incarnation, template.clone(), selector);
                Step::Ask(Errand::Create(Box::new(actor)), StoreOp::GetAtespace(atespace))
            }
            Request::UpdateActor { key, selector } => {
                Step::Ask(Errand::Update { selector, tries: 0 }, StoreOp::GetActor(key))
            }
            Request::ListActors {
                atespace,
                after,
                limit,
            } => Step::Ask(
                Errand::Read,
                StoreOp::ListActors {
                    atespace,
                    after,
                    limit,
                },
            ),
            Request::ListWorkers => Step::Ask(Errand::Read, StoreOp::ListWorkers),
            Request::CreateAtespace(name) => {
                Step::Ask(Errand::Atespace(name.clone()), StoreOp::CreateAtespace(name))
            }
            Request::GetAtespace(name) => {
                Step::Ask(Errand::Atespace(name.clone()), StoreOp::GetAtespace(name))
            }
            Request::ListAtespaces => Step::Ask(Errand::Read, StoreOp::ListAtespaces),
            Request::DeleteAtespace(name) => {
                Step::Ask(Errand::Atespace(name.clone()), StoreOp::DeleteAtespace(name))
            }
            Request::Heartbeat(_)
            | Request::Resume(..)
            | Request::Suspend(_)
            | Request::Pause(_)
            | Request::Delete(_)
            | Request::Revert(_) => Step::Tell(Err(Failure::new(Code::Internal, "not an errand"))),
        }
    }

    /// The errand of noting that a node was heard. Its session is granted when that is stored, and not
    /// before: whoever finds an older report in the store knows that no session has been granted since.
    pub(crate) fn heartbeat(
        node: NodeRow,
        replica: ReplicaId,
        settings: &NodeSettings,
        evict: Vec<Eviction>,
    ) -> (Errand, StoreOp) {
        let grant = Grant {
            ttl: settings.session_ttl,
            heartbeat_every: settings.heartbeat_every,
            evict,
        };
        (Errand::Heartbeat(replica, grant), StoreOp::PutNode(node))
    }

    /// What a node is told whose session has been declared over.
    pub(crate) fn over(replica: ReplicaId, lapsed: u64) -> Answer {
        Answer::Reported(replica, Answered::Over { lapsed })
    }

    /// The next step, given the store's answer to `op`.
    pub(crate) fn next(self, op: &StoreOp, reply: Result<StoreReply, StoreError>) -> Step {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return Step::Tell(Err(Failure::store(&error))),
        };
        match (self, reply) {
            (Errand::Heartbeat(replica, grant), StoreReply::NodeAt(_)) => {
                Step::Tell(Ok(Answer::Reported(replica, Answered::Granted(grant))))
            }
            (Errand::Heartbeat(replica, _), StoreReply::NodeConflict(Some(stored))) => {
                Step::Tell(Ok(Errand::over(replica, stored.lapsed)))
            }
            (Errand::Read, StoreReply::Actor(Some(actor))) => Step::Tell(Ok(Answer::Actor(actor))),
            (Errand::Read | Errand::Update { .. }, StoreReply::Actor(None)) => not_found(op),
            (Errand::Read, StoreReply::Actors { actors, next }) => {
                Step::Tell(Ok(Answer::Actors { actors, next }))
            }
            (Errand::Read, StoreReply::Workers(workers)) => Step::Tell(Ok(Answer::Workers(workers))),
            (Errand::Read, StoreReply::Atespaces(names)) => Step::Tell(Ok(Answer::Atespaces(names))),
            (Errand::Create(actor), StoreReply::Exists) => {
                let op = StoreOp::PutActor {
                    expect: None,
                    actor: actor.clone(),
                    release: None,
                };
                Step::Ask(Errand::Creating(actor), op)
            }
            (Errand::Create(actor), StoreReply::Missing) => Step::Tell(Err(Failure::atespace_not_found(
                Code::FailedPrecondition,
                &actor.key.atespace,
            ))),
            (Errand::Creating(actor), StoreReply::Done) => Step::Tell(Ok(Answer::Actor(actor))),
            (Errand::Creating(actor), StoreReply::ActorConflict(Some(stored))) if actor == stored => {
                Step::Tell(Ok(Answer::Actor(actor)))
            }
            (Errand::Creating(actor), StoreReply::ActorConflict(_)) => Step::Tell(Err(Failure::new(
                Code::AlreadyExists,
                format!("Actor {} already exists", actor.key.name),
            ))),
            (Errand::Update { selector, tries }, StoreReply::Actor(Some(actor))) => {
                Errand::update(&actor, selector, tries)
            }
            (Errand::Updating { actor, .. }, StoreReply::Done) => Step::Tell(Ok(Answer::Actor(actor))),
            (Errand::Updating { .. }, StoreReply::ActorConflict(None)) => not_found(op),
            (
                Errand::Updating {
                    actor,
                    selector,
                    tries,
                },
                StoreReply::ActorConflict(Some(stored)),
            ) => {
                if actor == stored {
                    Step::Tell(Ok(Answer::Actor(actor)))
                } else if tries < UPDATES_MAX {
                    Errand::update(&stored, selector, tries + 1)
                } else {
                    Step::Tell(Err(Failure::conflict()))
                }
            }
            (Errand::Atespace(name), reply) => Step::Tell(atespace_verdict(op, name, &reply)),
            (_, reply) => Step::Tell(Err(Failure::new(
                Code::Internal,
                format!("the store's answer does not fit: {reply:?}"),
            ))),
        }
    }

    fn update(actor: &Actor, selector: Selector, tries: u32) -> Step {
        let change = Change::Select(selector.clone());
        match actor.after(&change, None, actor.version) {
            Ok(next) => {
                let actor_box = Box::new(next);
                let op = StoreOp::PutActor {
                    expect: Some(actor.edition()),
                    actor: actor_box.clone(),
                    release: None,
                };
                Step::Ask(
                    Errand::Updating {
                        actor: actor_box,
                        selector,
                        tries,
                    },
                    op,
                )
            }
            Err(illegal) => Step::Tell(Err(Failure::illegal(&illegal))),
        }
    }
}

fn atespace_verdict(op: &StoreOp, name: Name, reply: &StoreReply) -> Verdict {
    match (op, reply) {
        (StoreOp::CreateAtespace(_), StoreReply::Done) | (StoreOp::GetAtespace(_), StoreReply::Exists) => {
            Ok(Answer::Atespace(name))
        }
        (StoreOp::CreateAtespace(_), StoreReply::Exists) => Err(Failure::new(
            Code::AlreadyExists,
            format!("Atespace {name} already exists"),
        )),
        (StoreOp::DeleteAtespace(_), StoreReply::Done) => Ok(Answer::Done),
        (StoreOp::DeleteAtespace(_), StoreReply::NotEmpty) => Err(Failure::new(
            Code::FailedPrecondition,
            format!("Atespace {name} is not empty"),
        )),
        (_, StoreReply::Missing) => Err(Failure::atespace_not_found(Code::NotFound, &name)),
        (_, reply) => Err(Failure::new(
            Code::Internal,
            format!("the store's answer does not fit: {reply:?}"),
        )),
    }
}

fn not_found(op: &StoreOp) -> Step {
    let name = match op {
        StoreOp::GetActor(key) => key.name.clone(),
        StoreOp::PutActor { actor, .. } => actor.key.name.clone(),
        _ => Name::default(),
    };
    Step::Tell(Err(Failure::actor_not_found(&name)))
}
