//! What can happen in a state ([`enabled`]), and what it does ([`taken`]).

mod enabled;
mod taken;

use holdfast_core::id::{ActorKey, PodUid};

pub(crate) use enabled::{enabled, orphans};

/// One thing that can happen. Places in the flight are those of the state in which it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A caller asks a replica.
    Ask {
        /// Which caller.
        caller: usize,
        /// Which replica.
        seat: usize,
    },
    /// A message arrives.
    Arrive(usize),
    /// A report arrives at a replica.
    ReportArrives {
        /// Which message.
        at: usize,
        /// Which replica.
        seat: usize,
    },
    /// A replica's watch catches up by one event.
    CatchUp(usize),
    /// A replica's next timer fires.
    ReplicaWakes(usize),
    /// A node's next timer fires.
    NodeWakes(usize),
    /// The store forgets the session of a dead replica.
    SessionEnds(usize),
    /// A lease that nobody renews any more ends.
    LeaseEnds(ActorKey),
    /// A replica dies.
    Crash(usize, Sent),
    /// A replica is told to leave.
    Leave(usize),
    /// A replica is not scheduled for a while.
    Pause(usize, Pause),
    /// Something befalls a message.
    Disturb(usize, Disturbance),
    /// A report is lost on its way, or heard twice.
    DisturbReport(usize, Disturbance, usize),
    /// A step of a node fails.
    Fail(usize),
    /// A sandbox dies.
    KillSandbox(usize, PodUid),
    /// An atelet dies and starts again.
    Restart(usize, Sent),
    /// A node and the replicas do not reach each other any more.
    Silence(usize),
    /// The session of a silent node ends, by its own clock.
    Lapse(usize),
    /// So much time passes that a silent node is surely frozen.
    Outlast(usize),
    /// They reach each other again.
    Return(usize),
    /// A replica's watch falls behind.
    Lag(usize),
    /// A report is held up.
    Hold(usize),
}

/// What becomes of what a dying process has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Arrives,
    /// It never left.
    Lost,
}

/// How long a replica is not scheduled, as far as others and itself can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Longer than its session lives, shorter than it believes in its leases.
    BeyondSession,
    /// Longer than its leases live; its clock tells it.
    BeyondLease,
    /// Longer than its leases live, and its clock does not tell it: it drifts beyond all bounds.
    BeyondLeaseUnnoticed,
}

/// What befalls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// It is lost; its sender hears of no answer.
    Lost,
    /// It arrives; the answer is lost.
    AnswerLost,
    /// Its sender gives up waiting; it arrives later.
    Delayed,
    /// It arrives, and once more later.
    Repeated,
}
