//! The catalogue, as `docs/museum.md` has it: a page that is written by the command which measures, and read by the
//! test that hunts.

use super::{ALL, Exhibit, Measure};
use std::fmt::Write;

/// How many starting points there are.
pub const STARTS: u64 = 15;
/// How many plans are played from each at most.
pub const MOST: u64 = 3_000;

const HEAD: &str = "\
# The museum of known bugs

<!-- Written by `cargo run --release -p holdfast-sim --example museum -- table`; a test looks whether it is as the museum says. -->

Whoever says that a simulator finds nothing has to show that it would find something. Each of these bugs hurt people. Each can be put
into a simulated world, in front of a core that is the one that ships ([how](../sim/src/museum.rs)), and each is found.

*Breaks* are the invariants that the bug's harm breaks, whichever is seen first (`table`: no row of a record's table
explains a write). *Hunted with* is what strikes: the small storms are those of every seed, with a random subset of all
faults. *Seeds* is how many plans it takes: the median, and the worst, of fifteen starting points a thousand seeds apart;
*found by* and *at* are what found it first, and the seed, from zero on. A plan that goes wrong without the bug
counts for nothing.

```
alias museum='cargo run --release -p holdfast-sim --example museum --'
museum list                       # what is on show
museum hunt                       # hunts every bug from seed 0 on
museum hunt watcher               # those whose names contain this
museum replay no-takeover 19      # the end of the story of one plan with the bug in it
museum table                      # measures, and writes this page
```

";

const TITLES: &str = "\
| bug | what is wrong | who had it | breaks | hunted with | found by | at | seeds: median | worst |
|---|---|---|---|---|---|---|---|---|
";

/// What was measured of an exhibit, as the page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// A seed that finds it.
    pub seed: u64,
    /// How many plans it took at the worst.
    pub worst: u64,
}

/// The page.
pub fn page(rows: &[(&Exhibit, Measure)]) -> String {
    let mut page = format!("{HEAD}{TITLES}");
    for (exhibit, measure) in rows {
        let (first, median, worst) = (&measure.first, measure.median(), measure.worst());
        let (by, seed) = (first.violation.invariant, first.seed);
        let _ = writeln!(page, "{} {by} | {seed} | {median} | {worst} |", fixed(exhibit));
    }
    page
}

/// What the page says of an exhibit whatever was measured: the begin of its row.
pub fn fixed(exhibit: &Exhibit) -> String {
    let Exhibit {
        name, what, had_by, ..
    } = exhibit;
    let breaks = exhibit.breaks.join(", ");
    format!("| `{name}` | {what} | {had_by} | {breaks} | {} |", exhibit.hunt)
}

/// What a page says was measured of an exhibit.
pub fn measured(page: &str, exhibit: &Exhibit) -> Option<Measured> {
    let row = page.lines().find_map(|line| line.strip_prefix(&fixed(exhibit)))?;
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [_, seed, _, worst, ..] = cells[..] else {
        return None;
    };
    Some(Measured {
        seed: seed.parse().ok()?,
        worst: worst.parse().ok()?,
    })
}

/// What a page says of no exhibit that there is.
pub fn strangers(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let is_known = |line: &&str| ALL.iter().any(|exhibit| line.starts_with(&fixed(exhibit)));
    rows.filter(|line| !is_known(line)).collect()
}
