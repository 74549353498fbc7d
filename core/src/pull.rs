//! Image pulls: one at a time per image however many ask, kept alive by progress and by nothing else.
//!
//! A pull that moves no byte for a while has stalled and is started again where it stopped. Only
//! stalls and failures *without progress between them* are counted, so a slow pull never ends and a
//! hung one always does (scenarios S40, S41). What nobody wants any more is cancelled after a grace.

use crate::failure::Code;
use crate::id::Name;
use crate::machine::Machine;
use crate::settings::PullSettings;
use crate::table::{Moved, Row, Table, begins, ends, kinds, moves, stays};
use crate::time::{Instant, jittered};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// All pulls of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pulls {
    settings: PullSettings,
    pulls: BTreeMap<Name, Pull>,
    next_attempt: u64,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pull {
    waiters: BTreeSet<Waiter>,
    stage: Stage,
    bytes: u64,
    /// Stalls and failures in a row without progress between them.
    failures: u32,
    unwanted_since: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Running { attempt: Attempt, moved_at: Instant },
    Waiting { until: Instant },
}

kinds! {
    /// Where a pull stands.
    pub enum Phase {
        /// An attempt is under way.
        Running,
        /// The next attempt is waited for.
        Waiting,
        /// An attempt is under way, and nobody wants the image.
        RunningUnwanted,
        /// The next attempt is waited for, and nobody wants the image.
        WaitingUnwanted,
    }
}

kinds! {
    /// What may befall a pull: an [`Input`], or time.
    pub enum Event {
        /// Somebody wants the image.
        Want,
        /// Somebody does not want it any more.
        Unwant,
        /// The attempt has moved bytes.
        Progress,
        /// The image is here.
        Done,
        /// The attempt has failed.
        Failed,
        /// The attempt has moved no byte for too long.
        Stall,
        /// It is time to try again.
        Retry,
        /// Nobody has wanted it for too long.
        Abandon,
    }
}

/// Everything that may become of a pull. An event for which there is no row changes nothing: it is news
/// of an attempt that is over, or of somebody who does not wait for this image.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        begins(E::Want, &[P::Running], "begins the first attempt"),
        stays(&[P::Running, P::Waiting], E::Want, "one more waits for it"),
        moves(&[P::RunningUnwanted], E::Want, &[P::Running], "goes on"),
        moves(&[P::WaitingUnwanted], E::Want, &[P::Waiting], "goes on"),
        moves(
            &[P::Running],
            E::Unwant,
            &[P::Running, P::RunningUnwanted],
            "the last one out starts the grace",
        ),
        moves(
            &[P::Waiting],
            E::Unwant,
            &[P::Waiting, P::WaitingUnwanted],
            "the same",
        ),
        stays(
            &[P::Running, P::RunningUnwanted],
            E::Progress,
            "failures are counted from zero again",
        ),
        ends(
            &[P::Running, P::RunningUnwanted],
            E::Done,
            "all who wait are told",
        ),
        moves(
            &[P::Running],
            E::Failed,
            &[P::Waiting],
            "the next attempt goes on where this one stopped",
        ),
        moves(
            &[P::RunningUnwanted],
            E::Failed,
            &[P::WaitingUnwanted],
            "the same",
        ),
        ends(
            &[P::Running, P::RunningUnwanted],
            E::Failed,
            "the last try, or a useless one: all are told",
        ),
        moves(
            &[P::Running],
            E::Stall,
            &[P::Waiting],
            "the attempt is cancelled, and counts as failed",
        ),
        moves(&[P::RunningUnwanted], E::Stall, &[P::WaitingUnwanted], "the same"),
        ends(
            &[P::Running, P::RunningUnwanted],
            E::Stall,
            "the last try: all who wait are told",
        ),
        moves(&[P::Waiting], E::Retry, &[P::Running], "begins the next attempt"),
        moves(
            &[P::WaitingUnwanted],
            E::Retry,
            &[P::RunningUnwanted],
            "the same, within the grace",
        ),
        ends(
            &[P::RunningUnwanted, P::WaitingUnwanted],
            E::Abandon,
            "cancelled; what has arrived is left to the cache",
        ),
    ];
    Table::new("pull", ROWS)
};

/// Whoever waits for an image. Local to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// One attempt at a pull. Answers of an attempt that is over are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// Why an attempt, or a pull, failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PullFailure {
    /// What kind of failure, for the caller.
    pub code: Code,
    /// What happened, and what to do.
    pub message: String,
    /// Whether trying again may help.
    pub retry: Retry,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It may.
    Helps,
    /// It does not, until somebody changes something.
    Useless,
}

