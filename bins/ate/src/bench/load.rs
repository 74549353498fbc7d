//! Clients, and when they call.
//!
//! In a closed loop each of them calls again as soon as it is answered: a slow server is asked less, and its
//! times say how long those waited who were let in. In an open loop calls are due at a fixed rate, whatever the
//! server does; a call that cannot be made when it is due, because all clients wait for answers, is made later,
//! and its time counts from when it was due. Otherwise the slow answers would hide those that queue behind
//! them (coordinated omission).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_core::time::Instant;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Semaphore;
use tonic::Code;

use super::herd::{Herd, Outcome};
use super::mix::{Kind, Mix};
use super::server::Server;
use super::tally::{Call, Tally};

/// How long a client waits when all actors are in others' hands.
const IDLE: Duration = Duration::from_millis(1);
/// The timer's slack: calls that are due within it are made at once.
const SLICE: Duration = Duration::from_micros(100);

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the client is free.
    Closed,
    /// One every so often, whoever is free.
    Every(Duration),
}

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// What is not measured yet.
    pub warm_up: Duration,
    /// What is.
    pub measured: Duration,
    /// At most so many calls are measured.
    pub count: Option<u64>,
}

/// A load that is being put on a server.
pub struct Load {
    pub mix: Mix,
    pub pace: Pace,
    pub length: Length,
    pub herd: Mutex<Herd>,
    pub tally: Mutex<Tally>,
    begin: Instant,
    tickets: Semaphore,
    next: AtomicU64,
    measured: AtomicU64,
    stopped: AtomicBool,
}

impl Load {
    /// One that begins now.
    pub fn new(mix: Mix, pace: Pace, length: Length, herd: Herd) -> Load {
        Load {
            mix,
            pace,
            length,
            herd: Mutex::new(herd),
            tally: Mutex::new(Tally::new()),
            begin: SystemClock.now(),
            tickets: Semaphore::new(0),
            next: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// No further calls.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.tickets.close();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How long it has been measured.
    pub fn elapsed(&self) -> Duration {
        SystemClock.now().since(self.measured_from())
    }

    /// Calls that are due by now and have not been made: the server does not keep up with the rate.
    pub fn overdue(&self) -> u64 {
        let Pace::Every(every) = self.pace else { return 0 };
        let due = SystemClock.now().min(self.end()).since(self.begin).as_nanos() / every.as_nanos().max(1);
        u64::try_from(due)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.next.load(Ordering::Relaxed))
    }

    pub fn measured_from(&self) -> Instant {
        self.begin.plus(self.length.warm_up)
    }

    fn end(&self) -> Instant {
        self.measured_from().plus(self.length.measured)
    }

    /// Hands out tickets when calls are due, on a thread of its own: timers of the runtime are coarser than
    /// the times that are measured.
    pub fn pace(&self) {
        let Pace::Every(every) = self.pace else { return };
        let mut given = 0;
        while !self.is_stopped() {
            let now = SystemClock.now();
            let due =
                u64::try_from(now.since(self.begin).as_nanos() / every.as_nanos().max(1)).unwrap_or(u64::MAX);
            let more = usize::try_from(due.saturating_sub(given)).unwrap_or(0);
            self.tickets
                .add_permits(more.min(Semaphore::MAX_PERMITS - self.tickets.available_permits()));
            given = due.max(given);
            std::thread::sleep(every.clamp(SLICE, 10 * SLICE));
        }
    }

    /// One client, until the load ends.
    pub async fn client(self: Arc<Load>, server: Server, seed: u64) {
        let mut random = seed;
        while let Some(due) = self.due().await {
            let kind = self.mix.pick(draw(&mut random));
            self.one(&server, kind, draw(&mut random), due).await;
        }
        self.stop();
    }

    /// When the next call is due; none if the load has ended.
    async fn due(&self) -> Option<Instant> {
        if self.is_stopped()
            || self
                .length
                .count
                .is_some_and(|count| self.measured.load(Ordering::Relaxed) >= count)
        {
            return None;
        }
        let due = match self.pace {
            Pace::Closed => SystemClock.now(),
            Pace::Every(every) => {
                self.tickets.acquire().await.ok()?.forget();
                let nth = self.next.fetch_add(1, Ordering::Relaxed);
                let nanos = u64::try_from(every.as_nanos())
                    .unwrap_or(u64::MAX)
                    .saturating_mul(nth);
                self.begin.plus(Duration::from_nanos(nanos))
            }
        };
        (due < self.end() && SystemClock.now() < self.end()).then_some(due)
    }

    async fn one(&self, server: &Server, kind: Kind, random: u64, due: Instant) {
        if matches!(kind, Kind::ListActors | Kind::ListWorkers | Kind::ListAtespaces) {
            self.timed(server, kind, "", due).await;
            return;
        }
        let (kind, held) = loop {
            let taken = self.herd().take(kind, random);
            match taken {
                Some(taken) => break taken,
                None if self.is_stopped() => return,
                None => tokio::time::sleep(IDLE).await,
            }
        };
        let code = self.timed(server, kind, &held.name, due).await;
        self.herd().put(kind, held, outcome(kind, code));
    }

    async fn timed(&self, server: &Server, kind: Kind, name: &str, due: Instant) -> Code {
        let sent = SystemClock.now();
        let code = match server.call(kind, name).await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        let now = SystemClock.now();
        if due >= self.measured_from() {
            self.measured.fetch_add(1, Ordering::Relaxed);
            let from = match self.pace {
                Pace::Closed => sent,
                Pace::Every(_) => due,
            };
            let call = Call {
                kind,
                latency: now.since(from),
                service: now.since(sent),
                code,
            };
            self.tally
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(&call);
        }
        code
    }

    fn herd(&self) -> std::sync::MutexGuard<'_, Herd> {
        self.herd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer to a call of this kind says about its actor.
fn outcome(kind: Kind, code: Code) -> Outcome {
    match (kind, code) {
        (_, Code::Ok) => Outcome::Done,
        (_, Code::DataLoss | Code::NotFound) | (Kind::Create, _) => Outcome::Lost,
        _ => Outcome::Failed,
    }
}

/// The next number of a sequence that looks random (SplitMix64).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_whose_call_failed_is_where_it_was_and_a_lost_one_is_gone() {
        assert_eq!(outcome(Kind::Resume, Code::Ok), Outcome::Done);
        assert_eq!(outcome(Kind::Resume, Code::Aborted), Outcome::Failed);
        assert_eq!(outcome(Kind::Suspend, Code::DataLoss), Outcome::Lost);
        assert_eq!(outcome(Kind::Get, Code::NotFound), Outcome::Lost);
        assert_eq!(outcome(Kind::Create, Code::AlreadyExists), Outcome::Lost);
    }

    #[test]
    fn what_is_drawn_is_spread_evenly() {
        let mut state = 1;
        let mut counts = [0_u32; 8];
        for _ in 0..8000 {
            counts[usize::try_from(draw(&mut state) % 8).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1100).contains(count)),
            "{counts:?}"
        );
    }
}
