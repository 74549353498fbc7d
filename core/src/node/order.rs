//! What a control plane wants of a node, and what ateom says of itself.

use crate::catalog::Workload;
use crate::effect::{Place, Verb};
use crate::id::{ActorKey, Fence, Incarnation, Name, OpId, PodUid, WorkerKey};
use crate::node::journal::Sandbox;
use crate::worker::Duty;
use alloc::format;
use alloc::sync::Arc;

/// What a control plane wants of this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The worker.
    pub worker: PodUid,
    /// The worker's fence; zero from a control plane that knows no fences.
    pub worker_fence: Fence,
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it; zero from a control plane that knows none.
    pub incarnation: Incarnation,
    /// The actor's fence; zero from a control plane that knows no fences.
    pub fence: Fence,
    /// The operation; none from a control plane that names none.
    pub op: Option<OpId>,
    /// The template's namespace and name, which name the actor's directory.
    pub template: (Name, Name),
    /// The containers.
    pub workload: Arc<Workload>,
    /// The session of this node that the order was given under; zero from a control plane that grants none.
    pub session: u64,
    /// The run of this atelet that the order is for; none from a control plane that knows none.
    pub run: Name,
    /// What is wanted.
    pub verb: Verb,
}

/// Every upload begins with this where a worker's name would be; no pod is called so.
const UPLOAD_OF: &str = "upload of ";

/// Whether the operations in this place are uploads, which need no worker.
pub(super) fn is_place_of_uploads(place: &PodUid) -> bool {
    place.as_str().starts_with(UPLOAD_OF)
}

impl Order {
    /// The order as it is carried out: an upload needs no worker, whichever it names, and is in nobody's way but its
    /// own actor's.
    pub(super) fn in_its_place(self) -> Order {
        match self.verb {
            Verb::Upload { .. } => Order {
                worker: format!("{UPLOAD_OF}{}", self.actor).into(),
                worker_fence: Fence(0),
                ..self
            },
            _ => self,
        }
    }

    /// The life of an actor that it is about.
    pub(super) fn life(&self) -> (ActorKey, Incarnation) {
        (self.actor.clone(), self.incarnation)
    }

    /// Whether both are about the same actor; whoever names no life of it means the one that is there.
    pub(super) fn is_of_life_of(&self, other: &Order) -> bool {
        let nobodys = Incarnation(0);
        let is_one_unknown = self.incarnation == nobodys || other.incarnation == nobodys;
        self.actor == other.actor && (is_one_unknown || self.incarnation == other.incarnation)
    }
}

/// What ateom says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Described {
    /// The worker.
    pub key: WorkerKey,
    /// The pod's address.
    pub ip: Name,
    /// The run of ateom.
    pub incarnation: Name,
    /// Whether it takes new actors.
    pub duty: Duty,
    /// Whether a sandbox is alive in it, and which operation brought it.
    pub sandbox: Option<Alive>,
}

/// A sandbox that ateom says is alive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alive {
    /// The actor's name.
    pub actor: Name,
    /// The operation that brought it, if it was named.
    pub op: Option<OpId>,
    /// Whether it serves, or something is being done to it.
    pub sandbox: Sandbox,
}

/// The place that an order's snapshot is at, or goes to.
pub fn place_of(verb: &Verb) -> Option<&Place> {
    match verb {
        Verb::Restore { from, .. } => Some(from),
        Verb::Checkpoint { to, .. } => Some(to),
        Verb::Run { .. } | Verb::Upload { .. } | Verb::Stop | Verb::Thaw => None,
    }
}
