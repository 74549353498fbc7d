//! YAML text to trees of nodes that know where they stand, within bounds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use serde_saphyr::granit_parser::{
    self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag,
};

use crate::error::{Fault, Position};
use crate::scalar::{self, ScalarType};

/// How deep collections may be nested, aliases followed.
const MAX_DEPTH: usize = 64;
/// How many nodes a file may have, aliases followed. It is what stops a bomb of aliases.
const MAX_NODES: usize = 200_000;

/// A value and where it stands. What an alias stands for is shared, not copied.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: Value,
    /// Nodes in this tree, aliases followed.
    size: usize,
    depth: usize,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar(ScalarType, String),
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_position: Position,
    pub(crate) node: Arc<Node>,
}

impl Node {
    /// What an API server has served, which stands nowhere. Empty when it is nested too deeply.
    pub(crate) fn served(value: &serde_json::Value) -> Option<Arc<Node>> {
        Node::served_below(value, MAX_DEPTH)
    }

    fn served_below(json: &serde_json::Value, left: usize) -> Option<Arc<Node>> {
        use serde_json::Value as Json;
        let left = left.checked_sub(1)?;
        let scalar = |scalar_type, text: String| Value::Scalar(scalar_type, text);
        let value = match json {
            Json::Null => scalar(ScalarType::Null, String::new()),
            Json::Bool(truth) => scalar(ScalarType::Boolean(*truth), truth.to_string()),
            Json::Number(number) => scalar(ScalarType::Number, number.to_string()),
            Json::String(text) => scalar(ScalarType::Text, text.clone()),
            Json::Array(items) => {
                let items = items.iter().map(|item| Node::served_below(item, left));
                Value::List(items.collect::<Option<_>>()?)
            }
            Json::Object(fields) => {
                let entries = fields.iter().map(|(key, value)| {
                    Some(Entry {
                        key: key.clone(),
                        key_position: NOWHERE,
                        node: Node::served_below(value, left)?,
                    })
                });
                Value::Map(entries.collect::<Option<_>>()?)
            }
        };
        Some(Arc::new(Node {
            position: NOWHERE,
            value,
            size: 1,
            depth: 1,
        }))
    }
}

const NOWHERE: Position = Position { line: 0, column: 0 };

/// Something wrong with the text itself.
#[derive(Debug)]
pub(crate) struct TextFault {
    pub(crate) position: Position,
    pub(crate) fault: Fault,
}

/// The documents of a text, without those that hold nothing, and all that is wrong with its YAML. A
/// document that is not YAML does not keep those after it from being read; passing a bound does.
pub(crate) fn parse(text: &str) -> (Vec<Arc<Node>>, Vec<TextFault>) {
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    let mut builder = Builder::default();
    loop {
        match document(&mut parser, &mut builder) {
            Ok(Some(node)) => documents.push(node),
            Ok(None) => break,
            Err(Stop::Document(fault)) => {
                builder.faults.push(fault);
                builder.forget_document();
                match parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        builder.faults.push(not_yaml(&error));
                        break;
                    }
                }
            }
            Err(Stop::File(fault)) => {
                builder.faults.push(fault);
                break;
            }
        }
    }
    documents.retain(|node| !matches!(node.value, Value::Scalar(ScalarType::Null, _)));
    (documents, builder.faults)
}

/// How much is given up on after a fault.
enum Stop {
    Document(TextFault),
    File(TextFault),
}

fn document<'a>(
    parser: &mut Parser<'a, StrInput<'a>>,
    builder: &mut Builder,
) -> Result<Option<Arc<Node>>, Stop> {
    let mut root = None;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Stop::Document(not_yaml(&error)))?;
        if matches!(event, Event::DocumentEnd) {
            builder.forget_document();
            return Ok(root);
        }
        root = builder.take(event, position(&span.start))?.or(root);
    }
    Ok(None)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Arc<Node>>,
    faults: Vec<TextFault>,
    nodes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    position: Position,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Arc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    lines: BTreeMap<String, usize>,
    /// Values of `<<`: their entries become entries of the mapping, unless it has them itself.
    merged: Vec<Arc<Node>>,
    key: Option<Key>,
}

