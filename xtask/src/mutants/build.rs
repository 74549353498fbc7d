//! Compiles the copy, and tells from what the compiler says which mutants cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::mutants::copy::{MEMBERS, SUBJECT};
use crate::mutants::rewrite::{Place, Role};

/// How often the compiler is asked before something else must be wrong.
const ROUNDS_MAX: usize = 25;

/// A program that runs tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The member whose tests they are.
    pub member: &'static str,
    /// What it is called there: the member itself for the tests that stand next to the code.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
}

/// Compiles the subject in the copy at `copy`, with `write` putting in it all mutants but the unviable ones,
/// until only viable ones are left. Returns the numbers of the others.
pub fn settle(
    copy: &Path,
    mut unviable: BTreeSet<usize>,
    write: impl Fn(&BTreeSet<usize>) -> Result<BTreeMap<String, Vec<Place>>>,
) -> Result<BTreeSet<usize>> {
    for _ in 0..ROUNDS_MAX {
        let places = write(&unviable)?;
        let package = format!("holdfast-{SUBJECT}");
        let output = cargo(copy, &["check", "--lib", "--package", &package])?;
        if output.is_done {
            return Ok(unviable);
        }
        let errors: Vec<_> = output.messages.iter().filter_map(Complaint::read).collect();
        let blamed = blame(&errors, &places);
        if blamed.is_empty() {
            let told: Vec<_> = errors.iter().map(|error| error.told.as_str()).collect();
            bail!(
                "the copy does not compile, and no mutant is to blame\n{}{}",
                told.join("\n"),
                output.told
            );
        }
        unviable.extend(blamed);
    }
    bail!("the copy does not compile after {ROUNDS_MAX} rounds of taking out mutants");
}

/// Compiles the tests of these members of the copy, and says where they are.
pub fn programs(copy: &Path, members: &[&str]) -> Result<Vec<Program>> {
    let packages = members
        .iter()
        .map(|member| format!("--package=holdfast-{member}"));
    let packages: Vec<String> = packages.collect();
    let arguments = ["test", "--no-run"]
        .into_iter()
        .chain(packages.iter().map(String::as_str));
    let arguments: Vec<&str> = arguments.collect();
    let output = cargo(copy, &arguments)?;
    if !output.is_done {
        let errors = output.messages.iter().filter_map(Complaint::read);
        let told: Vec<_> = errors.map(|error| error.told).collect();
        bail!(
            "the tests do not compile in the copy\n{}{}",
            told.join("\n"),
            output.told
        );
    }
    let mut programs: Vec<_> = output
        .messages
        .iter()
        .filter_map(|message| program(message, copy))
        .collect();
    let place = |program: &Program| MEMBERS.iter().position(|member| *member == program.member);
    programs.sort_by_key(|program| (place(program), program.name.clone()));
    ensure!(!programs.is_empty(), "the copy has no tests");
    Ok(programs)
}

struct Output {
    is_done: bool,
    messages: Vec<Value>,
    told: String,
}

