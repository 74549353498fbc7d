//! The simulator is not blind: every exhibit of the museum is found, and by the harm that it does.

use holdfast_sim::museum::{ALL, Exhibit, hunt, table};
use std::collections::BTreeSet;
use std::path::Path;

/// How many times as many plans as it took at the worst, when it was measured, a hunt may take. What the core does
/// a moment later than it did then gives every plan another course.
const PATIENCE: u64 = 4;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/museum.md");
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn every_bug_is_found_by_the_harm_that_it_does() {
    let page = page();
    for exhibit in ALL {
        let name = exhibit.name;
        let measured = table::measured(&page, exhibit)
            .unwrap_or_else(|| panic!("docs/museum.md has not measured {name}; {WRITES}"));
        let seeds = measured.seed..measured.seed + PATIENCE * measured.worst.max(10);
        let found =
            hunt(exhibit, seeds.clone()).unwrap_or_else(|| panic!("{name} is not found in {seeds:?}"));
        assert!(
            exhibit.breaks.contains(&found.violation.invariant),
            "{name} breaks {:?}, and was found with seed {} by {}",
            exhibit.breaks,
            found.seed,
            found.violation
        );
    }
}

/// What writes the page.
const WRITES: &str = "cargo run --release -p holdfast-sim --example museum -- table";

#[test]
fn the_page_shows_what_the_museum_has_and_nothing_else() {
    let page = page();
    let missing: Vec<&str> = ALL
        .iter()
        .filter(|exhibit| !page.lines().any(|line| line.starts_with(&table::fixed(exhibit))))
        .map(|exhibit| exhibit.name)
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are not on the page, or not like this; {WRITES}"
    );
    assert_eq!(table::strangers(&page), Vec::<&str>::new(), "{WRITES}");
    let short = page.replacen(&table::fixed(&ALL[0]), "| `unknown` |", 1);
    assert_eq!(table::strangers(&short).len(), 1);
    assert_eq!(table::measured(&short, &ALL[0]), None);
}

#[test]
fn an_exhibit_is_found_by_its_name_and_no_two_have_one() {
    let names: BTreeSet<&str> = ALL.iter().map(|exhibit| exhibit.name).collect();
    assert_eq!(names.len(), ALL.len());
    for exhibit in ALL {
        let named = Exhibit::named(exhibit.name).map(|named| named.name);
        assert_eq!(named, Some(exhibit.name));
        let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(exhibit.name.chars().all(is_kebab), "{}", exhibit.name);
        assert!(!exhibit.breaks.is_empty(), "{}", exhibit.name);
    }
    assert!(Exhibit::named("no-such-bug").is_none());
}
