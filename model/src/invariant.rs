//! What must always be true (design section 10): each one function over what has happened and what
//! happens now, with a test that it can fail.

mod crash_cause;
mod fence_order;
mod latest_complete;
mod one_actor;
mod one_sandbox;
mod one_verdict;
pub mod settled;
mod state_kept;

use crate::fact::Fact;
use crate::history::History;

/// One invariant.
pub type Invariant = fn(&History, &Fact) -> Result<(), String>;

/// Every invariant on what happens, by its number in the design. I8 is about what follows when nothing
/// goes wrong any more: see [`settled`] and [`crate::calm`].
pub const ALL: [(&str, Invariant); 7] = [
    ("I1", fence_order::check),
    ("I2", one_sandbox::check),
    ("I3", one_actor::check),
    ("I4", latest_complete::check),
    ("I5", state_kept::check),
    ("I10", crash_cause::check),
    ("I12", one_verdict::check),
];

/// Whether `fact` may happen after `history`.
///
/// # Errors
/// The first invariant that it breaks, and how.
pub fn check(history: &History, fact: &Fact) -> Result<(), String> {
    ALL.iter()
        .try_for_each(|(name, invariant)| invariant(history, fact).map_err(|what| format!("{name}: {what}")))
}

#[cfg(test)]
mod tests {
    use crate::fact::Fact;
    use crate::history::History;
    use holdfast_core::actor::{Actor, State};
    use holdfast_core::catalog::Selector;
    use holdfast_core::id::{ActorKey, Incarnation};

    /// A history in which these facts have happened.
    pub(crate) fn after(facts: impl IntoIterator<Item = Fact>) -> History {
        let mut history = History::default();
        for fact in facts {
            history.absorb(fact);
        }
        history
    }

    /// The actor that tests speak of.
    pub(crate) fn key() -> ActorKey {
        ActorKey::new("s", "a")
    }

    /// Its record, in a state.
    pub(crate) fn actor(state: State) -> Actor {
        let template = crate::catalog::template();
        Actor {
            state,
            ..Actor::create(key(), Incarnation(1), template, Selector::default())
        }
    }

    /// It begins to serve.
    pub(crate) fn up(worker: &str, count: u8) -> Fact {
        Fact::Up {
            worker: worker.into(),
            actor: key(),
            count,
        }
    }

    /// Its record changes.
    pub(crate) fn recorded(before: Actor, after: Actor) -> Fact {
        Fact::Recorded {
            before: Box::new(before),
            after: Box::new(after),
        }
    }
}
