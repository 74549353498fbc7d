//! The page: a record in columns, and what a browser needs to draw it.

use super::record::{About, Bar, Entry, Group, Kind, Lane, Record, Span};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One self-contained HTML page. It asks for nothing from anywhere, and its own policy forbids it to.
#[derive(Clone, Debug)]
pub struct Page;

const FRAME: &str = include_str!("page/frame.html");
/// What stands where in the frame, in the order in which it does.
const PARTS: [(&str, &str); 4] = [
    ("/* style */", include_str!("page/style.css")),
    ("/* record.js */", include_str!("page/record.js")),
    ("/* draw.js */", include_str!("page/draw.js")),
    ("/* use.js */", include_str!("page/use.js")),
];
const DATA: &str = "/* data */";

impl Page {
    /// The page of a record, as text to be written to a file.
    pub fn of(record: &Record) -> String {
        let data = escaped(&document(record).to_string());
        let (head, tail) = frame();
        [head, &data, tail].concat()
    }
}

/// The frame with everything in it that is the same for every record: before the data, and after.
fn frame() -> (&'static str, &'static str) {
    static FRAMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let framed = FRAMED.get_or_init(|| {
        let mut page = FRAME.to_string();
        for (mark, part) in PARTS {
            page = page.replacen(mark, part, 1);
        }
        page
    });
    framed
        .split_once(DATA)
        .expect("the frame has a place for the data")
}

/// JSON that no parser of HTML takes for anything else: nothing in it ends a script, or begins a comment.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '&' => text.push_str("\\u0026"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            c => text.push(c),
        }
    }
    text
}

/// Texts that are written once and named by their number; zero is none.
#[derive(Default)]
struct Texts {
    numbers: BTreeMap<String, u32>,
    texts: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: impl Into<String>) -> u32 {
        let text = text.into();
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        self.texts.push(text.clone());
        let number = self.texts.len() as u32;
        self.numbers.insert(text, number);
        number
    }

    fn of(&mut self, name: Option<impl ToString>) -> u32 {
        name.map_or(0, |name| self.number(name.to_string()))
    }
}

#[derive(Default)]
struct Tables {
    labels: Texts,
    details: Texts,
    actors: Texts,
    workers: Texts,
    ops: Texts,
    fences: Texts,
}

/// What entries and bars are about, in columns.
#[derive(Default, Serialize)]
struct Abouts {
    label: Vec<u32>,
    detail: Vec<u32>,
    actor: Vec<u32>,
    worker: Vec<u32>,
    op: Vec<u32>,
    fence: Vec<u32>,
}

impl Abouts {
    fn push(&mut self, about: &About, tables: &mut Tables) {
        self.label.push(tables.labels.number(about.label.as_str()));
        self.detail.push(tables.details.number(about.detail.as_str()));
        self.actor.push(tables.actors.of(about.actor.as_ref()));
        self.worker.push(tables.workers.of(about.worker.as_ref()));
        self.op.push(tables.ops.of(about.op));
        self.fence.push(tables.fences.of(about.fence));
    }
}

