//! One mutant: where it is, what is changed there, and how that is written into the copy.

use std::fmt;
use std::ops::Range;

/// One small change of the program that a test should notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The file, as seen from the workspace.
    pub file: String,
    /// From one.
    pub line: usize,
    /// From one.
    pub column: usize,
    /// The function that it is in, with its module and type.
    pub function: String,
    /// What is changed, in words and in the words of the source.
    pub change: String,
    /// The bytes of the file that are concerned.
    pub range: Range<usize>,
    /// What is done with them.
    pub edit: Edit,
}

/// What becomes of the bytes in a mutant's range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// An expression is another one.
    Instead(String),
    /// A function's body answers this at once.
    Return(String),
    /// A function's body, an iterator, ends at once.
    Emptied,
    /// A statement, or an expression without a value, is not executed.
    Skipped,
    /// The condition of a match arm always holds.
    AlwaysTaken,
    /// The condition of a match arm, or the arm itself, never does.
    NeverTaken,
    /// As the last, for an arm without a condition; the range is the empty one behind its pattern.
    NeverMatched,
}

impl Mutant {
    /// What it is called in the list of accepted survivors: what does not change when lines move.
    pub fn key(&self) -> String {
        format!("{} in {}: {}", self.file, self.function, self.change)
    }

    /// What stands before its range in the copy, and what stands behind it, when `number` is its switch.
    pub fn brackets(&self, number: usize) -> (String, String) {
        let on = format!("crate::mutants_switch::on({number})");
        let (before, behind) = match &self.edit {
            Edit::Instead(other) => (format!("(if !{on} {{ "), format!(" }} else {{ {other} }})")),
            Edit::Return(value) => (format!(" if {on} {{ return {value}; }} "), String::new()),
            Edit::Emptied => (
                String::from("::core::iter::Iterator::take({ "),
                format!(" }}, if {on} {{ 0 }} else {{ usize::MAX }})"),
            ),
            // In brackets an expression that stands alone would be one that is used, and the other way round.
            Edit::Skipped => (format!("if !{on} {{ "), String::from(" }")),
            Edit::AlwaysTaken => (format!("{on} || ("), String::from(")")),
            Edit::NeverTaken => (format!("!{on} && ("), String::from(")")),
            Edit::NeverMatched => (format!(" if !{on}"), String::new()),
        };
        (before, behind)
    }

    /// The lines of `source` that it changes, as they are and as they would be.
    pub fn difference(&self, source: &str) -> (String, String) {
        let begin = source[..self.range.start].rfind('\n').map_or(0, |at| at + 1);
        let end = source[self.range.end..]
            .find('\n')
            .map_or(source.len(), |at| self.range.end + at);
        let (head, tail) = (&source[begin..self.range.start], &source[self.range.end..end]);
        let inner = &source[self.range.clone()];
        let whole = match &self.edit {
            Edit::Instead(other) => format!("{head}{other}{tail}"),
            Edit::Skipped => format!("{head}{tail}"),
            Edit::Return(value) => return (first_line(&source[begin..]), format!("    return {value};")),
            Edit::Emptied => {
                return (
                    first_line(&source[begin..]),
                    String::from("    return an empty iterator;"),
                );
            }
            Edit::AlwaysTaken => format!("{head}true{tail}"),
            Edit::NeverTaken => format!("{head}false{tail}"),
            Edit::NeverMatched => format!("{head} if false{tail}"),
        };
        (squeezed(&format!("{head}{inner}{tail}")), squeezed(&whole))
    }
}

/// Where it is, and what it changes.
impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mutant {
            file,
            line,
            column,
            function,
            change,
            ..
        } = self;
        write!(f, "{file}:{line}:{column} in {function}: {change}")
    }
}

fn first_line(text: &str) -> String {
    squeezed(text.lines().next().unwrap_or_default())
}

/// One line of words with one space between them.
pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
