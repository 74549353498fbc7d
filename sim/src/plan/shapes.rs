//! Named shapes of trouble: what each of them is about happens in every plan of it, and chance decides the rest.
//!
//! A swarm finds what nobody has thought of; these are what people have, and each takes a swarm long to come by.

use super::{Fault, MILLI, Noise, Plan, Recipe, SECOND, Strike, Way, Wish};
use crate::fact::Asked;
use crate::rng::Rng;
use holdfast_core::settings::Settings;

/// Begins the numbers that a shape is drawn from.
const SHAPE: u64 = 0x0073_6861_7065;

/// A shape of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Leases run out while what was sent under them is on its way.
    ExpireInFlight,
    /// Replicas and nodes that were taken for dead come back in the middle of what others do in their place.
    ZombieReturns,
    /// Everybody is cut off, one after the other, and comes back in another order.
    Swizzle,
    /// What is asked gets through and what is answered does not, or the other way round.
    OneWayCut,
    /// Every replica and every atelet is restarted, one after the other, while callers call.
    RollingRestart,
    /// All workers are told to go at once.
    DrainStorm,
    /// The store fails over in the middle of many Resumes. Nothing that it has acknowledged is lost.
    StoreFailover,
    /// Everybody asks at once for what nobody could have for a while.
    ThunderingHerd,
}

impl Shape {
    /// All of them.
    pub const ALL: [Shape; 8] = [
        Shape::ExpireInFlight,
        Shape::ZombieReturns,
        Shape::Swizzle,
        Shape::OneWayCut,
        Shape::RollingRestart,
        Shape::DrainStorm,
        Shape::StoreFailover,
        Shape::ThunderingHerd,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Shape::ExpireInFlight => "expire-in-flight",
            Shape::ZombieReturns => "zombie-returns",
            Shape::Swizzle => "swizzle",
            Shape::OneWayCut => "one-way-cut",
            Shape::RollingRestart => "rolling-restart",
            Shape::DrainStorm => "drain-storm",
            Shape::StoreFailover => "store-failover",
            Shape::ThunderingHerd => "thundering-herd",
        }
    }

    /// A plan of this shape, drawn from `seed`: small, with two replicas at least and two nodes at least.
    pub fn plan(self, seed: u64) -> Plan {
        let mut rng = Rng::new(seed ^ SHAPE);
        let fair = Recipe::fair(seed);
        let recipe = Recipe {
            replicas: fair.replicas.max(2),
            nodes: fair.nodes.max(2),
            ..fair
        };
        let mut plan = recipe.plan();
        let mut faults = Vec::new();
        let mut at = rng.between(15 * SECOND, 30 * SECOND);
        // Between two rounds everything comes to rest, mostly.
        while at < recipe.storm * 4 / 5 {
            at = self.round(&mut rng, &recipe, at, &mut faults, &mut plan.requests);
            at += rng.between(5 * SECOND, 40 * SECOND);
        }
        let strikes = faults.into_iter().map(|(at_us, fault)| Strike { at_us, fault });
        plan.faults = strikes.collect();
        plan.faults.sort_by_key(|strike| strike.at_us);
        plan.requests.sort_by_key(|wish| (wish.at_us, wish.caller));
        let last = plan.faults.iter().map(|strike| strike.at_us).max();
        plan.storm_us = plan.storm_us.max(last.unwrap_or_default());
        if self == Shape::ZombieReturns {
            // Orders that nobody waits for any more arrive as late as their senders.
            plan.noise = Noise {
                calls_lost: 150,
                calls_repeated: 0,
                ..plan.noise
            };
        }
        plan
    }

    /// One round of it, from then on; when it is over.
    fn round(
        self,
        rng: &mut Rng,
        recipe: &Recipe,
        at: u64,
        faults: &mut Vec<(u64, Fault)>,
        requests: &mut Vec<Wish>,
    ) -> u64 {
        let Settings { lease, node, .. } = recipe.settings;
        let believed = lease.believed_for().as_micros() as u64;
        let session = node.session_ttl.as_micros() as u64;
        let replica = rng.index(recipe.replicas);
        match self {
            Shape::ExpireInFlight => {
                // As long as a lease is believed in, a little less or a little more.
                let around = |rng: &mut Rng| believed - SECOND / 2 + rng.below(2 * SECOND);
                herd(rng, recipe, at, requests);
                let pauses = Fault::ReplicaPauses {
                    replica,
                    after_outputs: rng.between(0, 12) as u32,
                    for_us: around(rng),
                };
                faults.push((at, pauses));
                let slow = Fault::StoreSlow {
                    takes_us: around(rng),
                    for_us: rng.between(SECOND, 10 * SECOND),
                };
                faults.push((at + rng.below(believed), slow));
                at + 2 * believed
            }
            Shape::ZombieReturns => {
                herd(rng, recipe, at, requests);
                let pauses = Fault::ReplicaPauses {
                    replica,
                    after_outputs: rng.between(0, 12) as u32,
                    for_us: believed + rng.between(2 * SECOND, 30 * SECOND),
                };
                faults.push((at, pauses));
                let silent = Fault::NodePauses {
                    node: rng.index(recipe.nodes),
                    for_us: session + rng.between(5 * SECOND, 30 * SECOND),
                };
                faults.push((at + rng.below(5 * SECOND), silent));
                herd(rng, recipe, at + believed, requests);
                herd(rng, recipe, at + session, requests);
                at + session + 30 * SECOND
            }
            Shape::Swizzle => {
                let all = recipe.nodes + recipe.replicas;
                let (goes, comes) = (shuffled(rng, all), shuffled(rng, all));
                let step = rng.between(200 * MILLI, 5 * SECOND);
                for (nth, who) in goes.into_iter().enumerate() {
                    let back = comes.iter().position(|other| *other == who).unwrap_or_default();
                    let for_us = (all - nth + back) as u64 * step;
                    let cut = match who.checked_sub(recipe.nodes) {
                        None => Fault::NodeCutOff { node: who, for_us },
                        Some(replica) => Fault::ReplicaCut {
                            replica,
                            way: Way::There,
                            for_us,
                        },
                    };
                    faults.push((at + nth as u64 * step, cut));
                }
                at + 2 * all as u64 * step
            }
            Shape::OneWayCut => {
                let way = |rng: &mut Rng| [Way::There, Way::Back][rng.index(2)];
                herd(rng, recipe, at, requests);
                let cut = Fault::NodeCutOneWay {
                    node: rng.index(recipe.nodes),
                    way: way(rng),
                    for_us: rng.between(SECOND, session + 20 * SECOND),
                };
                faults.push((at + rng.below(SECOND), cut));
                let cut = Fault::ReplicaCut {
                    replica,
                    way: way(rng),
                    for_us: rng.between(SECOND, 2 * believed),
                };
                faults.push((at + rng.below(10 * SECOND), cut));
                at + 2 * believed
            }
            Shape::RollingRestart => {
                let step = rng.between(SECOND, 8 * SECOND);
                let replicas = (0..recipe.replicas).map(|replica| Fault::ReplicaLeaves { replica });
                let nodes = (0..recipe.nodes).map(|node| Fault::NodeDies {
                    node,
                    after_outputs: 1,
                });
                let all: Vec<Fault> = replicas.chain(nodes).collect();
                let end = at + step * all.len() as u64;
                faults.extend((0..).map(|nth| at + step * nth).zip(all));
                end
            }
            Shape::DrainStorm => {
                herd(rng, recipe, at, requests);
                let grace_us = rng.between(SECOND, 30 * SECOND);
                for node in 0..recipe.nodes {
                    for worker in 0..recipe.workers_per_node {
                        let leaves = Fault::PodLeaves {
                            node,
                            worker,
                            grace_us,
                        };
                        faults.push((at + rng.below(15 * SECOND), leaves));
                    }
                }
                at + 15 * SECOND + grace_us
            }
            Shape::StoreFailover => {
                herd(rng, recipe, at, requests);
                let fails_over = Fault::StoreFailsOver {
                    lag_us: 0,
                    away_us: rng.between(100 * MILLI, 10 * SECOND),
                };
                faults.push((at + rng.below(2 * SECOND), fails_over));
                at + 20 * SECOND
            }
            Shape::ThunderingHerd => {
                let for_us = rng.between(3 * SECOND, 20 * SECOND);
                faults.push((at, Fault::StoreAway { for_us }));
                let loading = Fault::StoreLoading {
                    for_us: rng.between(SECOND, 5 * SECOND),
                };
                faults.push((at + for_us, loading));
                for _ in 0..4 {
                    herd(rng, recipe, at + for_us, requests);
                }
                at + for_us + 20 * SECOND
            }
        }
    }
}

