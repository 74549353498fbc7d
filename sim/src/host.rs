//! One machine with its disk, its atelet and its workers. What is here survives the atelet.

use holdfast_core::effect::{Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, Name, NodeName, OpId, PodUid, WorkerKey};
use holdfast_core::licence::{Hold, Licence};
use holdfast_core::node::{
    Alive, Described, Kept, Memory, Node, Sandbox, Work, WorkFailure, WorkFailureKind, WorkResult,
};
use holdfast_core::pull::Attempt;
use holdfast_core::worker::Duty;
use std::collections::{BTreeMap, BTreeSet};

/// One machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: NodeName,
    /// Its atelet, while that runs.
    pub atelet: Option<Node>,
    /// Counts the atelet's lives.
    pub life: u32,
    /// When the atelet is to be woken.
    pub wake: Option<u64>,
    /// Until when the atelet is not scheduled.
    pub paused_until: u64,
    /// After how many more outputs the atelet dies.
    pub fuse: Option<u32>,
    /// Until when the replicas cannot reach it, nor it them.
    pub cut_until: u64,
    /// The atelet's journal.
    pub disk: Memory,
    /// Until when nothing more fits on the disk.
    pub disk_full_until: u64,
    /// How many of the journal's next writes fail.
    pub refusals: u32,
    /// When the journal's last write will be on disk.
    pub journal_until: u64,
    /// Local snapshots: the counter, or `None` if it was damaged.
    pub locals: BTreeMap<Name, Option<u64>>,
    /// What was fetched for a worker's next boot.
    pub staged: BTreeMap<PodUid, u64>,
    /// The files of checkpoints that were taken.
    pub captures: BTreeMap<OpId, u64>,
    /// The workers.
    pub ateoms: BTreeMap<PodUid, Ateom>,
    /// When the atelet will have seen the last change of each worker.
    pub seen_until: BTreeMap<PodUid, u64>,
    /// When the last question to each ateom arrives there.
    pub asked_until: BTreeMap<PodUid, u64>,
    /// Pulls under way.
    pub pulls: BTreeSet<Attempt>,
    /// Images that are here.
    pub images: BTreeSet<Name>,
}

/// One worker pod.
#[derive(Clone, Debug)]
pub struct Ateom {
    /// Its place.
    pub key: WorkerKey,
    /// Counts the runs of ateom in this pod.
    pub run: u32,
    /// Whether it runs now.
    pub is_up: bool,
    /// Whether its pod is on the way out.
    pub duty: Duty,
    /// The sandbox in it.
    pub sandbox: Option<Live>,
    /// For how long that may run.
    pub licence: Licence,
    /// When it is to be woken for that.
    pub wake: Option<u64>,
    /// The operation under way.
    pub current: Option<Act>,
    /// The actor whose checkpoint was the last thing it did.
    pub captured: Option<ActorKey>,
    /// How the last operation ended: repeated under the same id, it gets the same answer.
    pub last: Option<(OpId, Work, WorkResult)>,
}

/// A sandbox.
#[derive(Clone, Debug)]
pub struct Live {
    /// Whose.
    pub actor: ActorKey,
    /// Which operation brought it.
    pub op: OpId,
    /// What the actor's counter stands at.
    pub count: u64,
}

/// An operation in an ateom.
#[derive(Clone, Debug)]
pub struct Act {
    /// The operation.
    pub op: OpId,
    /// What is done.
    pub work: Work,
    /// For which actor.
    pub actor: ActorKey,
}

impl Host {
    /// A machine without workers.
    pub fn new(name: NodeName) -> Host {
        Host {
            name,
            atelet: None,
            life: 0,
            wake: None,
            paused_until: 0,
            fuse: None,
            cut_until: 0,
            disk: Memory::default(),
            disk_full_until: 0,
            refusals: 0,
            journal_until: 0,
            locals: BTreeMap::new(),
            staged: BTreeMap::new(),
            captures: BTreeMap::new(),
            ateoms: BTreeMap::new(),
            seen_until: BTreeMap::new(),
            asked_until: BTreeMap::new(),
            pulls: BTreeSet::new(),
            images: BTreeSet::new(),
        }
    }

    /// The journal takes a record.
    pub fn keep(&mut self, kept: &Kept) {
        self.disk.take(kept);
    }

    /// The sandbox of an actor on a worker.
    pub fn sandbox_of(&mut self, uid: &PodUid, actor: &ActorKey) -> Option<&mut Live> {
        self.ateoms
            .get_mut(uid)?
            .sandbox
            .as_mut()
            .filter(|live| live.actor == *actor)
    }
}

impl Ateom {
    /// A worker that has just come up.
    pub fn new(key: WorkerKey, run: u32) -> Ateom {
        Ateom {
            key,
            run,
            duty: Duty::Serving,
            is_up: true,
            sandbox: None,
            licence: Licence::default(),
            wake: None,
            current: None,
            captured: None,
            last: None,
        }
    }

    /// What it says of itself.
    pub fn describe(&self, uid: &PodUid) -> Described {
        let busy = self.current.as_ref().map(|act| Alive {
            actor: act.actor.name.clone(),
            op: Some(act.op),
            sandbox: Sandbox::Busy,
        });
        let alive = self.sandbox.as_ref().map(|live| Alive {
            actor: live.actor.name.clone(),
            op: Some(live.op),
            sandbox: match self.licence.hold() {
                Hold::Frozen => Sandbox::Frozen,
                Hold::Running(_) | Hold::Empty => Sandbox::Running,
            },
        });
        Described {
            key: self.key.clone(),
            ip: format!("ip-{uid}").into(),
            incarnation: format!("{uid}#{}", self.run).into(),
            duty: self.duty,
            sandbox: busy.or(alive),
        }
    }
}

/// Where a snapshot is: its name, and whether on this node.
pub fn whereabouts(verb: &Verb) -> Option<(&Name, bool)> {
    match verb {
        Verb::Restore { from: place, .. } | Verb::Checkpoint { to: place, .. } => Some(match place {
            Place::External(name) => (name, false),
            Place::Local(name) => (name, true),
        }),
        Verb::Run { .. } | Verb::Upload { .. } | Verb::Stop | Verb::Thaw => None,
    }
}

/// A step that failed.
pub fn fails(kind: WorkFailureKind, message: &str) -> WorkResult {
    let code = match kind {
        WorkFailureKind::Fatal | WorkFailureKind::Gone => Code::DataLoss,
        WorkFailureKind::Unreachable | WorkFailureKind::Transient => Code::Unavailable,
    };
    Err(WorkFailure {
        code,
        message: message.into(),
        kind,
    })
}
