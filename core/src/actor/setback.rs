//! What may go wrong with an actor: its state is lost, or cannot be carried forward.

use super::{Actor, Snapshot, State};
use crate::id::{Name, NodeName, WorkerKey};
use core::fmt;

/// Why an actor's state could not be carried forward.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Crash {
    /// What the actor was doing.
    pub during: Transition,
    /// What happened, as the node said it.
    pub reason: Name,
    /// The node on which it happened, where debris may be found.
    pub node: NodeName,
}

/// The transition that an actor was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Resuming.
    Resume,
    /// Suspending.
    Suspend,
    /// Pausing.
    Pause,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transition::Resume => "resume",
            Transition::Suspend => "suspend",
            Transition::Pause => "pause",
        })
    }
}

/// State that was lost with its worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// The worker that took it along.
    pub worker: WorkerKey,
    /// How it went.
    pub reason: Name,
}

/// What an operator is told of: an actor has lost something, or cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Setback {
    /// State since the last snapshot went with its worker.
    Lost {
        /// What was lost.
        loss: Loss,
        /// What the next Resume goes on from; none if it begins anew.
        back_to: Option<Snapshot>,
    },
    /// It stays where it is until somebody reverts it.
    Crashed {
        /// Why.
        crash: Crash,
        /// The snapshot that it was being booted from, or that was being written.
        suspect: Option<Snapshot>,
    },
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setback::Lost { loss, back_to } => {
                write!(
                    f,
                    "lost its newest state with worker {} ({})",
                    loss.worker, loss.reason
                )?;
                match back_to {
                    Some(snapshot) => write!(f, "; goes on from {snapshot}"),
                    None => f.write_str("; begins anew, it was never suspended"),
                }
            }
            Setback::Crashed { crash, suspect } => {
                write!(
                    f,
                    "crashed in {} on node {}: {}",
                    crash.during, crash.node, crash.reason
                )?;
                match suspect {
                    Some(snapshot) => write!(f, "; look at {snapshot}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl Actor {
    /// What has befallen it between a record and this one, written after it, that an operator is to be told.
    pub fn setback_since(&self, before: &Actor) -> Option<Setback> {
        match (&self.state, &self.loss) {
            (State::Crashed(crash), _) if !matches!(before.state, State::Crashed(_)) => {
                let suspect = match (crash.during, &self.latest) {
                    (Transition::Resume, suspect) => suspect.clone(),
                    _ => self.begun(),
                };
                let crash = crash.clone();
                Some(Setback::Crashed { crash, suspect })
            }
            (_, Some(loss)) if before.loss.as_ref() != Some(loss) => Some(Setback::Lost {
                loss: loss.clone(),
                back_to: self.latest.clone(),
            }),
            _ => None,
        }
    }
}
