//! Random lives of actors under faults, a short run of them: see `holdfast-lifecycles --help`. Needs root and runsc.

use std::process::Command;

/// Long enough for each kind of fault to have struck.
const LIFECYCLES: &str = "50";
/// When the machine is slow, fewer will do.
const SECONDS_AT_MOST: &str = "60";
const SEED: &str = "20";

#[test]
fn every_counter_of_random_lives_is_right_or_its_loss_is_told_and_nothing_is_left_behind() {
    let mut lifecycles = Command::new(env!("CARGO_BIN_EXE_holdfast-lifecycles"));
    lifecycles.args([
        "--lifecycles",
        LIFECYCLES,
        "--at-most",
        SECONDS_AT_MOST,
        "--seed",
        SEED,
    ]);
    let output = lifecycles.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success(),
        "{lifecycles:?}: {}\n{said}",
        output.status
    );
    println!("{said}");
}
