//! Plans that have gone wrong once, kept for good.
//!
//! `corpus/` holds those that are mended: each must hold. `corpus/open/` holds defects that are known and not
//! mended: each must still violate the invariant that its name begins with, so that whoever mends one
//! learns of it here, and moves it up.
//!
//! `corpus/near/` holds for each bound that is searched the plan that comes nearest to it: the bound holds, and is not
//! much higher than what can be seen.
//!
//! `ate sim shrink SEED --out sim/corpus/NAME.json` makes one.

use holdfast_sim::plan::Plan;
use holdfast_sim::search::SEARCHED;
use holdfast_sim::world::run;
use std::path::{Path, PathBuf};

fn plans(folder: &str) -> Vec<(PathBuf, Plan)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: PathBuf| match Plan::from_file(&path) {
        Ok(plan) => (path, plan),
        Err(why) => panic!("{why}"),
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn what_was_mended_stays_mended() {
    for (path, plan) in plans("corpus") {
        let violation = run(plan).violation;
        assert_eq!(violation, None, "{}", path.display());
    }
}

#[test]
fn what_is_known_to_be_wrong_still_is() {
    for (path, plan) in plans("corpus/open") {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let outcome = run(plan);
        let violation = outcome.violation.or(outcome.known);
        let invariant = name.split('-').next().unwrap_or_default();
        assert_eq!(
            violation.as_ref().map(|violation| violation.invariant),
            Some(invariant),
            "{}: {violation:?}; if it is mended, move it to corpus/",
            path.display()
        );
    }
}

/// How near the nearest plan comes to its bound at least, in thousandths.
const NEAR: u64 = 900;

#[test]
fn each_bound_is_nearly_reached_by_a_plan_and_passed_by_none() {
    let plans = plans("corpus/near");
    assert_eq!(plans.len(), SEARCHED.len());
    for bound in SEARCHED {
        let is_its = |(path, _): &&(PathBuf, Plan)| {
            path.file_stem()
                .is_some_and(|stem| *stem == *format!("{bound:?}"))
        };
        let (path, plan) = plans
            .iter()
            .find(is_its)
            .unwrap_or_else(|| panic!("there is no plan for {bound:?}"));
        let outcome = run(plan.clone());
        let path = path.display();
        assert_eq!(outcome.violation, None, "{path}");
        assert_eq!(outcome.known, None, "{path}");
        let near = outcome
            .nearness
            .get(&bound)
            .map(|nearness| nearness.thousandths());
        assert!(
            near.is_some_and(|near| (NEAR..=1000).contains(&near)),
            "{path} comes as near to {bound:?} as {near:?} thousandths; \
             `search {bound:?}` looks for one that comes nearer, and if there is none the bound is too high"
        );
    }
}

#[test]
fn every_plan_says_what_it_shows_and_is_written_as_it_would_be() {
    for (path, plan) in ["corpus", "corpus/near", "corpus/open"]
        .into_iter()
        .flat_map(plans)
    {
        assert!(!plan.about.is_empty(), "{}", path.display());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(plan.to_json(), text, "{}", path.display());
    }
}
