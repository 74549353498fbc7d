//! Small programs, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::accepted::Accepted;
use super::build::{Complaint, blame};
use super::constant::Constant;
use super::find::{self, Found};
use super::mutant::Mutant;
use super::rewrite::{Rewritten, rewrite};
use super::sample;
use super::values::Types;

fn found(source: &str) -> Found {
    let file = syn::parse_file(source).unwrap();
    let (mut types, mut constant) = (Types::default(), Constant::default());
    types.learn("small.rs", &file.items);
    constant.learn(&file);
    constant.settle();
    find::mutants("small.rs", "small", source, &types, &constant).unwrap()
}

fn names(source: &str) -> Vec<String> {
    found(source).mutants.iter().map(Mutant::to_string).collect()
}

/// What is changed, without where.
fn changes(source: &str) -> Vec<String> {
    found(source)
        .mutants
        .into_iter()
        .map(|mutant| mutant.change)
        .collect()
}

#[test]
fn a_name_says_where_and_what() {
    let source = "
impl Machine for Keeper {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }
}
mod inner {
    fn wake() {
        self.timers
            .set(None);
    }
}";
    assert_eq!(
        names(source),
        [
            "small.rs:3:8 in small::<Keeper as Machine>::is_over: replace body with true",
            "small.rs:3:8 in small::<Keeper as Machine>::is_over: replace body with false",
            "small.rs:4:13 in small::<Keeper as Machine>::is_over: replace >= with < in now >= self.end",
            "small.rs:4:13 in small::<Keeper as Machine>::is_over: replace >= with > in now >= self.end",
            "small.rs:8:8 in small::inner::wake: replace body with ()",
            "small.rs:9:9 in small::inner::wake: delete self.timers .set(None)",
        ]
    );
}

#[test]
fn what_would_be_called_the_same_is_numbered() {
    let mutants = changes("fn f() { g(); g(); h(); g(); }");
    assert_eq!(
        mutants,
        [
            "replace body with ()",
            "delete g()",
            "delete g() (2)",
            "delete h()",
            "delete g() (3)"
        ]
    );
}

#[test]
fn deeds_are_left_out_and_values_are_not() {
    let source = "
fn f(&mut self) {
    let x = a();
    if b() { c(x) } else { d()? }
    match e() { Some(x) => g(x), None => { h(); } }
    self.i = j(k());
    for l in m() { n() }
    let o = || p();
    match x { 1 => q(), _ => return r() }
}";
    let deleted: Vec<_> = changes(source)
        .into_iter()
        .filter_map(|change| Some(change.strip_prefix("delete ")?.to_owned()))
        .collect();
    assert_eq!(
        deleted,
        [
            "c(x)",
            "d()?",
            "g(x)",
            "h()",
            "self.i = j(k())",
            "n()",
            "arm 1",
            "q()",
            "r()"
        ]
    );
}

#[test]
fn tests_and_what_is_computed_at_compile_time_are_left_alone() {
    let source = "
const A: u8 = 1 + needed(2);
const _: () = assert!(checked(3));
const fn needed(x: u8) -> u8 { x + 1 }
const fn checked(x: u8) -> bool { x > 1 }
#[cfg(test)]
mod tests { fn f() { g(); } }
#[test]
fn t() { g(); }
fn pattern(x: [u8; 1 + 1]) -> u8 { match x { [_, 3..=4] => 5, _ => 6 } }
impl Default for A { fn default() -> A { A } }
";
    let found = found(source);
    let functions: BTreeSet<_> = found
        .mutants
        .iter()
        .map(|mutant| mutant.function.as_str())
        .collect();
    assert_eq!(functions, ["small::checked", "small::pattern"].into());
    let blanks: Vec<_> = found.blanks.iter().map(|blank| &source[blank.clone()]).collect();
    assert_eq!(blanks, ["const _: () = assert!(checked(3));", "const"]);
}

#[test]
fn what_binds_a_name_keeps_its_sides() {
    let source = "fn f() -> u8 { if a && let Some(b) = c && d == e { 0 } else { 1 } }";
    let changes = changes(source);
    assert_eq!(changes[2..], ["replace == with != in d == e"]);
    let source = "fn f() -> bool { matches!(a, Some(b) if b || c) }";
    assert_eq!(
        self::changes(source)[2..],
        [
            "replace guard with true: b || c",
            "replace guard with false: b || c",
            "replace || with && in b || c"
        ]
    );
}

/// A program that has all genres, and prints what it computes.
const PROGRAM: &str = r#"
mod mutants_switch;