/// Every caller wants something at once: mostly that an actor serves.
fn herd(rng: &mut Rng, recipe: &Recipe, at: u64, requests: &mut Vec<Wish>) {
    for caller in 0..recipe.callers {
        let what = match rng.below(10) {
            0..7 => Asked::Resume,
            7..9 => Asked::Suspend,
            _ => Asked::Pause,
        };
        requests.push(Wish {
            at_us: (at + rng.below(100 * MILLI)).min(recipe.storm),
            caller,
            actor: rng.index(recipe.actors),
            what,
            fresh: false,
            leaves_after_us: None,
        });
    }
}

/// So many numbers from zero, in any order.
fn shuffled(rng: &mut Rng, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        all.swap(last, rng.index(last + 1));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn each_shape_has_what_it_is_about_in_every_plan() {
        let about = |shape| match shape {
            Shape::ExpireInFlight => vec![Kind::ReplicaPauses, Kind::StoreSlow],
            Shape::ZombieReturns => vec![Kind::ReplicaPauses, Kind::NodePauses],
            Shape::Swizzle => vec![Kind::NodeCutOff, Kind::ReplicaCut],
            Shape::OneWayCut => vec![Kind::NodeCutOneWay, Kind::ReplicaCut],
            Shape::RollingRestart => vec![Kind::ReplicaLeaves, Kind::NodeDies],
            Shape::DrainStorm => vec![Kind::PodLeaves],
            Shape::StoreFailover => vec![Kind::StoreFailsOver],
            Shape::ThunderingHerd => vec![Kind::StoreAway, Kind::StoreLoading],
        };
        for shape in Shape::ALL {
            for seed in 0..50 {
                let plan = shape.plan(seed);
                assert_eq!(plan.check(), Ok(()), "{shape:?} {seed}");
                let kinds: BTreeSet<Kind> = plan.faults.iter().map(|strike| strike.fault.kind()).collect();
                let about: BTreeSet<Kind> = about(shape).into_iter().collect();
                assert_eq!(kinds, about, "{shape:?} {seed}");
            }
            assert_eq!(shape.plan(7), shape.plan(7));
            assert_ne!(shape.plan(7), shape.plan(8));
        }
    }

    #[test]
    fn whoever_is_shuffled_is_still_there() {
        let mut rng = Rng::new(3);
        let mut all = shuffled(&mut rng, 9);
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
