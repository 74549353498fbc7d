//! The simulator is not blind: every exhibit of the museum is found, and by the harm that it does.

use holdfast_sim::museum::{ALL, Exhibit, hunt};
use std::collections::BTreeSet;

#[test]
fn an_exhibit_is_found_by_its_name_and_no_two_have_one() {
    let names: BTreeSet<&str> = ALL.iter().map(|exhibit| exhibit.name).collect();
    assert_eq!(names.len(), ALL.len());
    for exhibit in ALL {
        let found = Exhibit::named(exhibit.name).map(|found| found.name);
        assert_eq!(found, Some(exhibit.name));
        let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(exhibit.name.chars().all(is_kebab), "{}", exhibit.name);
        assert!(!exhibit.breaks.is_empty(), "{}", exhibit.name);
    }
    assert!(Exhibit::named("no such bug").is_none());
}

#[test]
fn a_bug_is_found_by_its_harm_and_not_without_it() {
    for name in ["lease-for-everybody", "collect-before-commit", "told-twice"] {
        let exhibit = Exhibit::named(name).unwrap_or_else(|| panic!("{name} is not on show"));
        let found = hunt(exhibit, 0..20).unwrap_or_else(|| panic!("{name} is not found"));
        assert!(
            exhibit.breaks.contains(&found.violation.invariant),
            "{name}: {}",
            found.violation
        );
        let sound = holdfast_sim::world::run(exhibit.plan(found.seed));
        assert_eq!(sound.violation, None, "{name}");
    }
}
