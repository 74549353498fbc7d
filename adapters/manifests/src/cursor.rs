//! Typed reading of a tree, which reports every fault it meets and goes on.

use std::cell::RefCell;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Fault, ManifestError, Place, Position};
use crate::rules;
use crate::scalar::{self, ScalarType};
use crate::tree::{Entry, Node, Value};

/// How much of a value an error shows, in characters.
const SHOWN: usize = 80;

/// Collects the faults of one object.
pub(crate) struct Report<'a> {
    pub(crate) file: &'a Path,
    /// How errors call the object.
    pub(crate) object: String,
    pub(crate) exposure: Exposure,
    pub(crate) unknown: UnknownFields,
    pub(crate) errors: &'a RefCell<Vec<ManifestError>>,
}

/// Whether errors show what stands in the manifest.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Exposure {
    Shown,
    /// There are secrets in it. A key may be one too: where a colon or an indent was forgotten, it is.
    Hidden,
}

/// What becomes of fields that nobody asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum UnknownFields {
    /// They are slips of whoever wrote the manifest.
    Refused,
    /// They are of a later version of the CRD, whose server has let them in.
    PassedOver,
}

impl Report<'_> {
    pub(crate) fn place(&self, position: Position) -> Place {
        Place {
            file: self.file.to_owned(),
            position: Some(position),
        }
    }

    fn add(&self, position: Position, field: String, value: Option<String>, fault: Fault) {
        let place = self.place(position);
        let value = value.filter(|_| self.exposure == Exposure::Shown);
        let error = ManifestError {
            place,
            object: self.object.clone(),
            field,
            value,
            fault,
        };
        self.errors.borrow_mut().push(error);
    }
}

/// A value and its path in the object.
///
/// Methods that give an `Option` have reported what is wrong when they give `None`.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    report: &'a Report<'a>,
    node: &'a Arc<Node>,
    /// Where its key stands, if it has one, and it itself otherwise.
    key_position: Position,
    path: String,
}

impl<'a> Cursor<'a> {
    /// The root of an object.
    pub(crate) fn root(report: &'a Report<'a>, node: &'a Arc<Node>) -> Self {
        Cursor {
            report,
            node,
            key_position: node.position,
            path: String::new(),
        }
    }

