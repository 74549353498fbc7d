//! How many inputs per second one core of the machine gets through, and whether that depends on how much it
//! has in hand.
//!
//! ```text
//! cargo bench -p holdfast-core --bench throughput                        # all mixes, all sizes
//! cargo bench -p holdfast-core --bench throughput -- heartbeats 1k 100k  # one mix, two sizes
//! ```
//!
//! An input is one call of `handle` or `handle_timeout`, together with taking (and dropping) the outputs that
//! follow from it. Every mix is driven as `holdfast_runtime::driver` drives: sleep until `poll_timeout` or the
//! next answer, whichever is first, in virtual time. Each size is measured on a machine of its own. Time is that
//! of the processor and not of the wall, so that neighbours disturb less; what they do to the caches is in it.
//! So the figure is that of the fastest of several stretches, each of which goes through everything there is.
//! Memory is asked for in huge pages, as `docs/operating.md` advises for `ateapi`: with `GLIBC_TUNABLES` set to
//! anything else, even to nothing, it is as the allocator likes it.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "this is no part of the core: it measures with a clock, keeps a store of its own and prints"
)]

mod driver;
mod heartbeats;
mod lifecycle;
mod world;

use rustix::time::{ClockId, clock_gettime};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// So many stretches are measured. The figure is that of the fastest: neighbours only ever make it slower.
const STRETCHES: usize = 7;

/// Inputs, and the time that they took.
#[derive(Clone, Copy, Default)]
struct Measured {
    inputs: u64,
    took: Duration,
}

impl Measured {
    /// Runs `work` with the clock running; it says how many inputs it gave. (It is a function of its own for those
    /// who count what happens in it, as `callgrind --toggle-collect='*Measured*time*'` does.)
    #[inline(never)]
    fn time(&mut self, work: impl FnOnce() -> u64) {
        let before = processor_time();
        self.inputs += work();
        self.took += processor_time().saturating_sub(before);
    }

    fn nanos_per_input(&self) -> f64 {
        self.took.as_secs_f64() * 1e9 / self.inputs as f64
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::from_secs(now.tv_sec as u64) + Duration::from_nanos(now.tv_nsec as u64)
}

struct Mix {
    name: &'static str,
    about: &'static str,
    run: fn(usize) -> [Measured; STRETCHES],
}

const MIXES: [Mix; 4] = [
    Mix {
        name: "heartbeats",
        about: "SIZE leases renewed every 10 s on SIZE workers, whose nodes (10 workers each) report every 30 s",
        run: heartbeats::both,
    },
    Mix {
        name: "renewals",
        about: "the leases of the mix above alone: a wake-up and the store's answer for each renewal",
        run: heartbeats::renewals,
    },
    Mix {
        name: "reports",
        about: "the nodes of the mix above alone: a report of 10 workers and the store's answer for each node",
        run: heartbeats::reports,
    },
    Mix {
        name: "lifecycle",
        about: "create, resume, suspend, delete: SIZE actors, SIZE/10 workers of which half are taken, \
                16 + SIZE/1000 cycles at once",
        run: lifecycle::cycles,
    },
];

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Begins once more with huge pages, which the allocator can only be told from outside.
fn insist_on_huge_pages() {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if std::env::var_os(TUNABLES).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        let mut again = Command::new(program);
        again
            .args(std::env::args_os().skip(1))
            .env(TUNABLES, "glibc.malloc.hugetlb=1");
        eprintln!("no huge pages: {}", again.exec());
    }
}

fn main() {
    insist_on_huge_pages();
    let words: Vec<String> = std::env::args()
        .skip(1)
        // Cargo's own.
        .filter(|word| word != "--bench")
        .collect();
    let is_known = |word: &str| MIXES.iter().any(|mix| mix.name == word);
    let mut sizes: Vec<usize> = Vec::new();
    for word in words.iter().filter(|word| !is_known(word)) {
        match parse_size(word) {
            Some(size) => sizes.push(size),
            None => {
                eprintln!("{word}: neither a mix nor a size; mixes are {}", names());
                std::process::exit(2);
            }
        }
    }
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let is_wanted = |mix: &Mix| !words.iter().any(|w| is_known(w)) || words.iter().any(|w| w == mix.name);
    for mix in MIXES.iter().filter(|mix| is_wanted(mix)) {
        println!("\n{}: {}", mix.name, mix.about);
        println!(
            "{:>10} {:>14} {:>10} {:>7} {:>10} {:>12}",
            "size", "inputs/s", "ns/input", "ratio", "median ns", "all inputs"
        );
        let mut smallest = None;
        for size in &sizes {
            let stretches = (mix.run)(*size);
            let inputs: u64 = stretches.iter().map(|stretch| stretch.inputs).sum();
            let mut nanos = stretches.map(|stretch| stretch.nanos_per_input());
            nanos.sort_by(f64::total_cmp);
            let (best, median) = (nanos[0], nanos[STRETCHES / 2]);
            let ratio = best / *smallest.get_or_insert(best);
            println!(
                "{:>10} {:>14.0} {best:>10.0} {ratio:>7.2} {median:>10.0} {inputs:>12}",
                spell(*size),
                1e9 / best
            );
        }
    }
}

fn names() -> String {
    MIXES.map(|mix| mix.name).join(", ")
}

fn parse_size(word: &str) -> Option<usize> {
    let (digits, unit) = match word.strip_suffix(['k', 'M']) {
        Some(digits) if word.ends_with('k') => (digits, 1_000),
        Some(digits) => (digits, 1_000_000),
        None => (word, 1),
    };
    let count: usize = digits.parse().ok()?;
    count.checked_mul(unit).filter(|size| *size >= 100)
}

fn spell(size: usize) -> String {
    match size {
        size if size % 1_000_000 == 0 => format!("{}M", size / 1_000_000),
        size if size % 1_000 == 0 => format!("{}k", size / 1_000),
        size => size.to_string(),
    }
}
