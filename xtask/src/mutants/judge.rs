//! Tries mutants: which tests are run for each, in which order, and what that says of it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

use crate::mutants::copy::{MEMBERS, SUBJECT};
use crate::mutants::mutant::Mutant;
use crate::mutants::trial::{Outcome, Trial};

/// What is known of a mutant in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This test fails.
    Caught(String),
    /// This test does not come to its end.
    TimedOut(String),
    /// No test minds.
    Missed,
    /// No test even comes to it.
    Unreached,
}

impl Fate {
    /// Whether a test notices.
    pub fn is_caught(&self) -> bool {
        matches!(self, Fate::Caught(_) | Fate::TimedOut(_))
    }

    /// Whether one of the subject's own tests notices.
    pub fn is_caught_at_home(&self) -> bool {
        matches!(self, Fate::Caught(by) | Fate::TimedOut(by)
            if by.split([' ', ':']).next() == Some(SUBJECT))
    }
}

/// The court: tests, and what they have caught so far.
pub struct Judge<'a> {
    mutants: &'a [Mutant],
    trials: &'a [Trial],
    /// By function, then by file: the tests that have lately caught a mutant there, the last one last.
    lately: Mutex<BTreeMap<String, Vec<usize>>>,
}

impl<'a> Judge<'a> {
    /// A court that has caught nothing yet.
    pub fn new(mutants: &'a [Mutant], trials: &'a [Trial]) -> Judge<'a> {
        Judge {
            mutants,
            trials,
            lately: Mutex::default(),
        }
    }

    /// Tries these mutants, by their numbers, so many at a time, and tells of each as soon as it is known.
    pub fn try_all(
        &self,
        numbers: &[usize],
        jobs: usize,
        tell: impl Fn(usize, &Fate) + Sync,
    ) -> Result<Vec<Fate>> {
        let next = AtomicUsize::new(0);
        let fates = Mutex::new(vec![Fate::Unreached; numbers.len()]);
        thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fate = self.judge(*number).inspect_err(|_| {
                        // The others need not go on.
                        next.store(numbers.len(), Ordering::Relaxed);
                    })?;
                    tell(*number, &fate);
                    let index = numbers.partition_point(|earlier| earlier < number);
                    fates.lock().expect("no worker panics")[index] = fate;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("no worker panics"))
        })?;
        Ok(fates.into_inner().expect("no worker panics"))
    }

    fn judge(&self, number: usize) -> Result<Fate> {
        let mutant = &self.mutants[number - 1];
        let order = self.order(number, mutant);
        if order.is_empty() {
            return Ok(Fate::Unreached);
        }
        for index in order {
            let trial = &self.trials[index];
            let by = || trial.label.clone();
            let fate = match trial.judge(number)? {
                Outcome::Passed => continue,
                Outcome::Failed => Fate::Caught(by()),
                Outcome::TimedOut => Fate::TimedOut(by()),
            };
            let mut lately = self.lately.lock().expect("no worker panics");
            for place in [&mutant.function, &mutant.file] {
                let lately = lately.entry(place.clone()).or_default();
                lately.retain(|earlier| *earlier != index);
                lately.push(index);
            }
            return Ok(fate);
        }
        Ok(Fate::Missed)
    }

    /// The tests that come to a mutant: the subject's own before others, among them those that have lately caught
    /// its neighbours, then the quickest.
    fn order(&self, number: usize, mutant: &Mutant) -> Vec<usize> {
        let lately = self.lately.lock().expect("no worker panics");
        let rank = |place: &String, index: usize| {
            let lately = lately.get(place)?;
            let back = lately.iter().rev().position(|earlier| *earlier == index)?;
            // What is far back and slow says less than what is quick.
            (back < 3).then_some(back)
        };
        let reaching = self
            .trials
            .iter()
            .enumerate()
            .filter(|(_, trial)| trial.reaches.contains(&number));
        let mut order: Vec<_> = reaching.map(|(index, _)| index).collect();
        order.sort_by_cached_key(|index| {
            let trial = &self.trials[*index];
            let line = MEMBERS.iter().position(|member| *member == trial.member);
            let near = |place| rank(place, *index).unwrap_or(usize::MAX);
            (line, near(&mutant.function), near(&mutant.file), trial.takes)
        });
        order
    }
}
