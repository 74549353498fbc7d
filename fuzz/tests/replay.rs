//! Replays the corpus, and mutations of it, the same ones every time.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use holdfast_fuzz::mutate::Mutator;
use holdfast_fuzz::{Effort, TARGETS, Target};

/// Chosen so that all of it stays below half a minute in a debug build.
const MUTATIONS_PER_FILE: [(Effort, usize); 2] = [(Effort::Parse, 100), (Effort::Play, 10)];
const CORPUS_BYTES_MAX: u64 = 300 * 1024;

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A target's inputs, in order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = here("corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(here("corpus")).expect("a path in it").display();
        (name.to_string(), fs::read(&path).expect("a readable file"))
    };
    paths.into_iter().map(read).collect()
}

/// Runs `target` on `input`; what it was, when it fails.
fn check(target: &Target, input: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-failure", target.name));
        fs::write(&path, input).expect("a writable file");
        eprintln!("{what}; its {} bytes are in {}", input.len(), path.display());
        std::panic::resume_unwind(panic);
    }
}

fn replay(effort: Effort) {
    let mutations = MUTATIONS_PER_FILE
        .iter()
        .find(|(of, _)| *of == effort)
        .expect("an effort")
        .1;
    for target in TARGETS.iter().filter(|target| target.effort == effort) {
        check(target, b"", &format!("{}: the empty input", target.name));
        let corpus = corpus(target.name);
        assert!(!corpus.is_empty(), "{} has nothing to replay", target.name);
        for (seed, (name, input)) in corpus.iter().enumerate() {
            check(target, input, name);
            let mut mutator = Mutator::new(seed as u64);
            for number in 0..mutations {
                let (_, other) = &corpus[(seed + number) % corpus.len()];
                let mutated = mutator.mutate(input, other);
                check(target, &mutated, &format!("{name}, mutation {number}"));
            }
        }
    }
}

#[test]
fn parsers_hold_for_every_file_of_the_corpus_and_its_mutations() {
    replay(Effort::Parse);
}

#[test]
fn players_hold_for_every_file_of_the_corpus_and_its_mutations() {
    replay(Effort::Play);
}

#[test]
fn each_target_has_a_corpus_and_a_coverage_guided_binary() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let list = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(here(directory)).expect("a directory");
        let path = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").path();
        entries
            .map(path)
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(list("corpus"), names);
    assert_eq!(list("fuzz_targets"), names);
    let manifest = fs::read_to_string(here("Cargo.toml")).expect("the manifest");
    for name in &names {
        assert!(
            manifest.contains(&format!("name = \"{name}\"\n")),
            "no [[bin]] for {name}"
        );
    }
}

#[test]
fn the_corpus_stays_small() {
    let sizes = TARGETS.iter().flat_map(|target| corpus(target.name));
    let bytes: u64 = sizes.map(|(_, input)| input.len() as u64).sum();
    assert!(
        bytes <= CORPUS_BYTES_MAX,
        "{bytes} bytes; leave out what adds nothing"
    );
}

#[test]
fn mutations_are_the_same_in_every_run_and_differ_from_their_input() {
    let input = b"a text of some length".as_slice();
    let once: Vec<_> = (0..32)
        .map(|seed| Mutator::new(seed).mutate(input, b"other"))
        .collect();
    let twice: Vec<_> = (0..32)
        .map(|seed| Mutator::new(seed).mutate(input, b"other"))
        .collect();
    assert_eq!(once, twice);
    assert!(once.iter().filter(|mutated| *mutated != input).count() > 24);
}
