//! Many actors on a few workers, each with a count that lives only in its memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Kind};
use crate::figures::Figures;
use crate::{Args, say};

/// How often every actor is woken after its first request.
const ROUNDS: u64 = 3;

fn name(index: u16) -> String {
    format!("actor-{index:02}")
}

/// What one worker's turn with its actors brought.
#[derive(Default)]
struct Turn {
    create: Vec<Duration>,
    resume: Vec<Duration>,
    suspend: Vec<Duration>,
    moves: usize,
}

pub fn first_requests(cluster: &Cluster, args: &Args, figures: &mut Figures) -> Result<()> {
    say::scene(
        1,
        &format!(
            "{} actors on {} workers: a first request to each",
            args.actors, args.workers
        ),
    );
    for turn in turns(args, |actor| {
        let mut turn = Turn::default();
        let began = Instant::now();
        cluster.client.create(actor, "counter")?;
        turn.create.push(began.elapsed());
        let began = Instant::now();
        cluster.client.resume(actor)?;
        turn.resume.push(began.elapsed());
        let counted = cluster.count(actor, "/")?;
        ensure!(counted.count == 1, "{actor} begins at {}", counted.count);
        turn.suspend.push(suspended(cluster, actor)?);
        Ok(turn)
    })? {
        figures.create.extend(turn.create);
        figures.boot.extend(turn.resume);
        figures.suspend.extend(turn.suspend);
    }
    say::seen(format!(
        "all {} answered their first request, and sleep again",
        args.actors
    ));
    cluster.wait_until_all_free(Duration::from_secs(10))
}

pub fn rounds(cluster: &Cluster, args: &Args, figures: &mut Figures) -> Result<()> {
    say::scene(
        2,
        &format!("{ROUNDS} rounds over all of them, asleep in between: every count goes on"),
    );
    let mut moves = 0;
    let homes = Mutex::new(BTreeMap::<String, String>::new());
    for round in 1..=ROUNDS {
        for turn in turns(args, |actor| {
            let mut turn = Turn::default();
            let before = cluster.client.get(actor)?;
            ensure!(before.ateom_pod_name.is_empty(), "{actor} should sleep");
            // In odd rounds the router wakes the actor, as a user's request would.
            if round % 2 == 0 {
                let began = Instant::now();
                cluster.client.resume(actor)?;
                turn.resume.push(began.elapsed());
            }
            let counted = cluster.count(actor, "/")?;
            ensure!(
                counted.count == round + 1,
                "{actor}: count {} in round {round}",
                counted.count
            );
            let pod = cluster.client.get(actor)?.ateom_pod_name;
            let last = homes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(actor.to_owned(), pod.clone());
            turn.moves += usize::from(last.is_some_and(|last| last != pod));
            turn.suspend.push(suspended(cluster, actor)?);
            Ok(turn)
        })? {
            figures.resume.extend(turn.resume);
            figures.suspend.extend(turn.suspend);
            moves += turn.moves;
        }
    }
    let wakes = usize::from(args.actors) * (ROUNDS as usize - 1);
    say::seen(format!(
        "every count went on exactly; {moves} of {wakes} later wake-ups were on another worker"
    ));
    // Alone on the machine, for the figures.
    for index in 0..args.actors {
        let actor = name(index);
        let began = Instant::now();
        cluster.client.resume(&actor)?;
        figures.resume_alone.push(began.elapsed());
        figures.suspend_alone.push(suspended(cluster, &actor)?);
    }
    if cluster.sandbox == Kind::Gvisor {
        let (first, again) = (
            cluster.count(&name(0), "/peek")?,
            cluster.count(&name(0), "/peek")?,
        );
        ensure!(first == again, "a peek changes nothing");
        cluster
            .client
            .suspend(&name(0))
            .context("suspend after the peek")?;
    }
    Ok(())
}

fn suspended(cluster: &Cluster, actor: &str) -> Result<Duration> {
    let began = Instant::now();
    cluster.client.suspend(actor)?;
    Ok(began.elapsed())
}

/// Each worker's share of the actors, one after the other, side by side with the other workers'.
fn turns(args: &Args, visit: impl Fn(&str) -> Result<Turn> + Sync) -> Result<Vec<Turn>> {
    let visit = &visit;
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..args.workers)
            .map(|lane| {
                scope.spawn(move || {
                    let mine = (lane..args.actors).step_by(usize::from(args.workers));
                    mine.map(|index| visit(&name(index)).with_context(|| name(index)))
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::new();
        for lane in lanes {
            all.extend(
                lane.join()
                    .map_err(|_| anyhow::anyhow!("a lane of the demo panicked"))??,
            );
        }
        Ok(all)
    })
}
