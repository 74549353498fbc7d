//! What callers saw of an actor: a counter, of which every request is one more.

use super::linear::{Call, Model, check};
use crate::oracle::moment;

/// What was done to an actor, as somebody saw it who is outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A request, and the count that was answered.
    Count(Option<u64>),
    /// A Suspend or Pause that was answered with success: from here on this much survives everything but a
    /// Revert.
    Vouch,
    /// It was told that something was lost.
    Lose,
    /// A Revert or a Delete, which may take everything back.
    Forget,
}

/// Where the counter may stand, and what it may not fall below.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Counter {
    low: u64,
    high: u64,
    vouched: u64,
}

impl Model for Counter {
    type Deed = Deed;

    fn after(&self, deed: &Deed) -> Option<Counter> {
        let Counter { low, high, vouched } = *self;
        match deed {
            Deed::Count(None) => Some(Counter {
                low: low + 1,
                high: high + 1,
                vouched,
            }),
            Deed::Count(Some(count)) => {
                let was = count.checked_sub(1)?;
                (low..=high).contains(&was).then_some(Counter {
                    low: *count,
                    high: *count,
                    vouched,
                })
            }
            Deed::Vouch => Some(Counter {
                low,
                high,
                vouched: low,
            }),
            Deed::Lose => Some(Counter {
                low: vouched.min(low),
                high,
                vouched,
            }),
            Deed::Forget => Some(Counter {
                low: 0,
                high,
                vouched: 0,
            }),
        }
    }
}

/// Everything that was seen of one actor.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    calls: Vec<Call<Deed>>,
}

impl History {
    pub(super) fn add(&mut self, deed: Deed, made: u64, answered: Option<u64>) {
        self.calls.push(Call { deed, made, answered });
    }

    /// Whether a counter could have been seen like this.
    pub(super) fn check(&self) -> Result<(), String> {
        let Err(number) = check(&Counter::default(), &self.calls) else {
            return Ok(());
        };
        let call = &self.calls[number];
        let before = |other: &&Call<Deed>| other.answered.is_some_and(|at| Some(at) < call.answered);
        let mut earlier: Vec<&Call<Deed>> = self.calls.iter().filter(before).collect();
        earlier.sort_by_key(|call| call.answered);
        let told = |call: &Call<Deed>| {
            let answered = call.answered.unwrap_or_default();
            format!(
                "{:?} from {} to {}",
                call.deed,
                moment(call.made),
                moment(answered)
            )
        };
        let last: Vec<String> = earlier
            .iter()
            .rev()
            .take(4)
            .rev()
            .map(|call| told(call))
            .collect();
        Err(format!(
            "{} cannot have come after {}",
            told(call),
            last.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(calls: &[(Deed, u64, Option<u64>)]) -> Result<(), String> {
        let mut history = History::default();
        for (deed, made, answered) in calls {
            history.add(deed.clone(), *made, *answered);
        }
        history.check()
    }

    fn count(value: u64, made: u64) -> (Deed, u64, Option<u64>) {
        (Deed::Count(Some(value)), made, Some(made + 1))
    }

    #[test]
    fn a_count_that_was_acknowledged_once_is_not_given_again() {
        assert_eq!(history(&[count(1, 0), count(2, 10)]), Ok(()));
        let what = history(&[count(1, 0), count(2, 10), count(2, 20)]).unwrap_err();
        assert!(what.contains("Count(Some(2)) from 0.000020s"), "{what}");
        assert!(history(&[count(2, 0)]).is_err());
    }

    #[test]
    fn a_request_without_an_answer_may_have_counted() {
        let lost = (Deed::Count(None), 5, None);
        assert_eq!(history(&[count(1, 0), lost.clone(), count(2, 10)]), Ok(()));
        assert_eq!(history(&[count(1, 0), lost.clone(), count(3, 10)]), Ok(()));
        assert!(history(&[count(1, 0), lost, count(4, 10)]).is_err());
    }

    #[test]
    fn a_loss_that_was_told_takes_back_what_no_sleep_has_vouched_for() {
        let vouch = (Deed::Vouch, 10, Some(12));
        let lose = (Deed::Lose, 30, Some(32));
        let told = |then: u64| {
            history(&[
                count(1, 0),
                vouch.clone(),
                count(2, 20),
                lose.clone(),
                count(then, 40),
            ])
        };
        assert_eq!(told(3), Ok(()));
        assert_eq!(told(2), Ok(()));
        assert!(told(1).is_err(), "a sleep has vouched for one");
        let forget = (Deed::Forget, 30, Some(32));
        assert_eq!(history(&[count(1, 0), vouch, forget, count(1, 40)]), Ok(()));
    }
}
