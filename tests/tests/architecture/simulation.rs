//! The code that ships is the code that is simulated: it does not ask which of the two it is, and makes no
//! choices that a seed does not decide.

use crate::code::{group, starts_with, tokens, without_text};
use crate::{Source, assert_none, rust_sources, sources};

/// The one crate that swaps the host for the simulator.
const SEAM: &str = "adapters/runtime/";

#[test]
fn only_the_runtime_knows_whether_it_is_simulated() {
    let outside = |source: &&Source| !source.path.starts_with(SEAM);
    let mut violations: Vec<_> = rust_sources()
        .iter()
        .filter(outside)
        .flat_map(simulator_checks)
        .collect();
    for source in sources().iter().filter(outside) {
        // The manifest of the workspace only tells the compiler that the name exists.
        if source.path.ends_with("/Cargo.toml") && source.text.contains("madsim") {
            violations.push(format!("{}: madsim", source.path));
        }
    }
    assert_none("code that differs under the simulator", &violations);
}

#[test]
fn no_select_chooses_at_random() {
    let violations: Vec<_> = rust_sources().iter().flat_map(random_selects).collect();
    assert_none("select! without `biased;`", &violations);
}

fn simulator_checks(source: &Source) -> Vec<String> {
    let code = without_text(&source.text);
    let tokens = tokens(&code);
    let mut violations = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let condition = match *token {
            "cfg" | "cfg_attr" if starts_with(&tokens[at + 1..], &["!", "("]) => group(&tokens[at + 2..]),
            "cfg" | "cfg_attr" if starts_with(&tokens[at + 1..], &["("]) => group(&tokens[at + 1..]),
            _ => continue,
        };
        if condition.iter().any(|(_, word)| *word == "madsim") {
            violations.push(format!("{}:{line}: cfg(madsim)", source.path));
        }
    }
    violations
}

fn random_selects(source: &Source) -> Vec<String> {
    let code = without_text(&source.text);
    let tokens = tokens(&code);
    let selects = tokens.iter().enumerate().filter(|(at, (_, token))| {
        *token == "select"
            && starts_with(&tokens[at + 1..], &["!"])
            && !starts_with(&tokens[at + 3..], &["biased", ";"])
    });
    selects
        .map(|(_, (line, _))| format!("{}:{line}", source.path))
        .collect()
}

#[test]
fn code_that_differs_under_the_simulator_is_found() {
    let checks = |text: &str| {
        simulator_checks(&Source {
            path: "x.rs".into(),
            text: text.into(),
        })
        .len()
    };
    assert_eq!(checks("#[cfg(madsim)]\nmod x;"), 1);
    assert_eq!(checks("#[cfg(not(any(test, madsim)))]\nmod x;"), 1);
    assert_eq!(checks("if cfg!(madsim) {}"), 1);
    assert_eq!(
        checks("#[cfg(test)]\n// madsim\nlet madsim = \"cfg(madsim)\";"),
        0
    );
}

#[test]
fn a_random_select_is_found() {
    let selects = |text: &str| {
        random_selects(&Source {
            path: "x.rs".into(),
            text: text.into(),
        })
        .len()
    };
    assert_eq!(selects("tokio::select! { a = b => {} }"), 1);
    assert_eq!(selects("tokio::select! {\n    biased;\n    a = b => {} }"), 0);
    assert_eq!(selects("// select! { a }"), 0);
}
