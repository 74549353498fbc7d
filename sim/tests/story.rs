//! The record of a run.

use holdfast_sim::plan::{Plan, Recipe, SECOND};
use holdfast_sim::story::{self, Bar, Entry, Group, Kind, Page, Record, Span, Window};
use holdfast_sim::world::{Story, World};
use std::collections::BTreeMap;

fn small(seed: u64) -> Plan {
    Recipe::small(seed).plan()
}

fn numbered(record: &Record) -> impl Iterator<Item = (u32, &Entry)> {
    (record.first..).zip(&record.entries)
}

#[test]
fn a_run_that_is_recorded_is_the_run_that_is_not() {
    for seed in 0..4 {
        let plan = small(seed);
        let outcome = World::new(plan.clone(), Story::Dropped).run();
        let record = story::record(&plan, Window::WHOLE);
        assert_eq!(record.events, outcome.events, "seed {seed}");
        assert_eq!(record.end, outcome.micros, "seed {seed}");
        assert_eq!(record.verdicts, outcome.verdicts, "seed {seed}");
        assert_eq!(record.violation, outcome.violation, "seed {seed}");
        assert_eq!(record.left_out, (0, 0), "seed {seed}");
    }
}

#[test]
fn everything_follows_from_something_earlier_and_a_process_does_nothing_by_itself() {
    let record = story::record(&small(1), Window::WHOLE);
    for (number, entry) in numbered(&record) {
        if let Some(cause) = entry.cause {
            let cause = record.entry(cause).expect("nothing was left out");
            assert!(cause.at <= entry.at, "{number}: {entry:?} before {cause:?}");
        }
        match entry.kind {
            Kind::Does | Kind::Done => assert!(entry.cause.is_some(), "{number}: {entry:?}"),
            Kind::Arrives => {
                let cause = entry.cause.and_then(|cause| record.entry(cause));
                let cause = cause.unwrap_or_else(|| panic!("{number}: {entry:?}"));
                assert_ne!(cause.lane, entry.lane, "{number}: {entry:?} from {cause:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn an_order_is_followed_from_the_caller_to_the_sandbox() {
    let record = story::record(&small(1), Window::WHOLE);
    let is_up = |entry: &&Entry| entry.kind == Kind::Fact && entry.about.label == "sandbox up";
    let way_to = |up: &Entry| {
        let mut way = Vec::new();
        let mut next = up.cause;
        while let Some(entry) = next.and_then(|number| record.entry(number)) {
            let group = record.lanes[entry.lane].group;
            if way.last() != Some(&group) {
                way.push(group);
            }
            next = entry.cause;
        }
        way.reverse();
        way
    };
    use Group::*;
    // The caller asks, leases and records are the store's, the node orders its worker. (What a restarted atelet goes on
    // with begins there; and a caller may ask because of what it was answered before.)
    let is_whole = |way: &Vec<Group>| {
        let asked = way.iter().rposition(|group| *group == Callers);
        asked.map(|asked| &way[asked..]).is_some_and(|way| {
            way.windows(3).any(|way| way == [Replica, Store, Replica])
                && way.ends_with(&[Replica, Node, Worker])
        })
    };
    let ways: Vec<Vec<Group>> = record.entries.iter().filter(is_up).map(way_to).collect();
    assert!(ways.iter().any(is_whole), "{ways:?}");
}

#[test]
fn a_belief_is_covered_by_its_lease_while_clocks_keep_to_the_declared_drift() {
    let plan = Plan {
        faults: Vec::new(),
        ..small(1)
    };
    let record = story::record(&plan, Window::WHOLE);
    let of_actors = |span| {
        let bars = record.bars.iter();
        let is_so = |bar: &&Bar| bar.span == span && record.lanes[bar.lane].group == Group::Actor;
        bars.filter(is_so).collect::<Vec<_>>()
    };
    let leases = of_actors(Span::Lease);
    let beliefs = of_actors(Span::Belief);
    assert!(beliefs.len() > 50, "{}", beliefs.len());
    let end = |bar: &Bar| bar.until.unwrap_or(record.end);
    for belief in beliefs {
        assert_eq!(belief.covered, None, "{belief:?}");
        // It begins when the answer comes, and the write that gives the lease back may arrive before its sender hears.
        let covers = |lease: &&&Bar| {
            lease.about.actor == belief.about.actor && lease.from <= belief.from && end(belief) <= end(lease)
        };
        assert!(leases.iter().any(|lease| covers(&lease)), "{belief:?}");
    }
}

#[test]
fn what_lasts_on_one_track_does_not_overlap() {
    let record = story::record(&small(2), Window::WHOLE);
    let mut ends: BTreeMap<(usize, Span), u64> = BTreeMap::new();
    for bar in &record.bars {
        assert!(bar.until.is_none_or(|until| bar.from <= until), "{bar:?}");
        if matches!(bar.span, Span::Runs | Span::State | Span::Sandbox | Span::Act) {
            let last = ends.insert((bar.lane, bar.span), bar.until.unwrap_or(u64::MAX));
            assert!(last.is_none_or(|last| last <= bar.from), "{bar:?}");
        }
    }
    assert!(!ends.is_empty());
}

#[test]
fn a_window_has_what_it_is_asked_for_and_says_what_it_leaves_out() {
    let whole = story::record(&small(1), Window::WHOLE);
    let window = Window {
        from: 20 * SECOND,
        until: 40 * SECOND,
        ..Window::WHOLE
    };
    let part = story::record(&small(1), window);
    let is_in = |at: u64| (window.from..=window.until).contains(&at);
    let expected: Vec<_> = numbered(&whole).filter(|(_, entry)| is_in(entry.at)).collect();
    assert!(numbered(&part).eq(expected.iter().copied()));
    let left = part.left_out;
    assert_eq!(left.0 + left.1, (whole.entries.len() - part.entries.len()) as u64);
    assert_eq!(
        (part.from, part.until, part.end),
        (window.from, window.until, whole.end)
    );
    for bar in &part.bars {
        assert!(
            bar.from <= window.until && bar.until.is_none_or(|until| until >= window.from),
            "{bar:?}"
        );
    }
}

#[test]
fn of_a_long_run_the_end_is_kept() {
    let whole = story::record(&small(1), Window::WHOLE);
    let window = Window {
        entries: 500,
        ..Window::WHOLE
    };
    let part = story::record(&small(1), window);
    assert_eq!(part.entries, whole.entries[whole.entries.len() - 500..]);
    assert_eq!(part.left_out, (whole.entries.len() as u64 - 500, 0));
    assert_eq!(part.from, part.entries[0].at);
}

#[test]
fn the_same_plan_makes_the_same_page() {
    let page = || Page::of(&story::record(&small(3), Window::WHOLE));
    assert!(page() == page());
}