struct State { level: u64, log: Vec<&'static str> }

impl State {
    fn note(&mut self, what: &'static str) {
        self.log.push(what);
    }
    fn raise(&mut self, by: u64) {
        self.level += by;
    }
}

fn kind(x: u64) -> &'static str {
    match x {
        1 | 2 => "few",
        x if x > 100 && x % 2 == 0 => "many",
        _ => "some",
    }
}

fn middle(a: u64, b: u64) -> u64 {
    a + b * (b - 1) / 2
}

fn odd(upto: u64) -> impl Iterator<Item = u64> {
    (0..upto).filter(|x| !(*x % 2 == 0))
}

fn main() {
    let mut state = State { level: 3, log: Vec::new() };
    state.note("begin");
    state.raise(4);
    println!("{} {:?} {} {} {} {:?}", state.level, state.log, kind(2), kind(102), middle(1, 4), odd(6).collect::<Vec<_>>());
}
"#;

fn write(source: &str, directory: &Path, is_viable: impl Fn(usize) -> bool) -> (Vec<Mutant>, Rewritten) {
    let Found { mutants, blanks } = found(source);
    let viable = (1..).zip(&mutants).filter(|(number, _)| is_viable(*number));
    let rewritten = rewrite(source, &blanks, viable);
    fs::write(directory.join("small.rs"), &rewritten.text).unwrap();
    fs::write(directory.join("mutants_switch.rs"), super::copy::SWITCH).unwrap();
    (mutants, rewritten)
}

fn compile(directory: &Path) -> Output {
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-Awarnings", "--error-format=json", "small.rs"]);
    rustc.current_dir(directory).output().unwrap()
}

