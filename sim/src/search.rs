//! A search that tries to make a bound look too low: of plans in which one thing goes wrong, it looks for the one
//! that comes nearest to what the bound allows.
//!
//! It climbs: a plan is changed a little (when a fault strikes and for how long, when a request is made, a
//! clock that runs as fast or as slow as is declared, the seed of the noise, from which the phases of sweeps come),
//! and kept if it comes as near as before. When nothing has helped for a while it begins anew elsewhere.
//!
//! A bound that no plan comes near is too high, or its argument counts twice what cannot happen twice; one that a plan
//! passes is wrong. `sim/corpus/near` holds the worst that was found for each.

use crate::clock::{Clock, Spread};
use crate::fact::Asked;
use crate::oracle::{Nearness, Violation};
use crate::plan::{Durations, Fault, MILLI, NodeSize, Noise, Plan, SECOND, Sizes, Strike, Wish};
use crate::rng::Rng;
use crate::world;
use holdfast_core::bounds::Bound;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};

/// After how many changes that did not help the search begins anew.
const PATIENCE: u32 = 80;
/// How far a moment is moved at most.
const FARTHEST: u64 = 16 * SECOND;

/// The worst that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The plan.
    pub plan: Plan,
    /// How near it comes.
    pub nearness: Nearness,
    /// What it violates: then the bound does not hold.
    pub violation: Option<Violation>,
    /// How many plans were played.
    pub runs: u64,
}

/// The bounds for which there are plans to begin with.
pub const SEARCHED: [Bound; 6] = [
    Bound::LeaseBelieved,
    Bound::FailoverAsked,
    Bound::FailoverUnasked,
    Bound::Verdict,
    Bound::Elsewhere,
    Bound::ElsewhereUnasked,
];

/// Looks for the plan that comes nearest to a bound, until one violates something, so many have been played or `stop` is
/// set; none if the bound is not searched, or no plan has put it to the test.
pub fn worst(bound: Bound, seed: u64, runs_max: u64, stop: &AtomicBool) -> Option<Found> {
    let mut rng = Rng::new(seed);
    let mut best: Option<Found> = None;
    let mut runs = 0;
    let may_go_on = |runs| runs < runs_max && !stop.load(Ordering::Relaxed);
    while may_go_on(runs) {
        let mut here = directed(bound, &mut rng)?;
        let (mut near, mut tries) = (0, 0);
        while tries < PATIENCE && may_go_on(runs) {
            let next = if tries == 0 {
                here.clone()
            } else {
                changed(&here, &mut rng)
            };
            tries += 1;
            runs += 1;
            if next.check().is_err() {
                continue;
            }
            let outcome = world::run(next.clone());
            let nearness = outcome.nearness.get(&bound).copied().unwrap_or_default();
            let is_nearer = nearness.thousandths() > near;
            if is_nearer {
                tries = 1;
            }
            if nearness.thousandths() >= near {
                near = nearness.thousandths();
                here = next.clone();
            }
            let is_best = best
                .as_ref()
                .is_none_or(|best| near > best.nearness.thousandths());
            let violation = outcome.violation.or(outcome.known);
            if violation.is_some() || (is_nearer && is_best) {
                let is_over = violation.is_some();
                best = Some(Found {
                    plan: next,
                    nearness,
                    violation,
                    runs,
                });
                if is_over {
                    return best;
                }
            }
        }
    }
    best.map(|best| Found { runs, ..best })
}

/// A plan in which only what the bound is about goes wrong.
fn directed(bound: Bound, rng: &mut Rng) -> Option<Plan> {
    let mut settings = Settings::DEFAULT;
    let asked_at = 5 * SECOND;
    // The first Resume of all pulls an image, which takes some seconds.
    let amid = asked_at + rng.between(0, 10 * SECOND);
    let created = wish(SECOND, None);
    let mut requests = vec![created.clone(), wish(asked_at, Some(100 * MILLI))];
    let replica_dies = Fault::ReplicaLost {
        replica: 0,
        for_us: 60 * SECOND,
    };
    // What a workflow has given up is left to the next sweep.
    if bound == Bound::ElsewhereUnasked {
        settings.workflow.deadline = Duration::from_secs(rng.between(31, 90));
    }
    let node_falls_silent = Fault::NodeCutOff {
        node: 0,
        for_us: 300 * SECOND,
    };
    let hangs = Fault::RegistryHangs { for_us: 120 * SECOND };
    let (faults, storm_us) = match bound {
        Bound::FailoverUnasked => (vec![(amid, replica_dies)], 60 * SECOND),
        Bound::FailoverAsked => {
            requests.extend((0..30).map(|n| wish(amid + n * SECOND / 3, None)));
            (vec![(amid, replica_dies)], 60 * SECOND)
        }
        Bound::Elsewhere | Bound::ElsewhereUnasked => (vec![(amid, node_falls_silent)], 320 * SECOND),
        Bound::Verdict => {
            settings.workflow.deadline = Duration::from_secs(60);
            requests = vec![created, wish(asked_at, None)];
            (vec![(asked_at - SECOND, hangs)], 180 * SECOND)
        }
        Bound::LeaseBelieved => {
            // Nobody else comes by before the lease has run out.
            settings.workflow.sweep_every = Duration::from_secs(120);
            let away = Fault::StoreAway {
                for_us: 28 * SECOND + rng.below(2 * SECOND),
            };
            requests.push(wish(amid + 30 * SECOND, None));
            (vec![(asked_at - SECOND, hangs), (amid, away)], 90 * SECOND)
        }
        _ => return None,
    };
    let clock = |rng: &mut Rng| Spread::AtTheBound.clock(rng, &settings);
    // Another would come by sooner.
    let is_alone = matches!(bound, Bound::LeaseBelieved | Bound::ElsewhereUnasked);
    let replicas = if is_alone { 1 } else { 2 };
    let strikes = faults.into_iter().map(|(at_us, fault)| Strike { at_us, fault });
    Some(Plan {
        about: String::new(),
        world: Sizes {
            store: clock(rng),
            replicas: (0..replicas).map(|_| clock(rng)).collect(),
            nodes: vec![NodeSize {
                clock: clock(rng),
                workers: 1,
            }],
            actors: 1,
            callers: 2,
        },
        settings: Durations::of(&settings),
        noise: Noise {
            seed: rng.any(),
            store_deaf: 0,
            calls_lost: 0,
            calls_repeated: 0,
            steps_fail: 0,
        },
        storm_us,
        faults: strikes.collect(),
        requests,
    })
}