    pub(crate) fn node(&self) -> &'a Arc<Node> {
        self.node
    }

    /// Reports a broken rule.
    pub(crate) fn refuse(&self, rule: impl Into<String>) {
        self.fail(Fault::Invalid(rule.into()));
    }

    /// Reports a broken rule of this value's key, which is the end of its path.
    pub(crate) fn refuse_key(&self, rule: impl Into<String>) {
        self.report.add(
            self.key_position,
            self.path.clone(),
            None,
            Fault::Invalid(rule.into()),
        );
    }

    /// Reports a fault of this value.
    pub(crate) fn fail(&self, fault: Fault) {
        let value = match &self.node.value {
            Value::Scalar(ScalarType::Text, text) => Some(shortened(text)),
            _ => None,
        };
        self.report
            .add(self.node.position, self.path.clone(), value, fault);
    }

    /// The value, if it is a text that `rule` finds nothing wrong with.
    pub(crate) fn text(self, rule: impl Fn(&str) -> Result<(), String>) -> Option<&'a str> {
        let Value::Scalar(ScalarType::Text, text) = &self.node.value else {
            return self.wrong_type("a string");
        };
        match rule(text) {
            Ok(()) => Some(text),
            Err(rule) => {
                self.refuse(rule);
                None
            }
        }
    }

    /// The value, if it is one of `words`.
    pub(crate) fn word<T: Copy>(self, words: &[(&str, T)]) -> Option<T> {
        let text = self.clone().text(rules::anything)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(format!("must be one of {}", known.join(", ")));
        }
        found
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        match self.node.value {
            Value::Scalar(ScalarType::Boolean(value), _) => Some(value),
            _ => self.wrong_type("a boolean (true or false)"),
        }
    }

    pub(crate) fn whole_number(self, range: RangeInclusive<i64>) -> Option<i64> {
        let Value::Scalar(ScalarType::Number, text) = &self.node.value else {
            return self.wrong_type("a whole number");
        };
        let number = scalar::whole_number(text).filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = (range.start(), range.end());
            self.refuse(format!(
                "must be a whole number from {first} to {last}, not {}",
                shortened(text)
            ));
        }
        number
    }

    /// The elements, at most `max` of them, each as `read` reads it.
    pub(crate) fn list<T>(self, max: usize, read: impl Fn(Cursor<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(items) = &self.node.value else {
            return self.wrong_type("a list");
        };
        if items.len() > max {
            self.refuse(format!("has {} elements; at most {max} are allowed", items.len()));
            return None;
        }
        // All are read before the first that failed ends it, so that the faults of all are reported.
        let read: Vec<Option<T>> = items
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let path = format!("{}[{index}]", self.path);
                read(self.child(node, node.position, path))
            })
            .collect();
        read.into_iter().collect()
    }

    /// The entries of a mapping whose keys are data, not fields, each as `read` reads it.
    pub(crate) fn entries<T>(self, read: impl Fn(&'a str, Cursor<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Value::Map(entries) = &self.node.value else {
            return self.wrong_type("a mapping");
        };
        let read: Vec<Option<T>> = entries
            .iter()
            .map(|entry| {
                let path = self.path_of_key(&entry.key);
                read(&entry.key, self.child(&entry.node, entry.key_position, path))
            })
            .collect();
        read.into_iter().collect()
    }

    /// The value as a mapping with known fields.
    pub(crate) fn fields(self) -> Option<Fields<'a>> {
        let Value::Map(entries) = &self.node.value else {
            return self.wrong_type("a mapping");
        };
        Some(Fields {
            cursor: self,
            entries,
            asked: RefCell::default(),
        })
    }

    fn child(&self, node: &'a Arc<Node>, key_position: Position, path: String) -> Cursor<'a> {
        Cursor {
            report: self.report,
            node,
            key_position,
            path,
        }
    }

    /// The path of a key as the manifest has it.
    fn path_of_key(&self, key: &str) -> String {
        match self.report.exposure {
            Exposure::Shown => self.path_of(key),
            Exposure::Hidden => format!("{}[not shown]", self.path),
        }
    }

    /// The path of a known field, or of a key that may be shown.
    fn path_of(&self, key: &str) -> String {
        let mut path = self.path.clone();
        let dot = if path.is_empty() { "" } else { "." };
        let is_word = key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let written = if is_word {
            write!(path, "{dot}{key}")
        } else {
            write!(path, "[{}]", shortened(key))
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        path
    }

    fn wrong_type<T>(&self, wanted: &'static str) -> Option<T> {
        let found = match &self.node.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar(ScalarType::Null, _) => "nothing".to_owned(),
            Value::Scalar(scalar_type, text) => {
                let noun = match scalar_type {
                    ScalarType::Number => "a number",
                    ScalarType::Boolean(_) => "a boolean",
                    _ => "a string",
                };
                match (self.report.exposure, scalar_type) {
                    (Exposure::Hidden, _) | (_, ScalarType::Text) => noun.to_owned(),
                    _ if wanted == "a string" => format!("{noun}; write it in quotes: {}", shortened(text)),
                    _ => format!("{noun} ({})", shortened(text)),
                }
            }
        };
        self.fail(Fault::WrongType { wanted, found });
        None
    }
}

/// A mapping with known fields. Each one that is asked for is known; [`Fields::finish`] reports those
/// that nobody asked for. A field that is null counts as absent, as for the API server.
pub(crate) struct Fields<'a> {
    cursor: Cursor<'a>,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The field, if it is there.
    pub(crate) fn get(&self, name: &'static str) -> Option<Cursor<'a>> {
        self.asked.borrow_mut().push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        match entry.node.value {
            Value::Scalar(ScalarType::Null, _) => None,
            _ => {
                let path = self.cursor.path_of(name);
                Some(self.cursor.child(&entry.node, entry.key_position, path))
            }
        }
    }

    /// The mapping itself.
    pub(crate) fn cursor(&self) -> &Cursor<'a> {
        &self.cursor
    }

    /// The field as `read` reads it. It must be there.
    pub(crate) fn required<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(field) = self.get(name) else {
            let Cursor { report, node, .. } = &self.cursor;
            report.add(node.position, self.cursor.path_of(name), None, Fault::Missing);
            return None;
        };
        read(field)
    }

    /// The field as `read` reads it, or `default` when it is not there.
    pub(crate) fn optional<T>(
        &self,
        name: &'static str,
        default: T,
        read: impl FnOnce(Cursor<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(name) {
            Some(field) => read(field),
            None => Some(default),
        }
    }

    /// A field that is a list of at most `max` elements, and empty when it is not there.
    pub(crate) fn list<T>(
        &self,
        name: &'static str,
        max: usize,
        read: impl Fn(Cursor<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.optional(name, Vec::new(), |field| field.list(max, read))
    }

    /// Fields that are known but mean nothing here.
    pub(crate) fn ignore(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }

    /// Reports fields that nobody asked for.
    pub(crate) fn finish(self) {
        if self.cursor.report.unknown == UnknownFields::PassedOver {
            return;
        }
        let asked = self.asked.borrow();
        for entry in self.entries {
            if !asked.contains(&entry.key.as_str()) {
                let nearest = rules::nearest(&entry.key, asked.iter().copied());
                let path = self.cursor.path_of_key(&entry.key);
                self.cursor
                    .report
                    .add(entry.key_position, path, None, Fault::Unknown { nearest });
            }
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}
