//! The lease keeper: takes a lease, renews it for as long as it is wanted, and says when it is lost.
//!
//! Leases give liveness; safety rests on fences (design sections 3 and 4). The rules here:
//!
//! * A lease is believed in from before its request was *sent*, for the TTL less the declared drift
//!   and a margin. A grant whose answer comes too late is no grant.
//! * `not owner` is a loss at once. A transport error is not: renewal is tried again, with backoff
//!   and jitter, for as long as the lease is still believed in (scenario S02).
//! * Losing the lease is told exactly once.

use crate::machine::Machine;
use crate::settings::LeaseSettings;
use crate::time::{Duration, Instant, backoff};
use alloc::collections::VecDeque;

/// Keeps one acquisition of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    settings: LeaseSettings,
    seed: u64,
    state: State,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Acquiring { sent_at: Instant },
    Held { valid_until: Instant, renewal: Renewal },
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Renewal {
    /// The next one is due then.
    Due { at: Instant, failures: u32 },
    /// One is under way.
    Sent { at: Instant, failures: u32 },
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The owner wants the lease, or asks for it once more after a failure.
    Acquire,
    /// The store granted it.
    Granted,
    /// The store renewed it.
    Renewed,
    /// The store says that it is not ours.
    NotOwner,
    /// The store could not be asked, or gave no answer.
    Failed,
    /// The owner is done: no renewal after this.
    Release,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Ask the store for it.
    Acquire,
    /// Ask the store to renew it.
    Renew,
    /// Tell the owner that it has the lease.
    Granted,
    /// Tell the owner that it has the lease no more.
    Lost(Cause),
}

/// Why a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The store says that somebody else holds it, or nobody.
    NotOwner,
    /// It could not be renewed in time.
    Expired,
    /// The grant took so long to arrive that it was worthless.
    GrantedTooLate,
}

impl Cause {
    /// The cause in words, for verdicts and logs.
    pub fn describe(self) -> &'static str {
        match self {
            Cause::NotOwner => "another replica owns it now",
            Cause::Expired => "the store did not renew it in time",
            Cause::GrantedTooLate => "the store granted it too late",
        }
    }
}

/// Why a keeper wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A renewal is due.
    Renew,
    /// The lease ends.
    Expiry,
}

impl Keeper {
    /// A keeper that has not asked for anything yet. `seed` spreads its retries.
    pub fn new(settings: LeaseSettings, seed: u64) -> Keeper {
        Keeper {
            settings,
            seed,
            state: State::Idle,
            outputs: VecDeque::new(),
        }
    }

    /// How long the lease lives in the store without renewal.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// Whether the lease may be believed in at `now`.
    pub fn is_valid(&self, now: Instant) -> bool {
        matches!(self.state, State::Held { valid_until, .. } if now < valid_until)
    }

    /// Until when the lease may be believed in, unless it is renewed.
    pub fn valid_until(&self) -> Option<Instant> {
        match self.state {
            State::Held { valid_until, .. } => Some(valid_until),
            State::Idle | State::Acquiring { .. } | State::Over => None,
        }
    }

    fn lose(&mut self, cause: Cause) {
        self.state = State::Over;
        self.outputs.push_back(Output::Lost(cause));
    }

    /// Believes in a lease that was asked for at `sent_at`.
    fn believe(&mut self, now: Instant, sent_at: Instant) -> bool {
        let valid_until = sent_at.plus(self.settings.believed_for());
        if now >= valid_until {
            return false;
        }
        let at = sent_at.plus(self.settings.renew_every);
        self.state = State::Held {
            valid_until,
            renewal: Renewal::Due { at, failures: 0 },
        };
        true
    }
}

