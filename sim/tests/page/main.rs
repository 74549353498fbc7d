//! The page of a story, in a real browser: with mouse and keyboard, and without a network.

mod devtools;

use devtools::Browser;
use holdfast_sim::oracle::Violation;
use holdfast_sim::plan::Recipe;
use holdfast_sim::story::{self, Entry, Kind, Page, Record, Window};
use serde_json::json;
use std::path::PathBuf;

const WIDTH: u32 = 1600;
const HEIGHT: u32 = 1000;
/// What an oracle never says, but a name that comes from outside might.
const NASTY: &str =
    "</script><script>document.title = 'mine'</script><!-- \u{2028}\u{2029} & <img src=x onerror=alert(1)>";

fn record() -> Record {
    story::record(&Recipe::small(1).plan(), Window::WHOLE)
}

/// A page of it in a file, and a browser.
struct Shown {
    browser: Browser,
    file: PathBuf,
    record: Record,
    _directory: tempfile::TempDir,
}

fn shown(record: Record) -> Shown {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("story.html");
    std::fs::write(&file, Page::of(&record)).unwrap();
    let mut browser = Browser::start(WIDTH, HEIGHT, "dark");
    browser.open(&file, "");
    Shown {
        browser,
        file,
        record,
        _directory: directory,
    }
}

impl Shown {
    fn selected(&mut self) -> Option<usize> {
        let selected = self.browser.value("story.view.selected?.entry ?? -1").as_i64();
        selected.and_then(|entry| usize::try_from(entry).ok())
    }

    fn span(&mut self) -> f64 {
        let span = self.browser.value("story.view.t1 - story.view.t0");
        span.as_f64().unwrap()
    }

    fn position(&self, number: u32) -> usize {
        (number - self.record.first) as usize
    }
}

/// An order that came to a node from a replica, and has had consequences.
fn an_order(record: &Record) -> (usize, &Entry) {
    let is_order = |entry: &Entry| entry.kind == Kind::Arrives && entry.about.detail.starts_with("NodeCall");
    let mut entries = record.entries.iter().enumerate();
    entries
        .find(|(_, entry)| is_order(entry))
        .expect("a node is ordered")
}

#[test]
fn a_violation_is_what_one_sees_first_and_nothing_in_it_is_taken_for_html() {
    let mut record = record();
    let last = record.entries.len() - 300;
    record.violation = Some(Violation {
        at: record.entries[last].at,
        invariant: "I4",
        what: NASTY.to_string(),
    });
    record.violated = Some(record.first + last as u32);
    record.entries[last].kind = Kind::Violation;
    record.entries[last].about.detail = NASTY.to_string();
    let mut shown = shown(record);
    assert_eq!(shown.selected(), Some(last));
    let browser = &mut shown.browser;
    assert!(browser.text("verdict").starts_with("I4 violated at "));
    let what = browser.value("document.getElementById('what').textContent");
    assert_eq!(what, NASTY);
    assert!(browser.text("details").contains("onerror=alert(1)"));
    assert_eq!(browser.value("document.images.length"), 0);
    assert_ne!(browser.value("document.title"), "mine");
    // Somewhere else, and back with one click.
    browser.press("Home");
    browser.press("Escape");
    assert_eq!(shown.selected(), None);
    shown.browser.click_on("document.getElementById('go')");
    assert_eq!(shown.selected(), Some(last));
    assert!(
        shown.browser.troubles().is_empty(),
        "{:?}",
        shown.browser.troubles()
    );
}

#[test]
fn a_page_asks_for_nothing_and_could_not() {
    let mut shown = shown(record());
    let file = format!("file://{}", shown.file.display());
    assert_eq!(shown.browser.requests(), [file.as_str()]);
    assert!(
        shown.browser.troubles().is_empty(),
        "{:?}",
        shown.browser.troubles()
    );
    let refused = shown.browser.value(
        "new Promise((done) => {
            document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));
            fetch('data:text/plain,hello').catch(() => {});
        })",
    );
    assert_eq!(refused, "connect-src");
}

