//! Recorded histories, and the machines that they are played on.

use holdfast_core::machine::Machine;
use holdfast_core::session::OnLapse;
use holdfast_core::settings::*;
use holdfast_core::time::{Duration, Instant};
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::fmt::Debug;

/// What a law says of one history.
pub type Verdict = Result<(), TestCaseError>;

/// Durations that can be multiplied, taken a fraction of and jittered without a remainder: every one is a
/// multiple of 1024 microseconds, which is what jitter divides by.
pub const EXACT: Settings = Settings {
    lease: LeaseSettings {
        ttl: units(300),
        renew_every: units(100),
        retry_from: units(30),
        drift_ppm: 10_000,
        margin: units(10),
    },
    session: SessionSettings {
        ttl: units(60),
        renew_every: units(20),
    },
    node: NodeSettings {
        heartbeat_every: units(300),
        stale_after: 3,
        session_ttl: units(900),
        // What sessions do is told in `sessions.rs`.
        on_lapse: OnLapse::Keep,
        ..Settings::DEFAULT.node
    },
    pull: PullSettings {
        stall_after: units(300),
        attempts: 3,
        retry_after: units(10),
        abandon_grace: units(600),
    },
    workflow: WorkflowSettings {
        deadline: units(3000),
        retry_from: units(1),
        retry_to: units(50),
        settle_after: units(100),
        sweep_every: units(100),
        collect_after: units(600),
    },
};

const fn units(count: u64) -> Duration {
    Duration::from_micros(count * 102_400)
}

/// When histories begin: far enough from the clock's origin that nothing saturates.
pub const START: Instant = Instant::from_micros(1_000_000_000);

/// One thing that happens to a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening<I> {
    /// Something from outside.
    Input(I),
    /// It is woken, because it wanted to be.
    Wake,
}

/// What happened to a machine, and when.
#[derive(Clone)]
pub struct History<I>(pub Vec<(Instant, Happening<I>)>);

impl<I> IntoIterator for History<I> {
    type Item = (Instant, Happening<I>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<I> FromIterator<(Instant, Happening<I>)> for History<I> {
    fn from_iter<T: IntoIterator<Item = (Instant, Happening<I>)>>(events: T) -> Self {
        History(events.into_iter().collect())
    }
}

/// One happening per line, so that a shrunken history fits on a screen.
impl<I: Debug> Debug for History<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, happening) in &self.0 {
            match happening {
                Happening::Input(input) => write!(f, "\n{at:?} {input:?}")?,
                Happening::Wake => write!(f, "\n{at:?} wake")?,
            }
        }
        Ok(())
    }
}

/// A machine of the core, and what may happen to it.
pub trait Subject: 'static {
    type Input: Clone + Debug + PartialEq;
    type Output: Clone + Debug + PartialEq;
    type Machine: Lawful<Self>;

    /// A machine to which nothing has happened.
    fn fresh(settings: &Settings) -> Self::Machine;

    /// Histories of a fresh machine.
    fn histories(settings: Settings) -> BoxedStrategy<History<Self::Input>>;

    /// Whether this input may be repeated without anything being changed by it.
    fn is_idempotent(input: &Self::Input) -> bool;

    /// Whether this output says again what was said before, and is meant to.
    fn is_reminder(_output: &Self::Output) -> bool {
        false
    }

    /// The same input where every duration is `times` as long.
    fn stretched(input: Self::Input, _times: u32) -> Self::Input {
        input
    }

    /// The same output where every duration is `times` as long, without texts that quote durations.
    fn stretched_gist(output: Self::Output, _times: u32) -> Self::Output {
        output
    }
}

/// What a machine must be to stand before a law: a subject's own, or one with a flaw.
pub trait Lawful<S: Subject + ?Sized>:
    Machine<Input = S::Input, Output = S::Output> + Clone + PartialEq + Debug
{
}

impl<S: Subject, M> Lawful<S> for M where
    M: Machine<Input = S::Input, Output = S::Output> + Clone + PartialEq + Debug
{
}

/// What a machine did in a history: after each happening, what it asked for, and when it wants to be woken.
pub type Trace<O> = Vec<(Instant, Vec<O>, Option<Instant>)>;

/// Plays one happening.
pub fn play_one<M: Machine>(machine: &mut M, now: Instant, happening: Happening<M::Input>) -> Vec<M::Output> {
    match happening {
        Happening::Input(input) => machine.handle(now, input),
        Happening::Wake => machine.handle_timeout(now),
    }
    std::iter::from_fn(|| machine.poll_output()).collect()
}

/// Plays a history.
pub fn play<M: Machine>(mut machine: M, history: History<M::Input>) -> Trace<M::Output> {
    let play_at = |(now, happening)| {
        let outputs = play_one(&mut machine, now, happening);
        (now, outputs, machine.poll_timeout().map(|(at, _)| at))
    };
    history.into_iter().map(play_at).collect()
}

/// Checks a law on many histories of a subject.
pub fn holds<S: Subject>(law: impl Fn(History<S::Input>) -> Verdict) {
    if let Err(why) = runner(2_000).run(&S::histories(EXACT), law) {
        panic!("{why}");
    }
}

/// Checks that a law can be broken: some history shows that it is.
pub fn fails<S: Subject>(law: impl Fn(History<S::Input>) -> Verdict) {
    let broken = runner(0).run(&S::histories(EXACT), law);
    assert!(broken.is_err(), "a flaw that the law does not see");
}

/// As many histories as a debug build can play in a second, the same ones every time; `PROPTEST_CASES` asks
/// for more.
pub fn runner(max_shrink_iters: u32) -> TestRunner {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters,
        ..Config::with_cases(Config::default().cases.max(512))
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// One test per machine for the law of a file.
macro_rules! every_machine {
    ($law:ident: $($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                type S = crate::$name::Subject;
                crate::history::holds::<S>(|history| $law::<S, _>(<S as crate::history::Subject>::fresh, history));
            }
        )*
    };
}
pub(crate) use every_machine;

/// A machine, and what has happened to it so far.
pub struct Recorder<M: Machine> {
    pub machine: M,
    pub now: Instant,
    pub history: History<M::Input>,
}

impl<M: Machine<Input: Clone>> Recorder<M> {
    pub fn new(machine: M) -> Recorder<M> {
        Recorder {
            machine,
            now: START,
            history: History(Vec::new()),
        }
    }

    /// Something happens now.
    pub fn input(&mut self, input: M::Input) -> Vec<M::Output> {
        self.history.0.push((self.now, Happening::Input(input.clone())));
        play_one(&mut self.machine, self.now, Happening::Input(input))
    }

    /// Turns the clock, and wakes the machine exactly when it wants to be woken.
    pub fn pass(&mut self, time: Duration) -> Vec<M::Output> {
        let end = self.now.plus(time);
        let mut outputs = Vec::new();
        for _ in 0..1_000 {
            match self.machine.poll_timeout() {
                Some((at, _)) if at <= end => {
                    self.now = at.max(self.now);
                    self.history.0.push((self.now, Happening::Wake));
                    outputs.extend(play_one(&mut self.machine, self.now, Happening::Wake));
                }
                _ => {
                    self.now = end;
                    return outputs;
                }
            }
        }
        panic!("a machine that wants to be woken all the time");
    }
}

/// Time that passes between two happenings: mostly little, sometimes much.
pub fn gaps() -> impl proptest::strategy::Strategy<Value = Duration> {
    use proptest::prelude::*;
    prop_oneof![3 => 0..200_000u64, 3 => 0..5_000_000u64, 1 => 0..40_000_000u64]
        .prop_map(Duration::from_micros)
}