enum Key {
    Field(String, Position),
    Merge,
}

impl Builder {
    /// Anchors do not reach across documents.
    fn forget_document(&mut self) {
        self.open.clear();
        self.anchors.clear();
    }

    /// Gives the root once it is complete.
    fn take(&mut self, event: Event<'_>, position: Position) -> Result<Option<Arc<Node>>, Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = matches!(style, ScalarStyle::Plain);
                if let Some(map) = self.map_without_key() {
                    let merge = plain && text == "<<";
                    map.key = Some(if merge {
                        Key::Merge
                    } else {
                        Key::Field(text.into_owned(), position)
                    });
                    return Ok(None);
                }
                let scalar_type = scalar_type(&text, plain, tag.as_deref(), position)?;
                let value = Value::Scalar(scalar_type, text.into_owned());
                self.finish(
                    Node {
                        position,
                        value,
                        size: 1,
                        depth: 1,
                    },
                    anchor,
                )
            }
            Event::SequenceStart(_, anchor, tag) => self.begin(
                Open {
                    position,
                    anchor,
                    items: Items::List(Vec::new()),
                },
                tag.as_deref(),
                "seq",
            ),
            Event::MappingStart(_, anchor, tag) => {
                let items = Items::Map(OpenMap::default());
                self.begin(
                    Open {
                        position,
                        anchor,
                        items,
                    },
                    tag.as_deref(),
                    "map",
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(_) if self.map_without_key().is_some() => Err(stop(position, NO_KEY)),
            Event::Alias(id) => match self.anchors.get(&id).map(Arc::clone) {
                Some(node) => {
                    self.count(node.size, node.depth, position)?;
                    self.put(node, position)
                }
                None => Err(stop(
                    position,
                    "an alias must stand for a value that ends before it",
                )),
            },
            _ => Ok(None),
        }
    }

    fn map_without_key(&mut self) -> Option<&mut OpenMap> {
        match self.open.last_mut() {
            Some(Open {
                items: Items::Map(map),
                ..
            }) if map.key.is_none() => Some(map),
            _ => None,
        }
    }

    fn begin(&mut self, open: Open, tag: Option<&Tag>, own_tag: &str) -> Result<Option<Arc<Node>>, Stop> {
        if self.map_without_key().is_some() {
            return Err(stop(open.position, NO_KEY));
        }
        match tag {
            Some(tag) if !tag.is_yaml_core_schema_tag(own_tag) => Err(unknown_tag(open.position)),
            _ => {
                self.open.push(open);
                Ok(None)
            }
        }
    }

