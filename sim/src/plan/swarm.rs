//! Plans by the thousand: a seed draws a recipe, and a recipe is cooked into a plan.
//!
//! A recipe has a random subset of faults (swarm testing: faults that are always armed together hide each
//! other), random weights, sizes and clocks.

use super::{Durations, Fault, Ill, Kind, MILLI, NodeSize, Noise, Plan, SECOND, Sizes, Strike, Way, Wish};
use crate::clock::Spread;
use crate::fact::Asked;
use crate::rng::Rng;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;

/// The longest that a process is not scheduled, in microseconds.
const PAUSE_MAX: u64 = 50 * SECOND;
/// Begins the numbers that a recipe is drawn from, and those that a plan is.
const RECIPE: u64 = 0x7265_6369_7065;
const PLAN: u64 = 0x706c_616e;
/// Begins the numbers that what is wrong outside is drawn from.
const OUTSIDE: u64 = 0x6f75_7473_6964;
const REPEATS: u64 = 0x7265_7065_6174;

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The seed of everything that is left to chance.
    pub seed: u64,
    /// How many replicas.
    pub replicas: usize,
    /// How many nodes.
    pub nodes: usize,
    /// How many workers on each.
    pub workers_per_node: usize,
    /// How many actors.
    pub actors: usize,
    /// How many callers at once.
    pub callers: usize,
    /// How long faults strike and callers call, in microseconds.
    pub storm: u64,
    /// The kinds of faults that may strike.
    pub faults: Vec<Kind>,
    /// The mean time between two of them, in microseconds.
    pub fault_every: u64,
    /// The mean time between two wishes of a caller, in microseconds.
    pub wish_every: u64,
    /// See [`Noise`].
    pub store_deaf: u64,
    /// See [`Noise`].
    pub calls_lost: u64,
    /// See [`Noise`].
    pub calls_repeated: u64,
    /// See [`Noise`].
    pub steps_fail: u64,
    /// How far clocks are apart.
    pub clocks: Spread,
    /// The settings of all machines.
    pub settings: Settings,
}

impl Recipe {
    /// A small world with a random subset of faults, all drawn from `seed`.
    pub fn small(seed: u64) -> Recipe {
        let mut rng = Rng::new(seed ^ RECIPE);
        let mut settings = Settings::DEFAULT;
        settings.workflow.deadline = Duration::from_secs(120);
        settings.pull.stall_after = Duration::from_secs(10);
        settings.workflow.collect_after = Duration::from_secs(10);
        if rng.permille(300) {
            settings = settings.with_lease_ttl(Duration::from_secs(10));
        }
        if rng.permille(300) {
            settings.pull.abandon_grace = Duration::from_secs(5);
        }
        if rng.permille(200) {
            settings.node.fences_max = rng.between(1, 3) as u32;
        }
        let appetite = rng.between(100, 600);
        let some = |rng: &mut Rng, most: u64| {
            if rng.permille(500) {
                rng.between(1, most)
            } else {
                0
            }
        };
        let is_apart = |kind: &Kind| Kind::OUTSIDE.contains(kind);
        let mut faults: Vec<Kind> = Kind::SWARM.to_vec();
        faults.retain(|kind| !is_apart(kind) && rng.permille(appetite));
        let mut outside = Rng::new(seed ^ OUTSIDE);
        if outside.permille(500) {
            faults.extend(Kind::OUTSIDE.iter().filter(|_| outside.permille(appetite)));
        }
        Recipe {
            seed,
            replicas: rng.between(1, 3) as usize,
            nodes: rng.between(1, 3) as usize,
            workers_per_node: rng.between(1, 2) as usize,
            actors: rng.between(2, 5) as usize,
            callers: rng.between(1, 4) as usize,
            storm: 300 * SECOND,
            faults,
            fault_every: rng.between(3, 30) * SECOND,
            wish_every: rng.between(SECOND, 8 * SECOND),
            store_deaf: some(&mut rng, 40),
            calls_lost: some(&mut rng, 200),
            calls_repeated: some(&mut Rng::new(seed ^ REPEATS), 200),
            steps_fail: some(&mut rng, 60),
            clocks: match rng.below(20) {
                0..6 => Spread::Apart,
                6..12 => Spread::Inside,
                12..17 => Spread::AtTheBound,
                17..19 => Spread::JustOutside,
                _ => Spread::FarOutside,
            },
            settings,
        }
    }

    /// A world in which nothing goes wrong.
    pub fn fair(seed: u64) -> Recipe {
        Recipe {
            faults: Vec::new(),
            store_deaf: 0,
            calls_lost: 0,
            calls_repeated: 0,
            steps_fail: 0,
            ..Recipe::small(seed)
        }
    }

