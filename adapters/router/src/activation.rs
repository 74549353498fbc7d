//! Asking for an actor, once for all who wait for it, until it runs or time is up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use holdfast_core::failure::Code;
use holdfast_core::id::ActorKey;
use holdfast_core::time::Instant;
use holdfast_runtime::clock::Clock;
use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio::sync::watch;
use holdfast_runtime::{entropy, tokio};

use crate::{Activator, Route, RouteFailure, Settings};

/// How an activation ended.
pub(crate) type Outcome = Result<Activated, ActivationError>;

/// An actor that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activated {
    pub(crate) route: Route,
    /// How often the activator was asked.
    pub(crate) attempts: u32,
}

/// Why an actor does not run.
#[derive(Clone, Debug)]
pub(crate) enum ActivationError {
    /// Asking again does not help.
    Refused(RouteFailure),
    /// It might, but time is up. The last failure says what is in the way.
    Exhausted(RouteFailure),
}

/// All activations in progress.
pub(crate) struct Activations {
    activator: Arc<dyn Activator>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    flights: Mutex<BTreeMap<FlightKey, Flight>>,
    /// Each activation holds a receiver.
    under_way: watch::Sender<()>,
    /// From when this is triggered on, nobody is asked again.
    stopping: Shutdown,
}

/// Those who know an address to be stale must not be given the result of asking without saying so.
type FlightKey = (ActorKey, Option<SocketAddr>);
type Flight = Shared<BoxFuture<'static, Outcome>>;

/// Whose budget an activation runs on.
enum Part {
    Began,
    Joined,
}

impl Activations {
    pub(crate) fn new(
        activator: Arc<dyn Activator>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        stopping: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            activator,
            clock,
            settings,
            flights: Mutex::default(),
            under_way: watch::Sender::new(()),
            stopping,
        })
    }

    /// Resolves when no activation is under way. While the router stops, none is tried again, so that whoever puts
    /// actors to sleep after it has the last word.
    pub(crate) async fn ended(&self) {
        self.under_way.closed().await;
    }

    /// Waits until `actor` runs, at most until `deadline`.
    pub(crate) async fn activate(
        self: &Arc<Self>,
        actor: &ActorKey,
        stale: Option<SocketAddr>,
        deadline: Instant,
    ) -> Outcome {
        loop {
            let (flight, part) = self.join((actor.clone(), stale));
            let left = deadline.since(self.clock.now());
            let outcome = tokio::time::timeout(left, flight)
                .await
                .unwrap_or_else(|_| Err(ActivationError::Exhausted(timed_out(actor))));
            let has_time = self.clock.now() < deadline;
            match (part, outcome) {
                // The one who joined late has time left when the one who began has none.
                (Part::Joined, Err(ActivationError::Exhausted(_))) if has_time => {}
                (_, outcome) => return outcome,
            }
        }
    }

    fn join(self: &Arc<Self>, key: FlightKey) -> (Flight, Part) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return (flight.clone(), Part::Joined);
        }
        // On a task of its own, so that it goes on whoever of those who wait gives up.
        let landing = Landing {
            activations: Arc::clone(self),
            key: key.clone(),
        };
        let held = self.under_way.subscribe();
        let task = tokio::spawn(async move {
            let outcome = landing.activations.attempt(&landing.key).await;
            drop(held);
            outcome
        });
        let flight = async move {
            task.await
                .unwrap_or_else(|_| Err(ActivationError::Refused(broken())))
        };
        let flight = flight.boxed().shared();
        flights.insert(key, flight.clone());
        (flight, Part::Began)
    }

    async fn attempt(&self, (actor, stale): &FlightKey) -> Outcome {
        let deadline = self.clock.now().plus(self.settings.activation_budget);
        let mut pauses = Pauses::new(self.settings.first_pause);
        let mut attempts = 0;
        let mut last = None;
        loop {
            attempts += 1;
            let left = deadline.since(self.clock.now());
            let failure = match tokio::time::timeout(left, self.activator.resume(actor, *stale)).await {
                Ok(Ok(route)) => return Ok(Activated { route, attempts }),
                Ok(Err(failure)) if !failure.is_retryable() => return Err(ActivationError::Refused(failure)),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    return Err(ActivationError::Exhausted(
                        last.unwrap_or_else(|| timed_out(actor)),
                    ));
                }
            };
            tracing::debug!(%actor, attempts, code = ?failure.code, failure.message, "not running yet");
            let pause = pauses.next().max(failure.retry_after.unwrap_or_default());
            if self.clock.now().plus(pause) >= deadline {
                return Err(ActivationError::Exhausted(failure));
            }
            tokio::select! {
                biased;
                () = self.stopping.triggered() => return Err(ActivationError::Exhausted(failure)),
                () = tokio::time::sleep(pause) => last = Some(failure),
            }
        }
    }
}

