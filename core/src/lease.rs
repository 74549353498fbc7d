//! The lease keeper: takes a lease, renews it for as long as it is wanted, and says when it is lost.
//!
//! Leases give liveness; safety rests on fences (design sections 3 and 4). The rules here:
//!
//! * A lease is believed in from before its request was *sent*, for the TTL less the declared drift
//!   and a margin. A grant whose answer comes too late is no grant.
//! * `not owner` is a loss at once. A transport error is not: renewal is tried again, with backoff
//!   and jitter, for as long as the lease is still believed in (scenario S02).
//! * Losing the lease is told exactly once.

use crate::few::Few;
use crate::machine::Machine;
use crate::settings::LeaseSettings;
use crate::table::{Moved, Row, Table, kinds, moves, stays};
use crate::time::{Duration, Instant, backoff};

/// Keeps one acquisition of one lease.
///
/// Its outputs are to be taken after every input. What a renewal touches comes first: see
/// [`crate::workflow::Workflow`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Keeper {
    state: State,
    /// One input makes it say two things at most.
    sayings: Few<Saying, 4>,
    believed_for: Duration,
    renew_every: Duration,
    retry_from: Duration,
    ttl: Duration,
    seed: u64,
}

/// An [`Output`], in few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Saying {
    Acquire,
    Renew,
    Granted,
    Lost(Cause),
    Moved(Phase, Event, Phase),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Acquiring { sent_at: Instant },
    Held { valid_until: Instant, renewal: Renewal },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Renewal {
    /// The next one is due then.
    Due { at: Instant, failures: u32 },
    /// One is under way.
    Sent { at: Instant, failures: u32 },
}

kinds! {
    /// Where an acquisition of a lease stands.
    pub enum Phase {
        /// It has not been asked for.
        Idle,
        /// The store has been asked.
        Acquiring,
        /// It is believed in, and its next renewal is waited for.
        Held,
        /// It is believed in, and its renewal is under way.
        Renewing,
        /// It was lost or given back.
        Over,
    }
}

kinds! {
    /// What may befall it: an [`Input`], or time.
    pub enum Event {
        /// The owner wants it, or asks once more.
        Acquire,
        /// The store granted it.
        Granted,
        /// A renewal is due.
        Renew,
        /// The store renewed it.
        Renewed,
        /// The store gave no answer.
        Failed,
        /// The store says that it is not ours.
        NotOwner,
        /// It was not renewed in time.
        Expiry,
        /// The owner is done.
        Release,
    }
}

/// Everything that may become of an acquisition. An event for which there is no row changes nothing: it
/// is an answer that no longer matters, or a wish that comes too late.
pub const TABLE: Table<Phase, Event> = {
    use Event as E;
    use Phase as P;
    const ROWS: &[Row<P, E>] = &[
        moves(
            &[P::Idle],
            E::Acquire,
            &[P::Acquiring],
            "validity will count from here",
        ),
        stays(&[P::Acquiring], E::Acquire, "and now from here"),
        moves(
            &[P::Acquiring],
            E::Granted,
            &[P::Held, P::Over],
            "a grant that comes after its own end is no grant",
        ),
        moves(
            &[P::Held],
            E::Renew,
            &[P::Renewing],
            "validity will count from here",
        ),
        moves(&[P::Renewing], E::Renewed, &[P::Held], "validity begins anew"),
        moves(
            &[P::Renewing],
            E::Failed,
            &[P::Held],
            "neither ends the lease nor extends it; due again soon",
        ),
        moves(&[P::Held, P::Renewing], E::NotOwner, &[P::Over], "lost at once"),
        moves(&[P::Held, P::Renewing], E::Expiry, &[P::Over], "lost"),
        moves(
            &[P::Held, P::Renewing],
            E::Release,
            &[P::Over],
            "no renewal after this",
        ),
    ];
    Table::new("lease", ROWS)
};

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
    /// This happened: for those who watch.
    Moved(Moved),
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
            believed_for: settings.believed_for(),
            renew_every: settings.renew_every,
            retry_from: settings.retry_from,
            ttl: settings.ttl,
            seed,
            state: State::Idle,
            sayings: Few::default(),
        }
    }

    /// How long the lease lives in the store without renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
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

    /// Where it stands in the [`TABLE`].
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// The one way from one state to another.
    fn enter(&mut self, event: Event, state: State) {
        let (from, to) = (self.phase(), state.phase());
        TABLE.made(Some(from), event, Some(to));
        self.state = state;
        self.sayings.push(Saying::Moved(from, event, to));
    }

    fn lose(&mut self, event: Event, cause: Cause) {
        self.enter(event, State::Over);
        self.sayings.push(Saying::Lost(cause));
    }

    /// What is believed of a lease that was granted or renewed by a request sent at `sent_at`.
    fn held_since(&self, sent_at: Instant) -> State {
        State::Held {
            valid_until: sent_at.plus(self.believed_for),
            renewal: Renewal::Due {
                at: sent_at.plus(self.renew_every),
                failures: 0,
            },
        }
    }

    /// Whatever the news, they come too late for a lease that is over by now.
    fn expire(&mut self, now: Instant) {
        if self.valid_until().is_some_and(|until| now >= until) {
            self.lose(Event::Expiry, Cause::Expired);
        }
    }
}

