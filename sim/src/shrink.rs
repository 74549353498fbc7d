//! Shrinking: the smallest plan that still goes wrong in the same way.
//!
//! First what is left to chance, then faults, then requests, then whole replicas, nodes, workers, actors and
//! callers with all that concerns them, then clocks, then the gaps in time; and all of it again for as long as
//! anything becomes smaller. A plan that has become smaller plays its noise differently, so each is tried
//! with a few seeds of it.

use crate::clock::Clock;
use crate::plan::{Fault, Plan, Target};
use std::cell::Cell;

/// With how many seeds of its noise a plan is tried.
const SEEDS: u64 = 3;
/// The shortest gap or duration that is worth halving, in microseconds.
const SHORT: u64 = 1_000;

/// Says how a plan goes wrong, if it does: such as by [`crate::oracle::Violation::gist`].
pub type Judge<'a> = &'a dyn Fn(&Plan) -> Option<String>;

/// How far a plan could be shrunk.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest that still goes wrong in the same way.
    pub plan: Plan,
    /// That way.
    pub how: String,
    /// How many plans were played.
    pub runs: u64,
}

/// Shrinks a plan until nothing can be left out, or `runs_max` plans have been played; none if it
/// does not go wrong.
pub fn shrink(plan: &Plan, judge: Judge<'_>, runs_max: u64) -> Option<Shrunk> {
    let how = judge(plan)?;
    let trial = Trial {
        judge,
        how: &how,
        runs: Cell::new(1),
        runs_max,
    };
    let mut smallest = plan.clone();
    loop {
        let before = smallest.clone();
        for pass in PASSES {
            smallest = pass(&trial, smallest);
        }
        if smallest == before || trial.is_spent() {
            break;
        }
    }
    Some(Shrunk {
        plan: smallest,
        runs: trial.runs.get(),
        how,
    })
}

/// One way to make a plan smaller.
type Pass = fn(&Trial<'_>, Plan) -> Plan;

const PASSES: [Pass; 8] = [
    less_noise,
    fewer_faults,
    fewer_requests,
    fewer_of_everything,
    righter_clocks,
    shorter_storm,
    shorter_gaps,
    shorter_faults,
];

struct Trial<'a> {
    judge: Judge<'a>,
    how: &'a str,
    runs: Cell<u64>,
    runs_max: u64,
}

impl Trial<'_> {
    fn is_spent(&self) -> bool {
        self.runs.get() >= self.runs_max
    }

    /// The candidate, with the seed with which it still fails in the same way.
    fn fails(&self, candidate: Plan) -> Option<Plan> {
        if candidate.check().is_err() {
            return None;
        }
        (0..SEEDS).find_map(|more| {
            if self.is_spent() {
                return None;
            }
            self.runs.set(self.runs.get() + 1);
            let mut plan = candidate.clone();
            plan.noise.seed = plan.noise.seed.wrapping_add(more);
            ((self.judge)(&plan).as_deref() == Some(self.how)).then_some(plan)
        })
    }

    /// The candidate if it is smaller and still fails, else what there was.
    fn better(&self, plan: Plan, candidate: Plan) -> Plan {
        if candidate == plan {
            return plan;
        }
        self.fails(candidate).unwrap_or(plan)
    }

    /// Leaves out as many items as it can: first many at once, then one by one.
    fn fewer<T: Clone>(&self, mut plan: Plan, items: fn(&mut Plan) -> &mut Vec<T>) -> Plan {
        let mut chunk = items(&mut plan).len();
        while chunk > 0 {
            let mut at = 0;
            while at < items(&mut plan).len() {
                let mut candidate = plan.clone();
                let all = items(&mut candidate);
                let end = (at + chunk).min(all.len());
                all.drain(at..end);
                match self.fails(candidate) {
                    Some(smaller) => plan = smaller,
                    None => at += chunk,
                }
            }
            chunk /= 2;
        }
        plan
    }
}

fn less_noise(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    let odds: [fn(&mut Plan) -> &mut u64; 4] = [
        |plan| &mut plan.noise.store_deaf,
        |plan| &mut plan.noise.calls_lost,
        |plan| &mut plan.noise.calls_repeated,
        |plan| &mut plan.noise.steps_fail,
    ];
    for odds in odds {
        let mut candidate = plan.clone();
        *odds(&mut candidate) = 0;
        plan = trial.better(plan, candidate);
    }
    plan
}

fn fewer_faults(trial: &Trial<'_>, plan: Plan) -> Plan {
    trial.fewer(plan, |plan| &mut plan.faults)
}

fn fewer_requests(trial: &Trial<'_>, plan: Plan) -> Plan {
    trial.fewer(plan, |plan| &mut plan.requests)
}