/// What happens to pulls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Somebody wants an image.
    Want(Name, Waiter),
    /// Somebody does not want anything any more.
    Unwant(Waiter),
    /// An attempt has moved bytes: so many, in all its life.
    Progress(Attempt, u64),
    /// An attempt has ended.
    Ended(Attempt, Result<(), PullFailure>),
}

/// What pulls ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Begin, or go on where an earlier attempt stopped.
    Start(Name, Attempt),
    /// End an attempt and free what it holds; what it has fetched is kept.
    Cancel(Attempt),
    /// The image is here.
    Ready(Waiter, Name),
    /// The image cannot be had.
    Failed(Waiter, Name, PullFailure),
    /// An attempt stalled, or failed, and is made again: something for the log.
    Retrying(Name, String),
    /// This happened to the pull of an image: for those who watch.
    Moved(Name, Moved),
}

/// Why pulls want to be woken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// No byte has moved for too long.
    Stall(Name),
    /// It is time to try again.
    Retry(Name),
    /// Nobody has wanted it for too long.
    Abandon(Name),
}

impl Pulls {
    /// No pulls.
    pub fn new(settings: PullSettings) -> Pulls {
        Pulls {
            settings,
            pulls: BTreeMap::new(),
            next_attempt: 1,
            outputs: VecDeque::new(),
        }
    }

    /// The pulls under way: image and bytes so far.
    pub fn under_way(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.pulls.iter().map(|(image, pull)| (image, pull.bytes))
    }

    /// Where the pull of an image stands in the [`TABLE`]; none if there is none.
    pub fn phase(&self, image: &Name) -> Option<Phase> {
        self.pulls.get(image).map(Pull::phase)
    }

    /// The one way in which a pull changes, begins and ends: what is left of it is what `next` makes of it.
    fn enter(&mut self, image: &Name, event: Event, next: impl FnOnce(Option<Pull>) -> Option<Pull>) {
        let before = self.pulls.remove(image);
        let from = before.as_ref().map(Pull::phase);
        let after = next(before);
        let moved = TABLE.made(from, event, after.as_ref().map(Pull::phase));
        if let Some(pull) = after {
            self.pulls.insert(image.clone(), pull);
        }
        self.outputs.push_back(Output::Moved(image.clone(), moved));
    }

    fn change(&mut self, image: &Name, event: Event, change: impl FnOnce(&mut Pull)) {
        self.enter(image, event, |pull| {
            let mut pull = pull?;
            change(&mut pull);
            Some(pull)
        });
    }

    fn end(&mut self, image: &Name, event: Event) -> Option<Pull> {
        let mut ended = None;
        self.enter(image, event, |pull| {
            ended = pull;
            None
        });
        ended
    }

    fn next_attempt(&mut self) -> Attempt {
        let attempt = Attempt(self.next_attempt);
        self.next_attempt += 1;
        attempt
    }

    fn want(&mut self, now: Instant, image: Name, waiter: Waiter) {
        if self.pulls.contains_key(&image) {
            return self.change(&image, Event::Want, |pull| {
                pull.waiters.insert(waiter);
                pull.unwanted_since = None;
            });
        }
        let attempt = self.next_attempt();
        self.enter(&image, Event::Want, |_| {
            Some(Pull {
                waiters: [waiter].into(),
                stage: Stage::Running {
                    attempt,
                    moved_at: now,
                },
                bytes: 0,
                failures: 0,
                unwanted_since: None,
            })
        });
        self.outputs.push_back(Output::Start(image, attempt));
    }

    fn unwant(&mut self, now: Instant, waiter: Waiter) {
        let is_waiting = |(_, pull): &(&Name, &Pull)| pull.waiters.contains(&waiter);
        let images = self
            .pulls
            .iter()
            .filter(is_waiting)
            .map(|(image, _)| image.clone());
        for image in images.collect::<Vec<Name>>() {
            self.change(&image, Event::Unwant, |pull| {
                pull.waiters.remove(&waiter);
                pull.unwanted_since = pull.waiters.is_empty().then_some(now);
            });
        }
    }

    fn progressed(&mut self, now: Instant, attempt: Attempt, bytes: u64) {
        if let Some(image) = self.image_of(attempt)
            && self.pulls.get(&image).is_some_and(|pull| bytes > pull.bytes)
        {
            self.change(&image, Event::Progress, |pull| {
                pull.bytes = bytes;
                pull.failures = 0;
                pull.stage = Stage::Running {
                    attempt,
                    moved_at: now,
                };
            });
        }
    }

    fn retry(&mut self, now: Instant, image: &Name) {
        let attempt = self.next_attempt();
        self.change(image, Event::Retry, |pull| {
            pull.stage = Stage::Running {
                attempt,
                moved_at: now,
            };
        });
        self.outputs.push_back(Output::Start(image.clone(), attempt));
    }

