//! Every effect of every workflow, cut at all four places.

use holdfast_sim::cuts::{Depth, SCENES, Slice, Strike, Tally, explore};

/// Of how many slices of the pairs a run of the tests plays one. `cargo xtask cuts` plays all.
const PAIRS_SLICES: u64 = 200;

#[test]
fn every_workflow_converges_from_every_cut_of_every_effect() {
    for scene in SCENES {
        let tally = explore(scene, Depth::Single, Slice::WHOLE);
        assert!(tally.effects > 0, "{}: nothing happens", scene.name);
        converged(scene.name, &tally);
    }
}

#[test]
fn a_slice_of_all_pairs_of_cuts_converges() {
    for (nth, scene) in SCENES.iter().enumerate() {
        let slice = Slice {
            nth: nth as u64 % PAIRS_SLICES,
            of: PAIRS_SLICES,
        };
        converged(scene.name, &explore(scene, Depth::Pairs, slice));
    }
}

fn converged(name: &str, tally: &Tally) {
    if let Some((path, violation)) = tally.failures.first() {
        let path: Vec<String> = path.iter().map(Strike::to_string).collect();
        panic!(
            "{} of {} runs; tell \"{name}\" {}: {violation:?}",
            tally.failures.len(),
            tally.runs(),
            path.join(" ")
        );
    }
}
