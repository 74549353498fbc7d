//! The record of one worker pod: a sandbox slot on a node, and the actor it is promised to.

use crate::id::{ActorKey, Fence, Incarnation, Name, NodeName, PodUid, Version, WorkerKey};

/// What the store knows of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    /// Where it is.
    pub key: WorkerKey,
    /// How often this record was written.
    pub version: Version,
    /// Which pod is behind the name.
    pub pod_uid: PodUid,
    /// Which run of ateom is in the pod; a container restarted in place is a new incarnation.
    pub incarnation: Name,
    /// The pod's address, where the actor's traffic goes.
    pub ip: Name,
    /// The node it runs on.
    pub node: NodeName,
    /// Whether it takes new actors.
    pub duty: Duty,
    /// The actor that it is promised to.
    pub hosts: Option<Hosted>,
}

/// Whether a worker takes new actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// It does.
    Serving,
    /// Its pod is on the way out: what it runs is suspended, and nothing new comes.
    Draining,
}

/// A worker's promise to an actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The namespace of the actor's template, for those who list workers.
    pub template_namespace: Name,
    /// The name of the actor's template.
    pub template_name: Name,
    /// The worker's fence: the version at which this promise was written.
    pub fence: Fence,
}

impl Worker {
    /// This worker, promised to an actor.
    #[must_use]
    pub fn promised(&self, actor: ActorKey, incarnation: Incarnation, template: (Name, Name)) -> Worker {
        let version = self.version.next();
        Worker {
            version,
            hosts: Some(Hosted {
                actor,
                incarnation,
                template_namespace: template.0,
                template_name: template.1,
                fence: Fence(version.0),
            }),
            ..self.clone()
        }
    }

    /// This worker, promised to nobody, at a version of at least `at_least`.
    #[must_use]
    pub fn freed(&self, at_least: Version) -> Worker {
        Worker {
            version: self.version.next().max(at_least),
            hosts: None,
            ..self.clone()
        }
    }

    /// Whether this worker is promised to this life of this actor.
    pub fn is_promised_to(&self, actor: &ActorKey, incarnation: Incarnation) -> bool {
        self.hosts
            .as_ref()
            .is_some_and(|h| h.actor == *actor && h.incarnation == incarnation)
    }
}