    fn failed(&mut self, now: Instant, image: &Name, event: Event, failure: PullFailure) {
        let Some(failures) = self.pulls.get(image).map(|pull| pull.failures + 1) else {
            return;
        };
        if failure.retry == Retry::Useless || failures >= self.settings.attempts {
            for waiter in self.end(image, event).into_iter().flat_map(|pull| pull.waiters) {
                self.outputs
                    .push_back(Output::Failed(waiter, image.clone(), failure.clone()));
            }
        } else {
            let until = now.plus(jittered(self.settings.retry_after, u64::from(failures)));
            self.change(image, event, |pull| {
                pull.failures = failures;
                pull.stage = Stage::Waiting { until };
            });
            self.outputs
                .push_back(Output::Retrying(image.clone(), failure.message));
        }
    }

    fn stalled(&mut self, now: Instant, image: &Name) {
        let Some(pull) = self.pulls.get(image) else { return };
        if let Stage::Running { attempt, .. } = pull.stage {
            self.outputs.push_back(Output::Cancel(attempt));
        }
        let failure = PullFailure {
            code: Code::Unavailable,
            message: format!(
                "pull of image {image} stalled: no byte for {}ms at {} bytes (attempt {} of {}); check the registry",
                self.settings.stall_after.as_millis(),
                pull.bytes,
                pull.failures + 1,
                self.settings.attempts
            ),
            retry: Retry::Helps,
        };
        self.failed(now, image, Event::Stall, failure);
    }

    fn ended(&mut self, now: Instant, attempt: Attempt, result: Result<(), PullFailure>) {
        let Some(image) = self.image_of(attempt) else {
            return;
        };
        match result {
            Ok(()) => {
                for waiter in self
                    .end(&image, Event::Done)
                    .into_iter()
                    .flat_map(|pull| pull.waiters)
                {
                    self.outputs.push_back(Output::Ready(waiter, image.clone()));
                }
            }
            Err(failure) => self.failed(now, &image, Event::Failed, failure),
        }
    }

    fn abandon(&mut self, image: &Name) {
        let pull = self.end(image, Event::Abandon);
        if let Some(Stage::Running { attempt, .. }) = pull.map(|pull| pull.stage) {
            self.outputs.push_back(Output::Cancel(attempt));
        }
    }

    fn image_of(&self, attempt: Attempt) -> Option<Name> {
        self.pulls
            .iter()
            .find(|(_, pull)| matches!(pull.stage, Stage::Running { attempt: current, .. } if current == attempt))
            .map(|(image, _)| image.clone())
    }

    fn deadline(&self, image: &Name, pull: &Pull) -> (Instant, Timer) {
        let work = match pull.stage {
            Stage::Running { moved_at, .. } => (
                moved_at.plus(self.settings.stall_after),
                Timer::Stall(image.clone()),
            ),
            Stage::Waiting { until } => (until, Timer::Retry(image.clone())),
        };
        match pull.unwanted_since {
            Some(since) => {
                let abandon = (
                    since.plus(self.settings.abandon_grace),
                    Timer::Abandon(image.clone()),
                );
                if abandon.0 <= work.0 { abandon } else { work }
            }
            None => work,
        }
    }
}

impl Pull {
    fn phase(&self) -> Phase {
        match (&self.stage, self.unwanted_since) {
            (Stage::Running { .. }, None) => Phase::Running,
            (Stage::Waiting { .. }, None) => Phase::Waiting,
            (Stage::Running { .. }, Some(_)) => Phase::RunningUnwanted,
            (Stage::Waiting { .. }, Some(_)) => Phase::WaitingUnwanted,
        }
    }
}

