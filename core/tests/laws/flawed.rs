//! Machines with a flaw, by which laws prove that they can be broken.

use holdfast_core::machine::Machine;
use holdfast_core::time::{Duration, Instant};
use std::collections::VecDeque;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It goes by what its clock shows, not only by what has passed: every other second it is silent.
    Dated,
    /// It has a duration of its own, which no setting gives.
    Padded,
    /// It counts its wake-ups.
    Counting,
    /// It wants to be woken again for what it has done.
    Restless,
    /// It says something once more when it hears something once more.
    Echoing,
}

/// A machine with a flaw.
#[derive(Clone, Debug, PartialEq)]
pub struct Flawed<M: Machine> {
    inner: M,
    flaw: Flaw,
    wakes: u64,
    due: Option<Instant>,
    last: Option<M::Input>,
    said: Option<M::Output>,
    outputs: VecDeque<M::Output>,
}

impl<M: Machine> Flawed<M> {
    pub fn new(inner: M, flaw: Flaw) -> Flawed<M> {
        Flawed {
            inner,
            flaw,
            wakes: 0,
            due: None,
            last: None,
            said: None,
            outputs: VecDeque::new(),
        }
    }
}

impl<M> Machine for Flawed<M>
where
    M: Machine<Input: Clone + PartialEq, Output: Clone>,
{
    type Input = M::Input;
    type Output = M::Output;
    type Timer = Option<M::Timer>;

    fn handle(&mut self, now: Instant, input: M::Input) {
        let is_repeated = self.last.replace(input.clone()) == Some(input.clone());
        self.inner.handle(now, input);
        let outputs: Vec<M::Output> = std::iter::from_fn(|| self.inner.poll_output()).collect();
        if let Some(said) = outputs.last() {
            self.said = Some(said.clone());
        }
        let is_silent = self.flaw == Flaw::Dated && now.as_micros() / 1_000_000 % 2 == 1;
        if !is_silent {
            self.outputs.extend(outputs);
        }
        if self.flaw == Flaw::Echoing && is_repeated {
            self.outputs.extend(self.said.clone());
        }
    }

    fn poll_output(&mut self) -> Option<M::Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Option<M::Timer>)> {
        let inner = self.inner.poll_timeout();
        match self.flaw {
            Flaw::Padded => inner.map(|(at, why)| (at.plus(Duration::from_millis(1)), Some(why))),
            Flaw::Restless if self.due.is_some() => self.due.map(|at| (at, None)),
            _ => inner.map(|(at, why)| (at, Some(why))),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.flaw {
            Flaw::Counting => self.wakes += 1,
            Flaw::Restless => {
                self.due = self
                    .inner
                    .poll_timeout()
                    .map(|(at, _)| at)
                    .filter(|at| *at <= now)
            }
            _ => {}
        }
        self.inner.handle_timeout(now);
        self.outputs
            .extend(std::iter::from_fn(|| self.inner.poll_output()));
    }
}
