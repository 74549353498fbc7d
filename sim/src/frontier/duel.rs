//! One history of two keepers who want the same lease: the holder gets it, keeps it for a while and is then
//! answered no more; the rival gets it as soon as the store has forgotten the holder.
//!
//! The keepers are the core's own machine. A process reads its clock, hands the reading to its machine, and then
//! does what the machine says. Between the two it may not be scheduled for a while: that is the pause.

use crate::clock::Clock;
use holdfast_core::lease::{Input, Keeper, Output};
use holdfast_core::machine::Machine;
use holdfast_core::settings::LeaseSettings;
use holdfast_core::time::Instant;

/// From when on the holder takes its lease for valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counting {
    /// From before its request was sent, as the core does.
    FromSending,
    /// From when it was answered, as one would at first: its machine is told of the request with the answer.
    FromAnswer,
}

/// One request and its answer, in microseconds of true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// How long the request takes to the store.
    pub there: u64,
    /// How long the answer takes back.
    pub back: u64,
}

/// Where the holder is not scheduled, having read its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nap {
    /// Before it does something that it may do by that reading.
    BeforeActing,
    /// Before it takes note of the last answer, and does something.
    BeforeHearing,
}

/// A history, in microseconds of true time.
#[derive(Clone, Debug)]
pub struct Duel<'a> {
    /// The settings of both.
    pub settings: LeaseSettings,
    /// How the holder counts.
    pub counting: Counting,
    /// The store's clock.
    pub store: Clock,
    /// The holder's clock.
    pub holder: Clock,
    /// The rival's clock.
    pub rival: Clock,
    /// When the holder asks.
    pub start: u64,
    /// Its requests that are answered: the first one for the lease, the others to renew it.
    pub trips: &'a [Trip],
    /// Where it pauses.
    pub nap: Nap,
    /// For how long.
    pub pause: u64,
}

/// What a history came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// When the holder did something for the last time; none if it was never granted the lease.
    pub last_act: Option<u64>,
    /// When the rival could do something for the first time.
    pub rival_acts: u64,
}

impl Played {
    /// Whether the holder acted when its rival already could.
    pub fn overlaps(&self) -> bool {
        self.last_act.is_some_and(|last| last >= self.rival_acts)
    }
}

/// A store that holds one lease and counts whole milliseconds: it forgets up to one millisecond early, which is
/// earlier than a Redis does.
#[derive(Clone, Debug, Default)]
struct Store {
    held: Option<(Owner, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Holder,
    Rival,
}

impl Store {
    /// Grants the lease, unless another one has it.
    fn acquire(&mut self, owner: Owner, now: Instant, settings: &LeaseSettings) -> bool {
        let is_free = self.held.is_none_or(|(by, _)| by == owner) || self.is_over(now);
        if is_free {
            self.held = Some((owner, millis(now) + settings.ttl.as_millis() as u64));
        }
        is_free
    }

    /// Renews it, unless it is over, or another one's.
    fn renew(&mut self, owner: Owner, now: Instant, settings: &LeaseSettings) -> bool {
        let is_held = self.held.is_some_and(|(by, _)| by == owner) && !self.is_over(now);
        is_held && self.acquire(owner, now, settings)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.held.is_none_or(|(_, until)| millis(now) >= until)
    }

    /// When it will have forgotten who has the lease.
    fn free_at(&self) -> Instant {
        Instant::from_micros(self.held.map_or(0, |(_, until)| until * 1000))
    }
}

fn millis(now: Instant) -> u64 {
    now.as_micros() / 1000
}

impl Duel<'_> {
    /// Plays it.
    pub fn play(&self) -> Played {
        let mut store = Store::default();
        let last_act = self.play_holder(&mut store);
        let free = self.store.moment(store.free_at());
        let mut early = store.clone();
        let is_early = free > 0 && early.acquire(Owner::Rival, self.store.shows(free - 1), &self.settings);
        assert!(!is_early, "the rival could have had it earlier");
        assert!(store.acquire(Owner::Rival, self.store.shows(free), &self.settings));
        // Its request and its answer take no time at all.
        let mut keeper = Keeper::new(self.settings, 2);
        let now = self.rival.shows(free);
        keeper.handle(now, Input::Acquire);
        keeper.handle(now, Input::Granted);
        assert!(
            keeper.is_valid(now),
            "the rival does not believe what it was told"
        );
        Played {
            last_act,
            rival_acts: free,
        }
    }

