//! A plan as a document: what is wrong with one is said by its place, with what would be right.

use super::Plan;
use std::fmt;
use std::path::Path;

/// The most of anything that a world may have: what is more is a slip of the pen.
pub const MANY: usize = 1000;

/// A document that is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlan(String);

impl fmt::Display for BadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPlan {}

impl Plan {
    /// The plan that a document holds.
    ///
    /// # Errors
    /// It is no JSON, lacks something, has something that no plan has, or does not fit together.
    pub fn from_json(text: &str) -> Result<Plan, BadPlan> {
        let plan: Plan =
            serde_json::from_str(text).map_err(|why| BadPlan(format!("this is no plan: {why}")))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan in a file.
    ///
    /// # Errors
    /// It cannot be read, or holds no plan.
    pub fn from_file(path: &Path) -> Result<Plan, BadPlan> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| BadPlan(format!("{} cannot be read: {why}", path.display())))?;
        Plan::from_json(&text).map_err(|BadPlan(why)| BadPlan(format!("{}: {why}", path.display())))
    }

    /// As a document, which ends with a line break.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a plan has nothing that JSON has not");
        text.push('\n');
        text
    }

    /// Whether it fits together.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn check(&self) -> Result<(), BadPlan> {
        let bad = |place: &str, why: String| Err(BadPlan(format!("{place}: {why}")));
        let world = &self.world;
        let counts = [
            ("world.replicas", world.replicas.len(), 1),
            ("world.nodes", world.nodes.len(), 1),
            ("world.actors", world.actors, 1),
            ("world.callers", world.callers, 0),
        ];
        let workers = world.nodes.iter().enumerate();
        let workers = workers.map(|(n, node)| (format!("world.nodes[{n}].workers"), node.workers, 0));
        let counts = counts.map(|(place, many, least)| (place.to_string(), many, least));
        for (place, many, least) in counts.into_iter().chain(workers) {
            if !(least..=MANY).contains(&many) {
                return bad(&place, format!("there are {many}; want {least} to {MANY}"));
            }
        }
        if world.nodes.iter().all(|node| node.workers == 0) {
            let why = "no node has a worker, so nobody could be served: want one at least";
            return bad("world.nodes", why.to_string());
        }
        for clock in self.clocks() {
            if clock.gain_ppm.unsigned_abs() >= 1_000_000 {
                let gain = clock.gain_ppm;
                return bad(
                    "world",
                    format!("a clock's gain_ppm is {gain}; want -999999 to 999999"),
                );
            }
        }
        if let Err(broken) = self.settings.settings().check() {
            return bad("settings", broken.to_string());
        }
        let odds = [
            ("noise.store_deaf", self.noise.store_deaf),
            ("noise.calls_lost", self.noise.calls_lost),
            ("noise.calls_repeated", self.noise.calls_repeated),
            ("noise.steps_fail", self.noise.steps_fail),
        ];
        for (place, odds) in odds {
            if odds > 1000 {
                return bad(place, format!("{odds} of a thousand; want 0 to 1000"));
            }
        }
        let in_storm = |at: u64| {
            if at <= self.storm_us {
                Ok(())
            } else {
                Err(format!(
                    "at_us is {at}, and the storm is over at {}: make storm_us longer",
                    self.storm_us
                ))
            }
        };
        for (number, strike) in self.faults.iter().enumerate() {
            let fits = in_storm(strike.at_us).and_then(|()| strike.fault.fits(world));
            if let Err(why) = fits {
                return bad(&format!("faults[{number}]"), why);
            }
        }
        for (number, wish) in self.requests.iter().enumerate() {
            let place = format!("requests[{number}]");
            if let Err(why) = in_storm(wish.at_us) {
                return bad(&place, why);
            }
            if wish.caller >= world.callers {
                let (caller, many) = (wish.caller, world.callers);
                return bad(
                    &place,
                    format!("there is no caller {caller}: the world has {many}, counted from 0"),
                );
            }
            if wish.actor >= world.actors {
                let (actor, many) = (wish.actor, world.actors);
                return bad(
                    &place,
                    format!("there is no actor {actor}: the world has {many}, counted from 0"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Fault, Plan, Recipe, Strike};

    #[test]
    fn what_is_written_is_read_back_exactly() {
        for seed in 0..50 {
            let plan = Recipe::small(seed).plan();
            let text = plan.to_json();
            assert_eq!(Plan::from_json(&text), Ok(plan), "{seed}");
            assert_eq!(Plan::from_json(&text).unwrap().to_json(), text, "{seed}");
        }
    }

    #[test]
    fn what_no_plan_has_is_refused_by_its_name() {
        let text = Plan::scripted().to_json();
        for (from, to, named) in [
            ("\"storm_us\"", "\"storm\"", "`storm`"),
            ("\"actors\"", "\"actor\"", "`actor`"),
            ("\"gain_ppm\": 0", "\"gain_ppm\": 0, \"step\": 1", "`step`"),
            ("\"steps_fail\": 0", "\"steps_fail\": \"0\"", "expected u64"),
        ] {
            let why = Plan::from_json(&text.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(why.contains(named) && why.contains("line"), "{why}");
        }
        let faulty = |fault: &str| {
            let faults = format!("\"faults\": [{{\"at_us\": 1, \"fault\": {fault}}}]");
            Plan::from_json(&text.replacen("\"faults\": []", &faults, 1))
        };
        assert!(faulty("{\"store-away\": {\"for_us\": 5}}").is_ok());
        for (fault, named) in [
            ("{\"store-gone\": {\"for_us\": 5}}", "store-gone"),
            ("{\"store-away\": {\"for_us\": 5, \"node\": 1}}", "`node`"),
            ("{\"store-away\": {}}", "`for_us`"),
        ] {
            let why = faulty(fault).unwrap_err().to_string();
            assert!(why.contains(named), "{why}");
        }
    }

    /// Spoils a plan.
    type Spoils = fn(&mut Plan);

    #[test]
    fn what_does_not_fit_together_is_refused_with_what_would() {
        let cases: [(Spoils, &str); 10] = [
            (
                |p| p.world.replicas.clear(),
                "world.replicas: there are 0; want 1",
            ),
            (
                |p| p.world.nodes[1].workers = 5000,
                "world.nodes[1].workers: there are 5000",
            ),
            (
                |p| p.world.nodes.iter_mut().for_each(|node| node.workers = 0),
                "want one at least",
            ),
            (|p| p.world.store.gain_ppm = -1_000_000, "want -999999 to 999999"),
            (
                |p| p.settings.session_ttl_us = p.settings.lease_ttl_us,
                "settings: session.ttl",
            ),
            (
                |p| p.noise.calls_lost = 1001,
                "noise.calls_lost: 1001 of a thousand",
            ),
            (
                |p| p.noise.calls_repeated = 1001,
                "noise.calls_repeated: 1001 of a thousand",
            ),
            (
                |p| strikes(p, 5, Fault::ReplicaLeaves { replica: 2 }),
                "faults[0]: there is no replica 2: the world has 2",
            ),
            (
                |p| strikes(p, 5, Fault::SandboxDies { node: 1, worker: 1 }),
                "faults[0]: there is no worker 1: the world has 1",
            ),
            (
                |p| {
                    p.storm_us = 4;
                    strikes(p, 5, Fault::StoreFlushed {});
                },
                "make storm_us longer",
            ),
        ];
        for (spoils, expected) in cases {
            let mut plan = Plan::scripted();
            assert_eq!(plan.check(), Ok(()));
            spoils(&mut plan);
            let why = plan.check().expect_err(expected).to_string();
            assert!(why.contains(expected), "{why:?} is not {expected:?}");
        }
    }

    fn strikes(plan: &mut Plan, at_us: u64, fault: Fault) {
        plan.faults.push(Strike { at_us, fault });
    }
}