/// Leaves out one replica, node, worker, actor or caller after the other.
fn fewer_of_everything(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    type Count = fn(&Plan) -> usize;
    type LeaveOut = fn(&mut Plan, usize);
    let kinds: [(Count, LeaveOut); 4] = [
        (|plan| plan.world.nodes.len(), without_node),
        (|plan| plan.world.replicas.len(), without_replica),
        (|plan| plan.world.actors, without_actor),
        (|plan| plan.world.callers, without_caller),
    ];
    for (count, leave_out) in kinds {
        for number in (0..count(&plan)).rev() {
            let mut candidate = plan.clone();
            leave_out(&mut candidate, number);
            plan = trial.better(plan, candidate);
        }
    }
    for node in 0..plan.world.nodes.len() {
        for worker in (0..plan.world.nodes[node].workers).rev() {
            let mut candidate = plan.clone();
            without_worker(&mut candidate, node, worker);
            plan = trial.better(plan, candidate);
        }
    }
    plan
}

/// Those that come after the one that is left out move up; none for that one itself.
fn moved_up(number: &mut usize, left_out: usize) -> bool {
    let stays = *number != left_out;
    *number -= usize::from(*number > left_out);
    stays
}

fn retarget(plan: &mut Plan, mut stays: impl FnMut(&mut Fault) -> bool) {
    plan.faults.retain_mut(|strike| stays(&mut strike.fault));
}

fn without_node(plan: &mut Plan, left_out: usize) {
    plan.world.nodes.remove(left_out);
    retarget(plan, |fault| match fault.target() {
        Target::Node(node) | Target::Worker(node, _) => moved_up(node, left_out),
        _ => true,
    });
}

fn without_replica(plan: &mut Plan, left_out: usize) {
    plan.world.replicas.remove(left_out);
    retarget(plan, |fault| match fault.target() {
        Target::Replica(replica) => moved_up(replica, left_out),
        _ => true,
    });
}

fn without_worker(plan: &mut Plan, of: usize, left_out: usize) {
    plan.world.nodes[of].workers -= 1;
    retarget(plan, |fault| match fault.target() {
        Target::Worker(node, worker) if *node == of => moved_up(worker, left_out),
        _ => true,
    });
}

fn without_actor(plan: &mut Plan, left_out: usize) {
    plan.world.actors -= 1;
    retarget(plan, |fault| match fault.target() {
        Target::Actor(actor) => moved_up(actor, left_out),
        _ => true,
    });
    plan.requests
        .retain_mut(|wish| moved_up(&mut wish.actor, left_out));
}

fn without_caller(plan: &mut Plan, left_out: usize) {
    plan.world.callers -= 1;
    plan.requests
        .retain_mut(|wish| moved_up(&mut wish.caller, left_out));
}

fn righter_clocks(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    let replicas = plan.world.replicas.len();
    for number in 0..plan.clocks().len() {
        let mut candidate = plan.clone();
        let world = &mut candidate.world;
        let clock = if number < replicas {
            &mut world.replicas[number]
        } else if let Some(node) = world.nodes.get_mut(number - replicas) {
            &mut node.clock
        } else {
            &mut world.store
        };
        *clock = Clock::TRUE;
        plan = trial.better(plan, candidate);
    }
    plan
}