impl Machine for Keeper {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        match (&mut self.state, input) {
            (State::Idle | State::Acquiring { .. }, Input::Acquire) => {
                self.state = State::Acquiring { sent_at: now };
                self.outputs.push_back(Output::Acquire);
            }
            (State::Acquiring { sent_at }, Input::Granted) => {
                let sent_at = *sent_at;
                if self.believe(now, sent_at) {
                    self.outputs.push_back(Output::Granted);
                } else {
                    self.lose(Cause::GrantedTooLate);
                }
            }
            (State::Held { valid_until, .. }, _) if now >= *valid_until => self.lose(Cause::Expired),
            (
                State::Held {
                    renewal: Renewal::Sent { at, .. },
                    ..
                },
                Input::Renewed,
            ) => {
                let sent_at = *at;
                if !self.believe(now, sent_at) {
                    self.lose(Cause::Expired);
                }
            }
            (State::Held { renewal, .. }, Input::Failed) => {
                if let Renewal::Sent { failures, .. } = *renewal {
                    let pause = backoff(
                        self.settings.retry_from,
                        self.settings.renew_every,
                        failures,
                        self.seed,
                    );
                    *renewal = Renewal::Due {
                        at: now.plus(pause),
                        failures: failures.saturating_add(1),
                    };
                }
            }
            (State::Held { .. }, Input::NotOwner) => self.lose(Cause::NotOwner),
            (State::Held { .. }, Input::Release) => self.state = State::Over,
            // Answers to questions that no longer matter, and wishes that come too late.
            (State::Idle | State::Acquiring { .. } | State::Held { .. } | State::Over, _) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        match self.state {
            State::Held {
                valid_until,
                renewal: Renewal::Due { at, .. },
            } if at < valid_until => Some((at, Timer::Renew)),
            State::Held { valid_until, .. } => Some((valid_until, Timer::Expiry)),
            State::Idle | State::Acquiring { .. } | State::Over => None,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let State::Held { valid_until, renewal } = &mut self.state else {
            return;
        };
        if now >= *valid_until {
            self.lose(Cause::Expired);
            return;
        }
        if let Renewal::Due { at, failures } = *renewal
            && now >= at
        {
            *renewal = Renewal::Sent { at: now, failures };
            self.outputs.push_back(Output::Renew);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn keeper() -> Keeper {
        Keeper::new(Settings::DEFAULT.lease, 7)
    }

    fn drain(keeper: &mut Keeper) -> Vec<Output> {
        core::iter::from_fn(|| keeper.poll_output()).collect()
    }

    fn held_since(ms: u64) -> Keeper {
        let mut k = keeper();
        k.handle(at(ms), Input::Acquire);
        k.handle(at(ms + 5), Input::Granted);
        assert_eq!(drain(&mut k), [Output::Acquire, Output::Granted]);
        k
    }

    #[test]
    fn validity_counts_from_before_the_request_was_sent() {
        let mut k = keeper();
        k.handle(at(1_000), Input::Acquire);
        k.handle(at(9_000), Input::Granted);
        assert_eq!(k.valid_until(), Some(at(1_000 + 28_700)));
        assert_eq!(k.poll_timeout(), Some((at(11_000), Timer::Renew)));
    }

    #[test]
    fn a_grant_that_arrives_after_its_own_end_is_no_grant() {
        let mut k = keeper();
        k.handle(at(0), Input::Acquire);
        k.handle(at(28_700), Input::Granted);
        assert_eq!(
            drain(&mut k),
            [Output::Acquire, Output::Lost(Cause::GrantedTooLate)]
        );
        assert!(!k.is_valid(at(28_700)));
    }

    #[test]
    fn an_error_is_not_a_loss_until_the_lease_runs_out() {
        let mut k = held_since(0);
        let mut renewals = 0;
        loop {
            let (when, _) = k.poll_timeout().unwrap();
            k.handle_timeout(when);
            match drain(&mut k)[..] {
                [Output::Renew] => {
                    renewals += 1;
                    k.handle(when.plus(Duration::from_millis(500)), Input::Failed);
                    assert_eq!(
                        k.valid_until(),
                        Some(at(28_700)),
                        "a failed renewal neither ends nor extends"
                    );
                }
                [Output::Lost(Cause::Expired)] => {
                    assert_eq!(when, at(28_700));
                    break;
                }
                ref other => panic!("{other:?}"),
            }
        }
        assert!((2..=6).contains(&renewals), "{renewals}");
    }

    #[test]
    fn a_store_that_blinks_costs_nothing() {
        let mut k = held_since(0);
        k.handle_timeout(at(10_000));
        k.handle(at(12_000), Input::Failed);
        let (again, why) = k.poll_timeout().unwrap();
        assert_eq!(why, Timer::Renew);
        k.handle_timeout(again);
        k.handle(again.plus(Duration::from_millis(3)), Input::Renewed);
        assert_eq!(drain(&mut k), [Output::Renew, Output::Renew]);
        assert_eq!(k.valid_until(), Some(again.plus(Duration::from_millis(28_700))));
    }

    #[test]
    fn not_owner_ends_it_at_once_and_once() {
        let mut k = held_since(0);
        k.handle(at(100), Input::NotOwner);
        k.handle(at(101), Input::NotOwner);
        k.handle_timeout(at(90_000));
        assert_eq!(drain(&mut k), [Output::Lost(Cause::NotOwner)]);
    }

    #[test]
    fn after_release_nothing_is_renewed() {
        let mut k = held_since(0);
        k.handle(at(100), Input::Release);
        assert_eq!(k.poll_timeout(), None);
        k.handle_timeout(at(10_000));
        assert_eq!(drain(&mut k), []);
    }

    #[test]
    fn a_renewal_whose_answer_outlives_the_lease_does_not_revive_it() {
        let mut k = held_since(0);
        k.handle_timeout(at(10_000));
        k.handle(at(28_700), Input::Renewed);
        assert_eq!(drain(&mut k), [Output::Renew, Output::Lost(Cause::Expired)]);
    }

    proptest! {
        /// Whatever happens in whatever order, belief never reaches further than the settings allow
        /// from the last request, a loss is told at most once, and waking early changes nothing.
        #[test]
        fn belief_is_bounded_by_the_last_request(steps in prop::collection::vec((0u64..20_000, 0u8..8), 1..60)) {
            let mut k = keeper();
            let mut now = at(0);
            let mut last_sent = None;
            let mut losses = 0;
            for (gap, what) in steps {
                now = now.plus(Duration::from_millis(gap));
                let early = k.clone();
                if let Some((when, _)) = k.poll_timeout() {
                    let mut spurious = k.clone();
                    spurious.handle_timeout(when.minus(Duration::from_micros(1)));
                    prop_assert_eq!(&spurious, &early);
                }
                match what {
                    0 => k.handle(now, Input::Acquire),
                    1 => k.handle(now, Input::Granted),
                    2 => k.handle(now, Input::Renewed),
                    3 => k.handle(now, Input::NotOwner),
                    4 => k.handle(now, Input::Failed),
                    5 => k.handle(now, Input::Release),
                    _ => k.handle_timeout(now),
                }
                while let Some(output) = k.poll_output() {
                    match output {
                        Output::Acquire | Output::Renew => last_sent = Some(now),
                        Output::Lost(_) => losses += 1,
                        Output::Granted => prop_assert!(k.is_valid(now)),
                    }
                }
                if let Some(until) = k.valid_until() {
                    let sent = last_sent.expect("a lease that nobody asked for");
                    prop_assert!(until <= sent.plus(Settings::DEFAULT.lease.believed_for()));
                }
                prop_assert!(losses <= 1);
            }
        }
    }
}