impl Machine for Pulls {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Want(image, waiter) => self.want(now, image, waiter),
            Input::Unwant(waiter) => self.unwant(now, waiter),
            Input::Progress(attempt, bytes) => self.progressed(now, attempt, bytes),
            Input::Ended(attempt, result) => self.ended(now, attempt, result),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.pulls
            .iter()
            .map(|(image, pull)| self.deadline(image, pull))
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.poll_timeout() {
            if at > now {
                return;
            }
            match timer {
                Timer::Stall(image) => self.stalled(now, &image),
                Timer::Retry(image) => self.retry(now, &image),
                Timer::Abandon(image) => self.abandon(&image),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::time::Duration;

    const S: PullSettings = Settings::DEFAULT.pull;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn drain(pulls: &mut Pulls) -> Vec<Output> {
        core::iter::from_fn(|| pulls.poll_output())
            .filter(|output| !matches!(output, Output::Moved(..)))
            .collect()
    }

    fn started(image: &str) -> (Pulls, Attempt) {
        let mut pulls = Pulls::new(S);
        pulls.handle(at(0), Input::Want(image.into(), Waiter(1)));
        let [Output::Start(_, attempt)] = drain(&mut pulls)[..] else {
            panic!()
        };
        (pulls, attempt)
    }

    #[test]
    fn however_many_ask_there_is_one_pull_and_all_are_told() {
        let (mut pulls, attempt) = started("a");
        pulls.handle(at(1), Input::Want("a".into(), Waiter(2)));
        assert_eq!(drain(&mut pulls), []);
        pulls.handle(at(2), Input::Ended(attempt, Ok(())));
        assert_eq!(
            drain(&mut pulls),
            [
                Output::Ready(Waiter(1), "a".into()),
                Output::Ready(Waiter(2), "a".into())
            ]
        );
        assert_eq!(pulls.poll_timeout(), None);
    }

    #[test]
    fn a_trickle_is_kept_alive_for_hours() {
        let (mut pulls, attempt) = started("a");
        for i in 1..2_000 {
            let now = at(29 * i);
            pulls.handle_timeout(now);
            pulls.handle(now, Input::Progress(attempt, i));
            assert_eq!(drain(&mut pulls), [], "at {now:?}");
        }
    }

    #[test]
    fn a_hung_pull_ends_after_its_attempts_and_says_why() {
        let (mut pulls, _) = started("a");
        let mut attempts = 1;
        let failure = loop {
            let (when, _) = pulls.poll_timeout().expect("a hung pull always has a deadline");
            pulls.handle_timeout(when);
            for output in drain(&mut pulls) {
                match output {
                    Output::Start(..) => attempts += 1,
                    Output::Failed(waiter, _, failure) => {
                        assert_eq!(waiter, Waiter(1));
                        assert_eq!(pulls.poll_timeout(), None, "nothing is left behind");
                        assert!(when <= at(0).plus((S.stall_after + S.retry_after * 2) * S.attempts));
                        drop(pulls);
                        assert_eq!(attempts, S.attempts);
                        assert!(failure.message.contains("stalled"), "{}", failure.message);
                        return;
                    }
                    Output::Cancel(_) | Output::Retrying(..) | Output::Moved(..) => {}
                    Output::Ready(..) => panic!("nothing arrived"),
                }
            }
            if attempts > 10 {
                break "it never ends";
            }
        };
        panic!("{failure}");
    }

    #[test]
    fn progress_between_stalls_starts_the_count_again() {
        let (mut pulls, mut attempt) = started("a");
        let mut bytes = 0;
        for _ in 0..20 {
            let (when, _) = pulls.poll_timeout().unwrap();
            pulls.handle_timeout(when);
            for output in drain(&mut pulls) {
                match output {
                    Output::Start(_, next) => attempt = next,
                    Output::Failed(..) => panic!("a pull that moves must not fail"),
                    _ => {}
                }
            }
            bytes += 1;
            pulls.handle(
                when.plus(Duration::from_millis(1)),
                Input::Progress(attempt, bytes),
            );
        }
    }

    #[test]
    fn what_nobody_wants_is_cancelled_after_the_grace_and_not_before() {
        let (mut pulls, attempt) = started("a");
        pulls.handle(at(1), Input::Unwant(Waiter(1)));
        for i in 2..61 {
            pulls.handle(at(i), Input::Progress(attempt, i));
            pulls.handle_timeout(at(i));
        }
        assert_eq!(drain(&mut pulls), []);
        pulls.handle_timeout(at(61));
        assert_eq!(drain(&mut pulls), [Output::Cancel(attempt)]);
        assert_eq!(pulls.poll_timeout(), None);
    }

    #[test]
    fn answers_of_an_attempt_that_is_over_change_nothing() {
        let (mut pulls, attempt) = started("a");
        pulls.handle_timeout(at(30));
        drain(&mut pulls);
        let before = pulls.clone();
        pulls.handle(at(30), Input::Ended(attempt, Ok(())));
        pulls.handle(at(30), Input::Progress(attempt, 99));
        assert_eq!(pulls, before);
    }

    #[test]
    fn what_nobody_wants_and_stalls_at_the_same_moment_is_not_tried_again() {
        let (mut pulls, attempt) = started("a");
        pulls.handle(at(0), Input::Unwant(Waiter(1)));
        let moved_at = at(0).plus(S.abandon_grace).minus(S.stall_after);
        for seconds in (10..=moved_at.as_micros() / 1_000_000).step_by(10) {
            pulls.handle(at(seconds), Input::Progress(attempt, seconds));
        }
        let end = at(0).plus(S.abandon_grace);
        assert_eq!(pulls.poll_timeout(), Some((end, Timer::Abandon("a".into()))));
        pulls.handle_timeout(end);
        assert_eq!(drain(&mut pulls), [Output::Cancel(attempt)]);
    }
}
