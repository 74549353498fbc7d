//! What goes wrong, and when: drawn from the seed, at random instants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use holdfast_tests::proxy::Fault as WireFault;
use holdfast_tests::registry::{Fault as RegistryFault, Times};
use rustix::process::Signal;

use crate::host::{self, Kind};
use crate::random::Random;
use crate::world::{Objects, World, lock};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillControl,
    KillNode,
    KillAteom,
    KillSandbox,
    KillGofer,
    KillCommand,
    StopNode,
    StopAteom,
    StopSandbox,
    /// It stays stopped: whoever needs it has to end it.
    HangSandbox,
    StopCommand,
    FullDisk,
    Registry(RegistryFault),
    Objects(WireFault),
    FreezeStore,
}

/// When, what and whom.
#[derive(Clone, Debug)]
pub struct Struck {
    pub at: Instant,
    pub fault: Fault,
    /// The actor that the process worked for; `None` where it could be anybody's.
    pub actor: Option<String>,
    /// Whether state since the last snapshot may be gone with it.
    pub may_lose: bool,
}

#[derive(Default)]
pub struct Diary(Mutex<Vec<Struck>>);

impl Diary {
    fn write(&self, struck: Struck) {
        lock(&self.0).push(struck);
    }

    /// Whether something has struck since then by which this actor may have lost state.
    pub fn explains_loss(&self, actor: &str, since: Instant) -> bool {
        lock(&self.0).iter().rev().any(|struck| {
            struck.may_lose
                && struck.at >= since
                && struck.actor.as_deref().is_none_or(|struck| struck == actor)
        })
    }

    pub fn counts(&self) -> Vec<(String, usize)> {
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        for struck in lock(&self.0).iter() {
            let name = format!("{:?}", struck.fault);
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            let name = name
                .split_once("After(")
                .map_or(name.clone(), |(kind, _)| format!("{kind}After)"));
            *counts.entry(name).or_default() += 1;
        }
        counts.into_iter().collect()
    }
}

/// How long a fault lasts, and what may end it.
const SHORT_MS: (u64, u64) = (100, 1500);
const LONG_MS: (u64, u64) = (500, 4000);

/// Strikes until `ended`, then heals everything.
pub fn strike(world: &World, seed: u64, diary: &Diary, ended: &AtomicBool) -> Result<()> {
    let mut random = Random::of(seed, 1 << 32);
    while !ended.load(Ordering::SeqCst) {
        rest(Duration::from_millis(random.between(50, 1200)), ended);
        if ended.load(Ordering::SeqCst) {
            break;
        }
        let fault = draw(&mut random);
        let lasts =
            |random: &mut Random, (from, to): (u64, u64)| Duration::from_millis(random.between(from, to));
        match fault {
            Fault::KillControl => {
                note(diary, fault, None, false);
                lock(&world.control).kill()?;
                rest(lasts(&mut random, SHORT_MS), ended);
                lock(&world.control).restart()?;
            }
            Fault::KillNode => {
                note(diary, fault, None, false);
                lock(&world.node).kill()?;
                rest(lasts(&mut random, SHORT_MS), ended);
                lock(&world.node).restart()?;
            }
            Fault::StopNode => {
                note(diary, fault, None, false);
                lock(&world.node).process.freeze()?;
                rest(lasts(&mut random, LONG_MS), ended);
                lock(&world.node).process.thaw()?;
            }
            Fault::FreezeStore => {
                note(diary, fault, None, false);
                lock(&world.redis).freeze()?;
                rest(lasts(&mut random, SHORT_MS), ended);
                lock(&world.redis).thaw()?;
            }
            Fault::FullDisk => {
                // A checkpoint that runs out of space takes the sandbox with it.
                note(diary, fault, None, true);
                world.disk.fill()?;
                rest(lasts(&mut random, SHORT_MS), ended);
                world.disk.free();
                note(diary, fault, None, true);
            }
            Fault::Registry(broken) => {
                note(diary, fault, None, false);
                let id = world.registry.inject("/blobs/", broken, Times::Always);
                rest(lasts(&mut random, LONG_MS), ended);
                world.registry.heal(id);
            }
            Fault::Objects(broken) => {
                let Objects::S3 { proxy, .. } = &world.objects else {
                    continue;
                };
                note(diary, fault, None, false);
                proxy.inject(broken);
                rest(lasts(&mut random, LONG_MS), ended);
                proxy.heal();
            }
            Fault::KillAteom
            | Fault::KillSandbox
            | Fault::KillGofer
            | Fault::KillCommand
            | Fault::StopAteom
            | Fault::StopSandbox
            | Fault::HangSandbox
            | Fault::StopCommand => on_process(world, fault, &mut random, diary, ended)?,
        }
    }
    world.disk.free();
    if let Objects::S3 { proxy, .. } = &world.objects {
        proxy.heal();
    }
    Ok(())
}