    /// Three replicas, four nodes with four workers each, and forty actors of which each is asked for every
    /// few seconds, for half an hour.
    pub fn standard(seed: u64) -> Recipe {
        Recipe {
            replicas: 3,
            nodes: 4,
            workers_per_node: 4,
            actors: 40,
            callers: 12,
            storm: 1800 * SECOND,
            wish_every: 2 * SECOND,
            ..Recipe::small(seed)
        }
    }

    /// The plan.
    pub fn plan(&self) -> Plan {
        let mut rng = Rng::new(self.seed ^ PLAN);
        let mut clock = || self.clocks.clock(&mut rng, &self.settings);
        let nodes = (0..self.nodes).map(|_| NodeSize {
            clock: clock(),
            workers: self.workers_per_node,
        });
        let nodes = nodes.collect();
        let world = Sizes {
            nodes,
            store: clock(),
            replicas: (0..self.replicas).map(|_| clock()).collect(),
            actors: self.actors,
            callers: self.callers,
        };
        Plan {
            about: String::new(),
            settings: Durations::of(&self.settings),
            noise: Noise {
                seed: self.seed,
                store_deaf: self.store_deaf,
                calls_lost: self.calls_lost,
                calls_repeated: self.calls_repeated,
                steps_fail: self.steps_fail,
            },
            storm_us: self.storm,
            faults: self.strikes(&mut rng),
            requests: self.wishes(&mut rng),
            world,
        }
    }

    fn strikes(&self, rng: &mut Rng) -> Vec<Strike> {
        let mut strikes = Vec::new();
        if self.faults.is_empty() {
            return strikes;
        }
        let mut at_us = rng.between(SECOND, 5 * SECOND);
        // What the store forgets, it forgets once within the time for which it may (protocol, Outside the assumptions).
        let collect_after = self.settings.workflow.collect_after.as_micros() as u64;
        let mut next_failover = 0;
        while at_us < self.storm {
            let kind = self.faults[rng.index(self.faults.len())];
            if let Some(fault) = self.fault(rng, kind) {
                let is_failover = kind == Kind::StoreFailsOver;
                if !is_failover || at_us >= next_failover {
                    strikes.push(Strike { at_us, fault });
                }
                if is_failover {
                    next_failover = at_us + 3 * collect_after;
                }
            }
            at_us += rng.between(self.fault_every / 4, self.fault_every * 2);
        }
        strikes
    }

    /// A fault of that kind; none if there is nobody whom it could strike.
    fn fault(&self, rng: &mut Rng, kind: Kind) -> Option<Fault> {
        let replica = rng.index(self.replicas);
        let node = rng.index(self.nodes);
        let is_about_workers = matches!(
            kind,
            Kind::AteomDies | Kind::PodReplaced | Kind::PodLeaves | Kind::SandboxDies
        );
        if is_about_workers && self.workers_per_node == 0 {
            return None;
        }
        let worker = rng.index(self.workers_per_node.max(1));
        let after_outputs = rng.between(1, 25) as u32;
        let pause = rng.between(500 * MILLI, PAUSE_MAX);
        Some(match kind {
            Kind::ReplicaDies => Fault::ReplicaDies {
                replica,
                after_outputs,
            },
            Kind::ReplicaPauses => Fault::ReplicaPauses {
                replica,
                after_outputs: after_outputs - 1,
                for_us: pause,
            },
            Kind::ReplicaLeaves => Fault::ReplicaLeaves { replica },
            Kind::NodeDies => Fault::NodeDies { node, after_outputs },
            Kind::NodePauses => Fault::NodePauses { node, for_us: pause },
            Kind::AteomDies => Fault::AteomDies {
                node,
                worker,
                is_noticed: rng.permille(500),
            },
            Kind::PodReplaced => Fault::PodReplaced { node, worker },
            Kind::PodLeaves => Fault::PodLeaves {
                node,
                worker,
                grace_us: rng.between(SECOND, 30 * SECOND),
            },
            Kind::SandboxDies => Fault::SandboxDies { node, worker },
            Kind::StoreAway => Fault::StoreAway {
                for_us: rng.between(100 * MILLI, 40 * SECOND),
            },
            Kind::StoreFailsOver => Fault::StoreFailsOver {
                // What is lost is younger than what is collected, also by clocks that drift further than is declared.
                lag_us: rng.below(self.settings.workflow.collect_after.as_micros() as u64 * 2 / 3),
                away_us: rng.between(0, 10 * SECOND),
            },
            Kind::StoreFlushed => Fault::StoreFlushed {},
            Kind::NodeCutOff => Fault::NodeCutOff {
                node,
                for_us: rng.between(500 * MILLI, 40 * SECOND),
            },
            Kind::NodePartitioned => Fault::NodeCutOff {
                node,
                for_us: rng.between(80 * SECOND, 200 * SECOND),
            },
            Kind::RegistryHangs => Fault::RegistryHangs {
                for_us: rng.between(SECOND, 60 * SECOND),
            },
            Kind::ObjectsAway => Fault::ObjectsAway {
                for_us: rng.between(100 * MILLI, 30 * SECOND),
            },
            Kind::SnapshotDamaged => Fault::SnapshotDamaged {
                actor: rng.index(self.actors),
            },
            Kind::DiskFull => Fault::DiskFull {
                node,
                for_us: rng.between(100 * MILLI, 60 * SECOND),
            },
            Kind::DiskRefuses => Fault::DiskRefuses {
                node,
                writes: rng.between(1, 3) as u32,
            },
            _ => return Some(self.fault_outside(rng, kind, replica, node)),
        })
    }

