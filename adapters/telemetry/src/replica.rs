//! The replica machine, and beside it what it hears and asks for, counted.

pub mod names;
mod workers;

use std::collections::BTreeMap;

use holdfast_core::actor::{Setback, Status};
use holdfast_core::effect::{NodeReply, StoreError, StoreOp, StoreReply};
use holdfast_core::failure::Failure;
use holdfast_core::id::{EffectId, RequestId};
use holdfast_core::lease;
use holdfast_core::machine::Machine;
use holdfast_core::replica::{Event, Input, Output, Replica, Timer};
use holdfast_core::table::{Kind, Moved};
use holdfast_core::time::Instant;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::workers::Workers;
use crate::health::Readiness;
use crate::rpc::durations;
use crate::{Health, Telemetry};

/// How many renewals of its session a replica may miss before it counts as stuck: it moves at each of them.
const RENEWALS_MISSED_MAX: u32 = 30;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counts<const N: usize> = Family<Labels<N>, Counter>;
type Times<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The replica machine, watched.
pub struct Watched {
    replica: Replica,
    metrics: Metrics,
    health: Health,
    now: Instant,
    has_begun: bool,
    stores: BTreeMap<EffectId, (Instant, Note)>,
    calls: BTreeMap<EffectId, (Instant, &'static str)>,
    workflows: BTreeMap<RequestId, (Instant, &'static str)>,
    workers: Workers,
    settings: holdfast_core::settings::Settings,
}

/// What is to be known of a store operation when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Note {
    operation: &'static str,
    about: About,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Acquisition {
        is_takeover: bool,
    },
    Renewal,
    /// A worker is promised to an actor.
    Placement,
    /// A worker's row begins.
    Registration,
    /// A worker's row ends.
    Removal,
    /// An actor is written in this state.
    Actor(&'static str),
    Session,
    Nothing,
}

struct Metrics {
    acquisitions: Counts<1>,
    takeovers: Counter,
    renewals: Counts<1>,
    losses: Counts<1>,
    leases: Gauge,
    workflows: Times<2>,
    steps: Times<2>,
    store: Times<2>,
    placements: Counts<1>,
    settled: Counts<1>,
    setbacks: Counts<1>,
    actors: Counts<1>,
    discards: Counts<1>,
}

impl Metrics {
    fn new(registry: &mut Registry) -> Metrics {
        // All that can be counted is there from the beginning: what begins with one has not grown for Prometheus.
        fn counts(
            registry: &mut Registry,
            name: &str,
            help: &str,
            label: &'static str,
            values: &[&'static str],
        ) -> Counts<1> {
            let family = Counts::default();
            registry.register(name, help, family.clone());
            for value in values {
                drop(family.get_or_create(&[(label, *value)]));
            }
            family
        }
        fn times<const N: usize>(registry: &mut Registry, name: &str, help: &str) -> Times<N> {
            let family: Times<N> = Family::new_with_constructor(durations);
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        }
        let takeovers = Counter::default();
        registry.register(
            "holdfast_lease_takeovers",
            "Leases of dead replicas that this one has taken over",
            takeovers.clone(),
        );
        let leases = Gauge::default();
        registry.register(
            "holdfast_leases_held",
            "Leases that are believed in",
            leases.clone(),
        );
        Metrics {
            acquisitions: counts(
                registry,
                "holdfast_lease_acquisitions",
                "Attempts to take a lease",
                "outcome",
                &["granted", "held", "failed"],
            ),
            takeovers,
            renewals: counts(
                registry,
                "holdfast_lease_renewals",
                "Attempts to renew a lease",
                "outcome",
                &["renewed", "not_owner", "failed"],
            ),
            losses: counts(
                registry,
                "holdfast_lease_losses",
                "Leases that were lost while they were needed",
                "cause",
                &["not_owner", "expired", "granted_too_late"],
            ),
            leases,
            workflows: times(
                registry,
                "holdfast_workflow_duration",
                "From a caller's request to its verdict",
            ),
            steps: times(registry, "holdfast_node_call_duration", "Calls to nodes"),
            store: times(
                registry,
                "holdfast_store_operation_duration",
                "Operations on the store",
            ),
            placements: counts(
                registry,
                "holdfast_placements",
                "Attempts to place an actor on a worker",
                "outcome",
                &["placed", "raced", "no_free_worker", "no_pool"],
            ),
            settled: counts(
                registry,
                "holdfast_reconciler_workflows",
                "Workflows that nobody asked for, by how they ended",
                "verdict",
                &["OK"],
            ),
            setbacks: counts(
                registry,
                "holdfast_actor_setbacks",
                "Actors that lost state or crashed",
                "kind",
                &["lost", "crashed"],
            ),
            actors: counts(
                registry,
                "holdfast_actor_writes",
                "Actor records written, by the state they are in then",
                "state",
                &Status::ALL.map(names::status),
            ),
            discards: counts(
                registry,
                "holdfast_snapshot_discards",
                "Orders to delete snapshots",
                "outcome",
                &["done", "failed"],
            ),
        }
    }
}

impl Watched {
    /// `replica`, counted and watched from now on.
    pub fn new(
        replica: Replica,
        settings: holdfast_core::settings::Settings,
        telemetry: &Telemetry,
    ) -> Watched {
        let (metrics, workers) =
            telemetry.register(|registry| (Metrics::new(registry), Workers::new(registry)));
        Watched {
            replica,
            metrics,
            health: telemetry.health().clone(),
            now: Instant::ORIGIN,
            has_begun: false,
            stores: BTreeMap::new(),
            calls: BTreeMap::new(),
            workflows: BTreeMap::new(),
            workers,
            settings,
        }
    }

    fn moved(&mut self, now: Instant) {
        self.now = now;
        if self.has_begun {
            self.health.moved(now);
        } else {
            self.has_begun = true;
            self.health
                .expect_moves(now, self.settings.session.renew_every * RENEWALS_MISSED_MAX);
        }
        self.workers.look(now, self.replica.registry());
    }

    fn heard(&mut self, input: &Input) {
        match input {
            Input::Request(id, request) => {
                if let Some(workflow) = names::workflow(request) {
                    self.workflows.insert(*id, (self.now, workflow));
                }
            }
            Input::Stored(effect, answer) => {
                if let Some((asked, note)) = self.stores.remove(effect) {
                    self.stored(asked, note, answer);
                }
            }
            Input::Called(effect, reply) => {
                if let Some((asked, verb)) = self.calls.remove(effect) {
                    self.called(asked, verb, reply);
                }
            }
            Input::Discarded(_, result) => {
                let outcome = if result.is_ok() { "done" } else { "failed" };
                self.metrics.discards.get_or_create(&[("outcome", outcome)]).inc();
            }
            Input::Shutdown => self.health.set(Readiness::Leaving),
            // Its workflow goes on, and is nobody's wait any more.
            Input::CallerGone(id) => {
                if let Some((asked, workflow)) = self.workflows.remove(id) {
                    self.over(asked, workflow, "CANCELLED");
                }
            }
            Input::Start | Input::Watched(_) | Input::Declared(_) => {}
        }
    }

    fn asked(&mut self, output: &Output) {
        match output {
            Output::Store(effect, op) => {
                let note = Note {
                    operation: names::operation(op),
                    about: about(op),
                };
                self.stores.insert(*effect, (self.now, note));
            }
            Output::Node(effect, _, call) => {
                self.calls.insert(*effect, (self.now, names::verb(&call.verb)));
            }
            Output::Cancel(effect) => {
                if let Some((asked, verb)) = self.calls.remove(effect) {
                    self.step(asked, verb, "CANCELLED");
                }
            }
            Output::Reply(id, verdict) => {
                if let Some((asked, workflow)) = self.workflows.remove(id) {
                    self.over(asked, workflow, names::verdict(verdict.as_ref().err()));
                    if workflow == names::RESUME
                        && let Some(outcome) = verdict.as_ref().err().and_then(unplaced)
                    {
                        self.metrics
                            .placements
                            .get_or_create(&[("outcome", outcome)])
                            .inc();
                    }
                }
            }
            Output::Ready => self.health.set(Readiness::Ready),
            Output::Left => self.health.set(Readiness::Leaving),
            Output::Event(event) => self.told(event),
            Output::Discard(..) => {}
        }
    }

    fn over(&self, asked: Instant, workflow: &'static str, verdict: &'static str) {
        let labels = [("workflow", workflow), ("verdict", verdict)];
        let took = self.now.since(asked).as_secs_f64();
        self.metrics.workflows.get_or_create(&labels).observe(took);
    }

    fn stored(&mut self, asked: Instant, note: Note, answer: &Result<StoreReply, StoreError>) {
        let outcome = match answer {
            Ok(_) => "ok",
            Err(StoreError::Unavailable(_)) => "unavailable",
            Err(StoreError::Refused(_)) => "refused",
        };
        let labels = [("operation", note.operation), ("outcome", outcome)];
        let took = self.now.since(asked).as_secs_f64();
        self.metrics.store.get_or_create(&labels).observe(took);
        let metrics = &self.metrics;
        match (note.about, answer) {
            (About::Acquisition { is_takeover }, answer) => {
                let outcome = match answer {
                    Ok(StoreReply::Acquired(_)) => "granted",
                    Ok(_) => "held",
                    Err(_) => "failed",
                };
                metrics.acquisitions.get_or_create(&[("outcome", outcome)]).inc();
                if is_takeover && outcome == "granted" {
                    metrics.takeovers.inc();
                }
            }
            (About::Renewal, answer) => {
                let outcome = match answer {
                    Ok(StoreReply::Done) => "renewed",
                    Ok(_) => "not_owner",
                    Err(_) => "failed",
                };
                metrics.renewals.get_or_create(&[("outcome", outcome)]).inc();
            }
            (About::Placement, Ok(reply)) => {
                let outcome = match reply {
                    StoreReply::Done => "placed",
                    _ => "raced",
                };
                metrics.placements.get_or_create(&[("outcome", outcome)]).inc();
            }
            (About::Registration, Ok(StoreReply::Done)) => self.workers.registered(),
            (About::Removal, Ok(StoreReply::Done)) => self.workers.gone(),
            (About::Actor(state), Ok(StoreReply::Done)) => {
                metrics.actors.get_or_create(&[("state", state)]).inc();
            }
            (About::Session, answer) if self.health.readiness() != Readiness::Starting => {
                self.health.set(match answer {
                    Ok(_) => Readiness::Ready,
                    Err(_) => Readiness::StoreAway,
                });
            }
            _ => {}
        }
    }

    fn called(&self, asked: Instant, verb: &'static str, reply: &NodeReply) {
        let code = reply.as_ref().err().map(|failure| failure.code);
        self.step(asked, verb, code.map_or("OK", names::code));
    }

    fn step(&self, asked: Instant, verb: &'static str, code: &'static str) {
        let took = self.now.since(asked).as_secs_f64();
        self.metrics
            .steps
            .get_or_create(&[("call", verb), ("code", code)])
            .observe(took);
    }

    fn told(&self, event: &Event) {
        match event {
            Event::Settled { failure, .. } => {
                let outcome = names::verdict(failure.as_deref());
                self.metrics.settled.get_or_create(&[("verdict", outcome)]).inc();
            }
            Event::Setback { setback, .. } => {
                let kind = match **setback {
                    Setback::Lost { .. } => "lost",
                    Setback::Crashed { .. } => "crashed",
                };
                self.metrics.setbacks.get_or_create(&[("kind", kind)]).inc();
            }
            Event::Moved { moved, .. } => self.lease(moved),
            Event::Renewed { .. } => {}
        }
    }

    fn lease(&self, moved: &Moved) {
        let is_believed =
            |phase: &str| phase == lease::Phase::Held.name() || phase == lease::Phase::Renewing.name();
        match (is_believed(moved.from), is_believed(moved.to)) {
            (false, true) => drop(self.metrics.leases.inc()),
            (true, false) => drop(self.metrics.leases.dec()),
            _ => {}
        }
        let cause = match moved.event {
            event if event == lease::Event::NotOwner.name() => "not_owner",
            event if event == lease::Event::Expiry.name() => "expired",
            event if event == lease::Event::Granted.name() && !is_believed(moved.to) => "granted_too_late",
            _ => return,
        };
        self.metrics.losses.get_or_create(&[("cause", cause)]).inc();
    }
}

/// Why an actor could not be placed, if that is what the verdict says.
fn unplaced(failure: &Failure) -> Option<&'static str> {
    if failure.is_for_want_of_a_worker() {
        Some("no_free_worker")
    } else if failure.is_for_want_of_a_pool() {
        Some("no_pool")
    } else {
        None
    }
}

fn about(op: &StoreOp) -> About {
    match op {
        StoreOp::AcquireLease { steal, .. } => About::Acquisition {
            is_takeover: steal.is_some(),
        },
        StoreOp::RenewLease { .. } => About::Renewal,
        StoreOp::PutWorker { expect: None, .. } => About::Registration,
        StoreOp::PutWorker {
            expect: Some(before),
            worker,
        } if before.promise.is_none() && worker.hosts.is_some() => About::Placement,
        StoreOp::DeleteWorker { .. } => About::Removal,
        StoreOp::PutActor { actor, .. } => About::Actor(names::status(actor.status())),
        StoreOp::PutSession { .. } => About::Session,
        _ => About::Nothing,
    }
}

impl Machine for Watched {
    type Input = Input;
    type Output = Output;
    type Timer = Timer;

    fn handle(&mut self, now: Instant, input: Input) {
        self.moved(now);
        self.heard(&input);
        self.replica.handle(now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.replica.poll_output();
        if let Some(output) = &output {
            self.asked(output);
        }
        output
    }

    fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.replica.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.moved(now);
        self.replica.handle_timeout(now);
    }
}
