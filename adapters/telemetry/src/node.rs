//! The node machine: what it hears and asks for, counted.

use std::collections::BTreeMap;

use holdfast_core::id::{EffectId, RequestId};
use holdfast_core::node::{Input, Output, Work};
use holdfast_core::pull::{self, Attempt};
use holdfast_core::registry::Report;
use holdfast_core::session::Answered;
use holdfast_core::time::{Duration, Instant};
use holdfast_core::worker::Duty;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use crate::replica::names;
use crate::rpc::durations;
use crate::{Health, Telemetry};

/// How many intervals between reports may pass without a move before a node counts as stuck.
const INTERVALS_MISSED_MAX: u32 = 10;
const OUTCOMES: [&str; 2] = ["ok", "failed"];
const STEPS: [&str; 9] = [
    "clear", "fetch", "assemble", "boot", "thaw", "capture", "save", "upload", "stop",
];
/// What a worker may be; each is in one of these states.
const STATES: [&str; 4] = ["free", "hosting", "draining", "silent"];

type Times<const N: usize> = Family<[(&'static str, &'static str); N], Histogram, fn() -> Histogram>;
type Counts = Family<[(&'static str, &'static str); 1], Counter>;

/// What is counted of a node.
pub struct Watching {
    operations: Times<2>,
    steps: Times<2>,
    pulls: Times<1>,
    pulled: Counter,
    reports: Counts,
    workers: Family<[(&'static str, &'static str); 1], Gauge>,
    session: Gauge,
    health: Health,
    orders: BTreeMap<RequestId, (Instant, &'static str)>,
    works: BTreeMap<EffectId, (Instant, &'static str)>,
    attempts: BTreeMap<Attempt, (Instant, u64)>,
    has_begun: bool,
    moves_within: Duration,
}

impl Watching {
    /// A node that reports so often.
    pub fn new(telemetry: &Telemetry, report_every: Duration) -> Watching {
        let health = telemetry.health().clone();
        telemetry.register(|registry| {
            let operations: Times<2> = Family::new_with_constructor(durations as fn() -> Histogram);
            let help = "Orders, from when they came to their answers, by verb and code; CANCELLED if the caller left";
            registry.register_with_unit(
                "holdfast_node_operation_duration",
                help,
                Unit::Seconds,
                operations.clone(),
            );
            let steps: Times<2> = Family::new_with_constructor(durations as fn() -> Histogram);
            registry.register_with_unit(
                "holdfast_node_step_duration",
                "Steps of operations, by step and outcome",
                Unit::Seconds,
                steps.clone(),
            );
            let pulls: Times<1> = Family::new_with_constructor(durations as fn() -> Histogram);
            registry.register_with_unit(
                "holdfast_image_pull_duration",
                "Attempts at images, by outcome",
                Unit::Seconds,
                pulls.clone(),
            );
            // What can fail is there from the beginning: what begins with one has not grown for Prometheus.
            for outcome in OUTCOMES {
                for step in STEPS {
                    drop(steps.get_or_create(&[("step", step), ("outcome", outcome)]));
                }
                drop(pulls.get_or_create(&[("outcome", outcome)]));
            }
            let pulled = Counter::default();
            registry.register_with_unit(
                "holdfast_image_pulled",
                "What came from registries",
                Unit::Bytes,
                pulled.clone(),
            );
            let reports = Counts::default();
            registry.register("holdfast_node_reports", "Reports to the control plane, by outcome", reports.clone());
            for outcome in ["granted", "over", "failed"] {
                drop(reports.get_or_create(&[("outcome", outcome)]));
            }
            let workers = Family::<[(&'static str, &'static str); 1], Gauge>::default();
            registry.register("holdfast_node_workers", "Workers of this node, by state", workers.clone());
            for state in STATES {
                workers.get_or_create(&[("state", state)]).set(0);
            }
            let session = Gauge::default();
            let help = "Whether the last report was answered with a session; without one actors are frozen in time";
            registry.register("holdfast_node_session_granted", help, session.clone());
            Watching {
                operations,
                steps,
                pulls,
                pulled,
                reports,
                workers,
                session,
                health,
                orders: BTreeMap::new(),
                works: BTreeMap::new(),
                attempts: BTreeMap::new(),
                has_begun: false,
                moves_within: report_every.saturating_mul(INTERVALS_MISSED_MAX),
            }
        })
    }

    /// The machine moves.
    pub fn moved(&mut self, now: Instant) {
        if self.has_begun {
            return self.health.moved(now);
        }
        self.has_begun = true;
        self.health.expect_moves(now, self.moves_within);
    }

    /// It hears this.
    pub fn heard(&mut self, now: Instant, input: &Input) {
        self.moved(now);
        match input {
            Input::Order(id, order) => {
                self.orders.insert(*id, (now, names::verb(&order.verb)));
            }
            Input::CallerGone(id) => self.answered(now, *id, "CANCELLED"),
            Input::Worked(effect, result) => {
                if let Some((began, step)) = self.works.remove(effect) {
                    let labels = [("step", step), ("outcome", outcome(result.is_ok()))];
                    self.steps
                        .get_or_create(&labels)
                        .observe(now.since(began).as_secs_f64());
                }
            }
            Input::Pull(pull::Input::Progress(attempt, bytes)) => self.arrived(*attempt, *bytes),
            Input::Pull(pull::Input::Ended(attempt, result)) => {
                if let Some((began, _)) = self.attempts.remove(attempt) {
                    let pulls = self.pulls.get_or_create(&[("outcome", outcome(result.is_ok()))]);
                    pulls.observe(now.since(began).as_secs_f64());
                }
            }
            Input::Reported(answer) => {
                let (outcome, is_granted) = match answer {
                    Ok(Answered::Granted(_)) => ("granted", true),
                    Ok(Answered::Over { .. }) => ("over", false),
                    Err(_) => ("failed", false),
                };
                self.session.set(i64::from(is_granted));
                self.reports.get_or_create(&[("outcome", outcome)]).inc();
            }
            _ => {}
        }
    }

    /// It asks for this.
    pub fn asked(&mut self, now: Instant, output: &Output) {
        match output {
            Output::Reply(id, reply) => {
                let code = reply
                    .as_ref()
                    .err()
                    .map_or("OK", |failure| names::code(failure.code));
                self.answered(now, *id, code);
            }
            Output::Work(effect, work, _) => {
                self.works.insert(*effect, (now, step(work)));
            }
            Output::Cancel(effect) => {
                self.works.remove(effect);
            }
            Output::Pull(_, attempt) => {
                self.attempts.insert(*attempt, (now, 0));
            }
            Output::CancelPull(attempt) => {
                self.attempts.remove(attempt);
            }
            Output::Report(report) => self.count(report),
            _ => {}
        }
    }

    fn answered(&mut self, now: Instant, id: RequestId, code: &'static str) {
        if let Some((began, verb)) = self.orders.remove(&id) {
            let operations = self.operations.get_or_create(&[("verb", verb), ("code", code)]);
            operations.observe(now.since(began).as_secs_f64());
        }
    }

    /// An attempt says how much has come so far.
    fn arrived(&mut self, attempt: Attempt, bytes: u64) {
        if let Some((_, before)) = self.attempts.get_mut(&attempt) {
            self.pulled.inc_by(bytes.saturating_sub(*before));
            *before = bytes.max(*before);
        }
    }

    fn count(&self, report: &Report) {
        let mut counts = STATES.map(|state| (state, 0));
        for worker in &report.workers {
            let state = match (worker.is_silent, worker.duty, &worker.hosting) {
                (true, ..) => 3,
                (false, Duty::Draining, _) => 2,
                (false, _, Some(_)) => 1,
                (false, _, None) => 0,
            };
            counts[state].1 += 1;
        }
        for (state, count) in counts {
            self.workers.get_or_create(&[("state", state)]).set(count);
        }
    }
}

/// What a step is called.
pub fn step(work: &Work) -> &'static str {
    match work {
        Work::Clear => "clear",
        Work::Fetch => "fetch",
        Work::Assemble => "assemble",
        Work::Boot { .. } => "boot",
        Work::Thaw { .. } => "thaw",
        Work::Capture => "capture",
        Work::Save(_) => "save",
        Work::Upload => "upload",
        Work::Stop => "stop",
    }
}

fn outcome(is_ok: bool) -> &'static str {
    OUTCOMES[usize::from(!is_ok)]
}
