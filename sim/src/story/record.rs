//! What is kept of a run for its page: who there was, what happened, and what lasted.

use crate::clock::Clock;
use crate::oracle::Violation;
use crate::plan::Plan;
use holdfast_core::id::{ActorKey, Fence, OpId, PodUid};
use std::collections::BTreeMap;

/// A run, or a part of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was played.
    pub plan: Plan,
    /// Who there is, in the order in which they are shown.
    pub lanes: Vec<Lane>,
    /// The number of the first entry; the others follow.
    pub first: u32,
    /// What happened, in order.
    pub entries: Vec<Entry>,
    /// What lasted, in the order in which it began.
    pub bars: Vec<Bar>,
    /// From when on everything is here, in microseconds of true time.
    pub from: u64,
    /// Up to when.
    pub until: u64,
    /// How long the run was: to its end, or until it went wrong.
    pub end: u64,
    /// When its faults were over.
    pub calm: Option<u64>,
    /// How many events of the world there were.
    pub events: u64,
    /// How many entries are not here, before and after.
    pub left_out: (u64, u64),
    /// How many requests were answered, by what they were told.
    pub verdicts: BTreeMap<String, u64>,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// The entry with which it did.
    pub violated: Option<u32>,
}

/// Somebody to whom things happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub group: Group,
    /// The clock that it goes by; none for what has none.
    pub clock: Option<Clock>,
}

/// What a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// What goes wrong.
    Faults,
    /// Whoever asks.
    Callers,
    /// A replica of the control plane.
    Replica,
    /// The store.
    Store,
    /// The atelet of a node.
    Node,
    /// A worker pod's place on a node, with the ateom in it.
    Worker,
    /// The object store.
    Objects,
    /// An actor: what its record says, and who may act for it.
    Actor,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 8] = [
        Group::Faults,
        Group::Callers,
        Group::Replica,
        Group::Store,
        Group::Node,
        Group::Worker,
        Group::Objects,
        Group::Actor,
    ];
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds of true time.
    pub at: u64,
    /// To whom, by the number of the lane.
    pub lane: usize,
    /// Of what kind it is.
    pub kind: Kind,
    /// What, and about whom.
    pub about: About,
    /// The number of the entry that it follows from. If that was somewhere else, or earlier, something was on its
    /// way in between.
    pub cause: Option<u32>,
}

/// What an entry or a bar is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What, in a few words.
    pub label: String,
    /// All that is known of it.
    pub detail: String,
    /// The actor.
    pub actor: Option<ActorKey>,
    /// The worker.
    pub worker: Option<PodUid>,
    /// The operation.
    pub op: Option<OpId>,
    /// The fence that came with it: the actor's, or the worker's if it concerns no actor.
    pub fence: Option<Fence>,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine was told something.
    Hears,
    /// A machine asked for something.
    Does,
    /// A timer of a machine went off.
    Wakes,
    /// A message has come.
    Arrives,
    /// Something that took a while is done.
    Done,
    /// A message has come to nobody.
    Lost,
    /// This is so, whoever knows of it.
    Fact,
    /// A process begins or ends.
    Process,
    /// The outside went wrong.
    Fault,
    /// What must never be.
    Violation,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::Hears,
        Kind::Does,
        Kind::Wakes,
        Kind::Arrives,
        Kind::Done,
        Kind::Lost,
        Kind::Fact,
        Kind::Process,
        Kind::Fault,
        Kind::Violation,
    ];
}

/// Something that lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// From when, in microseconds of true time.
    pub from: u64,
    /// Until when; none if it had not ended when the record did.
    pub until: Option<u64>,
    /// On whose lane, by its number.
    pub lane: usize,
    /// Of what kind it is.
    pub span: Span,
    /// What it is about.
    pub about: About,
    /// From when on the settings do not cover it any more, of a belief: whoever holds on to it then has not been
    /// able to look, or is wrong.
    pub covered: Option<u64>,
    /// The number of the entry with which it began.
    pub cause: Option<u32>,
}

/// What kind of thing lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// A process runs.
    Runs,
    /// A process is not scheduled.
    Sleeps,
    /// Nobody reaches it, or it fails whoever asks.
    Away,
    /// A fault, for as long as it lasts.
    Fault,
    /// A caller waits.
    Request,
    /// A lease, as the store has it.
    Lease,
    /// A lease, as a replica believes in it.
    Belief,
    /// A node's session, as the node believes in it.
    Session,
    /// A sandbox that runs.
    Sandbox,
    /// A sandbox that is held still.
    Frozen,
    /// An operation in an ateom.
    Act,
    /// What an actor's record says.
    State,
}

impl Span {
    /// All of them.
    pub const ALL: [Span; 12] = [
        Span::Runs,
        Span::Sleeps,
        Span::Away,
        Span::Fault,
        Span::Request,
        Span::Lease,
        Span::Belief,
        Span::Session,
        Span::Sandbox,
        Span::Frozen,
        Span::Act,
        Span::State,
    ];
}

impl Record {
    /// The entry of that number, if it is here.
    pub fn entry(&self, number: u32) -> Option<&Entry> {
        let index = number.checked_sub(self.first)?;
        self.entries.get(index as usize)
    }
}
