//! One actor after another: awake, counting, asleep; and what its counter may say next.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use holdfast_rpc::ateapi::actor::Status as ActorStatus;
use holdfast_runtime::clock::{Clock, SystemClock};
use holdfast_tests::http;
use tonic::{Code, Status};

use crate::client::ATESPACE;
use crate::faults::Diary;
use crate::random::Random;
use crate::world::World;

/// What takes longer than this is stuck: more than the longest limit of a runsc command, the workflow's settling
/// and a few attempts together.
pub const STUCK_AFTER: Duration = Duration::from_secs(180);
/// How long a counter may take to answer before it counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(150);
/// For how long after a fault a loss may still be because of it.
const AFTERMATH: Duration = Duration::from_secs(180);

/// What all threads count together.
#[derive(Default)]
pub struct Tally {
    pub left: AtomicI64,
    pub lifecycles: AtomicU64,
    pub suspended: AtomicU64,
    pub paused: AtomicU64,
    pub requests: AtomicU64,
    pub unanswered: AtomicU64,
    pub rollbacks: AtomicU64,
    pub told: AtomicU64,
    pub crashed: AtomicU64,
    pub setbacks: AtomicU64,
}

/// What one counter is known to have counted.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The last number it has answered, and how many more requests it may have counted since.
    acked: u64,
    maybe: u64,
    /// Drawn by the program when it began; none before its first answer.
    nonce: Option<String>,
    /// The same of its last snapshot: what it had counted at least, and at most.
    committed: Option<(u64, u64, String)>,
    /// The same of its last snapshot in the object store, to which a crash leads back.
    stored: Option<(u64, u64, String)>,
    /// Whether it has crashed since.
    has_crashed: bool,
    /// Whether anybody has been told that state was lost, since the last answer.
    is_told: bool,
}

impl Known {
    /// Whether the number is the one after its last snapshot, which is the last in the object store if it has
    /// crashed; or the first, if it has none.
    fn goes_back_to(&self, count: u64, nonce: &str) -> bool {
        let snapshot = if self.has_crashed {
            &self.stored
        } else {
            &self.committed
        };
        match snapshot {
            Some((from, to, committed)) => committed == nonce && (from + 1..=to + 1).contains(&count),
            None => count <= 1 + self.maybe,
        }
    }
}

pub struct Life<'a> {
    pub world: &'a World,
    pub diary: &'a Diary,
    pub tally: &'a Tally,
    pub random: Random,
    pub thread: u64,
}

/// One actor of a life.
pub struct One {
    name: String,
    known: Known,
    /// How much of the control plane's log had been written when it was last seen as it should be.
    log_read: usize,
    seen: Instant,
    /// What has become of it, the last of it.
    story: Vec<String>,
}

impl One {
    fn note(&mut self, what: String) {
        const KEPT: usize = 40;
        if self.story.len() == KEPT {
            self.story.remove(0);
        }
        self.story.push(format!("{} {what}", now()));
    }
}

