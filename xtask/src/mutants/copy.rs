//! The copy of the core that all mutants are compiled into, with the tests that judge them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::mutants::constant::Constant;
use crate::mutants::find::{self, Found};
use crate::mutants::mutant::Mutant;
use crate::mutants::rewrite::{Place, rewrite};
use crate::mutants::values::Types;

/// Whose mutants are tried, and whose tests judge them.
pub const SUBJECT: &str = "core";
/// The members of the copy: the subject, and those whose tests may be asked about what it misses, in this order.
pub const MEMBERS: [&str; 3] = [SUBJECT, "model", "sim"];

/// What the mutants in the copy ask.
pub const SWITCH: &str = include_str!("switch.rs");

/// The sources, and everything in them that a mutant can be made of.
pub struct Sources {
    /// Every file that the copy has, by its path.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// The files of the subject that mutants are in.
    mutable: BTreeMap<String, Mutable>,
    /// All mutants. The number of a mutant's switch is one more than its index.
    pub mutants: Vec<Mutant>,
}

struct Mutable {
    text: String,
    blanks: Vec<Range<usize>>,
    /// Which of all mutants are in this file.
    mutants: Range<usize>,
}

impl Sources {
    /// Reads the workspace at `root`, and finds its mutants.
    pub fn read(root: &Path) -> Result<Sources> {
        let mut files = BTreeMap::new();
        for member in MEMBERS {
            read_all(root, Path::new(member), &mut files)?;
        }
        for file in ["Cargo.toml", "Cargo.lock", "docs/protocol.md", "docs/states.md"] {
            files.insert(PathBuf::from(file), read(&root.join(file))?);
        }
        let manifest = files.get_mut(Path::new("Cargo.toml")).context("no Cargo.toml")?;
        *manifest = without_other_members(&String::from_utf8(std::mem::take(manifest))?).into_bytes();

        let mut sources = Sources {
            files,
            mutable: BTreeMap::new(),
            mutants: Vec::new(),
        };
        sources.find()?;
        Ok(sources)
    }

    fn find(&mut self) -> Result<()> {
        let (mut constant, mut types) = (Constant::default(), Types::default());
        let rust = self
            .files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "rs"));
        let mut texts = Vec::new();
        for (path, bytes) in rust {
            let text = str::from_utf8(bytes).with_context(|| path.display().to_string())?;
            let file = syn::parse_file(text).with_context(|| path.display().to_string())?;
            constant.learn(&file);
            if path.starts_with(format!("{SUBJECT}/src")) {
                types.learn(&path.display().to_string(), &file.items);
                texts.push((path.display().to_string(), text.to_owned()));
            }
        }
        constant.settle();
        for (path, text) in texts {
            let Found { mutants, blanks } = find::mutants(&path, &module(&path), &text, &types, &constant)?;
            let first = self.mutants.len();
            self.mutants.extend(mutants);
            let mutants = first..self.mutants.len();
            self.mutable.insert(
                path,
                Mutable {
                    text,
                    blanks,
                    mutants,
                },
            );
        }
        Ok(())
    }

    /// The text of a file that mutants are in.
    pub fn text(&self, file: &str) -> &str {
        self.mutable.get(file).map_or("", |file| &file.text)
    }

    /// Writes the copy to `to`, with those mutants that `is_viable` by their numbers. What is there already and the
    /// same stays untouched, so that it need not be compiled again. Returns where the mutants are, by file.
    pub fn write(
        &self,
        to: &Path,
        is_viable: impl Fn(usize) -> bool,
    ) -> Result<BTreeMap<String, Vec<Place>>> {
        let mut files = self.files.clone();
        let mut places = BTreeMap::new();
        for (path, file) in &self.mutable {
            let numbers = file
                .mutants
                .clone()
                .map(|index| index + 1)
                .filter(|number| is_viable(*number));
            let mutants = numbers.map(|number| (number, &self.mutants[number - 1]));
            let mut rewritten = rewrite(&file.text, &file.blanks, mutants);
            if *path == format!("{SUBJECT}/src/lib.rs") {
                rewritten.text = with_switch(&rewritten.text);
            }
            files.insert(PathBuf::from(path), rewritten.text.into_bytes());
            places.insert(path.clone(), rewritten.places);
        }
        let switch = format!("{SUBJECT}/src/mutants_switch.rs");
        files.insert(PathBuf::from(switch), SWITCH.as_bytes().to_vec());
        for (path, bytes) in &files {
            let path = to.join(path);
            if fs::read(&path).is_ok_and(|there| there == *bytes) {
                continue;
            }
            let directory = path.parent().context("a file without a directory")?;
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        for member in MEMBERS {
            let mut there = BTreeMap::new();
            read_all(to, Path::new(member), &mut there)?;
            for gone in there.keys().filter(|path| !files.contains_key(*path)) {
                fs::remove_file(to.join(gone)).with_context(|| gone.display().to_string())?;
            }
        }
        Ok(places)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn read_all(root: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let within = root.join(directory);
    for entry in fs::read_dir(&within).with_context(|| within.display().to_string())? {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_all(root, &path, files)?;
        } else {
            files.insert(path, read(&entry.path())?);
        }
    }
    Ok(())
}

/// The manifest of a workspace that has only the members of the copy.
fn without_other_members(manifest: &str) -> String {
    let lines = manifest
        .lines()
        .filter(|line| !line.starts_with("default-members"));
    let lines = lines.map(|line| match line.starts_with("members") {
        true => format!("members = {MEMBERS:?}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The root of the crate, with the switch in it, which needs more than the core does.
fn with_switch(text: &str) -> String {
    format!("{text}\nextern crate std;\n#[doc(hidden)]\npub mod mutants_switch;\n")
}

/// The module that a file is: `replica::reconcile` for `core/src/replica/reconcile.rs`.
fn module(path: &str) -> String {
    let inside = path.split_once("/src/").map_or(path, |(_, inside)| inside);
    let name = inside.strip_suffix(".rs").unwrap_or(inside);
    let name = name.strip_suffix("/mod").unwrap_or(name);
    if name == "lib" {
        String::new()
    } else {
        name.replace('/', "::")
    }
}

/// Where all that is made here lies: what it holds may be deleted at any time.
pub fn own_directory(root: &Path) -> Result<PathBuf> {
    let directory = root.join("target/mutants");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    Ok(directory.canonicalize()?)
}
