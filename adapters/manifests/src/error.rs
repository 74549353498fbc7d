//! What can be wrong with a manifest, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A fault of a manifest. Its text stands on one line, as compilers write them:
/// `file:line:column: object: field: value: what would be right`.
#[derive(Debug)]
pub struct ManifestError {
    /// Where it is.
    pub place: Place,
    /// Kind, namespace and name of the object, as far as they are known. May be empty.
    pub object: String,
    /// The path of the field in the object, such as `spec.containers[0].image`. May be empty.
    pub field: String,
    /// The value found there, shortened; `None` when there is none, or when it must not be shown.
    pub value: Option<String>,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A file, and a position in it when the fault has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or the directory when that could not be read.
    pub file: PathBuf,
    /// The position in the file.
    pub position: Option<Position>,
}

/// A position in a text. Both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file or the directory cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A bound on what is accepted was passed.
    #[error("{what} exceeds the limit of {limit}; split it up")]
    TooBig {
        /// What was too big.
        what: &'static str,
        /// The most that is accepted.
        limit: usize,
    },
    /// The file is not UTF-8, or not YAML. The text is the parser's.
    #[error("{0}")]
    Syntax(String),
    /// A required field is not there.
    #[error("is required")]
    Missing,
    /// The value is of another type.
    #[error("must be {wanted}, not {found}")]
    WrongType {
        /// The type it should have, with an article.
        wanted: &'static str,
        /// What was found instead, with an article.
        found: String,
    },
    /// A field, or a word of a fixed set, that nobody knows.
    #[error("is not known{}", suggestion(.nearest))]
    Unknown {
        /// The known name that looks most like it.
        nearest: Option<String>,
    },
    /// The value breaks a rule.
    #[error("{0}")]
    Invalid(String),
    /// The same object is declared elsewhere.
    #[error("the same object is already declared at {first}; keep one of them")]
    Duplicate {
        /// Where it was seen first.
        first: Place,
    },
    /// The spec of a template that is already in use was changed.
    #[error("Spec is immutable: snapshots depend on it; keep it, and give the changed template a new name")]
    Immutable,
}

impl std::error::Error for ManifestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            Fault::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        if let Some(value) = &self.value {
            write!(f, "{value}: ")?;
        }
        write!(f, "{}", self.fault)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.position {
            Some(Position { line, column }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}