fn draw(random: &mut Random) -> Fault {
    let broken = random.pick(&[
        (1, RegistryFault::HangAfter(50_000)),
        (1, RegistryFault::Rate(200_000)),
        (1, RegistryFault::ResetAfter(100_000)),
        (1, RegistryFault::CloseAfter(100_000)),
        (1, RegistryFault::Corrupt(70_000)),
        (1, RegistryFault::Status(503)),
    ]);
    let at = random.between(300, 200_000);
    let wire = random.pick(&[
        (2, WireFault::Hang),
        (1, WireFault::Trickle(20_000)),
        (2, WireFault::CutAfter(at)),
        (2, WireFault::CorruptAnswer(at)),
    ]);
    random.pick(&[
        (3, Fault::KillControl),
        (4, Fault::KillNode),
        (3, Fault::KillAteom),
        (4, Fault::KillSandbox),
        (1, Fault::KillGofer),
        (4, Fault::KillCommand),
        (2, Fault::StopNode),
        (2, Fault::StopAteom),
        (3, Fault::StopSandbox),
        (1, Fault::HangSandbox),
        (3, Fault::StopCommand),
        (2, Fault::FullDisk),
        (3, Fault::Registry(broken)),
        (5, Fault::Objects(wire)),
        (1, Fault::FreezeStore),
    ])
}

/// A fault of one process, whichever there is.
fn on_process(
    world: &World,
    fault: Fault,
    random: &mut Random,
    diary: &Diary,
    ended: &AtomicBool,
) -> Result<()> {
    let (kind, signal) = match fault {
        Fault::KillAteom => (Kind::Ateom, Signal::KILL),
        Fault::KillSandbox => (Kind::Sandbox, Signal::KILL),
        Fault::KillGofer => (Kind::Gofer, Signal::KILL),
        Fault::KillCommand => (Kind::Command, Signal::KILL),
        Fault::StopAteom => (Kind::Ateom, Signal::STOP),
        Fault::StopSandbox | Fault::HangSandbox => (Kind::Sandbox, Signal::STOP),
        _ => (Kind::Command, Signal::STOP),
    };
    // Commands are there for moments only.
    let until = Instant::now() + Duration::from_secs(2);
    let found = loop {
        let found: Vec<_> = host::find(&world.base())?
            .into_iter()
            .filter(|found| found.kind == kind)
            .collect();
        if !found.is_empty() || Instant::now() >= until || ended.load(Ordering::SeqCst) {
            break found;
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    if found.is_empty() {
        return Ok(());
    }
    let victim = &found[usize::try_from(random.below(found.len() as u64)).unwrap_or(0)];
    // What is noted first cannot be missed by who sees the effect. An ateom takes whatever it has with it.
    note(diary, fault, victim.actor(), true);
    if victim.signal(signal) && signal == Signal::STOP && fault != Fault::HangSandbox {
        rest(Duration::from_millis(random.between(LONG_MS.0, LONG_MS.1)), ended);
        victim.signal(Signal::CONT);
    }
    note(diary, fault, victim.actor(), true);
    Ok(())
}

fn note(diary: &Diary, fault: Fault, actor: Option<&str>, may_lose: bool) {
    diary.write(Struck {
        at: Instant::now(),
        fault,
        actor: actor.map(str::to_owned),
        may_lose,
    });
}

/// Waits, and not longer than the run lasts.
fn rest(time: Duration, ended: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !ended.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(10));
    }
}