#[test]
fn a_click_on_an_entry_shows_all_of_it_with_its_cause_and_its_consequences() {
    let mut shown = shown(record());
    let (order, entry) = an_order(&shown.record);
    let (at, detail, fence) = (entry.at, entry.about.detail.clone(), entry.about.fence);
    let cause = shown.position(entry.cause.expect("somebody sent it"));
    let fence = fence.expect("orders have fences").to_string();
    shown
        .browser
        .open(&shown.file, &format!("#t={}&w=0.05", at as f64 / 1e6));
    let place = shown.browser.value(&format!("story.place({order})"));
    let (x, y) = (place["x"].as_f64().unwrap(), place["y"].as_f64().unwrap());
    shown.browser.click(x, y);
    assert_eq!(shown.selected(), Some(order));
    let details = shown.browser.text("details");
    for part in [detail.as_str(), fence.as_str(), "FOLLOWS FROM", "WHAT FOLLOWS"] {
        assert!(details.contains(part), "{part} in {details}");
    }
    shown
        .browser
        .click_on("document.querySelector('#details li button')");
    assert_eq!(
        shown.selected(),
        Some(cause),
        "the first in the list is what sent it"
    );
    shown.browser.press("]");
    let next = shown.selected().expect("something follows");
    assert_eq!(
        shown.record.entries[next]
            .cause
            .map(|number| shown.position(number)),
        Some(cause)
    );
    shown.browser.press("[");
    assert_eq!(shown.selected(), Some(cause));
}

#[test]
fn a_search_finds_what_is_there_and_steps_through_it() {
    let mut shown = shown(record());
    let is_hit = |entry: &Entry| {
        let text = format!("{} {}", entry.about.label, entry.about.detail).to_lowercase();
        text.contains("checkpoint") && text.contains("external")
    };
    let hits: Vec<usize> = (0..shown.record.entries.len())
        .filter(|n| is_hit(&shown.record.entries[*n]))
        .collect();
    assert!(hits.len() > 3, "{hits:?}");
    let many = format!("{} of ", hits.len());
    shown.browser.press("/");
    shown.browser.write("Checkpoint external");
    assert!(
        shown.browser.text("hits").starts_with(&many),
        "{many} {}",
        shown.browser.text("hits")
    );
    shown.browser.press("Enter");
    shown.browser.press("Escape");
    assert_eq!(shown.selected(), Some(hits[0]));
    shown.browser.press("n");
    assert_eq!(shown.selected(), Some(hits[1]));
    shown.browser.press("N");
    assert_eq!(shown.selected(), Some(hits[0]));
    // An actor besides: only its own, and only its own lane among the actors'.
    let actor = shown.record.entries[hits[0]]
        .about
        .actor
        .clone()
        .expect("an actor");
    let of_actor = hits
        .iter()
        .filter(|n| shown.record.entries[**n].about.actor.as_ref() == Some(&actor));
    let many = format!("{} of ", of_actor.count());
    shown.browser.press("a");
    assert!(
        shown.browser.text("hits").starts_with(&many),
        "{many} {}",
        shown.browser.text("hits")
    );
    let lanes = "story.record.lanes.filter((lane) => lane.group === 'actor' && lane.y !== null).map((lane) => lane.name)";
    assert_eq!(shown.browser.value(lanes), json!([actor.name.as_str()]));
}