/// When anything is to happen, in order.
fn times(plan: &Plan) -> Vec<u64> {
    let faults = plan.faults.iter().map(|strike| strike.at_us);
    let requests = plan.requests.iter().map(|wish| wish.at_us);
    let mut times: Vec<u64> = faults.chain(requests).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// The calm begins where the last thing happens, or a little later.
fn shorter_storm(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    let last = times(&plan).last().copied().unwrap_or_default();
    let mut more = 0;
    while last + more < plan.storm_us && !trial.is_spent() {
        let mut candidate = plan.clone();
        candidate.storm_us = last + more;
        if let Some(shorter) = trial.fails(candidate) {
            plan = shorter;
            break;
        }
        more = (more * 2).max(1_000_000);
    }
    plan
}

/// What comes after a gap comes earlier: at once, or after half of the gap, and so on.
fn shorter_gaps(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    let count = times(&plan).len();
    for number in 0..count {
        let before = |plan: &Plan| match number {
            0 => 0,
            _ => times(plan).get(number - 1).copied().unwrap_or_default(),
        };
        let cut = |plan: &Plan, by: fn(u64) -> u64| -> Option<Plan> {
            let at = times(plan).get(number).copied()?;
            let gap = at - before(plan);
            let less = by(gap);
            if less == 0 {
                return None;
            }
            let mut candidate = plan.clone();
            let faults = candidate.faults.iter_mut().map(|strike| &mut strike.at_us);
            let requests = candidate.requests.iter_mut().map(|wish| &mut wish.at_us);
            for time in faults.chain(requests).filter(|time| **time >= at) {
                *time -= less;
            }
            candidate.storm_us -= less;
            trial.fails(candidate)
        };
        if let Some(shorter) = cut(&plan, |gap| gap) {
            plan = shorter;
            continue;
        }
        let half = |gap: u64| if gap < SHORT { 0 } else { gap / 2 };
        while let Some(shorter) = cut(&plan, half) {
            plan = shorter;
        }
    }
    plan
}

/// What lasts lasts half as long, and so on.
fn shorter_faults(trial: &Trial<'_>, mut plan: Plan) -> Plan {
    for number in 0..plan.faults.len() {
        loop {
            let mut candidate = plan.clone();
            let Some(lasts) = candidate.faults[number].fault.duration().filter(|t| **t > SHORT) else {
                break;
            };
            *lasts /= 2;
            match trial.fails(candidate) {
                Some(shorter) => plan = shorter,
                None => break,
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Kind, Recipe};
    use crate::world::{Story, World};

    fn everything() -> Plan {
        let recipe = Recipe {
            replicas: 3,
            nodes: 3,
            workers_per_node: 2,
            faults: Kind::SWARM.to_vec(),
            fault_every: 2_000_000,
            ..Recipe::small(11)
        };
        recipe.plan()
    }

    #[test]
    fn a_defect_that_takes_two_faults_is_shrunk_to_those_two() {
        let judge = |plan: &Plan| {
            let away = plan
                .faults
                .iter()
                .position(|s| s.fault.kind() == Kind::StoreAway)?;
            let dies = plan.faults[away..].iter().find_map(|s| match s.fault {
                Fault::SandboxDies { node: 2, .. } => Some(s.at_us),
                _ => None,
            })?;
            let is_asked = plan.requests.iter().any(|wish| wish.at_us < dies);
            is_asked.then(|| "made up".to_string())
        };
        let plan = everything();
        assert!(plan.faults.len() > 50 && plan.requests.len() > 50);
        let shrunk = shrink(&plan, &judge, 10_000).expect("it fails");
        let small = &shrunk.plan;
        let kinds: Vec<Kind> = small.faults.iter().map(|s| s.fault.kind()).collect();
        assert_eq!(kinds, [Kind::StoreAway, Kind::SandboxDies]);
        assert_eq!(small.requests.len(), 1);
        let world = &small.world;
        let sizes = (
            world.replicas.len(),
            world.nodes.len(),
            world.actors,
            world.callers,
        );
        assert_eq!(sizes, (1, 3, 1, 1));
        let workers: Vec<usize> = world.nodes.iter().map(|node| node.workers).collect();
        assert_eq!((workers, small.noise.steps_fail), (vec![0, 0, 1], 0));
        assert!(small.clocks().iter().all(|clock| *clock == Clock::TRUE));
        assert!(small.storm_us <= 1_000_000, "{small:?}");
        assert_eq!(shrunk.how, "made up");
    }

    /// The defect is one of the world: an actor whose sandbox dies while nobody reaches the store.
    #[test]
    fn a_defect_that_only_a_run_shows_is_shrunk_by_running() {
        let judge = |plan: &Plan| {
            let story = World::new(plan.clone(), Story::Kept).run().timeline;
            let away = story.iter().position(|line| line.contains("FAULT StoreAway"))?;
            let mut after = story[away..].iter().take_while(|line| !line.contains("CALM"));
            let dies = after.any(|line| line.contains("FACT Down") && line.contains("Killed"));
            dies.then(|| "made up".to_string())
        };
        let plan = |seed| {
            let recipe = Recipe {
                faults: vec![Kind::StoreAway, Kind::SandboxDies, Kind::NodePauses],
                ..Recipe::small(seed)
            };
            recipe.plan()
        };
        let plan = (0..50).map(plan).find(|plan| judge(plan).is_some());
        let plan = plan.expect("one fails");
        let before = plan.requests.len();
        let shrunk = shrink(&plan, &judge, 400).expect("it fails");
        assert!(shrunk.plan.has(Kind::StoreAway) && shrunk.plan.faults.len() <= 2);
        assert!(
            shrunk.plan.requests.len() < before / 2,
            "{:?}",
            shrunk.plan.requests
        );
        assert_eq!(judge(&shrunk.plan), Some("made up".to_string()));
    }

    #[test]
    fn what_does_not_fail_is_not_shrunk() {
        assert!(shrink(&Plan::scripted(), &|_| None, 100).is_none());
    }
}
