//! The switch of every mutant in this copy of the core: one is on, or none.
//!
//! `HOLDFAST_MUTANT` has the number of the one that is. `HOLDFAST_MUTANTS_SEEN` names a file to which the number of
//! each switch that is asked for is appended, once.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

const SWITCHES_MAX: usize = 1 << 14;
const UNREAD: usize = usize::MAX;
const NOTING: usize = usize::MAX - 1;

static ON: AtomicUsize = AtomicUsize::new(UNREAD);
static SEEN: [AtomicBool; SWITCHES_MAX] = [const { AtomicBool::new(false) }; SWITCHES_MAX];

/// Whether this mutant is on.
#[inline]
pub fn on(number: usize) -> bool {
    let on = ON.load(Relaxed);
    if on < SWITCHES_MAX { on == number } else { ask(number) }
}

#[cold]
#[inline(never)]
fn ask(number: usize) -> bool {
    if ON.load(Relaxed) == UNREAD {
        ON.store(read(), Relaxed);
        return on(number);
    }
    if !SEEN[number].swap(true, Relaxed) {
        let notes = std::env::var_os("HOLDFAST_MUTANTS_SEEN").expect("a file to note switches in");
        let file = OpenOptions::new().append(true).create(true).open(notes);
        let line = std::format!("{number}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("it can be written");
    }
    false
}

fn read() -> usize {
    if std::env::var_os("HOLDFAST_MUTANTS_SEEN").is_some() {
        return NOTING;
    }
    let on = std::env::var("HOLDFAST_MUTANT").map_or(0, |number| number.parse().expect("a number"));
    assert!(on < SWITCHES_MAX, "there are fewer switches than {on}");
    on
}