    fn end(&mut self) -> Result<Option<Arc<Node>>, Stop> {
        let Some(Open {
            position,
            anchor,
            items,
        }) = self.open.pop()
        else {
            return Ok(None);
        };
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map(map) => Value::Map(self.merge(map, position)?),
        };
        let mut node = Node {
            position,
            value,
            size: 1,
            depth: 1,
        };
        let (mut size, mut depth) = (1, 1);
        let mut add = |child: &Node| {
            size += child.size;
            depth = depth.max(child.depth + 1);
        };
        match &node.value {
            Value::Scalar(..) => {}
            Value::List(items) => items.iter().for_each(|item| add(item)),
            Value::Map(entries) => entries.iter().for_each(|entry| add(&entry.node)),
        }
        (node.size, node.depth) = (size, depth);
        self.finish(node, anchor)
    }

    fn merge(&mut self, map: OpenMap, position: Position) -> Result<Vec<Entry>, Stop> {
        let OpenMap {
            mut entries,
            mut lines,
            merged,
            ..
        } = map;
        for source in merged {
            let maps = match &source.value {
                Value::List(items) => items.clone(),
                Value::Scalar(..) | Value::Map(_) => vec![Arc::clone(&source)],
            };
            for map in maps {
                let Value::Map(theirs) = &map.value else {
                    return Err(stop(
                        map.position,
                        "<< must stand before a mapping or a list of mappings",
                    ));
                };
                for entry in theirs {
                    if lines.insert(entry.key.clone(), entry.key_position.line).is_none() {
                        self.count(entry.node.size, entry.node.depth, position)?;
                        entries.push(entry.clone());
                    }
                }
            }
        }
        Ok(entries)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<Option<Arc<Node>>, Stop> {
        let position = node.position;
        // What a collection holds has been counted when it came.
        self.count(1, node.depth, position)?;
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.put(node, position)
    }

    fn count(&mut self, nodes: usize, depth: usize, position: Position) -> Result<(), Stop> {
        self.nodes += nodes;
        for (what, is, limit) in [
            ("the number of values in the file", self.nodes, MAX_NODES),
            ("the depth of nesting", self.open.len() + depth, MAX_DEPTH),
        ] {
            if is > limit {
                return Err(Stop::File(TextFault {
                    position,
                    fault: Fault::TooBig { what, limit },
                }));
            }
        }
        Ok(())
    }

    fn put(&mut self, node: Arc<Node>, position: Position) -> Result<Option<Arc<Node>>, Stop> {
        let Some(parent) = self.open.last_mut() else {
            return Ok(Some(node));
        };
        match &mut parent.items {
            Items::List(items) => items.push(node),
            Items::Map(map) => match map.key.take() {
                Some(Key::Merge) => map.merged.push(node),
                Some(Key::Field(key, key_position)) => match map.lines.entry(key) {
                    MapEntry::Vacant(vacant) => {
                        let key = vacant.key().clone();
                        vacant.insert(key_position.line);
                        map.entries.push(Entry {
                            key,
                            key_position,
                            node,
                        });
                    }
                    MapEntry::Occupied(first) => {
                        // The key is not quoted: it may be a password after which the colon is missing.
                        let line = first.get();
                        let text = format!("the same key is already in this mapping, at line {line}");
                        self.faults.push(syntax(key_position, text));
                    }
                },
                // Keys are taken before any node is put.
                None => return Err(stop(position, NO_KEY)),
            },
        }
        Ok(None)
    }
}

const NO_KEY: &str = "the key of a mapping must be a word or a quoted text";

fn scalar_type(text: &str, plain: bool, tag: Option<&Tag>, position: Position) -> Result<ScalarType, Stop> {
    let untagged = if plain {
        scalar::plain(text)
    } else {
        ScalarType::Text
    };
    let Some(tag) = tag else { return Ok(untagged) };
    let meant = scalar::plain(text);
    let (_, suffix) = tag.parts();
    match (tag.is_yaml_core_schema().then_some(suffix), meant) {
        (Some("str"), _) => Ok(ScalarType::Text),
        (Some("null"), ScalarType::Null)
        | (Some("bool"), ScalarType::Boolean(_))
        | (Some("int" | "float"), ScalarType::Number) => Ok(meant),
        _ => Err(unknown_tag(position)),
    }
}

/// The tag is not quoted: it may be the beginning of a password.
fn unknown_tag(position: Position) -> Stop {
    stop(
        position,
        "a word after '!' is a tag, and Kubernetes manifests have none; put text in quotes",
    )
}

/// What the parser says, which quotes nothing of the text but this one character.
fn not_yaml(error: &ScanError) -> TextFault {
    let text = match error.kind() {
        ErrorKind::UnexpectedCharacter { .. } => {
            "no text begins with this character; put it in quotes".to_owned()
        }
        _ => error.info(),
    };
    syntax(position(error.marker()), text)
}

fn stop(position: Position, text: impl Into<String>) -> Stop {
    Stop::Document(syntax(position, text))
}

fn syntax(position: Position, text: impl Into<String>) -> TextFault {
    TextFault {
        position,
        fault: Fault::Syntax(text.into()),
    }
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}
