//! What is true on a node, whatever its atelet believes: sandboxes, checkpoints, local snapshots, and
//! the journal on its disk.

use crate::defect::Defect;
use crate::fact::{Ending, Fact};
use holdfast_core::effect::{Place, Verb};
use holdfast_core::failure::Code;
use holdfast_core::id::{ActorKey, Name, NodeName, OpId, PodUid, RequestId, WorkerKey};
use holdfast_core::licence::{Do, Hold, Licence, Licensed};
use holdfast_core::machine::Machine;
use holdfast_core::node::{
    Alive, Described, Kept, Memory, Order, Sandbox, Work, WorkFailure, WorkFailureKind, WorkResult, place_of,
};
use holdfast_core::time::Instant;
use holdfast_core::worker::Duty;
use std::collections::{BTreeMap, BTreeSet};

/// Complete snapshots, and the counter in each.
pub type Snapshots = BTreeMap<Name, u8>;

/// One machine, without its atelet: all of this survives the atelet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Host {
    /// Its name.
    pub name: NodeName,
    /// Counts the atelet's lives.
    pub run: u32,
    /// The journal.
    pub disk: Memory,
    /// The workers.
    pub ateoms: BTreeMap<PodUid, Ateom>,
    /// Snapshots on its disk.
    pub locals: Snapshots,
    /// What was fetched for a worker's next boot.
    pub staged: BTreeMap<PodUid, u8>,
    /// The files of checkpoints that were taken.
    pub captures: BTreeMap<OpId, u8>,
    /// Calls that the atelet has not answered.
    pub calls: BTreeSet<RequestId>,
    /// How many operations lost their ids on the way: only a defect loses any.
    pub strangers: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ateom {
    /// Its place.
    pub key: WorkerKey,
    /// The sandbox in it.
    pub sandbox: Option<Live>,
    /// Until when what runs may run.
    pub licence: Licence,
    /// How it ended: repeated under the same id, it gets the same answer.
    pub last: Option<(OpId, Work, WorkResult)>,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    /// Whose.
    pub actor: ActorKey,
    /// Which operation brought it.
    pub op: OpId,
    /// How many requests it has acknowledged, in all its actor's life.
    pub count: u8,
}

/// Whether a step does what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Luck {
    /// It does.
    Good,
    /// It fails.
    Bad,
}

/// Under which circumstances a step is done.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Whether it comes off.
    pub luck: Luck,
    /// What the host's clock says.
    pub now: Instant,
    /// What is broken.
    pub defect: Option<Defect>,
}

impl Host {
    /// The journal takes a record.
    pub fn keep(&mut self, kept: &Kept) {
        self.disk.take(kept);
    }

    /// What a worker says of itself.
    pub fn describe(&self, uid: &PodUid) -> Described {
        let ateom = &self.ateoms[uid];
        Described {
            key: ateom.key.clone(),
            ip: format!("ip-{uid}").into(),
            incarnation: "run-1".into(),
            duty: Duty::Serving,
            sandbox: ateom.sandbox.as_ref().map(|live| Alive {
                actor: live.actor.name.clone(),
                op: Some(live.op),
                sandbox: match ateom.licence.hold() {
                    Hold::Frozen => Sandbox::Frozen,
                    Hold::Running(_) | Hold::Empty => Sandbox::Running,
                },
            }),
        }
    }

    /// The sandbox of an actor on a worker.
    pub fn serving(&mut self, uid: &PodUid, actor: &ActorKey) -> Option<&mut Live> {
        let ateom = self.ateoms.get_mut(uid)?;
        ateom.sandbox.as_mut().filter(|live| live.actor == *actor)
    }

    /// Whatever runs in a worker ends.
    pub fn end_sandbox(&mut self, uid: &PodUid, how: Ending, facts: &mut Vec<Fact>) {
        if let Some(live) = self.ateoms.get_mut(uid).and_then(|ateom| ateom.sandbox.take()) {
            facts.push(Fact::Down {
                worker: uid.clone(),
                actor: live.actor,
                how,
            });
            if let Some(ateom) = self.ateoms.get_mut(uid) {
                ateom.licence = Licence::default();
            }
        }
    }

    /// Something befalls the licence of what runs in a worker.
    pub fn license(&mut self, uid: &PodUid, now: Instant, what: Licensed, facts: &mut Vec<Fact>) {
        if let Some(ateom) = self.ateoms.get_mut(uid) {
            ateom.licence.handle(now, what);
        }
        self.heed_licence(uid, now, facts);
    }

    /// What is due by this host's clock is held still.
    pub fn heed_licence(&mut self, uid: &PodUid, now: Instant, facts: &mut Vec<Fact>) {
        let Some(ateom) = self.ateoms.get_mut(uid) else {
            return;
        };
        ateom.licence.handle_timeout(now);
        while let Some(output) = ateom.licence.poll_output() {
            let Some(live) = &ateom.sandbox else { continue };
            match output {
                Do::Freeze => facts.push(Fact::Frozen(uid.clone(), live.actor.clone())),
                Do::Thaw => facts.push(Fact::Thawed(uid.clone(), live.actor.clone(), live.count)),
                Do::Moved(_) => {}
            }
        }
    }

