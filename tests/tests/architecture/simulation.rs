//! The code that ships is the code that is simulated: it does not ask which of the two it is, and makes no
//! choices that a seed does not decide. (Tests may ask: one on real sockets has nothing to do in the
//! simulator.)

use crate::code::{group, starts_with, tokens, without_text};
use crate::{Source, assert_none, rust_sources, sources};

/// The one crate that swaps the host for the simulator.
const SEAM: &str = "adapters/runtime/";

#[test]
fn only_the_runtime_knows_whether_it_is_simulated() {
    let outside = |source: &&Source| !source.path.starts_with(SEAM) && !source.path.contains("/tests/");
    let mut violations: Vec<_> = rust_sources()
        .iter()
        .filter(outside)
        .flat_map(simulator_checks)
        .collect();
    // The manifest of the workspace only tells the compiler that the name exists.
    let manifests = sources()
        .into_iter()
        .filter(|source| source.path.ends_with("/Cargo.toml"));
    violations.extend(
        manifests
            .filter(|source| outside(&source))
            .flat_map(|source| simulator_dependencies(&source)),
    );
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
        let asks = |name: &str| condition.iter().any(|(_, word)| *word == name);
        if asks("madsim") && !asks("test") {
            violations.push(format!("{}:{line}: cfg(madsim)", source.path));
        }
    }
    violations
}

fn simulator_dependencies(source: &Source) -> Vec<String> {
    let lines = source.text.lines().filter(|line| line.contains("madsim"));
    let wrong = lines.filter(|line| !line.ends_with(".dev-dependencies]"));
    wrong.map(|line| format!("{}: {line}", source.path)).collect()
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
    assert_eq!(checks("#[cfg(not(all(unix, madsim)))]\nmod x;"), 1);
    assert_eq!(checks("#[cfg(all(test, not(madsim)))]\nmod tests {}"), 0);
    assert_eq!(checks("if cfg!(madsim) {}"), 1);
    assert_eq!(
        checks("#[cfg(test)]\n// madsim\nlet madsim = \"cfg(madsim)\";"),
        0
    );
}

#[test]
fn a_dependency_that_differs_under_the_simulator_is_found() {
    let found = |text: &str| {
        simulator_dependencies(&Source {
            path: "x/Cargo.toml".into(),
            text: text.into(),
        })
        .len()
    };
    assert_eq!(found("[target.'cfg(madsim)'.dependencies]"), 1);
    assert_eq!(found("[dependencies]\nmadsim = \"0.2\""), 1);
    assert_eq!(
        found("[target.'cfg(not(madsim))'.dev-dependencies]\ntokio.workspace = true"),
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