    /// What the holder does until it has nothing to believe in any more: when it acted for the last time.
    fn play_holder(&self, store: &mut Store) -> Option<u64> {
        let mut keeper = Keeper::new(self.settings, 1);
        let mut last_act = None;
        let mut asks = self.start;
        for (number, trip) in self.trips.iter().enumerate() {
            let is_first = number == 0;
            let arrives = asks + trip.there;
            let heard = arrives + trip.back;
            let told = match self.counting {
                Counting::FromSending => asks,
                Counting::FromAnswer => heard,
            };
            if let Some(last) = self.last_reading(&keeper)
                && last < heard
            {
                // The answer comes when it has stopped.
                break;
            }
            self.ask(&mut keeper, told, is_first);
            let now = self.store.shows(arrives);
            let is_granted = match is_first {
                true => store.acquire(Owner::Holder, now, &self.settings),
                false => store.renew(Owner::Holder, now, &self.settings),
            };
            if !is_granted {
                keeper.handle(self.holder.shows(heard), Input::NotOwner);
                break;
            }
            let (reading, acts) = match self.nap {
                Nap::BeforeHearing if number + 1 == self.trips.len() => (heard, heard + self.pause),
                _ => (heard, heard),
            };
            let reading = self.holder.shows(reading);
            keeper.handle(reading, if is_first { Input::Granted } else { Input::Renewed });
            if !keeper.is_valid(reading) {
                break;
            }
            last_act = Some(acts);
            match keeper.poll_timeout() {
                Some((at, _)) => asks = self.holder.moment(at),
                None => break,
            }
        }
        // Whatever it asks for now is lost. It acts up to the very end of what it believes.
        if let Some(last) = self.last_reading(&keeper) {
            let acts = match self.nap {
                Nap::BeforeActing => last + self.pause,
                Nap::BeforeHearing => last,
            };
            last_act = last_act.max(Some(acts));
        }
        last_act
    }

    /// The last moment at which its clock shows that its lease is valid, unless it is renewed.
    fn last_reading(&self, keeper: &Keeper) -> Option<u64> {
        let until = keeper.valid_until()?;
        let last = self.holder.moment(until) - 1;
        let is_valid = |moment| keeper.is_valid(self.holder.shows(moment));
        assert!(
            is_valid(last) && !is_valid(last + 1),
            "its clock does not tell its end"
        );
        Some(last)
    }

    /// Has the keeper ask, which it does when its timer says so.
    fn ask(&self, keeper: &mut Keeper, moment: u64, is_first: bool) {
        let now = self.holder.shows(moment);
        if is_first {
            keeper.handle(now, Input::Acquire);
        } else {
            keeper.handle_timeout(now);
        }
        while let Some(output) = keeper.poll_output() {
            assert!(
                !matches!(output, Output::Lost(_)),
                "the lease ended before its renewal was due"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::settings::Settings;

    fn duel(trips: &[Trip]) -> Duel<'_> {
        Duel {
            settings: Settings::DEFAULT.lease,
            counting: Counting::FromSending,
            store: Clock::TRUE,
            holder: Clock::TRUE,
            rival: Clock::TRUE,
            start: 5_000,
            trips,
            nap: Nap::BeforeActing,
            pause: 0,
        }
    }

    const PROMPT: Trip = Trip { there: 0, back: 0 };

    #[test]
    fn where_nothing_goes_wrong_the_rival_waits_for_the_ttl_and_the_holder_stops_before() {
        let played = duel(&[PROMPT]).play();
        let expected = Played {
            last_act: Some(5_000 + 28_700_000 - 1),
            rival_acts: 5_000 + 30_000_000,
        };
        assert_eq!(played, expected);
        let renewed = duel(&[PROMPT, PROMPT]).play();
        assert_eq!(renewed.last_act, Some(5_000 + 38_700_000 - 1));
        assert_eq!(renewed.rival_acts, 5_000 + 40_000_000);
    }

    #[test]
    fn a_pause_between_the_reading_and_the_act_overlaps_exactly_when_it_is_as_long_as_the_slack() {
        let trips = [PROMPT];
        let paused = |pause| {
            Duel {
                pause,
                ..duel(&trips)
            }
            .play()
            .overlaps()
        };
        assert!(!paused(1_300_000));
        assert!(paused(1_300_001));
    }

    #[test]
    fn an_answer_that_is_heard_with_an_old_reading_is_acted_on_once() {
        let late = Trip {
            there: 0,
            back: 28_000_000,
        };
        let trips = [late];
        let paused = |pause| {
            let duel = Duel {
                nap: Nap::BeforeHearing,
                pause,
                ..duel(&trips)
            };
            duel.play()
        };
        assert_eq!(paused(0).last_act, Some(5_000 + 28_700_000 - 1));
        assert_eq!(paused(1_000_000).last_act, Some(5_000 + 29_000_000));
        assert!(!paused(1_999_999).overlaps());
        assert!(paused(2_000_000).overlaps());
    }

    #[test]
    fn an_answer_after_the_end_of_what_it_grants_is_no_grant_to_one_who_counts_from_sending() {
        let trips = [Trip {
            there: 0,
            back: 28_700_000,
        }];
        assert_eq!(duel(&trips).play().last_act, None);
        let counting = Counting::FromAnswer;
        let from_answer = Duel {
            counting,
            ..duel(&trips)
        }
        .play();
        assert!(from_answer.overlaps(), "{from_answer:?}");
    }
}