#[test]
fn one_zooms_in_where_the_pointer_is_and_out_to_all_of_it() {
    let mut shown = shown(record());
    let (from, until) = (shown.record.from as f64, shown.record.until as f64);
    let whole = shown.span();
    assert!(whole >= until - from);
    // The time under the pointer, by the picture's own scale.
    let under = "(() => { const b = document.getElementById('lanes').getBoundingClientRect(); \
                 const part = (900 - b.x - 176) / (b.width - 176); \
                 return story.view.t0 + part * (story.view.t1 - story.view.t0); })()";
    let before = shown.browser.value(under).as_f64().unwrap();
    for _ in 0..5 {
        shown.browser.wheel_with_control(900.0, 500.0, -400.0);
    }
    let after = shown.browser.value(under).as_f64().unwrap();
    let near = shown.span();
    assert!(near < whole / 10.0, "{near} of {whole}");
    assert!(
        (after - before).abs() < whole / 1000.0,
        "{before} went to {after}"
    );
    shown.browser.press("f");
    assert!(shown.span() >= until - from);
    assert!(
        shown.browser.troubles().is_empty(),
        "{:?}",
        shown.browser.troubles()
    );
}

#[test]
fn every_lane_shows_its_own_clock_as_the_simulator_has_it() {
    let mut shown = shown(record());
    let lanes = &shown.record.lanes;
    let drifting = lanes
        .iter()
        .filter(|lane| lane.clock.is_some_and(|clock| clock.gain_ppm != 0));
    assert!(drifting.count() > 2, "clocks that are right would show nothing");
    for moment in [0, 1, 999_999, 123_456_789, shown.record.end] {
        let expected: Vec<_> = lanes
            .iter()
            .map(|lane| lane.clock.map(|clock| clock.shows(moment).as_micros()))
            .collect();
        let script = format!("story.record.lanes.map((lane) => story.shows(lane, {moment}))");
        assert_eq!(shown.browser.value(&script), json!(expected), "at {moment}");
    }
}

#[test]
fn an_address_leads_back_to_what_was_shown() {
    let mut shown = shown(record());
    let (order, entry) = an_order(&shown.record);
    let actor = entry.about.actor.clone().expect("an actor").to_string();
    shown.browser.value(&format!("story.select({order}, 4e6)"));
    shown.browser.press("a");
    let state = "({ t0: story.view.t0, t1: story.view.t1, selected: story.view.selected, actor: story.filter.actor })";
    let before = shown.browser.value(state);
    assert_ne!(before["actor"], 0);
    let address = shown.browser.value("story.address()");
    let address = address.as_str().unwrap();
    assert!(address.contains(&actor.replace('/', "%2F")), "{address}");
    shown.browser.open(&shown.file, &format!("#{address}"));
    let after = shown.browser.value(state);
    assert_eq!(
        (&after["selected"], &after["actor"]),
        (&before["selected"], &before["actor"])
    );
    for end in ["t0", "t1"] {
        let moved = after[end].as_f64().unwrap() - before[end].as_f64().unwrap();
        // The address has microseconds.
        assert!(moved.abs() <= 2.0, "{end} moved by {moved}");
    }
}

/// The same again and again, until there are so many entries.
fn long(record: Record, entries: usize) -> Record {
    let once = u32::try_from(record.entries.len()).unwrap();
    let again = |times: u32| {
        let later = record.end * u64::from(times);
        record.entries.iter().map(move |entry| Entry {
            at: entry.at + later,
            cause: entry.cause.map(|cause| cause + once * times),
            ..entry.clone()
        })
    };
    let many: Vec<Entry> = (0..).flat_map(again).take(entries).collect();
    let end = many.last().map_or(0, |entry| entry.at);
    Record {
        entries: many,
        until: end,
        end,
        ..record
    }
}

#[test]
fn a_page_of_two_hundred_thousand_entries_opens_and_is_searched() {
    let mut record = long(record(), 200_000);
    record.left_out = (7, 0);
    let mut shown = shown(record);
    let left = shown.browser.text("left");
    assert!(left.contains("Left out: 7 entries before"), "{left}");
    assert_eq!(shown.browser.value("story.record.count"), 200_000);
    shown.browser.press("/");
    shown.browser.write("checkpoint");
    assert!(shown.browser.text("hits").ends_with(" of 200,000"));
    shown.browser.press("Enter");
    assert!(shown.selected().is_some());
    assert!(
        shown.browser.troubles().is_empty(),
        "{:?}",
        shown.browser.troubles()
    );
}
