//! `kill -9` of whatever an actor depends on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_tests::registry::{Fault, Times};
use holdfast_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, Counted, PATIENCE};
use crate::say;

/// What an actor may take to answer again: its death is noticed within a second, its record is brought to
/// rest, and it is restored. Twice the time that the restore of a tiny actor takes on a slow machine.
const BOUND: Duration = Duration::from_secs(10);

/// Counts an actor up, puts it to sleep (its last snapshot), wakes it and counts on: what it counted
/// since the snapshot goes with its sandbox.
fn prepare(cluster: &Cluster, actor: &str) -> Result<Counted> {
    cluster.client.create(actor, "counter")?;
    for _ in 0..3 {
        cluster.count(actor, "/")?;
    }
    cluster.client.suspend(actor)?;
    let counted = cluster.count(actor, "/")?;
    ensure!(counted.count == 4, "{actor}: {}", counted.count);
    Ok(counted)
}

/// The actor answers again, from its last snapshot, within the bound.
fn answers_again(cluster: &Cluster, actor: &str, before: &Counted, since: Instant) -> Result<()> {
    let after = cluster.count(actor, "/")?;
    let took = since.elapsed();
    ensure!(
        after.count == 4,
        "{actor} is at {}; from its last snapshot (3) it counts on to 4",
        after.count
    );
    if cluster.sandbox == crate::cluster::Kind::Gvisor {
        ensure!(
            after.nonce == before.nonce,
            "{actor} was booted afresh instead of restored"
        );
    }
    ensure!(took < BOUND, "{actor} took {took:?}, announced were {BOUND:?}");
    say::seen(format!(
        "{actor} answered again after {took:.1?} (announced: {BOUND:?}), from its last snapshot"
    ));
    cluster
        .client
        .persist("the actor to be suspended", PATIENCE, || {
            cluster.client.suspend(actor)
        })?;
    Ok(())
}

pub fn of_a_sandbox(cluster: &Cluster) -> Result<()> {
    say::scene(
        5,
        "kill -9 of a sandbox, then of a worker, while an actor runs there",
    );
    let actor = "victim-a";
    let before = prepare(cluster, actor)?;
    let sandboxes = cluster.sandboxes()?;
    let (pid, _) = sandboxes
        .iter()
        .find(|(_, dir)| dir.contains(actor))
        .context("no sandbox of the actor")?;
    kill(*pid)?;
    answers_again(cluster, actor, &before, Instant::now())
}

pub fn of_a_worker(cluster: &Cluster) -> Result<()> {
    let actor = "victim-b";
    let before = prepare(cluster, actor)?;
    let pod = cluster.client.get(actor)?.ateom_pod_name;
    let pid = *cluster
        .worker_pids()?
        .get(&pod)
        .with_context(|| format!("no process of worker {pod}"))?;
    kill(pid)?;
    let began = Instant::now();
    // What is answered in the moment of dying is answered by the old sandbox, and rightly so.
    wait::until("the worker's sandbox to be dead", PATIENCE, || {
        Ok(cluster
            .sandboxes()?
            .iter()
            .all(|(_, dir)| !dir.contains(actor))
            .then_some(()))
    })?;
    answers_again(cluster, actor, &before, began)
}

pub fn of_the_control_plane(cluster: &mut Cluster) -> Result<()> {
    say::scene(6, "kill -9 of the control plane in the middle of a resume");
    let workers = cluster.client.workers()?.len();
    let fault = cluster
        .registry
        .inject("/holdfast/held/blobs/", Fault::Rate(1_500_000), Times::Always);
    cluster.client.create("survivor", "held")?;
    let client = cluster.client.clone();
    let resume = std::thread::spawn(move || client.resume("survivor"));
    wait::until("the resume to be under way", PATIENCE, || {
        let is_resuming = cluster.client.get("survivor")?.status().as_str_name() == "STATUS_RESUMING";
        Ok((is_resuming && cluster.registry.bytes_served("/holdfast/held/blobs/") > 100_000).then_some(()))
    })?;
    cluster.kill()?;
    let verdict = resume
        .join()
        .map_err(|_| anyhow::anyhow!("the caller panicked"))?;
    ensure!(
        verdict.is_err(),
        "the caller was told of success by a control plane that was dead"
    );
    cluster.registry.heal(fault);
    let began = Instant::now();
    cluster.restart()?;
    let counted = wait::until("the actor to answer", PATIENCE, || {
        match cluster.count("survivor", "/") {
            Ok(counted) => Ok(Some(counted)),
            Err(error) if error.to_string().contains("HTTP 50") => Ok(None),
            Err(error) => Err(error),
        }
    })?;
    ensure!(
        counted.count == 1,
        "the actor was never served, and counts from 1; it is at {}",
        counted.count
    );
    say::seen(format!(
        "started again, and the actor answered {:.1?} later",
        began.elapsed()
    ));
    cluster.wait_for_workers(workers)?;
    let assigned: Vec<_> = cluster
        .client
        .workers()?
        .into_iter()
        .filter(|w| !w.actor_id.is_empty())
        .collect();
    let sandboxes = cluster.sandboxes()?;
    ensure!(
        assigned.len() == 1 && assigned[0].actor_id == "survivor",
        "workers are held by {:?}",
        assigned.iter().map(|w| &w.actor_id).collect::<Vec<_>>()
    );
    ensure!(
        sandboxes.iter().all(|(_, dir)| dir.contains("survivor")),
        "sandboxes left behind: {sandboxes:?}"
    );
    cluster
        .client
        .persist("the actor to be suspended", PATIENCE, || {
            cluster.client.suspend("survivor")
        })?;
    say::seen("one worker was assigned, to it; nothing was leaked");
    Ok(())
}

fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("not a process id")?;
    Ok(kill_process(pid, Signal::KILL)?)
}
