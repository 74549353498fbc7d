//! What a run came to: for people, and as a document whose fields stay.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::load::Pace;
use super::process::Used;
use super::run::Run;
use super::tally::{Calls, Tally, Times};
use crate::table::{self, Cell};

/// What a run came to. Times are microseconds, unless their names say otherwise.
#[derive(Debug, Serialize)]
pub struct Report {
    endpoint: String,
    mix: String,
    clients: usize,
    connections: usize,
    /// Calls per second that were due; none in a closed loop.
    rate: Option<f64>,
    actors: usize,
    warm_up_seconds: f64,
    measured_seconds: f64,
    is_interrupted: bool,
    /// Calls that were due and have never been made.
    overdue: u64,
    calls: BTreeMap<&'static str, Figures>,
    total: Figures,
    processes: Vec<Costs>,
}

/// Calls of one kind.
#[derive(Debug, Serialize)]
struct Figures {
    count: u64,
    per_second: f64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    /// Since they were due.
    latency_us: Spread,
    /// Since they were made.
    service_us: Spread,
}

#[derive(Debug, Serialize)]
struct Spread {
    mean: f64,
    p50: u64,
    p90: u64,
    p95: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// What a process has used.
#[derive(Debug, Serialize)]
struct Costs {
    id: u32,
    name: String,
    /// Of one processor: 2 are two of them.
    processors: f64,
    cpu_us_per_call: f64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
}

/// What is known at the end of a run beside its tally.
pub struct End {
    pub endpoint: String,
    pub actors: usize,
    pub measured: Duration,
    pub is_interrupted: bool,
    pub overdue: u64,
    pub used: Vec<Used>,
}

impl Report {
    pub fn new(run: &Run, tally: &Tally, end: End) -> Report {
        let seconds = end.measured.as_secs_f64().max(1e-6);
        let count = tally.total.count.max(1) as f64;
        let costs = |used: &Used| Costs {
            id: used.id,
            name: used.name.clone(),
            processors: used.cpu.as_secs_f64() / seconds,
            cpu_us_per_call: used.cpu.as_secs_f64() * 1e6 / count,
            memory_bytes: used.memory_bytes,
            memory_peak_bytes: used.memory_peak_bytes,
        };
        Report {
            endpoint: end.endpoint,
            mix: run.mix.to_string(),
            clients: run.clients(),
            connections: run.connections(),
            rate: match run.pace() {
                Pace::Closed => None,
                Pace::Every(every) => Some(1.0 / every.as_secs_f64()),
            },
            actors: end.actors,
            warm_up_seconds: run.warm_up.as_secs_f64(),
            measured_seconds: seconds,
            is_interrupted: end.is_interrupted,
            overdue: end.overdue,
            calls: tally
                .kinds
                .iter()
                .map(|(kind, calls)| (kind.name(), figures(calls, seconds)))
                .collect(),
            total: figures(&tally.total, seconds),
            processes: end.used.iter().map(costs).collect(),
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        let header = [
            "CALL",
            "COUNT",
            "PER SECOND",
            "P50",
            "P90",
            "P95",
            "P99",
            "P99.9",
            "MAX",
            "FAILED",
        ];
        let row = |name: &str, figures: &Figures| {
            let spread = &figures.latency_us;
            let times = [
                spread.p50,
                spread.p90,
                spread.p95,
                spread.p99,
                spread.p999,
                spread.max,
            ]
            .map(millis);
            let [p50, p90, p95, p99, p999, max] = times.map(Cell::from);
            [
                name.into(),
                figures.count.to_string().into(),
                format!("{:.0}", figures.per_second).into(),
                p50,
                p90,
                p95,
                p99,
                p999,
                max,
                figures.failed.to_string().into(),
            ]
        };
        let mut rows: Vec<_> = self
            .calls
            .iter()
            .map(|(name, figures)| row(name, figures))
            .collect();
        if rows.len() > 1 {
            rows.push(row("all", &self.total));
        }
        let mut text = table::render(header, rows);
        // Writing to a string cannot fail.
        let mut line = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        match self.rate {
            None => line(format!(
                "closed loop, {} clients, {:.1} s, {} actors",
                self.clients, self.measured_seconds, self.actors
            )),
            Some(rate) => line(format!(
                "open loop, {rate:.0} calls due per second, {:.1} s, {} actors; times count from when a call was due",
                self.measured_seconds, self.actors
            )),
        }
        if self.overdue > 0 {
            line(format!(
                "{} calls were due and have not been made: neither server nor clients keep up with this rate",
                self.overdue
            ));
        }
        for (name, figures) in &self.calls {
            for (code, count) in &figures.errors {
                line(format!("{name}: {count} {code}"));
            }
        }
        for costs in &self.processes {
            line(format!(
                "{} ({}): {:.2} processors, {:.0} us per call, {:.1} MiB, {:.1} MiB at most",
                costs.name,
                costs.id,
                costs.processors,
                costs.cpu_us_per_call,
                mebibytes(costs.memory_bytes),
                mebibytes(costs.memory_peak_bytes)
            ));
        }
        if self.is_interrupted {
            line("interrupted".to_owned());
        }
        text
    }
}

fn figures(calls: &Calls, seconds: f64) -> Figures {
    Figures {
        count: calls.count,
        per_second: calls.count as f64 / seconds,
        failed: calls.failed(),
        errors: calls.errors.clone(),
        latency_us: spread(&calls.latency),
        service_us: spread(&calls.service),
    }
}

fn spread(times: &Times) -> Spread {
    Spread {
        mean: times.mean(),
        p50: times.quantile(0.5),
        p90: times.quantile(0.9),
        p95: times.quantile(0.95),
        p99: times.quantile(0.99),
        p999: times.quantile(0.999),
        max: times.max(),
    }
}

fn millis(micros: u64) -> String {
    format!("{:.2} ms", micros as f64 / 1e3)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
