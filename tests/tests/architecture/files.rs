//! What a file may be called, how long it may be, and what may not be written in it.

use crate::{Source, assert_none, rust_sources, sources};

const LINES_MAX: usize = 800;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "utils", "util", "common", "helpers", "helper", "misc", "manager", "managers",
];

/// Where packages and crates come from is the business of each machine, and so is where its files lie.
/// (Written in pieces, so that this file is not the first to break the rule.)
const FORBIDDEN_TEXT: [&str; 10] = [
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb", ".debian.org"),
    concat!("security", ".debian.org"),
    concat!("/work", "/"),
    concat!("/root", "/"),
    concat!("/home", "/"),
];

#[test]
fn no_file_needs_a_table_of_contents() {
    let violations: Vec<_> = rust_sources().iter().filter_map(too_long).collect();
    assert_none("files to be split", &violations);
}

#[test]
fn every_name_says_what_is_inside() {
    let violations: Vec<_> = sources()
        .iter()
        .filter_map(|source| empty_name(&source.path))
        .collect();
    assert_none("names that say nothing", &violations);
}

#[test]
fn no_file_names_a_package_registry_or_a_path_of_one_machine() {
    // The lock file is cargo's, and names where each crate came from.
    let sources = sources()
        .into_iter()
        .filter(|source| !source.path.ends_with("Cargo.lock"));
    let violations: Vec<_> = sources.flat_map(|source| forbidden_text(&source)).collect();
    assert_none("registries and paths of one machine", &violations);
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", source.path))
}

fn empty_name(path: &str) -> Option<String> {
    let mut parts = path.split(['/', '.', '_', '-']);
    parts
        .find(|part| EMPTY_NAMES.contains(part))
        .map(|part| format!("{path}: {part}"))
}

fn forbidden_text(source: &Source) -> Vec<String> {
    let mut violations = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for text in FORBIDDEN_TEXT.iter().filter(|text| line.contains(**text)) {
            violations.push(format!("{}:{}: {text}", source.path, index + 1));
        }
    }
    violations
}

#[test]
fn bad_files_are_found() {
    let source = |text: String| Source {
        path: "x.rs".into(),
        text,
    };
    assert!(too_long(&source("\n".repeat(LINES_MAX))).is_none());
    assert!(too_long(&source("\n".repeat(LINES_MAX + 1))).is_some());
    for path in [
        "core/src/utils.rs",
        "tests/common/mod.rs",
        "core/src/worker_manager.rs",
    ] {
        assert!(empty_name(path).is_some(), "{path}");
    }
    assert!(empty_name("core/src/commonwealth.rs").is_none());
    let texts = FORBIDDEN_TEXT.map(|text| format!("a\nsee {text}\n"));
    for text in texts {
        assert_eq!(forbidden_text(&source(text.clone())).len(), 1, "{text}");
    }
    assert!(forbidden_text(&source("/var/lib/holdfast".into())).is_empty());
}
