//! What a campaign has made to happen, of all that can: transitions of records, kinds of faults, and pairs of
//! them in one plan.

use crate::plan::Kind;
use holdfast_core::node::operation;
use holdfast_core::table::{ABSENT, Kind as Name, Moved, Table};
use holdfast_core::{actor, lease, licence, pull, session, worker};
use std::collections::{BTreeMap, BTreeSet};

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The transitions that records have made.
    pub moves: BTreeSet<Moved>,
    /// In how many plans each kind of fault struck.
    pub kinds: BTreeMap<Kind, u64>,
    /// In how many plans both of two kinds struck, the lesser first.
    pub pairs: BTreeMap<(Kind, Kind), u64>,
}

impl Coverage {
    /// How many pairs of different kinds there are.
    pub const PAIRS: usize = Kind::ALL.len() * (Kind::ALL.len() - 1) / 2;

    pub(super) fn add(&mut self, moves: BTreeSet<Moved>, kinds: &BTreeSet<Kind>) {
        self.moves.extend(moves);
        for (nth, kind) in kinds.iter().enumerate() {
            *self.kinds.entry(*kind).or_default() += 1;
            for other in kinds.iter().skip(nth + 1) {
                *self.pairs.entry((*kind, *other)).or_default() += 1;
            }
        }
    }

    /// Of each kind of record, how many transitions were made, and how many there are.
    pub fn by_record(&self) -> BTreeMap<&'static str, (usize, usize)> {
        let mut records: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for moved in transitions() {
            let (made, all) = records.entry(moved.record).or_default();
            *all += 1;
            *made += usize::from(self.moves.contains(&moved));
        }
        records
    }
}

/// Every transition of every record's table. Some of them only a record's own test makes: `sim/ledger.txt`.
pub fn transitions() -> BTreeSet<Moved> {
    let mut all = BTreeSet::new();
    add(&mut all, &actor::TABLE);
    add(&mut all, &worker::TABLE);
    add(&mut all, &lease::TABLE);
    add(&mut all, &pull::TABLE);
    add(&mut all, &operation::TABLE);
    add(&mut all, &session::TABLE);
    add(&mut all, &licence::TABLE);
    all
}

fn add<S: Name, E: Name>(all: &mut BTreeSet<Moved>, table: &Table<S, E>) {
    for (from, event) in table.pairs() {
        all.extend(table.targets(from, event).map(|to| Moved {
            record: table.record(),
            from: from.map_or(ABSENT, S::name),
            event: event.name(),
            to: to.map_or(ABSENT, S::name),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Recipe;
    use crate::world::run;

    #[test]
    fn what_a_run_makes_is_in_a_table_and_counts_for_its_record() {
        let plan = Recipe::small(1).plan();
        let kinds = plan.kinds();
        let moves = run(plan).moves;
        let unknown: Vec<_> = moves.difference(&transitions()).copied().collect();
        assert_eq!(unknown, []);
        let mut coverage = Coverage::default();
        coverage.add(moves.clone(), &kinds);
        let (made, all) = coverage
            .by_record()
            .values()
            .fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        assert_eq!((made, all), (moves.len(), transitions().len()));
        assert!(made > 20 && made < all, "{made} of {all}");
    }

    #[test]
    fn a_pair_is_two_kinds_in_one_plan() {
        let (a, b, c) = (Kind::NodeDies, Kind::DiskFull, Kind::StoreAway);
        let mut coverage = Coverage::default();
        coverage.add(BTreeSet::new(), &[a, b].into());
        coverage.add(BTreeSet::new(), &[b, c].into());
        assert_eq!(coverage.kinds, [(a, 1), (b, 2), (c, 1)].into());
        let pairs: Vec<_> = coverage.pairs.keys().copied().collect();
        assert_eq!(pairs, [(a.min(b), a.max(b)), (c.min(b), c.max(b))]);
    }
}
