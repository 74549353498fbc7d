//! Shows the museum of known bugs, hunts what is in it, and writes its catalogue.

use holdfast_sim::museum::{ALL, Exhibit, Measure, hunt, measure, table};
use holdfast_sim::world::Story;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
museum list                  what is on show
museum hunt [NAME..]         plays plans until each bug is found, from seed 0 on; of those whose names contain this
museum replay NAME SEED      plays one plan with the bug in it, and tells the end of its story
museum measure [NAME..]      hunts each from fifteen starting points
museum table                 the same for all of them, and writes docs/museum.md";

/// How many lines of a story are told.
const LINES: usize = 80;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["list"] => {
            list();
            Ok(true)
        }
        ["hunt", ref names @ ..] => Ok(hunted(names)),
        ["replay", name, seed] => replayed(name, seed),
        ["measure", ref names @ ..] => Ok(measured(names).1),
        ["table"] => tabled(),
        _ => Err(USAGE.to_string()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for Exhibit {
        name,
        what,
        had_by,
        breaks,
        hunt,
        ..
    } in ALL
    {
        println!(
            "{name}\n    {what}\n    had by {had_by}; breaks {}; hunted with {hunt}",
            breaks.join(", ")
        );
    }
}

/// What machines say when their assertions fail says nothing here.
fn hush() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn hunted(names: &[&str]) -> bool {
    hush();
    let mut is_well = true;
    for exhibit in wanted(names) {
        let name = exhibit.name;
        match hunt(exhibit, 0..table::MOST) {
            Some(found) => {
                let is_known = exhibit.breaks.contains(&found.violation.invariant);
                let remark = if is_known { "" } else { "NOT ITS HARM: " };
                println!("{name}: seed {}: {remark}{}", found.seed, found.violation);
                is_well &= is_known;
            }
            None => {
                println!("{name}: NOT FOUND in {} plans", table::MOST);
                is_well = false;
            }
        }
    }
    is_well
}

fn replayed(name: &str, seed: &str) -> Result<bool, String> {
    let exhibit =
        Exhibit::named(name).ok_or_else(|| format!("{name}: no such bug is on show; see museum list"))?;
    let seed = seed
        .parse()
        .map_err(|_| format!("{seed}: want a seed, a number"))?;
    let outcome = exhibit.world(exhibit.plan(seed), Story::Kept).run();
    let story = &outcome.timeline;
    for line in story.iter().skip(story.len().saturating_sub(LINES)) {
        println!("{line}");
    }
    match &outcome.violation {
        Some(violation) => println!("{violation}"),
        None => println!("this plan does not find it"),
    }
    Ok(outcome.violation.is_some())
}

/// What was measured, and whether all that was to be measured was found by its harm.
fn measured(names: &[&str]) -> (Vec<(&'static Exhibit, Measure)>, bool) {
    hush();
    let mut rows = Vec::new();
    let mut is_well = true;
    for exhibit in wanted(names) {
        let name = exhibit.name;
        match measure(exhibit, table::STARTS, table::MOST) {
            Ok(measure) => {
                println!("{name}: median {}, worst {}", measure.median(), measure.worst());
                rows.push((exhibit, measure));
            }
            Err(why) => {
                println!("{name}: {why}");
                is_well = false;
            }
        }
    }
    (rows, is_well)
}

fn tabled() -> Result<bool, String> {
    let (rows, is_well) = measured(&[]);
    if is_well {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/museum.md");
        std::fs::write(&file, table::page(&rows))
            .map_err(|why| format!("{} cannot be written: {why}", file.display()))?;
    }
    Ok(is_well)
}

fn wanted(names: &[&str]) -> impl Iterator<Item = &'static Exhibit> {
    let is_wanted =
        move |exhibit: &&Exhibit| names.is_empty() || names.iter().any(|name| exhibit.name.contains(name));
    ALL.iter().filter(is_wanted)
}