fn cargo(copy: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new("cargo");
    command.args(arguments).arg("--message-format=json");
    // What the mutants leave unused is nobody's concern, and nobody steps through them.
    command
        .env("RUSTFLAGS", "-Awarnings")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    command.env("CARGO_TARGET_DIR", copy.with_file_name("build"));
    let output = command.current_dir(copy).output().context("cannot start cargo")?;
    let text = String::from_utf8(output.stdout).context("cargo does not write UTF-8")?;
    let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(Output {
        is_done: output.status.success(),
        messages: messages.collect(),
        told: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn program(message: &Value, copy: &Path) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let member = MEMBERS
        .into_iter()
        .find(|member| manifest.starts_with(copy.join(member)))?;
    let name = match message["target"]["kind"][0].as_str()? {
        "test" => message["target"]["name"].as_str()?,
        _ => member,
    };
    Some(Program {
        member,
        name: name.to_owned(),
        path: PathBuf::from(message["executable"].as_str()?),
    })
}

/// A place in a file, as the compiler tells it.
type Spot = (String, Range<usize>);

/// An error of the compiler.
#[derive(Debug, Default)]
pub struct Complaint {
    /// Where it is.
    pub at: Vec<Spot>,
    /// What else it mentions.
    pub because_of: Vec<Spot>,
    /// In its own words.
    pub told: String,
}

impl Complaint {
    /// Reads a message of cargo; `None` if it is none, or about nothing in particular.
    pub fn read(message: &Value) -> Option<Complaint> {
        let message = &message["message"];
        if message["level"] != "error" {
            return None;
        }
        let mut complaint = Complaint {
            told: message["rendered"].as_str().unwrap_or_default().to_owned(),
            ..Complaint::default()
        };
        complaint.take_spans(message);
        for child in message["children"].as_array().into_iter().flatten() {
            let mut aside = Complaint::default();
            aside.take_spans(child);
            complaint
                .because_of
                .extend(aside.at.into_iter().chain(aside.because_of));
        }
        (!complaint.at.is_empty()).then_some(complaint)
    }

    fn take_spans(&mut self, message: &Value) {
        for span in message["spans"].as_array().into_iter().flatten() {
            let spots = if span["is_primary"] == true {
                &mut self.at
            } else {
                &mut self.because_of
            };
            // What comes from a macro is where the macro is called, too.
            let mut next = Some(span);
            while let Some(span) = next.filter(|span| span.is_object()) {
                let byte = |name: &str| span[name].as_u64().and_then(|at| usize::try_from(at).ok());
                if let (Some(file), Some(start), Some(end)) =
                    (span["file_name"].as_str(), byte("byte_start"), byte("byte_end"))
                {
                    spots.push((file.to_owned(), start..end));
                }
                next = Some(&span["expansion"]["span"]);
            }
        }
    }
}

/// The mutants that the compiler complains about: those in whose own text an error is, else those whose text it
/// mentions, else the innermost one around it that has another value to offer, else the one nearest to the places that
/// it mentions that uses up or replaces something only if it is off.
pub fn blame(complaints: &[Complaint], places: &BTreeMap<String, Vec<Place>>) -> BTreeSet<usize> {
    complaints
        .iter()
        .flat_map(|complaint| culprits(complaint, places))
        .collect()
}

fn culprits(complaint: &Complaint, places: &BTreeMap<String, Vec<Place>>) -> Vec<usize> {
    let is_within =
        |outer: &Range<usize>, inner: &Range<usize>| outer.start <= inner.start && inner.end <= outer.end;
    let among = |file: &String| places.get(file).into_iter().flatten();
    let owners = |spots: &[Spot]| -> Vec<usize> {
        let own = |(file, at): &Spot| {
            let is_own = |place: &&Place| place.own.iter().any(|own| !own.is_empty() && is_within(own, at));
            among(file)
                .filter(is_own)
                .map(|place| place.number)
                .collect::<Vec<_>>()
        };
        spots.iter().flat_map(own).collect()
    };
    let around = |(file, at): &Spot| {
        let around =
            among(file).filter(|place| place.role == Role::Alternative && is_within(&place.whole(), at));
        around
            .min_by_key(|place| place.whole().len())
            .map(|place| place.number)
    };
    let nearest = || {
        let (file, _) = complaint.at.first()?;
        let spots = || complaint.at.iter().chain(&complaint.because_of);
        let here = || spots().filter(|(other, _)| other == file).map(|(_, at)| at);
        let (start, end) = (here().map(|at| at.start).min()?, here().map(|at| at.end).max()?);
        let conditions = among(file).filter(|place| place.role == Role::Condition);
        let distance = |place: &&Place| {
            let whole = place.whole();
            start
                .saturating_sub(whole.end)
                .max(whole.start.saturating_sub(end))
        };
        conditions.min_by_key(distance).map(|place| place.number)
    };
    let ways: [&dyn Fn() -> Vec<usize>; 4] = [
        &|| owners(&complaint.at),
        &|| owners(&complaint.because_of),
        &|| complaint.at.iter().filter_map(around).collect(),
        &|| nearest().into_iter().collect(),
    ];
    ways.iter()
        .map(|way| way())
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}