impl Life<'_> {
    /// Lives until there are lifecycles enough. Every actor that is left is returned.
    pub fn run(&mut self) -> Result<Option<One>> {
        let mut one: Option<One> = None;
        let mut generation = 0;
        while self.tally.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            let current = match one.take() {
                Some(one) => one,
                None => {
                    generation += 1;
                    self.create(generation)?
                }
            };
            one = self.lifecycle(current)?;
            self.tally.lifecycles.fetch_add(1, Ordering::SeqCst);
        }
        Ok(one)
    }

    fn create(&mut self, generation: u64) -> Result<One> {
        let name = format!("a{}-{generation}", self.thread);
        let templates = &self.world.templates;
        let template = &templates[usize::try_from(self.random.below(templates.len() as u64))?];
        self.persist(&name, "be created", || {
            match self.world.client.create(&name, template) {
                Err(status) if status.code() == Code::AlreadyExists => Ok(()),
                created => created,
            }
        })?;
        Ok(One {
            name,
            known: Known::default(),
            log_read: self.world.control_log().len(),
            seen: Instant::now(),
            story: Vec::new(),
        })
    }

    /// Awake, counting, asleep. Sometimes it is deleted then.
    fn lifecycle(&mut self, mut one: One) -> Result<Option<One>> {
        for _ in 0..self.random.between(1, 5) {
            self.count(&mut one)?;
            if self.random.percent(40) {
                std::thread::sleep(Duration::from_millis(self.random.below(400)));
            }
        }
        if self.random.percent(30) {
            self.sleep(&mut one, "pause")?;
            if self.random.percent(30) {
                // Its snapshot is moved off the node.
                self.sleep(&mut one, "suspend")?;
            }
        } else {
            self.sleep(&mut one, "suspend")?;
        }
        if self.random.percent(8) {
            self.delete(&mut one)?;
            return Ok(None);
        }
        Ok(Some(one))
    }

    /// Sees that the actor still is what it should be, and deletes it.
    pub fn finish(&mut self, mut one: One) -> Result<()> {
        self.count(&mut one)?;
        self.delete(&mut one)
    }

    fn delete(&mut self, one: &mut One) -> Result<()> {
        let until = Instant::now() + STUCK_AFTER;
        loop {
            self.sleep(one, "suspend")?;
            let deleted = self.persist(&one.name, "be deleted", || {
                match self.world.client.delete(&one.name) {
                    Err(status) if status.code() == Code::NotFound => Ok(()),
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        Err(Status::data_loss("awake"))
                    }
                    deleted => deleted,
                }
            })?;
            if deleted.is_some() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{} cannot be deleted", one.name);
        }
    }

    /// Wakes it and has it count once, until it has answered.
    fn count(&mut self, one: &mut One) -> Result<()> {
        let until = Instant::now() + STUCK_AFTER;
        loop {
            let address = self.wake(one)?;
            self.tally.requests.fetch_add(1, Ordering::SeqCst);
            let host = format!("{}.{ATESPACE}.actors.resources.substrate.ate.dev", one.name);
            match http::get(address, &host, "/", ANSWER_WITHIN) {
                Ok(answer) if answer.status == 200 => return self.answered(one, &answer.json()?),
                // It has moved since its address was asked for, and somebody else is there.
                Ok(answer) if answer.status == 421 => one.note(format!("is not at {address} any more")),
                Ok(answer) => bail!("{}: HTTP {}: {}", one.name, answer.status, answer.text()),
                Err(error) => {
                    one.note(format!("did not answer at {address}: {error:#}"));
                    one.known.maybe += 1;
                    self.tally.unanswered.fetch_add(1, Ordering::SeqCst);
                }
            }
            if Instant::now() >= until {
                bail!(
                    "{} has not answered for {STUCK_AFTER:?}: {}",
                    one.name,
                    self.explained(&one.name)
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Looks whether the number can be right.
    fn answered(&mut self, one: &mut One, body: &serde_json::Value) -> Result<()> {
        let (count, nonce) = (
            body["count"].as_u64().unwrap_or_default(),
            body["nonce"].to_string(),
        );
        ensure!(
            body["actor"].as_str() == Some(&one.name),
            "a request to {} was answered by {}",
            one.name,
            body["actor"]
        );
        let known = &one.known;
        let goes_on = known.nonce.as_ref().is_none_or(|known| *known == nonce)
            && (known.acked + 1..=known.acked + 1 + known.maybe).contains(&count);
        if !goes_on {
            self.look_for_word_of_loss(one)?;
            let known = &one.known;
            ensure!(
                known.goes_back_to(count, &nonce),
                "{} answered {count} ({nonce}), which is neither the next nor that of its last snapshot: {known:?}\n  {}",
                one.name,
                one.story.join("\n  ")
            );
            ensure!(
                known.is_told,
                "{} went back to {count} and nobody was told: {known:?}\n  {}",
                one.name,
                one.story.join("\n  ")
            );
            ensure!(
                self.diary
                    .explains_loss(&one.name, one.seen.checked_sub(AFTERMATH).unwrap_or(one.seen)),
                "{} went back to {count} though nothing had struck it: {known:?}",
                one.name
            );
            self.tally.rollbacks.fetch_add(1, Ordering::SeqCst);
        }
        one.note(format!("answered {count}"));
        if one.known.has_crashed {
            one.known.committed.clone_from(&one.known.stored);
        }
        one.known.acked = count;
        one.known.maybe = 0;
        one.known.nonce = Some(nonce);
        one.known.is_told = false;
        one.known.has_crashed = false;
        one.log_read = self.world.control_log().len();
        one.seen = Instant::now();
        Ok(())
    }

    /// Whether the control plane has told its log of it.
    fn look_for_word_of_loss(&self, one: &mut One) -> Result<()> {
        let log = self.world.control_log();
        let ends_with_name = format!("/{}", one.name);
        one.known.is_told |= log[one.log_read.min(log.len())..].lines().any(|line| {
            let names_it = line
                .split_whitespace()
                .any(|word| word.trim_matches(['"', ':', ',']).ends_with(&ends_with_name));
            names_it && (line.contains("lost its newest state") || line.contains("crashed in"))
        });
        Ok(())
    }

    /// Resumes it until it runs somewhere.
    fn wake(&mut self, one: &mut One) -> Result<SocketAddr> {
        let until = Instant::now() + STUCK_AFTER;
        loop {
            let resumed = self.persist(&one.name, "be resumed", || self.world.client.resume(&one.name))?;
            let Some(actor) = resumed else {
                self.crashed(one)?;
                ensure!(Instant::now() < until, "{} cannot be resumed", one.name);
                continue;
            };
            return match actor.ateom_pod_ip.parse::<IpAddr>() {
                Ok(ip) => {
                    one.note(format!("runs on {ip}, version {}", actor.version));
                    Ok((ip, 80).into())
                }
                Err(_) => bail!("{} was resumed to nowhere: {actor:?}", one.name),
            };
        }
    }

    /// Puts it to sleep, until that is so.
    fn sleep(&mut self, one: &mut One, how: &str) -> Result<()> {
        let client = &self.world.client;
        let before = one.known.clone();
        let slept = self.persist(&one.name, how, || match how {
            "pause" => match client.pause(&one.name) {
                // It went to sleep by itself, by a loss; or the answer to an earlier attempt was lost.
                Err(status) if status.code() == Code::FailedPrecondition => {
                    match client.get(&one.name)?.status() {
                        ActorStatus::Suspended | ActorStatus::Paused => Ok(()),
                        _ => Err(status),
                    }
                }
                paused => paused,
            },
            _ => client.suspend(&one.name),
        })?;
        if slept.is_none() {
            one.note(format!("{how}: state lost"));
            return self.crashed(one);
        }
        self.look_for_word_of_loss(one)?;
        one.note(format!("{how}: done, told of a loss: {}", one.known.is_told));
        if let Some(nonce) = before.nonce {
            let (from, to) = (before.acked, before.acked + before.maybe);
            // If state was lost before it slept, what it sleeps in is older.
            if !one.known.is_told {
                one.known.committed = Some((from, to, nonce));
            } else if let Some((_, newest, same)) = &mut one.known.committed
                && *same == nonce
            {
                *newest = to;
            }
            if how == "suspend" {
                one.known.stored.clone_from(&one.known.committed);
            }
        }
        let counted = if how == "pause" {
            &self.tally.paused
        } else {
            &self.tally.suspended
        };
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// State was lost, and it was told. A crashed actor is brought back to its last good snapshot.
    fn crashed(&mut self, one: &mut One) -> Result<()> {
        one.known.is_told = true;
        self.tally.told.fetch_add(1, Ordering::SeqCst);
        let actor = self.persist(&one.name, "be looked at", || self.world.client.get(&one.name))?;
        if actor.is_some_and(|actor| actor.status() == ActorStatus::Crashed) {
            one.note("crashed; reverting".to_owned());
            one.known.has_crashed = true;
            self.tally.crashed.fetch_add(1, Ordering::SeqCst);
            self.persist(&one.name, "be reverted", || {
                match self.world.client.revert(&one.name) {
                    // Somebody was faster: the answer to an earlier attempt was lost.
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        match self.world.client.get(&one.name)?.status() {
                            ActorStatus::Crashed => Err(status),
                            _ => Ok(()),
                        }
                    }
                    reverted => reverted,
                }
            })?;
        }
        Ok(())
    }

    /// Asks until it is done; `None` when state was lost. Everything else that goes wrong has to end by itself.
    fn persist<T>(
        &self,
        name: &str,
        what: &str,
        mut ask: impl FnMut() -> Result<T, Status>,
    ) -> Result<Option<T>> {
        let until = Instant::now() + STUCK_AFTER;
        loop {
            let status = match ask() {
                Ok(done) => return Ok(Some(done)),
                Err(status) => status,
            };
            match status.code() {
                Code::DataLoss => return Ok(None),
                Code::FailedPrecondition if status.message().contains("crashed actor") => return Ok(None),
                Code::InvalidArgument | Code::NotFound | Code::Unimplemented | Code::PermissionDenied => {
                    bail!("{name} cannot {what}: {status}")
                }
                _ => {}
            }
            self.tally.setbacks.fetch_add(1, Ordering::SeqCst);
            if Instant::now() >= until {
                bail!(
                    "{name} cannot {what} for {STUCK_AFTER:?}: {status}; {}",
                    self.explained(name)
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn explained(&self, name: &str) -> String {
        match self.world.client.explain(name) {
            Ok(explained) => format!("{explained:?}"),
            Err(status) => format!("and nobody explains it: {status}"),
        }
    }
}

/// The time of day, as logs have it.
fn now() -> String {
    let ms = SystemClock.wall_ms() % 86_400_000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1000 % 60,
        ms % 1000
    )
}