/// Takes an activation off the list when it ends, even by a panic.
struct Landing {
    activations: Arc<Activations>,
    key: FlightKey,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let flights = &self.activations.flights;
        flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

/// Pauses that grow by half, each with up to a fifth added by chance so that those who failed together do
/// not come back together.
pub(crate) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration) -> Self {
        Self { next: first }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause + pause / 2;
        let thousandths = u32::try_from(entropy::fresh_u64() % 201).unwrap_or(0);
        pause + pause / 1000 * thousandths
    }
}

fn timed_out(actor: &ActorKey) -> RouteFailure {
    RouteFailure {
        code: Code::DeadlineExceeded,
        message: format!("actor {actor} is still being resumed"),
        retry_after: Some(Duration::from_secs(1)),
    }
}

fn broken() -> RouteFailure {
    RouteFailure {
        code: Code::Internal,
        message: "the activation ended without an outcome; see the router's log".to_owned(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use holdfast_runtime::clock::SystemClock;

    #[derive(Default)]
    struct Counting {
        calls: AtomicU32,
        hints: Mutex<Vec<Option<SocketAddr>>>,
    }

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    #[async_trait]
    impl Activator for Counting {
        async fn resume(&self, _: &ActorKey, stale: Option<SocketAddr>) -> Result<Route, RouteFailure> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.hints.lock().unwrap().push(stale);
            tokio::task::yield_now().await;
            Ok(Route { address: HERE })
        }
    }

    fn activations(activator: Arc<Counting>) -> (Arc<Activations>, Instant) {
        let deadline = SystemClock.now().plus(Duration::from_secs(60));
        (
            Activations::new(
                activator,
                Arc::new(SystemClock),
                Settings::default(),
                Shutdown::new(),
            ),
            deadline,
        )
    }

    #[tokio::test]
    async fn those_who_wait_for_one_actor_share_one_call() {
        let activator = Arc::new(Counting::default());
        let (activations, deadline) = activations(Arc::clone(&activator));
        let actor = ActorKey::new("team", "a");
        let waiting = (0..50).map(|_| activations.activate(&actor, None, deadline));
        let outcomes = futures_util::future::join_all(waiting).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Ok(activated) if activated.attempts == 1))
        );
        assert_eq!(activator.calls.load(Ordering::SeqCst), 1);

        activations.activate(&actor, None, deadline).await.unwrap();
        assert_eq!(
            activator.calls.load(Ordering::SeqCst),
            2,
            "a finished call is not shared"
        );
        assert!(activations.flights.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_for_different_things_do_not_share() {
        let activator = Arc::new(Counting::default());
        let (activations, deadline) = activations(Arc::clone(&activator));
        let (one, two) = (ActorKey::new("team", "a"), ActorKey::new("other", "a"));
        let waiting = [(&one, None), (&two, None), (&one, Some(HERE))];
        let waiting = waiting.map(|(actor, stale)| activations.activate(actor, stale, deadline));
        futures_util::future::join_all(waiting).await;
        assert_eq!(*activator.hints.lock().unwrap(), [None, None, Some(HERE)]);
    }

    #[tokio::test]
    async fn who_gives_up_does_not_end_it_for_the_others() {
        let activator = Arc::new(Counting::default());
        let (activations, deadline) = activations(Arc::clone(&activator));
        let actor = ActorKey::new("team", "a");
        let first = activations.activate(&actor, None, deadline).now_or_never();
        assert!(first.is_none(), "it gave up after one poll");
        activations.activate(&actor, None, deadline).await.unwrap();
        assert_eq!(activator.calls.load(Ordering::SeqCst), 1);
    }

    /// Is busy when it is first asked, for longer than anyone waits.
    #[derive(Default)]
    struct BusyOnce(AtomicU32);

    #[async_trait]
    impl Activator for BusyOnce {
        async fn resume(&self, _: &ActorKey, _: Option<SocketAddr>) -> Result<Route, RouteFailure> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(RouteFailure {
                    code: Code::Aborted,
                    message: "busy".to_owned(),
                    retry_after: Some(Duration::from_secs(3600)),
                }),
                _ => Ok(Route { address: HERE }),
            }
        }
    }

    #[tokio::test]
    async fn who_joined_late_asks_again_and_who_began_does_not() {
        let activator = Arc::new(BusyOnce::default());
        let activations = Activations::new(
            activator.clone(),
            Arc::new(SystemClock),
            Settings::default(),
            Shutdown::new(),
        );
        let deadline = SystemClock.now().plus(Duration::from_secs(60));
        let actor = ActorKey::new("team", "a");
        let [began, joined] = [(); 2].map(|()| activations.activate(&actor, None, deadline));
        let (began, joined) = futures_util::future::join(began, joined).await;
        assert!(matches!(began, Err(ActivationError::Exhausted(failure)) if failure.message == "busy"));
        assert!(joined.is_ok());
        assert_eq!(activator.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn while_the_router_stops_nothing_is_asked_for_again() {
        let (activator, stopping) = (Arc::new(BusyOnce::default()), Shutdown::new());
        let settings = Settings {
            activation_budget: Duration::from_secs(7200),
            ..Settings::default()
        };
        let activations = Activations::new(
            activator.clone(),
            Arc::new(SystemClock),
            settings,
            stopping.clone(),
        );
        let deadline = SystemClock.now().plus(Duration::from_secs(60));
        let actor = ActorKey::new("team", "a");
        let waiting = activations.activate(&actor, None, deadline);
        let stop = async {
            while activator.0.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            assert!(
                activations.ended().now_or_never().is_none(),
                "it waits to ask again"
            );
            stopping.trigger();
            activations.ended().await;
        };
        let (outcome, ()) = futures_util::future::join(waiting, stop).await;
        assert!(matches!(outcome, Err(ActivationError::Exhausted(failure)) if failure.message == "busy"));
        assert_eq!(activator.0.load(Ordering::SeqCst), 1);
    }

    struct Panicking;

    #[async_trait]
    impl Activator for Panicking {
        async fn resume(&self, _: &ActorKey, _: Option<SocketAddr>) -> Result<Route, RouteFailure> {
            panic!("a bug of the activator");
        }
    }

    #[tokio::test]
    async fn an_activator_that_panics_is_an_internal_error_and_blocks_nobody() {
        let activations = Activations::new(
            Arc::new(Panicking),
            Arc::new(SystemClock),
            Settings::default(),
            Shutdown::new(),
        );
        let deadline = SystemClock.now().plus(Duration::from_secs(60));
        let outcome = activations
            .activate(&ActorKey::new("team", "a"), None, deadline)
            .await;
        assert!(matches!(outcome, Err(ActivationError::Refused(failure)) if failure.code == Code::Internal));
        assert!(activations.flights.lock().unwrap().is_empty());
    }

    #[test]
    fn pauses_grow_by_half_and_a_little_chance() {
        let mut pauses = Pauses::new(Duration::from_millis(200));
        for base_micros in [200_000_u64, 300_000, 450_000, 675_000, 1_012_500] {
            let pause = u64::try_from(pauses.next().as_micros()).unwrap();
            assert!(
                (base_micros..=base_micros * 6 / 5).contains(&pause),
                "{pause} for {base_micros}"
            );
        }
    }

    #[test]
    fn what_may_be_tried_again_is_told_from_what_may_not() {
        let failure = |code, retry_after| RouteFailure {
            code,
            message: String::new(),
            retry_after,
        };
        assert!(failure(Code::Aborted, None).is_retryable());
        assert!(failure(Code::Unavailable, None).is_retryable());
        assert!(failure(Code::ResourceExhausted, Some(Duration::ZERO)).is_retryable());
        assert!(!failure(Code::FailedPrecondition, None).is_retryable());
        assert!(!failure(Code::Internal, None).is_retryable());
    }
}