#[test]
fn each_switch_changes_what_its_mutant_says_and_nothing_else() {
    let directory = TempDir::new().unwrap();
    let (mutants, _) = write(PROGRAM, directory.path(), |_| true);
    let compiled = compile(directory.path());
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let run = |number: usize| {
        let mut program = Command::new(directory.path().join("small"));
        let output = program
            .env("HOLDFAST_MUTANT", number.to_string())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let usual = r#"7 ["begin"] few many 7 [1, 3, 5]"#;
    assert_eq!(run(0), usual);
    let told: Vec<_> = (1..)
        .zip(&mutants)
        .map(|(number, mutant)| (mutant.change.as_str(), run(number)))
        .collect();
    let told: BTreeMap<_, _> = told.into_iter().collect();
    for (change, expected) in [
        ("delete self.log.push(what)", r#"7 [] few many 7 [1, 3, 5]"#),
        ("replace += with -= in self.level += by", ""),
        (
            "replace += with *= in self.level += by",
            r#"12 ["begin"] few many 7 [1, 3, 5]"#,
        ),
        (
            "replace body with \"xyzzy\"",
            r#"7 ["begin"] xyzzy xyzzy 7 [1, 3, 5]"#,
        ),
        ("delete arm 1 | 2", r#"7 ["begin"] some many 7 [1, 3, 5]"#),
        ("replace guard with true: x > 100 && x % 2 == 0", usual),
        (
            "replace guard with false: x > 100 && x % 2 == 0",
            r#"7 ["begin"] few some 7 [1, 3, 5]"#,
        ),
        ("replace && with || in x > 100 && x % 2 == 0", usual),
        ("replace % with / in x % 2", r#"7 ["begin"] few some 7 [1, 3, 5]"#),
        (
            "replace + with * in a + b * (b - 1) / 2",
            r#"7 ["begin"] few many 6 [1, 3, 5]"#,
        ),
        (
            "replace * with + in b * (b - 1)",
            r#"7 ["begin"] few many 4 [1, 3, 5]"#,
        ),
        (
            "replace - with + in b - 1",
            r#"7 ["begin"] few many 11 [1, 3, 5]"#,
        ),
        (
            "replace body with an empty iterator",
            r#"7 ["begin"] few many 7 []"#,
        ),
        (
            "delete ! in !(*x % 2 == 0)",
            r#"7 ["begin"] few many 7 [0, 2, 4]"#,
        ),
        ("delete state.raise(4)", r#"3 ["begin"] few many 7 [1, 3, 5]"#),
    ] {
        assert_eq!(told.get(change).map(String::as_str), Some(expected), "{change}");
    }

    let notes = directory.path().join("seen");
    let mut program = Command::new(directory.path().join("small"));
    let noting = program.env("HOLDFAST_MUTANTS_SEEN", &notes).output().unwrap();
    assert!(noting.status.success());
    let seen = fs::read_to_string(&notes).unwrap();
    let seen: BTreeSet<usize> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(
        seen,
        (1..=mutants.len()).collect(),
        "the program comes to all of them"
    );
}

#[test]
fn the_compiler_says_which_mutants_cannot_be() {
    let source = r#"
mod mutants_switch;
struct Opaque;
fn make() -> Opaque { let made = Opaque; made }
fn text(a: String, b: &str) -> String { a + b }
fn borrowed(mut list: Vec<u8>) -> Vec<u8> {
    let mut kept = Vec::new();
    let doubled: Box<dyn Iterator<Item = u8> + '_> = Box::new(list.iter().copied());
    kept = doubled.collect();
    list.clear();
    kept
}
fn main() { make(); text(String::new(), ""); borrowed(vec![]); }
"#;
    let directory = TempDir::new().unwrap();
    let mut unviable = BTreeSet::new();
    let mutants = loop {
        let (mutants, rewritten) = write(source, directory.path(), |number| !unviable.contains(&number));
        let output = compile(directory.path());
        if output.status.success() {
            break mutants;
        }
        let told = String::from_utf8(output.stderr).unwrap();
        let messages = told
            .lines()
            .map(|line| json!({ "message": serde_json::from_str::<Value>(line).unwrap() }));
        let complaints: Vec<_> = messages.filter_map(|message| Complaint::read(&message)).collect();
        let places = BTreeMap::from([(String::from("small.rs"), rewritten.places)]);
        let blamed = blame(&complaints, &places);
        assert!(!blamed.is_empty(), "{told}");
        unviable.extend(blamed);
    };
    let unviable: Vec<_> = unviable
        .into_iter()
        .map(|number| mutants[number - 1].change.as_str())
        .collect();
    assert_eq!(
        unviable,
        [
            "replace body with Default::default()",
            "replace + with - in a + b",
            "replace + with * in a + b",
            "delete kept = doubled.collect()",
        ]
    );
}

#[test]
fn the_difference_is_told_in_lines_of_the_source() {
    let source = "fn f() -> u8 {\n    g(a +\n        1);\n    b\n}\n";
    let differences: Vec<_> = found(source)
        .mutants
        .iter()
        .map(|mutant| mutant.difference(source))
        .collect();
    let expected = [
        ("fn f() -> u8 {", "    return 0;"),
        ("fn f() -> u8 {", "    return 1;"),
        ("g(a + 1);", ""),
        ("g(a + 1);", "g((a) - (1));"),
        ("g(a + 1);", "g((a) * (1));"),
    ];
    assert_eq!(
        differences,
        expected.map(|(is, would_be)| (is.to_owned(), would_be.to_owned()))
    );
}

#[test]
fn a_seed_draws_the_same_mutants_and_what_is_new_changes_little() {
    let function = |index: usize| format!("fn f{index}() {{ a(); b(); c(); }}\n");
    let source: String = (0..100).map(function).collect();
    let draw = |source: &str, seed| {
        let mutants = found(source).mutants;
        let drawn = sample::draw((1..).zip(&mutants), seed, 40);
        assert_eq!(drawn.len(), 40);
        drawn
            .into_iter()
            .map(|number| mutants[number - 1].key())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(draw(&source, 1), draw(&source, 1));
    assert!(draw(&source, 1).intersection(&draw(&source, 2)).count() < 20);
    let longer = format!("// a line more\n{}{source}", function(100));
    assert!(draw(&source, 1).intersection(&draw(&longer, 1)).count() >= 36);
}

#[test]
fn an_accepted_survivor_has_a_name_and_a_reason() {
    let list = "# For the reader.\n\nsmall.rs in small::f: delete g()\nsmall.rs in small::f: delete h()\n    It is told\n    twice.\n";
    let accepted = Accepted::parse(list).unwrap();
    let mutants = found("\n\nfn f() { g(); i(); }").mutants;
    assert_eq!(accepted.reason(&mutants[1]), Some("It is told twice."));
    assert_eq!(accepted.reason(&mutants[2]), None);
    assert_eq!(accepted.strangers(&mutants), ["small.rs in small::f: delete h()"]);
    for bad in ["a\n", "    a reason\n", "a\n    b\na\n    c\n"] {
        assert!(Accepted::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn the_list_of_accepted_survivors_names_mutants_of_the_core() {
    let sources = super::copy::Sources::read(&crate::step::root()).unwrap();
    let list = fs::read_to_string(crate::step::root().join(super::accepted::FILE)).unwrap();
    let accepted = Accepted::parse(&list).unwrap();
    assert_eq!(accepted.strangers(&sources.mutants), [""; 0]);
}
