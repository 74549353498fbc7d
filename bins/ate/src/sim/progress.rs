//! How far a campaign is, on a terminal; nothing where there is none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holdfast_sim::campaign::Tally;
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Speed, covered};

/// How often it is told.
const EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    bar: ProgressBar,
    begin: Instant,
    shown: Option<Instant>,
    told: BTreeSet<u64>,
}

impl Progress {
    pub fn new(plans: u64) -> Progress {
        let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} plans, {eta} left\n{msg}")
            .expect("the template is right")
            .progress_chars("=> ");
        // It draws on standard error, and only on a terminal.
        let bar = ProgressBar::new(plans).with_style(style);
        Progress {
            bar,
            begin: Instant::now(),
            shown: None,
            told: BTreeSet::new(),
        }
    }

    /// Shows it, unless it has just been shown; what went wrong is told at once.
    pub fn show(&mut self, tally: &Tally, origin: impl Fn(u64) -> String) {
        for (number, failure) in &tally.failures {
            if self.told.insert(*number) {
                self.bar
                    .println(format!("{}: {}", origin(*number), failure.violation));
            }
        }
        let now = Instant::now();
        if self.shown.is_some_and(|shown| now - shown < EVERY) {
            return;
        }
        self.shown = Some(now);
        let speed = Speed::of(tally, now - self.begin);
        self.bar.set_position(tally.plans);
        self.bar.set_message(format!(
            "{speed}\n{}\n{} violated",
            covered(&tally.coverage),
            tally.violated
        ));
    }

    /// Leaves the terminal as it was.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