fn document(record: &Record) -> Value {
    let mut tables = Tables::default();
    // So that actors have the numbers, and colours, of their lanes.
    for entry in record.entries.iter().filter(|entry| entry.about.actor.is_some()) {
        tables.actors.of(entry.about.actor.as_ref());
    }
    let entries = entries(&record.entries, record.first, &mut tables);
    let bars = bars(&record.bars, record.first, &mut tables);
    let violation = record.violation.as_ref().map(|violation| {
        json!({
            "at": violation.at,
            "invariant": violation.invariant,
            "what": violation.what,
            "entry": record.violated.map(|number| number - record.first),
        })
    });
    let plan = &record.plan;
    let world = &plan.world;
    json!({
        "about": plan.about,
        "seed": plan.noise.seed,
        "sizes": {
            "replicas": world.replicas.len(),
            "nodes": world.nodes.len(),
            "workers": world.nodes.iter().map(|node| node.workers).sum::<usize>(),
            "actors": world.actors,
            "callers": world.callers,
            "faults": plan.faults.len(),
        },
        "events": record.events,
        "from": record.from,
        "until": record.until,
        "end": record.end,
        "calm": record.calm,
        "left_out": record.left_out,
        "first": record.first,
        "verdicts": record.verdicts,
        "violation": violation,
        "plan": serde_json::to_value(plan).expect("a plan is a document"),
        "lanes": record.lanes.iter().map(lane).collect::<Vec<_>>(),
        "kinds": Kind::ALL.map(|kind| format!("{kind:?}").to_lowercase()),
        "spans": Span::ALL.map(|span| format!("{span:?}").to_lowercase()),
        "entries": entries,
        "bars": bars,
        "labels": tables.labels.texts,
        "details": tables.details.texts,
        "actors": tables.actors.texts,
        "workers": tables.workers.texts,
        "ops": tables.ops.texts,
        "fences": tables.fences.texts,
    })
}

fn lane(lane: &Lane) -> Value {
    let group = Group::ALL.iter().position(|group| *group == lane.group);
    let group = group.map(|at| format!("{:?}", Group::ALL[at]).to_lowercase());
    json!({
        "name": lane.name,
        "group": group,
        "offset": lane.clock.map(|clock| clock.offset_us),
        "gain": lane.clock.map(|clock| clock.gain_ppm),
    })
}

/// Moments as the time since the one before, causes as the number of entries since then: small numbers.
fn entries(entries: &[Entry], first: u32, tables: &mut Tables) -> Value {
    let mut about = Abouts::default();
    let (mut at, mut lanes, mut kinds, mut causes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut last = 0;
    for (number, entry) in (first..).zip(entries) {
        at.push(entry.at - last);
        last = entry.at;
        lanes.push(entry.lane);
        kinds.push(position(&Kind::ALL, &entry.kind));
        causes.push(entry.cause.map_or(0, |cause| number - cause));
        about.push(&entry.about, tables);
    }
    json!({ "at": at, "lane": lanes, "kind": kinds, "cause": causes, "about": about })
}

fn bars(bars: &[Bar], first: u32, tables: &mut Tables) -> Value {
    let mut about = Abouts::default();
    for bar in bars {
        about.push(&bar.about, tables);
    }
    let column = |of: &dyn Fn(&Bar) -> Value| -> Vec<Value> { bars.iter().map(of).collect() };
    json!({
        "from": column(&|bar| json!(bar.from)),
        "until": column(&|bar| json!(bar.until)),
        "covered": column(&|bar| json!(bar.covered)),
        "lane": column(&|bar| json!(bar.lane)),
        "span": column(&|bar| json!(position(&Span::ALL, &bar.span))),
        "cause": column(&|bar| json!(bar.cause.and_then(|cause| cause.checked_sub(first)))),
        "about": about,
    })
}

fn position<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|other| other == one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_the_script_that_it_is_in() {
        let nasty = "</script><!--\u{2028}\u{2029}&<b>";
        let json = escaped(&json!({ "text": nasty }).to_string());
        for sign in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
            assert!(!json.contains(sign), "{json}");
        }
        let back: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["text"], nasty);
    }

    #[test]
    fn every_part_has_its_place_in_the_frame_and_names_nothing_outside() {
        for (mark, part) in PARTS {
            assert_eq!(FRAME.matches(mark).count(), 1, "{mark}");
            assert!(!part.contains("</script"), "{mark}");
            for (other, _) in PARTS {
                assert!(!part.contains(other), "{mark} would take the place of {other}");
            }
            assert!(!part.contains("http:") && !part.contains("https:"), "{mark}");
        }
        let (head, tail) = frame();
        assert!(head.contains("default-src 'none'"));
        assert!(!tail.contains(DATA));
    }
}