    /// A fault of the kinds that are drawn apart.
    fn fault_outside(&self, rng: &mut Rng, kind: Kind, replica: usize, node: usize) -> Fault {
        let way = [Way::There, Way::Back][rng.index(2)];
        let ill = [Ill::Cuts, Ill::Trickles, Ill::Garbles][rng.index(3)];
        let for_us = rng.between(100 * MILLI, 40 * SECOND);
        // Up to what a lease, or a session, does not survive.
        let takes_us = rng.between(10 * MILLI, 10 * SECOND);
        match kind {
            Kind::ReplicaLost => Fault::ReplicaLost { replica, for_us },
            Kind::NodeLost => Fault::NodeLost {
                node,
                for_us: rng.between(SECOND, 200 * SECOND),
            },
            Kind::ReplicaCut => Fault::ReplicaCut { replica, way, for_us },
            Kind::NodeCutOneWay => Fault::NodeCutOneWay { node, way, for_us },
            Kind::WatchIll => Fault::WatchIll { replica, ill, for_us },
            Kind::StoreSlow => Fault::StoreSlow { takes_us, for_us },
            Kind::StoreFull => Fault::StoreFull { for_us },
            Kind::StoreLoading => Fault::StoreLoading { for_us },
            Kind::ObjectsSlow => Fault::ObjectsSlow { takes_us, for_us },
            Kind::ObjectsLie => Fault::ObjectsLie { for_us },
            Kind::RegistryIll => Fault::RegistryIll { ill, for_us },
            Kind::RunscHangs => Fault::RunscHangs { node, for_us },
            _ => unreachable!("{kind:?} is not drawn apart"),
        }
    }

    fn wishes(&self, rng: &mut Rng) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for caller in 0..self.callers {
            let mut at_us = rng.between(500 * MILLI, SECOND);
            while at_us < self.storm {
                let what = match rng.below(97) {
                    0..48 => Asked::Resume,
                    48..72 => Asked::Suspend,
                    72..83 => Asked::Pause,
                    83..91 => Asked::Update,
                    91..94 => Asked::Revert,
                    _ => Asked::Delete,
                };
                wishes.push(Wish {
                    at_us,
                    caller,
                    actor: rng.index(self.actors),
                    what,
                    fresh: what == Asked::Resume && rng.permille(200),
                    leaves_after_us: rng.permille(30).then(|| rng.between(100 * MILLI, 20 * SECOND)),
                });
                at_us += rng.between(self.wish_every / 4, self.wish_every * 7 / 4);
            }
        }
        wishes.sort_by_key(|wish| (wish.at_us, wish.caller));
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_fits_together() {
        for seed in 0..200 {
            assert_eq!(Recipe::small(seed).plan().check(), Ok(()), "{seed}");
            assert_eq!(Recipe::fair(seed).plan().faults, [], "{seed}");
        }
        assert_eq!(Recipe::standard(1).plan().check(), Ok(()));
        for kind in Kind::ALL {
            let recipe = Recipe {
                faults: vec![kind],
                ..Recipe::small(3)
            };
            let plan = recipe.plan();
            assert_eq!(plan.check(), Ok(()), "{kind:?}");
            assert!(!plan.faults.is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn a_seed_makes_one_plan() {
        assert_eq!(Recipe::small(7).plan(), Recipe::small(7).plan());
        assert_ne!(Recipe::small(7).plan(), Recipe::small(8).plan());
    }
}
