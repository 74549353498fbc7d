//! Random lives of actors on real parts, while those parts are killed, stopped, starved and lied to.
//!
//! Every actor is a counter in a gVisor sandbox. It is resumed, counts, and is suspended or paused, over and over, on
//! workers that it shares with others; meanwhile faults strike at random instants. What must hold: a counter goes on
//! from the number before, or from its last snapshot when somebody was told of the loss and something had struck it;
//! no request waits for ever; and when all is over and the actors are deleted, nothing is left on the machine.
//!
//! The seed decides what is asked, what strikes and when; what comes of it is up to the machine.

mod actor;
mod after;
mod client;
mod faults;
mod host;
mod random;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use holdfast_tests::leftovers::Watch;

use actor::{Life, Tally};
use faults::Diary;
use random::Random;
use world::World;

/// Random lives of actors on real parts, under faults; exits with an error if a count is wrong, or anything is stuck
/// or left behind
#[derive(Parser, Debug)]
struct Args {
    /// Decides what is asked for, what goes wrong and when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many lifecycles: an actor is resumed, counts, and is put to sleep
    #[arg(long, default_value_t = 1000)]
    lifecycles: u32,
    /// How many actors live at a time
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    actors: u32,
    /// How many workers they share
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// How many templates there are, each with an image of its own
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=200))]
    templates: u64,
    /// Begin no lifecycle after so many seconds; without it, when all have been lived
    #[arg(long, value_name = "SECONDS")]
    at_most: Option<u64>,
    /// Let nothing go wrong
    #[arg(long)]
    calm: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            for wrong in wrong {
                eprintln!("WRONG: {wrong}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("lifecycles: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays, and returns what went wrong.
fn run(args: &Args) -> Result<Vec<String>> {
    let began = Instant::now();
    let mut world = World::start(args.workers, args.templates)?;
    println!(
        "seed {}: {} lifecycles of {} actors on {} workers; snapshots go to {}; everything is in {}",
        args.seed,
        args.lifecycles,
        args.actors,
        args.workers,
        world.objects.describe(),
        world.dir().display()
    );
    let all_gone = Watch::until_gone(world.markers()?);
    let (diary, ended) = (Diary::default(), AtomicBool::new(false));
    let tally = Tally {
        left: AtomicI64::new(args.lifecycles.into()),
        ..Tally::default()
    };
    let mut wrong = play(args, &world, &diary, &tally, &ended)?;
    if wrong.is_empty() {
        wrong.extend(after::leftovers(&world));
    } else {
        println!("{}", world.tails());
    }
    let stopped = world.stop();
    if let Err(error) = stopped {
        wrong.push(format!("{error:#}"));
    }
    tell(&tally, &diary, began);
    if wrong.is_empty() {
        drop(world);
        if let Err(error) = all_gone.verify(Duration::from_secs(20)) {
            wrong.push(format!("{error:#}"));
        }
    } else {
        println!("logs are kept in {}", world.keep().display());
    }
    Ok(wrong)
}

fn play(args: &Args, world: &World, diary: &Diary, tally: &Tally, ended: &AtomicBool) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let striking = (!args.calm).then(|| scope.spawn(|| faults::strike(world, args.seed, diary, ended)));
        if let Some(seconds) = args.at_most {
            scope.spawn(move || {
                let until = Instant::now() + Duration::from_secs(seconds);
                while Instant::now() < until && tally.left.load(Ordering::SeqCst) > 0 {
                    std::thread::sleep(Duration::from_millis(50));
                }
                tally.left.store(0, Ordering::SeqCst);
            });
        }
        let lives: Vec<_> = (0..u64::from(args.actors))
            .map(|thread| {
                scope.spawn(move || {
                    let mut life = Life {
                        world,
                        diary,
                        tally,
                        random: Random::of(args.seed, thread + 1),
                        thread,
                    };
                    let lived = life.run();
                    if lived.is_err() {
                        // What one has found wrong is not to be drowned by what the others do.
                        tally.left.store(0, Ordering::SeqCst);
                    }
                    (life, lived)
                })
            })
            .collect();
        let mut wrong = Vec::new();
        let mut left = Vec::new();
        for life in lives {
            match life.join().map_err(|_| anyhow::anyhow!("a life panicked"))? {
                (life, Ok(Some(one))) => left.push((life, one)),
                (_, Ok(None)) => {}
                (_, Err(error)) => wrong.push(format!("{error:#}")),
            }
        }
        ended.store(true, Ordering::SeqCst);
        if let Some(striking) = striking {
            striking
                .join()
                .map_err(|_| anyhow::anyhow!("the faults panicked"))?
                .context("faults")?;
        }
        for (mut life, one) in left {
            if let Err(error) = life.finish(one) {
                wrong.push(format!("after the faults had ended: {error:#}"));
            }
        }
        Ok(wrong)
    })
}

fn tell(tally: &Tally, diary: &Diary, began: Instant) {
    let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
    println!(
        "{} lifecycles in {:.0?}: {} suspended, {} paused, {} requests ({} unanswered), {} attempts in vain; {} counters went \
         back, {} losses told to callers, {} crashes",
        of(&tally.lifecycles),
        began.elapsed(),
        of(&tally.suspended),
        of(&tally.paused),
        of(&tally.requests),
        of(&tally.unanswered),
        of(&tally.setbacks),
        of(&tally.rollbacks),
        of(&tally.told),
        of(&tally.crashed)
    );
    for (fault, times) in diary.counts() {
        println!("  {fault}: {times}");
    }
}
