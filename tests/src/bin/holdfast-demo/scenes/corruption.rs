//! A snapshot that rots.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tonic::Code;

use crate::cluster::Cluster;
use crate::say;

pub fn corrupted_snapshot(cluster: &Cluster) -> Result<()> {
    say::scene(
        7,
        "a corrupted snapshot: CRASHED with the cause, and back by revert",
    );
    let actor = "rotten";
    cluster.client.create(actor, "counter")?;
    for _ in 0..2 {
        cluster.count(actor, "/")?;
    }
    cluster.client.suspend(actor)?;
    cluster.count(actor, "/")?;
    let suspended = cluster.client.suspend(actor)?;
    let prefix = external_prefix(&suspended).context("the actor has no external snapshot")?;
    let path = prefix
        .split_once("://")
        .map(|(_, path)| path)
        .context("a snapshot is named by a URI")?;
    let file = largest_file(&cluster.dir().join("data").join("objects").join(path))?;
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes)?;

    let status = cluster
        .client
        .resume(actor)
        .err()
        .context("a corrupted snapshot was restored")?;
    ensure!(
        status.code() == Code::DataLoss,
        "code {:?}: {}",
        status.code(),
        status.message()
    );
    let crashed = cluster.client.get(actor)?;
    ensure!(
        crashed.status().as_str_name() == "STATUS_CRASHED",
        "the actor is {}",
        crashed.status().as_str_name()
    );
    let again = cluster
        .client
        .resume(actor)
        .err()
        .context("a crashed actor was resumed")?;
    ensure!(
        again.code() == Code::FailedPrecondition,
        "code {:?}: {}",
        again.code(),
        again.message()
    );
    let cause = cluster.client.crash_cause(actor)?;
    ensure!(!cause.is_empty(), "the record does not say why the actor crashed");
    say::seen(format!(
        "one flipped bit: {} ({:?}); then: {}",
        status.message(),
        status.code(),
        again.message()
    ));
    say::seen(format!("the cause is on record: {cause}"));

    cluster.client.revert(actor)?;
    let counted = cluster.count(actor, "/")?;
    ensure!(
        counted.count == 3,
        "reverted, the actor is at {}; its last good snapshot was at 2",
        counted.count
    );
    cluster.client.suspend(actor)?;
    say::seen("reverted to the last good snapshot, it counts on from there");
    Ok(())
}

fn external_prefix(actor: &holdfast_rpc::ateapi::Actor) -> Option<String> {
    use holdfast_rpc::ateapi::snapshot_info::Data;
    match actor.latest_snapshot_info.as_ref()?.data.as_ref()? {
        Data::External(external) => Some(external.snapshot_uri_prefix.clone()),
        Data::Local(_) => None,
    }
}

fn largest_file(dir: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let sized = files.map(|file| {
        let file = file?;
        Ok((file.metadata()?.len(), file.path()))
    });
    let largest = sized.collect::<std::io::Result<Vec<_>>>()?.into_iter().max();
    largest
        .map(|(_, path)| path)
        .with_context(|| format!("no files in {}", dir.display()))
}
