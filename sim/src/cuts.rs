//! Crash cuts: every effect of every workflow, cut at all four places, alone and in pairs (design
//! section 5).
//!
//! A scene is played once without faults, and its effects are numbered: what replicas ask of the store
//! and of nodes, what nodes report, ask of ateoms, keep in their journal and do themselves, and what
//! ateoms do to sandboxes. Then it is played once for every effect and everything that can happen to it
//! ([`Effect::faults`]). For pairs the same is done once more from there: every effect of the recovery,
//! whoever makes it, until all is at rest, is cut at all four places.
//!
//! After every run faults are over, the time passes in which everything must come to rest
//! ([`crate::plan::Plan::settling`]), and the oracles look: the actor is stable, goes to sleep and serves
//! again with what it had acknowledged (or its loss was told), no worker is leaked, store and nodes agree,
//! there never were two sandboxes of one actor, and every request had one verdict.

mod scene;

use crate::oracle::Violation;
use crate::world::stage::Watch;
use crate::world::{Story, World};
use std::collections::BTreeMap;
use std::fmt;

pub use crate::world::knife::{Carrier, Cut, Effect, Fault, Mishap, Who};
pub use scene::{SCENES, Scene};

/// How many faults a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One.
    Single,
    /// One, and a death during the recovery from it.
    Pairs,
}

/// A fault, and the number of the effect that it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The effect.
    pub number: u64,
    /// What happens to it.
    pub fault: Fault,
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}:{:?}", self.number, self.fault.mishap, self.fault.cut)
    }
}

impl std::str::FromStr for Strike {
    type Err = String;

    fn from_str(text: &str) -> Result<Strike, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [number, mishap, cut] = parts[..] else {
            return Err(format!("{text}: want number:mishap:cut, such as 7:Dies:NotSent"));
        };
        let number = number.parse().map_err(|_| format!("{number}: want a number"))?;
        let mishap = Mishap::ALL
            .into_iter()
            .find(|m| format!("{m:?}") == mishap)
            .ok_or_else(|| format!("{mishap}: want one of {:?}", Mishap::ALL))?;
        let cut = Cut::ALL
            .into_iter()
            .find(|c| format!("{c:?}") == cut)
            .ok_or_else(|| format!("{cut}: want one of {:?}", Cut::ALL))?;
        Ok(Strike {
            number,
            fault: Fault { cut, mishap },
        })
    }
}

/// Who is told of every run when it has ended: what struck in it, and what it violated.
pub type Ended<'a> = &'a dyn Fn(&[Strike], Option<&Violation>);

/// What came of the runs of one scene.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The effects of the run without faults.
    pub effects: u64,
    /// Runs with one fault, by mishap and cut.
    pub singles: BTreeMap<(Mishap, Cut), u64>,
    /// Runs with two faults, by the mishap and cut of the first.
    pub pairs: BTreeMap<(Mishap, Cut), u64>,
    /// The runs that did not end well.
    pub failures: Vec<(Vec<Strike>, Violation)>,
}

impl Tally {
    /// How many runs there were.
    pub fn runs(&self) -> u64 {
        self.singles.values().chain(self.pairs.values()).sum()
    }

    fn note(&mut self, path: &[Strike], violation: Option<Violation>) {
        match path {
            [] => {}
            [first] => {
                *self
                    .singles
                    .entry((first.fault.mishap, first.fault.cut))
                    .or_default() += 1
            }
            [first, ..] => {
                *self
                    .pairs
                    .entry((first.fault.mishap, first.fault.cut))
                    .or_default() += 1
            }
        }
        if let Some(violation) = violation {
            self.failures.push((path.to_vec(), violation));
        }
    }

    /// Adds what came of other runs of the same scene.
    pub fn add(&mut self, other: Tally) {
        self.effects = self.effects.max(other.effects);
        for (key, count) in other.singles {
            *self.singles.entry(key).or_default() += count;
        }
        for (key, count) in other.pairs {
            *self.pairs.entry(key).or_default() += count;
        }
        self.failures.extend(other.failures);
    }
}

/// Which effects of a scene are the first to be cut: every `of`-th, beginning with number `nth` of them.
/// Slices of one scene may be played side by side.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Which.
    pub nth: u64,
    /// Of how many.
    pub of: u64,
}

impl Slice {
    /// All effects.
    pub const WHOLE: Slice = Slice { nth: 0, of: 1 };
}

/// Plays a scene with every fault there can be.
pub fn explore(scene: &Scene, depth: Depth, slice: Slice) -> Tally {
    explore_before(scene, depth, slice, &|_, _| {})
}

/// The same, before somebody who wants to know how far it is.
pub fn explore_before(scene: &Scene, depth: Depth, slice: Slice, ended: Ended) -> Tally {
    let mut tally = Tally::default();
    let mut play = |world: World, path: &[Strike], is_recorded: bool| {
        let (effects, violation) = play(world, path, is_recorded);
        ended(path, violation.as_ref());
        tally.note(path, violation);
        effects
    };
    let world = scene.begin(Story::Dropped);
    let effects = play(world.clone(), &[], true);
    let count = effects.len() as u64;
    let mine = |effect: &Effect| effect.number % slice.of == slice.nth;
    let first: Vec<Effect> = effects.into_iter().filter(mine).collect();
    at_each(world, &first, Effect::faults, |world, strike| {
        let is_forked = depth == Depth::Pairs;
        let later = play(world.clone(), &[strike], is_forked);
        let later: Vec<Effect> = later
            .into_iter()
            .filter(|effect| effect.number > strike.number)
            .collect();
        at_each(world, &later, Effect::deaths, |world, second| {
            play(world, &[strike, second], false);
        });
    });
    tally.effects = count;
    tally
}

/// The story of one run.
pub fn tell(scene: &Scene, path: &[Strike]) -> (Vec<String>, Option<Violation>) {
    let mut world = scene.begin(Story::Kept);
    for strike in path {
        world.arm(strike.number, strike.fault);
    }
    world.settle();
    let watch = watch(path);
    let violation = world.conclude(watch);
    (world.story(), violation)
}

fn watch(path: &[Strike]) -> Watch {
    if path.len() < 2 {
        Watch::ToTheBound
    } else {
        Watch::OneRound
    }
}

/// Plays a world to its end: the effects until everything was at rest, and what went wrong.
fn play(mut world: World, path: &[Strike], is_recorded: bool) -> (Vec<Effect>, Option<Violation>) {
    if is_recorded {
        world.record_effects();
    }
    let count = world.settle();
    let mut effects = world.recorded_effects();
    effects.retain(|effect| effect.number <= count);
    (effects, world.conclude(watch(path)))
}

/// Runs a world on, and at each of these effects forks it once for everything that can happen there.
fn at_each(
    mut world: World,
    effects: &[Effect],
    faults: impl Fn(&Effect) -> Vec<Fault>,
    mut visit: impl FnMut(World, Strike),
) {
    for effect in effects {
        world.run_to_event(effect.event);
        for fault in faults(effect) {
            let mut fork = world.clone();
            fork.arm(effect.number, fault);
            visit(
                fork,
                Strike {
                    number: effect.number,
                    fault,
                },
            );
        }
    }
}
