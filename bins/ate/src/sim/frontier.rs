//! `ate sim frontier`: where time alone stops giving exclusion.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use holdfast_core::bounds::Bound;
use holdfast_runtime::duration::{self, DurationError};
use holdfast_sim::frontier::{Answer, Grid, answer, picture};
use serde_json::json;

use super::{ended, found};
use crate::failure::Failure;
use crate::output;
use crate::table::{self, Cell};

#[derive(Args, Debug)]
pub struct Frontier {
    /// The TTLs of leases, separated by commas; margins keep their share of them
    #[arg(
        long,
        value_name = "DURATION,...",
        value_delimiter = ',',
        default_value = "6s,12s,30s,60s",
        value_parser = ttl
    )]
    ttl: Vec<Duration>,
    /// Draw it to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Say every point as one JSON document
    #[arg(long)]
    json: bool,
}

/// The shortest TTL: below it the store's whole milliseconds are no small part of a margin any more.
const TTL_MIN: Duration = Duration::from_millis(300);

fn ttl(text: &str) -> Result<Duration, DurationError> {
    duration::at_least(TTL_MIN, text)
}

impl Frontier {
    pub fn run(self) -> Result<ExitCode, Failure> {
        let grid = Grid {
            ttls: self.ttl,
            ..Grid::default()
        };
        let answers: Vec<Answer> = grid.points().iter().map(answer).collect();
        let formula = Bound::LeaseBelieved.formula().to_string();
        if let Some(path) = &self.svg {
            found::write(path, &picture::svg(&answers, &formula)).map_err(Failure::File)?;
        }
        output::show(&match self.json {
            true => {
                let document = json!({ "holder_believes_for": formula, "points": answers });
                serde_json::to_string_pretty(&document).expect("JSON has a form for each of our values")
                    + "\n"
            }
            false => table(&answers),
        })?;
        Ok(ended(answers.iter().all(Answer::holds)))
    }
}

/// How late answers are where the table counts from them, as a part of the TTL.
const LATE: u64 = 60;

/// By TTL and drift, the longest safe pause: what is promised, the formula, what was measured however late answers
/// are, and what is left of it for one who counts from the answer.
fn table(answers: &[Answer]) -> String {
    let rows = answers.chunk_by(|a, b| (a.ttl_us, a.drift_ppm) == (b.ttl_us, b.drift_ppm));
    let row = |of: &[Answer]| -> [Cell; 6] {
        let first = &of[0];
        let ours = of.iter().filter(|answer| !answer.counts_from_answer);
        let worst = ours.map(|answer| answer.measured_us).min().flatten();
        let is_late = |answer: &&Answer| answer.counts_from_answer && answer.delay_us == answer.ttl_us / LATE;
        let late = of.iter().find(is_late).and_then(|answer| answer.measured_us);
        let share = first.drift_ppm as f64 / 1e4;
        [
            duration::show(Duration::from_micros(first.ttl_us)).into(),
            format!("{share:.2} %").into(),
            millis(first.promised_us).into(),
            millis(first.predicted_us).into(),
            millis(worst).into(),
            millis(late).into(),
        ]
    };
    let header = [
        "TTL",
        "DRIFT",
        "PROMISED",
        "FORMULA",
        "MEASURED",
        "COUNTED FROM ANSWERS TTL/60 LATE",
    ];
    table::render(header, rows.map(row).collect())
}

/// A longest pause.
fn millis(pause: Option<u64>) -> String {
    match pause {
        Some(micros) => format!("{:.1} ms", micros as f64 / 1e3),
        None => "none".to_owned(),
    }
}