impl State {
    fn phase(&self) -> Phase {
        match self {
            State::Idle => Phase::Idle,
            State::Acquiring { .. } => Phase::Acquiring,
            State::Held {
                renewal: Renewal::Due { .. },
                ..
            } => Phase::Held,
            State::Held {
                renewal: Renewal::Sent { .. },
                ..
            } => Phase::Renewing,
            State::Over => Phase::Over,
        }
    }
}

impl Machine for Keeper {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        self.expire(now);
        let event = input.event();
        if !TABLE.allows(Some(self.phase()), event) {
            return;
        }
        match (self.state, input) {
            (_, Input::Acquire) => {
                self.enter(event, State::Acquiring { sent_at: now });
                self.sayings.push(Saying::Acquire);
            }
            (State::Acquiring { sent_at }, Input::Granted) => {
                if now < sent_at.plus(self.believed_for) {
                    self.enter(event, self.held_since(sent_at));
                    self.sayings.push(Saying::Granted);
                } else {
                    self.lose(event, Cause::GrantedTooLate);
                }
            }
            (
                State::Held {
                    renewal: Renewal::Sent { at, .. },
                    ..
                },
                Input::Renewed,
            ) => self.enter(event, self.held_since(at)),
            (
                State::Held {
                    valid_until,
                    renewal: Renewal::Sent { failures, .. },
                },
                Input::Failed,
            ) => {
                let from = self.retry_from;
                let pause = backoff(from, self.renew_every, failures, self.seed);
                let renewal = Renewal::Due {
                    at: now.plus(pause),
                    failures: failures.saturating_add(1),
                };
                self.enter(event, State::Held { valid_until, renewal });
            }
            (_, Input::NotOwner) => self.lose(event, Cause::NotOwner),
            (_, Input::Release) => self.enter(event, State::Over),
            (_, Input::Granted | Input::Renewed | Input::Failed) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        Some(match self.sayings.pop()? {
            Saying::Acquire => Output::Acquire,
            Saying::Renew => Output::Renew,
            Saying::Granted => Output::Granted,
            Saying::Lost(cause) => Output::Lost(cause),
            Saying::Moved(from, event, to) => Output::Moved(TABLE.named(Some(from), event, Some(to))),
        })
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
        self.expire(now);
        if let State::Held {
            valid_until,
            renewal: Renewal::Due { at, failures },
        } = self.state
            && now >= at
        {
            let renewal = Renewal::Sent { at: now, failures };
            self.enter(Event::Renew, State::Held { valid_until, renewal });
            self.sayings.push(Saying::Renew);
        }
    }
}

impl Input {
    /// What befalls the lease by it.
    pub fn event(self) -> Event {
        match self {
            Input::Acquire => Event::Acquire,
            Input::Granted => Event::Granted,
            Input::Renewed => Event::Renewed,
            Input::NotOwner => Event::NotOwner,
            Input::Failed => Event::Failed,
            Input::Release => Event::Release,
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
        core::iter::from_fn(|| keeper.poll_output())
            .filter(|output| !matches!(output, Output::Moved(_)))
            .collect()
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
    fn a_lease_is_believed_in_up_to_its_end_and_not_at_it() {
        let k = held_since(0);
        assert_eq!(k.valid_until(), Some(at(28_700)));
        assert!(k.is_valid(at(28_699)));
        assert!(!k.is_valid(at(28_700)));
    }

    #[test]
    fn a_renewal_that_would_be_due_at_the_very_end_is_the_end() {
        let failed = |when| {
            let mut k = held_since(0);
            k.handle_timeout(at(10_000));
            k.handle(when, Input::Failed);
            k.poll_timeout().unwrap()
        };
        let pause = failed(at(11_000)).0.since(at(11_000));
        let (end, moment) = (at(28_700), Duration::from_micros(1));
        let last = end.minus(pause);
        assert_eq!(failed(last.minus(moment)), (end.minus(moment), Timer::Renew));
        assert_eq!(failed(last), (end, Timer::Expiry));
        assert_eq!(failed(last.plus(moment)), (end, Timer::Expiry));
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
        assert_eq!(drain(&mut k), [Output::Renew]);
        let (again, why) = k.poll_timeout().unwrap();
        assert_eq!(why, Timer::Renew);
        k.handle_timeout(again);
        k.handle(again.plus(Duration::from_millis(3)), Input::Renewed);
        assert_eq!(drain(&mut k), [Output::Renew]);
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
                        Output::Moved(_) => {}
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
