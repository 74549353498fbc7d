//! Many small storms, and the promise that a seed tells everything.

use holdfast_sim::plan::{Fault, Plan};
use holdfast_sim::world::{Outcome, Story, World, run};

/// How many seeds a run of the tests plays. `cargo run -p holdfast-sim --example seeds` plays more.
const SEEDS: u64 = 300;

#[test]
fn every_small_storm_is_weathered() {
    for seed in 0..SEEDS {
        weathered(Plan::small(seed));
    }
}

#[test]
fn where_nothing_goes_wrong_nothing_is_lost_and_everybody_is_served() {
    for seed in 0..20 {
        let outcome = weathered(Plan::fair(seed));
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
fn each_fault_alone_is_weathered() {
    for fault in Fault::SWARM {
        for seed in 0..6 {
            weathered(Plan {
                faults: vec![fault],
                ..Plan::small(seed)
            });
        }
    }
}

#[test]
fn a_seed_tells_everything() {
    for seed in 0..5 {
        let (first, second) = (run(Plan::small(seed)), run(Plan::small(seed)));
        assert_eq!(first, second, "seed {seed}");
        assert!(
            first.events > 1_000,
            "seed {seed} plays nothing: {}",
            first.events
        );
        let told = World::new(Plan::small(seed), Story::Kept).run();
        assert_eq!(
            told.digest, first.digest,
            "telling seed {seed}'s story changes it"
        );
    }
    assert_ne!(run(Plan::small(0)).digest, run(Plan::small(1)).digest);
}

fn weathered(plan: Plan) -> Outcome {
    let outcome = run(plan.clone());
    if let Some(violation) = &outcome.violation {
        let story = World::new(plan.clone(), Story::Kept).run().timeline;
        for line in story.iter().skip(story.len().saturating_sub(60)) {
            eprintln!("{line}");
        }
        panic!("seed {}: {violation:?}\n{plan:?}", plan.seed);
    }
    outcome
}
