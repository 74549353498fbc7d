//! Writes all mutants of a file into it, each behind its switch.

use std::cmp::Reverse;
use std::ops::Range;

use crate::mutants::mutant::{Edit, Mutant};

/// A file with its mutants in it.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// What it says now.
    pub text: String,
    /// By the number of its switch: where each mutant's own text is, and where all that it surrounds.
    pub places: Vec<Place>,
}

/// Where a mutant stands in the rewritten file.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its switch.
    pub number: usize,
    /// Bytes that would not be there without it.
    pub own: [Range<usize>; 2],
    /// What it does with what it surrounds.
    pub role: Role,
}

/// What a mutant does with what it surrounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It offers something else, which must be of the same type.
    Alternative,
    /// It leaves it out.
    Condition,
    /// Nothing: it comes before it.
    Prelude,
}

impl Place {
    /// From its first byte to its last.
    pub fn whole(&self) -> Range<usize> {
        self.own[0].start..self.own[1].end
    }
}

/// Rewrites `source`. Mutants lie side by side or within one another.
pub fn rewrite<'a>(
    source: &str,
    blanks: &[Range<usize>],
    mutants: impl Iterator<Item = (usize, &'a Mutant)>,
) -> Rewritten {
    let source = blanked(source, blanks);
    let mut mutants: Vec<_> = mutants.collect();
    mutants.sort_by_key(|(number, mutant)| (mutant.range.start, Reverse(mutant.range.end), *number));
    let mut writer = Writer {
        source: &source,
        at: 0,
        open: Vec::new(),
        out: Rewritten::default(),
    };
    for (number, mutant) in mutants {
        writer.close_up_to(mutant.range.start);
        writer.open(number, mutant);
    }
    writer.close_up_to(usize::MAX);
    writer.copy_up_to(source.len());
    writer.out
}

/// Replaced by spaces: whatever else stands in the file stays where it is.
fn blanked(source: &str, blanks: &[Range<usize>]) -> String {
    let mut text = source.to_owned();
    for blank in blanks {
        let spaces: String = source[blank.clone()]
            .bytes()
            .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
            .collect();
        text.replace_range(blank.clone(), &spaces);
    }
    text
}

struct Writer<'a> {
    source: &'a str,
    /// How far the source has been copied.
    at: usize,
    /// The mutants whose ends have not been reached: the end, what is written there, and which it is.
    open: Vec<(usize, String, usize)>,
    out: Rewritten,
}

impl Writer<'_> {
    fn copy_up_to(&mut self, end: usize) {
        self.out.text.push_str(&self.source[self.at..end]);
        self.at = end;
    }

    fn write(&mut self, text: &str) -> Range<usize> {
        let begin = self.out.text.len();
        self.out.text.push_str(text);
        begin..self.out.text.len()
    }

    fn open(&mut self, number: usize, mutant: &Mutant) {
        let Range { start, end } = mutant.range;
        assert!(
            self.open.last().is_none_or(|(outer, ..)| end <= *outer),
            "mutants that overlap: {mutant}"
        );
        self.copy_up_to(start);
        let (before, behind) = mutant.brackets(number);
        let before = self.write(&before);
        self.open.push((end, behind, self.out.places.len()));
        let behind = before.end..before.end;
        self.out.places.push(Place {
            number,
            own: [before, behind],
            role: match mutant.edit {
                Edit::Skipped => Role::Condition,
                Edit::Return(_) | Edit::NeverMatched => Role::Prelude,
                Edit::Instead(_) | Edit::Emptied | Edit::AlwaysTaken | Edit::NeverTaken => Role::Alternative,
            },
        });
    }

    fn close_up_to(&mut self, start: usize) {
        while let Some((end, behind, place)) = self.open.pop_if(|(end, ..)| *end <= start) {
            self.copy_up_to(end);
            self.out.places[place].own[1] = self.write(&behind);
        }
    }
}
