//! The one shape that every machine of the core has.

use crate::time::Instant;

/// A pure state machine: things happen to it, it says what to do next, and when to wake it.
///
/// The driver's contract: after every `handle` and `handle_timeout`, take outputs until there are
/// none and perform them in order, then wait for the next input or for `poll_timeout`, whichever is
/// first. Only `handle` and `handle_timeout` change what `poll_timeout` answers. A wake-up too many
/// changes nothing. Instants come from one clock that never goes back.
pub trait Machine {
    /// Something that happened.
    type Input;
    /// Something to do, as plain data.
    type Output;
    /// Why the machine wants to be woken.
    type Timer: core::fmt::Debug;

    /// Takes note of what happened at `now`.
    fn handle(&mut self, now: Instant, input: Self::Input);
    /// The next thing to do; `None` when there is nothing.
    fn poll_output(&mut self) -> Option<Self::Output>;
    /// When to call [`Machine::handle_timeout`], and why.
    fn poll_timeout(&self) -> Option<(Instant, Self::Timer)>;
    /// Time has passed; `now` may be earlier than the deadline, in which case nothing changes.
    fn handle_timeout(&mut self, now: Instant);
}
