//! The one driver: it stands between a pure machine and the effects that adapters perform.
//!
//! A machine and its driver are one task. Inputs arrive through an [`Inbox`]; each is handled alone and
//! in order, its outputs are handed to [`Effects`] at once, and effects answer through the inbox again.
//! Nothing is shared, so nothing is locked.

use std::fmt;
use std::sync::Arc;

use holdfast_core::machine::Machine;

use crate::clock::{Clock, sleep_until};
use crate::tokio::sync::mpsc;

/// Where a machine's inputs go.
pub struct Inbox<I>(mpsc::UnboundedSender<I>);

impl<I> Clone for Inbox<I> {
    fn clone(&self) -> Self {
        Inbox(self.0.clone())
    }
}

impl<I> fmt::Debug for Inbox<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl<I> Inbox<I> {
    /// Hands an input to the machine; it is dropped if the machine has gone.
    ///
    /// The queue is not bounded here because its senders are: each effect answers once, and servers
    /// bound the requests that they let in.
    pub fn send(&self, input: I) {
        let _ = self.0.send(input);
    }

    /// Whether the machine has gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Inputs on their way to a machine.
#[derive(Debug)]
pub struct Queue<I>(mpsc::UnboundedReceiver<I>);

impl<I> Queue<I> {
    /// The next input, for whoever takes the machine's place; `None` when no inbox is left.
    pub async fn next(&mut self) -> Option<I> {
        self.0.recv().await
    }
}

/// A new inbox, and the queue that [`drive`] takes from.
pub fn inbox<I>() -> (Inbox<I>, Queue<I>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Inbox(sender), Queue(receiver))
}

/// What performs a machine's outputs.
pub trait Effects<M: Machine> {
    /// Begins an output and returns at once; what comes of it arrives through the inbox.
    fn perform(&mut self, output: M::Output) -> Flow;
}

/// Whether a driver goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    GoOn,
    /// The machine has gone.
    Stop,
}

/// Runs a machine until its effects say [`Flow::Stop`] or its last inbox is dropped.
///
/// Whatever the machine's deadlines are, its inputs reach it and other tasks get their turn.
pub async fn drive<M: Machine>(
    mut machine: M,
    mut queue: Queue<M::Input>,
    clock: Arc<dyn Clock>,
    mut effects: impl Effects<M>,
) {
    loop {
        while let Some(output) = machine.poll_output() {
            if effects.perform(output) == Flow::Stop {
                return;
            }
        }
        let wake = machine.poll_timeout().map(|(at, _)| at);
        let timeout = async {
            match wake {
                Some(at) => sleep_until(&*clock, at).await,
                None => std::future::pending().await,
            }
        };
        crate::tokio::select! {
            biased;
            input = queue.0.recv() => match input {
                Some(input) => machine.handle(clock.now(), input),
                None => return,
            },
            () = timeout => {}
        }
        // A machine that is kept busy by inputs must still hear of its deadlines.
        if machine.poll_timeout().is_some_and(|(at, _)| at <= clock.now()) {
            machine.handle_timeout(clock.now());
            // The next deadline may have passed already, and the one after that too: without a word to
            // the runtime no other task would run, and, once the budget of this one is spent, no input
            // would arrive.
            crate::tokio::task::yield_now().await;
        }
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use holdfast_core::time::{Duration, Instant};

    /// Counts to three, one step per input or per deadline, and then asks to stop.
    #[derive(Default)]
    struct Counter {
        count: u32,
        outputs: Vec<u32>,
        wake: Option<Instant>,
    }

    impl Machine for Counter {
        type Input = ();
        type Output = u32;
        type Timer = ();

        fn handle(&mut self, now: Instant, (): ()) {
            self.count += 1;
            self.outputs.push(self.count);
            self.wake = Some(now.plus(Duration::from_millis(1)));
        }

        fn poll_output(&mut self) -> Option<u32> {
            self.outputs.pop()
        }

        fn poll_timeout(&self) -> Option<(Instant, ())> {
            self.wake.map(|at| (at, ()))
        }

        fn handle_timeout(&mut self, now: Instant) {
            if self.wake.is_some_and(|at| at <= now) {
                self.wake = None;
                self.handle(now, ());
            }
        }
    }

    struct Collect(Vec<u32>, mpsc::UnboundedSender<Vec<u32>>);

    impl Effects<Counter> for Collect {
        fn perform(&mut self, output: u32) -> Flow {
            self.0.push(output);
            if self.0.len() < 3 {
                return Flow::GoOn;
            }
            self.1
                .send(std::mem::take(&mut self.0))
                .expect("the test waits for it");
            Flow::Stop
        }
    }

    #[tokio::test]
    async fn inputs_and_deadlines_reach_the_machine_and_its_outputs_are_performed_in_order() {
        let (inbox, queue) = inbox();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        inbox.send(());
        drive(
            Counter::default(),
            queue,
            Arc::new(SystemClock),
            Collect(Vec::new(), sender),
        )
        .await;
        assert_eq!(receiver.recv().await, Some(vec![1, 2, 3]));
        assert!(inbox.is_closed());
    }

    /// Wants to be woken at once, always; stops when it has been told so often enough.
    struct Restless {
        wakes: u32,
        inputs: u32,
    }

    /// More than a task may receive before the runtime wants it to give way.
    const INPUTS: u32 = 1_000;
    /// So many wake-ups without the last input mean that it will never come.
    const STARVED: u32 = 1_000_000;

    impl Machine for Restless {
        type Input = ();
        type Output = ();
        type Timer = ();

        fn handle(&mut self, _: Instant, (): ()) {
            self.inputs += 1;
        }

        fn poll_output(&mut self) -> Option<()> {
            (self.inputs == INPUTS).then_some(())
        }

        fn poll_timeout(&self) -> Option<(Instant, ())> {
            Some((Instant::ORIGIN, ()))
        }

        fn handle_timeout(&mut self, _: Instant) {
            self.wakes += 1;
            assert!(self.wakes < STARVED, "inputs starve behind deadlines");
        }
    }

    struct StopAtOnce;

    impl Effects<Restless> for StopAtOnce {
        fn perform(&mut self, (): ()) -> Flow {
            Flow::Stop
        }
    }

    #[tokio::test]
    async fn a_machine_that_always_wants_to_be_woken_starves_neither_its_inputs_nor_other_tasks() {
        let (inbox, queue) = inbox();
        let machine = Restless { wakes: 0, inputs: 0 };
        let driving = tokio::spawn(drive(machine, queue, Arc::new(SystemClock), StopAtOnce));
        // On this one thread each of these turns is one that the machine gave way.
        for _ in 0..INPUTS {
            tokio::task::yield_now().await;
            inbox.send(());
        }
        driving.await.unwrap();
        assert!(inbox.is_closed());
    }
}