/// Somebody wants the actor to serve; who first does finds that there is none, and creates it. Who does not leave is
/// another caller.
fn wish(at_us: u64, leaves_after_us: Option<u64>) -> Wish {
    Wish {
        at_us,
        caller: usize::from(leaves_after_us.is_none()),
        actor: 0,
        what: Asked::Resume,
        fresh: false,
        leaves_after_us,
    }
}

/// The plan with one thing changed.
fn changed(plan: &Plan, rng: &mut Rng) -> Plan {
    let mut plan = plan.clone();
    match rng.below(8) {
        0..3 if !plan.faults.is_empty() => {
            let number = rng.index(plan.faults.len());
            let at = plan.faults[number].at_us;
            plan.faults[number].at_us = moved(at, rng);
        }
        3 if !plan.requests.is_empty() => {
            let number = rng.index(plan.requests.len());
            let at = plan.requests[number].at_us;
            plan.requests[number].at_us = moved(at, rng);
        }
        4 => {
            let drift = Spread::AtTheBound.clock(rng, &plan.settings.settings());
            *any_clock(&mut plan, rng) = drift;
        }
        5 if !plan.faults.is_empty() => {
            let number = rng.index(plan.faults.len());
            if let Some(lasts) = plan.faults[number].fault.duration() {
                *lasts = moved(*lasts, rng);
            }
        }
        _ => plan.noise.seed = rng.any(),
    }
    plan.requests.sort_by_key(|wish| (wish.at_us, wish.caller));
    plan
}

/// Some time earlier or later: mostly a little, now and then a lot.
fn moved(at: u64, rng: &mut Rng) -> u64 {
    let farthest = FARTHEST >> rng.below(14);
    let by = rng.between(1, farthest);
    if rng.permille(500) {
        at + by
    } else {
        at.saturating_sub(by).max(SECOND)
    }
}

fn any_clock<'a>(plan: &'a mut Plan, rng: &mut Rng) -> &'a mut Clock {
    let world = &mut plan.world;
    let nodes = world.nodes.iter_mut().map(|node| &mut node.clock);
    let mut clocks: Vec<&mut Clock> = world.replicas.iter_mut().chain(nodes).collect();
    clocks.push(&mut world.store);
    let number = rng.index(clocks.len());
    clocks.swap_remove(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To its end.
    fn searched(bound: Bound, seed: u64, runs: u64) -> Option<Found> {
        worst(bound, seed, runs, &AtomicBool::new(false))
    }

    #[test]
    fn a_search_that_is_stopped_plays_no_more() {
        let stop = AtomicBool::new(true);
        assert!(worst(Bound::FailoverUnasked, 1, u64::MAX, &stop).is_none());
    }

    #[test]
    fn what_is_searched_for_can_be_found() {
        for bound in SEARCHED {
            let found =
                searched(bound, 1, 200).unwrap_or_else(|| panic!("{bound:?} is never put to the test"));
            assert_eq!(found.violation, None, "{bound:?}");
            assert_eq!(found.runs, 200, "{bound:?}");
            assert_eq!(found.plan.check(), Ok(()), "{bound:?}");
        }
        assert!(searched(Bound::Stale, 1, 10).is_none());
    }

    #[test]
    fn a_longer_search_finds_nothing_that_is_less_bad() {
        let near = |runs| {
            let found = searched(Bound::FailoverUnasked, 3, runs).unwrap();
            found.nearness.thousandths()
        };
        assert!(near(100) <= near(400));
    }
}
