//! Actors that come, run, sleep and go.
//!
//! What the store, the nodes and the callers do costs more than the machine itself. So a run is recorded
//! first, and then the recorded inputs are given to a second machine that was made in the same way: only
//! that is measured. The machine is deterministic, so it asks for the same things again.

use crate::driver::{Calls, Driver, Tape};
use crate::world::{actor, actor_key, template};
use crate::{Measured, STRETCHES};
use holdfast_core::actor::Boot;
use holdfast_core::catalog::Selector;
use holdfast_core::id::{ActorKey, RequestId};
use holdfast_core::machine::Machine;
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::{Duration, Instant};
use std::collections::HashMap;

/// How many inputs are recorded.
const INPUTS: usize = 400_000;
/// The golden ratio's bits: steps by it visit actors in no order that memory would like.
const STRIDE: usize = 618_033_989;

/// What a caller waits for.
#[derive(Clone, Copy)]
enum Waits {
    Created,
    Resumed,
    Suspended,
    Deleted,
}

pub fn cycles(size: usize) -> [Measured; STRETCHES] {
    let mut tape = record(size).into_iter();
    let (mut driver, _) = prepared(size);
    [(); STRETCHES].map(|()| {
        let mut measured = Measured::default();
        let stretch: Tape = tape.by_ref().take(INPUTS / STRETCHES).collect();
        measured.time(|| {
            let inputs = stretch.len() as u64;
            for (now, input) in stretch {
                match input {
                    Some(input) => driver.machine.handle(now, input),
                    None => driver.machine.handle_timeout(now),
                }
                while let Some(output) = driver.machine.poll_output() {
                    drop(std::hint::black_box(output));
                }
            }
            inputs
        });
        measured
    })
}

/// A replica, `size` actors of which some run, and the index of the first that does not.
fn prepared(size: usize) -> (Driver, usize) {
    let workers = size / 10;
    let mut driver = Driver::new(Settings::DEFAULT, workers, Calls::Succeed);
    for index in 0..size {
        let made = actor(index);
        driver.store.actors.insert(made.key.clone(), made);
    }
    let running = workers / 2;
    for index in 0..running {
        driver.ask(Request::Resume(actor_key(index), Boot::Golden));
        driver.settle();
    }
    for (id, verdict) in driver.verdicts.drain(..) {
        assert!(verdict.is_ok(), "{id}: {verdict:?}");
    }
    (driver, running)
}

fn record(size: usize) -> Tape {
    let (mut driver, running) = prepared(size);
    driver.tape = Some(Tape::with_capacity(INPUTS + 1000));
    let mut callers = Callers {
        waiting: HashMap::new(),
        asleep: running..size,
        turn: 0,
    };
    for _ in 0..16 + size / 1000 {
        callers.begin(&mut driver);
    }
    let far = driver.now.plus(Duration::from_secs(24 * 3600));
    let every = Settings::DEFAULT.node.heartbeat_every;
    let mut heartbeat = Heartbeat::new(driver.now, every, driver.nodes.len());
    while driver.tape.as_ref().is_some_and(|tape| tape.len() < INPUTS) {
        driver.run(heartbeat.due().min(far));
        match driver.verdicts.pop_front() {
            Some((id, verdict)) => {
                assert!(verdict.is_ok(), "{id}: {verdict:?}");
                callers.told(&mut driver, id);
            }
            None => driver.report(heartbeat.next()),
        }
    }
    driver.tape.take().expect("it was recorded")
}

/// Every node in its turn.
struct Heartbeat {
    begun: Instant,
    every: Duration,
    nodes: usize,
    told: usize,
}

impl Heartbeat {
    fn new(begun: Instant, every: Duration, nodes: usize) -> Heartbeat {
        Heartbeat {
            begun,
            every,
            nodes,
            told: 0,
        }
    }

    fn due(&self) -> Instant {
        let nanos = self.every.as_nanos() * (self.told as u128 + 1) / self.nodes as u128;
        self.begun.plus(Duration::from_nanos(nanos as u64))
    }

    fn next(&mut self) -> usize {
        self.told += 1;
        (self.told - 1) % self.nodes
    }
}

/// Each of them takes an actor through one cycle and then chooses another.
struct Callers {
    waiting: HashMap<RequestId, (ActorKey, Waits)>,
    asleep: std::ops::Range<usize>,
    turn: usize,
}

impl Callers {
    /// Two cycles of three are of an actor that is there and stays; one is of an actor that comes and goes.
    fn begin(&mut self, driver: &mut Driver) {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            let key = ActorKey::new("space-0", format!("passing-{}", self.turn));
            let template = template();
            let request = Request::CreateActor {
                key: key.clone(),
                template_namespace: template.namespace.clone(),
                template_name: template.name.clone(),
                selector: Selector::default(),
            };
            self.ask(driver, key, request, Waits::Created);
        } else {
            let index = self.asleep.start + self.turn.wrapping_mul(STRIDE) % self.asleep.len();
            self.resume(driver, actor_key(index));
        }
    }

    fn told(&mut self, driver: &mut Driver, id: RequestId) {
        // What is not ours is a node's.
        let Some((key, waits)) = self.waiting.remove(&id) else {
            return;
        };
        match waits {
            Waits::Created => self.resume(driver, key),
            Waits::Resumed => self.ask(driver, key.clone(), Request::Suspend(key), Waits::Suspended),
            Waits::Suspended if key.name.as_str().starts_with("passing") => {
                self.ask(driver, key.clone(), Request::Delete(key), Waits::Deleted);
            }
            Waits::Suspended | Waits::Deleted => self.begin(driver),
        }
    }

    fn resume(&mut self, driver: &mut Driver, key: ActorKey) {
        self.ask(
            driver,
            key.clone(),
            Request::Resume(key, Boot::Golden),
            Waits::Resumed,
        );
    }

    fn ask(&mut self, driver: &mut Driver, key: ActorKey, request: Request, waits: Waits) {
        let id = driver.ask(request);
        self.waiting.insert(id, (key, waits));
    }
}
