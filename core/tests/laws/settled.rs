//! A report that says what the one before said is not read again. Nobody can tell: a registry that cannot see
//! that two reports are the same, because each names its workers the other way round, wishes for the same and
//! offers the same.

use crate::history::{Happening, Subject as _, Verdict, fails, holds, play_one};
use crate::registry::{News, Rows, Subject};
use holdfast_core::id::{NodeName, WorkerKey};
use holdfast_core::machine::Machine;
use holdfast_core::registry::{Registry, Report, Sighting, Wish};
use holdfast_core::time::Instant;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type History = crate::history::History<News>;

/// The history, except that after whatever happens every node says again what it said last.
fn insisted(history: History, with_sessions: bool) -> History {
    let mut latest: BTreeMap<NodeName, Report> = BTreeMap::new();
    let mut events = Vec::new();
    for (now, mut happening) in history {
        match &mut happening {
            Happening::Input(News::Reported(report)) => {
                begin_session(report, with_sessions);
                report.node.sequence *= ROOM;
                let known = latest
                    .entry(report.node.name.clone())
                    .or_insert_with(|| report.clone());
                if report.node.sequence >= known.node.sequence {
                    keep_naming(report, &known.workers);
                    *known = report.clone();
                }
            }
            Happening::Input(News::Heard(row)) => {
                row.sequence *= ROOM;
                if let Some(known) = latest.get_mut(&row.name) {
                    row.session = known.node.session;
                    row.lapsed = known.node.lapsed;
                    known.node.sequence = known.node.sequence.max(row.sequence);
                }
            }
            _ => {}
        }
        events.push((now, happening));
        for report in latest.values_mut() {
            report.node.sequence += 1;
            events.push((now, Happening::Input(News::Reported(report.clone()))));
        }
    }
    events.into_iter().collect()
}

/// More repetitions than this fit between no two numbers of a history's own reports.
const ROOM: u64 = 1_000;

/// Every few reports the node is in its next session, and some of what it hosts waits to go on under it.
fn begin_session(report: &mut Report, with_sessions: bool) {
    if with_sessions {
        let sequence = report.node.sequence;
        report.node.session = 1 + sequence / 4;
        report.node.lapsed = report.node.session - sequence % 2;
        for sighting in &mut report.workers {
            let is_old = sighting.highest_fence.0 % 2;
            if let Some(hosting) = &mut sighting.hosting {
                hosting.session = report.node.session - is_old;
            }
        }
    }
}

/// Most reports name what was named before as well, so that there is an order in which they can do it.
fn keep_naming(report: &mut Report, before: &[Sighting]) {
    if !report.node.sequence.is_multiple_of(3) {
        let named: BTreeSet<WorkerKey> = report.workers.iter().map(|s| s.key.clone()).collect();
        let unnamed = before.iter().filter(|s| !named.contains(&s.key));
        report.workers.extend(unnamed.cloned());
    }
}

/// In order of the workers, or the other way round.
fn turned(mut report: Report, is_other_way_round: bool) -> Report {
    let keys: BTreeSet<&WorkerKey> = report.workers.iter().map(|sighting| &sighting.key).collect();
    // Of two words about one worker the later one counts: their order means something.
    if keys.len() == report.workers.len() {
        report.workers.sort_by(|a, b| a.key.cmp(&b.key));
        if is_other_way_round {
            report.workers.reverse();
        }
    }
    report
}

fn offered(registry: &Registry) -> BTreeSet<WorkerKey> {
    let pools = [("ns".into(), "pool".into())];
    let mut offered = BTreeSet::new();
    while let Some(worker) = registry.place(&pools, None, &offered, 11) {
        offered.insert(worker.key.clone());
    }
    offered
}

fn sorted(wishes: Vec<Wish>) -> Vec<String> {
    let mut wishes: Vec<String> = wishes.iter().map(|wish| format!("{wish:?}")).collect();
    wishes.sort();
    wishes
}

fn law<M>(fresh: M, history: History) -> Verdict
where
    M: Machine<Input = News, Output = Wish> + AsRef<Registry> + Clone,
{
    let (mut plain, mut other) = (fresh.clone(), fresh);
    let mut is_other_way_round = false;
    for (now, happening) in history {
        let mut same = happening.clone();
        if let Happening::Input(News::Reported(report)) = same {
            is_other_way_round = !is_other_way_round;
            same = Happening::Input(News::Reported(turned(report, is_other_way_round)));
        }
        let wishes = sorted(play_one(&mut plain, now, happening.clone()));
        let theirs = sorted(play_one(&mut other, now, same));
        prop_assert_eq!(wishes, theirs, "{:?}", happening);
        prop_assert_eq!(
            offered(plain.as_ref()),
            offered(other.as_ref()),
            "{:?}",
            happening
        );
    }
    Ok(())
}

impl AsRef<Registry> for Rows {
    fn as_ref(&self) -> &Registry {
        &self.0
    }
}

#[test]
fn a_report_that_is_not_read_again_would_have_changed_nothing() {
    holds::<Subject>(|history| law(Subject::fresh(&crate::history::EXACT), insisted(history, false)));
}

#[test]
fn nor_would_one_under_a_session_that_lapses_and_begins_anew() {
    holds::<Subject>(|history| law(Subject::fresh(&crate::history::EXACT), insisted(history, true)));
}

/// A registry that never reads a report again, even when rows have changed since or something is still to be done.
#[derive(Clone)]
struct Deaf {
    rows: Rows,
    said: BTreeMap<NodeName, Vec<Sighting>>,
}

impl AsRef<Registry> for Deaf {
    fn as_ref(&self) -> &Registry {
        &self.rows.0
    }
}

impl Machine for Deaf {
    type Input = News;
    type Output = Wish;
    type Timer = ();

    fn handle(&mut self, now: Instant, news: News) {
        if let News::Reported(report) = &news {
            let before = self.said.insert(report.node.name.clone(), report.workers.clone());
            if before.as_ref() == Some(&report.workers) {
                return;
            }
        }
        self.rows.handle(now, news);
    }

    fn poll_output(&mut self) -> Option<Wish> {
        self.rows.poll_output()
    }

    fn poll_timeout(&self) -> Option<(Instant, ())> {
        self.rows.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.rows.handle_timeout(now);
    }
}

#[test]
fn a_registry_that_never_reads_a_report_again_is_found_out() {
    let deaf = || Deaf {
        rows: Subject::fresh(&crate::history::EXACT),
        said: BTreeMap::new(),
    };
    fails::<Subject>(|history| law(deaf(), insisted(history, false)));
}