    /// A step that the atelet performs by itself, before ateom is asked.
    pub fn prepare(&mut self, work: &Work, order: &Order, objects: &Snapshots) -> WorkResult {
        match work {
            Work::Clear => {
                self.staged.remove(&order.worker);
                Ok(Vec::new())
            }
            Work::Fetch => {
                let count = match place_of(&order.verb) {
                    Some(Place::Local(name)) => self.locals.get(name),
                    Some(Place::External(name)) => objects.get(name),
                    None => None,
                };
                match count {
                    Some(count) => {
                        self.staged.insert(order.worker.clone(), *count);
                        Ok(Vec::new())
                    }
                    None => fails(WorkFailureKind::Fatal, "the snapshot is missing"),
                }
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A step that takes its time: ateom's, or one that moves a snapshot. A repetition of the last one gets
    /// the same answer.
    pub fn perform(
        &mut self,
        work: &Work,
        order: &Order,
        how: How,
        objects: &mut Snapshots,
        facts: &mut Vec<Fact>,
    ) -> WorkResult {
        let How { luck, now, defect } = how;
        if matches!(work, Work::Save(_) | Work::Upload) {
            return self.store(work, order, luck, objects, defect, facts);
        }
        let op = op_of(order);
        let Some(ateom) = self.ateoms.get_mut(&order.worker) else {
            return fails(WorkFailureKind::Unreachable, "ateom does not answer");
        };
        if let Some((last, done, result)) = &ateom.last
            && *last == op
            && done == work
        {
            return result.clone();
        }
        let result = match work {
            Work::Boot { until } => {
                let mut up = Vec::new();
                let booted = self.boot(order, luck, &mut up);
                if booted.is_ok() {
                    let until = until.filter(|_| defect != Some(Defect::LicencesWithoutEnd));
                    // What has booted too late is held still before it serves.
                    self.license(&order.worker, now, Licensed::Booted(until), facts);
                }
                facts.extend(up);
                booted
            }
            Work::Capture => self.capture(order, luck, defect, facts),
            Work::Thaw { until } if self.serving(&order.worker, &order.actor).is_some() => {
                self.license(&order.worker, now, Licensed::Thaw(Some(*until)), facts);
                Ok(Vec::new())
            }
            Work::Thaw { .. } => fails(WorkFailureKind::Gone, "no sandbox to thaw"),
            _ if luck == Luck::Bad => fails(WorkFailureKind::Transient, "the sandbox could not be stopped"),
            _ => {
                if self.serving(&order.worker, &order.actor).is_some() {
                    self.end_sandbox(&order.worker, Ending::Stopped, facts);
                }
                Ok(Vec::new())
            }
        };
        // To stop is tried anew each time.
        if let Some(ateom) = self.ateoms.get_mut(&order.worker).filter(|_| *work != Work::Stop) {
            ateom.last = Some((op, work.clone(), result.clone()));
        }
        result
    }

    fn boot(&mut self, order: &Order, luck: Luck, facts: &mut Vec<Fact>) -> WorkResult {
        if luck == Luck::Bad {
            if matches!(order.verb, Verb::Restore { .. }) {
                facts.push(Fact::Harmed(order.actor.clone()));
            }
            return fails(WorkFailureKind::Fatal, "the sandbox did not start");
        }
        let count = match &order.verb {
            Verb::Run { .. } => 0,
            _ => match self.staged.get(&order.worker) {
                Some(count) => *count,
                None => return fails(WorkFailureKind::Fatal, "nothing was fetched"),
            },
        };
        facts.push(Fact::Up {
            worker: order.worker.clone(),
            actor: order.actor.clone(),
            count,
        });
        if let Some(ateom) = self.ateoms.get_mut(&order.worker) {
            ateom.sandbox = Some(Live {
                actor: order.actor.clone(),
                op: op_of(order),
                count,
            });
        }
        Ok(Vec::new())
    }

    fn capture(
        &mut self,
        order: &Order,
        luck: Luck,
        defect: Option<Defect>,
        facts: &mut Vec<Fact>,
    ) -> WorkResult {
        let Some(count) = self.serving(&order.worker, &order.actor).map(|live| live.count) else {
            return fails(WorkFailureKind::Gone, "no sandbox to checkpoint");
        };
        if luck == Luck::Bad {
            facts.push(Fact::Harmed(order.actor.clone()));
            return fails(WorkFailureKind::Fatal, "the checkpoint failed");
        }
        self.captures.insert(op_of(order), count);
        if defect != Some(Defect::CheckpointLeavesSandbox) {
            self.end_sandbox(&order.worker, Ending::Captured, facts);
        }
        Ok(vec!["pages".into()])
    }

    fn store(
        &mut self,
        work: &Work,
        order: &Order,
        luck: Luck,
        objects: &mut Snapshots,
        defect: Option<Defect>,
        facts: &mut Vec<Fact>,
    ) -> WorkResult {
        if luck == Luck::Bad {
            return fails(WorkFailureKind::Transient, "the object store does not answer");
        }
        let (count, to) = match (work, &order.verb) {
            (Work::Upload, Verb::Upload { name, to }) => (self.locals.get(name), Place::External(to.clone())),
            (_, Verb::Checkpoint { to, .. }) => (self.captures.get(&op_of(order)), to.clone()),
            (_, verb) => unreachable!("{work:?} for {verb:?}"),
        };
        let Some(count) = count.copied() else {
            return fails(WorkFailureKind::Fatal, "what is to be stored is not there");
        };
        if defect == Some(Defect::SavedBeforeStored) {
            return Ok(Vec::new());
        }
        let (snapshot, node) = match to {
            Place::External(name) => {
                objects.insert(name.clone(), count);
                (name, None)
            }
            Place::Local(name) => {
                self.locals.insert(name.clone(), count);
                (name, Some(self.name.clone()))
            }
        };
        facts.push(Fact::Saved { snapshot, node });
        Ok(Vec::new())
    }
}

/// The operation of an order.
pub fn op_of(order: &Order) -> OpId {
    // An order that lost its id on the way is still one order of its actor's fence.
    order.op.unwrap_or(OpId {
        replica: holdfast_core::id::ReplicaId(0),
        seq: order.fence.0,
    })
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
