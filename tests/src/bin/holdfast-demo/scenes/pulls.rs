//! Images that take longer than a lease lives, and images that never come.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_tests::registry::{Fault, Times};
use tonic::Code;

use crate::cluster::{Cluster, LEASE_TTL, PATIENCE, PULL_STALL, SETTLE_AFTER};
use crate::say;

/// Slow enough that the demo's image takes several leases.
const BYTES_PER_SECOND: u64 = 700_000;
/// How often a pull is tried before it is given up: core's default.
const ATTEMPTS: u32 = 3;

pub fn slow(cluster: &Cluster) -> Result<()> {
    say::scene(
        3,
        &format!("an image whose pull takes longer than the lease lives ({LEASE_TTL:?})"),
    );
    let fault = cluster.registry.inject(
        "/holdfast/slow/blobs/",
        Fault::Rate(BYTES_PER_SECOND),
        Times::Always,
    );
    cluster.client.create("patient", "slow")?;
    let before = renewals(&cluster.log());
    let began = Instant::now();
    cluster
        .client
        .resume("patient")
        .context("resume while the pull is slow")?;
    let took = began.elapsed();
    cluster.registry.heal(fault);
    let renewed = renewals(&cluster.log()) - before;
    ensure!(
        took > LEASE_TTL * 2,
        "the pull took only {took:?}; it should outlive the lease"
    );
    ensure!(
        renewed >= 2,
        "the lease was renewed {renewed} times during {took:?}"
    );
    let layers = cluster.registry.served("/holdfast/slow/blobs/");
    let ranges = layers
        .iter()
        .filter(|served| served.from.is_some_and(|from| from > 0))
        .count();
    ensure!(ranges == 0, "the pull was started again {ranges} times");
    ensure!(
        cluster.count("patient", "/")?.count == 1,
        "the actor counts from 1"
    );
    say::seen(format!(
        "one attempt, {took:.1?}, lease renewed {renewed} times on the way"
    ));
    cluster.client.suspend("patient")?;
    Ok(())
}

pub fn hung(cluster: &Cluster) -> Result<()> {
    say::scene(4, "a pull that hangs: ended by stall detection");
    let fault = cluster
        .registry
        .inject("/holdfast/hung/blobs/", Fault::HangAfter(0), Times::Always);
    cluster.client.create("hostage", "hung")?;
    let began = Instant::now();
    let status = cluster
        .client
        .resume("hostage")
        .err()
        .context("a pull that hangs cannot succeed")?;
    let took = began.elapsed();
    ensure!(
        status.code() == Code::Unavailable,
        "code {:?}: {}",
        status.code(),
        status.message()
    );
    ensure!(
        status.message().contains("stalled"),
        "the message does not name the stall: {}",
        status.message()
    );
    let bound = (PULL_STALL + Duration::from_secs(2)) * ATTEMPTS;
    ensure!(took < bound, "{took:?} is beyond the bound of {bound:?}");
    say::seen(format!(
        "after {took:.1?} (bound {bound:?}): {}",
        status.message()
    ));

    let began = Instant::now();
    cluster
        .wait_until_all_free(SETTLE_AFTER + Duration::from_secs(10))
        .context("the worker was not given back")?;
    let actor = cluster.client.get("hostage")?;
    say::seen(format!(
        "its worker is free again after {:.1?}, the actor is {}",
        began.elapsed(),
        actor.status().as_str_name()
    ));
    cluster.registry.heal(fault);
    cluster.client.persist("the actor to resume", PATIENCE, || {
        cluster.client.resume("hostage")
    })?;
    ensure!(
        cluster.count("hostage", "/")?.count == 1,
        "the actor counts from 1"
    );
    cluster.client.suspend("hostage")?;
    say::seen("the registry answers again, and so does the actor");
    Ok(())
}

/// The most that a pull and its unpacking may hold, whatever the size of the image.
const MEMORY_BOUND: u64 = 64 << 20;

pub fn large(cluster: &Cluster) -> Result<()> {
    say::title("An image of 1.5 GB, in processes that have just started");
    cluster.client.create("heavy", "large")?;
    let (idle, _) = cluster.memory()?;
    let began = Instant::now();
    cluster.client.resume("heavy")?;
    let took = began.elapsed();
    let (_, peak) = cluster.memory()?;
    let over = peak.saturating_sub(idle);
    ensure!(cluster.count("heavy", "/")?.count == 1, "the actor counts from 1");
    cluster.client.suspend("heavy")?;
    let mib = |bytes: u64| bytes >> 20;
    ensure!(
        over <= MEMORY_BOUND,
        "{} MiB over idle; the bound is {} MiB",
        mib(over),
        mib(MEMORY_BOUND)
    );
    say::seen(format!(
        "pulled, unpacked and booted in {took:.1?}; control plane and node daemon held {} MiB at most, {} MiB over idle",
        mib(peak),
        mib(over)
    ));
    Ok(())
}

fn renewals(log: &str) -> usize {
    log.lines().filter(|line| line.contains("lease renewed")).count()
}
