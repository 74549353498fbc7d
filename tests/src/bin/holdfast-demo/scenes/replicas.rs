//! Two control planes on one Redis: one dies in the middle of a resume, the other finishes it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use holdfast_tests::process::{Process, binary};
use holdfast_tests::redis::{Persistence, Server};
use holdfast_tests::registry::{Fault, Times};
use holdfast_tests::wait;

use crate::cluster::{Cluster, LEASE_TTL, Options, PATIENCE, Parts, SETTLE_AFTER, choose};
use crate::{Args, say};

pub fn one_of_two_dies(args: &Args) -> Result<()> {
    say::scene(
        8,
        "two control planes on one Redis: one is killed in the middle of a resume",
    );
    let redis = Server::start(Persistence::None)?;
    let kind = choose(args.sandbox)?;
    let (parts, registry) = Parts::prepare(kind, args.workers, None)?;
    let (mut first, first_address) = replica("ateapi-1", &parts, &redis)?;
    let (_second, second_address) = replica("ateapi-2", &parts, &redis)?;
    let options = Options {
        workers: args.workers,
        sandbox: args.sandbox,
        join: vec![first_address, second_address],
        large_image: None,
        network: "10.89.0.0",
    };
    let mut cluster = Cluster::start_on(parts, registry, kind, &options)?;
    let (first_client, second_client) = (cluster.client.only(0), cluster.client.only(1));
    first_client.create_atespace()?;
    first_client.create("heir", "held")?;
    let fault = cluster
        .registry
        .inject("/holdfast/held/blobs/", Fault::Rate(700_000), Times::Always);
    let caller = first_client.clone();
    let resume = std::thread::spawn(move || caller.resume("heir"));
    wait::until("the resume to be under way", PATIENCE, || {
        let is_resuming = second_client.get("heir")?.status().as_str_name() == "STATUS_RESUMING";
        Ok((is_resuming && cluster.registry.bytes_served("/holdfast/held/blobs/") > 100_000).then_some(()))
    })?;
    first.kill()?;
    cluster.client = second_client.clone();
    let began = Instant::now();
    ensure!(
        resume.join().is_ok_and(|verdict| verdict.is_err()),
        "the dead replica answered"
    );
    let actor = second_client.persist("the other replica to finish the resume", PATIENCE, || {
        second_client.resume("heir")
    })?;
    let took = began.elapsed();
    ensure!(
        actor.status().as_str_name() == "STATUS_RUNNING",
        "the actor is {}",
        actor.status().as_str_name()
    );
    let layers = cluster.registry.served("/holdfast/held/blobs/");
    let restarted = layers
        .iter()
        .filter(|served| served.from.is_some_and(|from| from > 0))
        .count();
    ensure!(restarted == 0, "the pull was started again {restarted} times");
    cluster.registry.heal(fault);
    ensure!(cluster.count("heir", "/")?.count == 1, "the actor counts from 1");
    say::seen(format!(
        "the survivor took the lease over and finished the same operation, {took:.1?} after the kill (the pull went on meanwhile)"
    ));
    second_client
        .suspend("heir")
        .context("suspend through the survivor")?;
    cluster.wait_until_all_free(PATIENCE)?;
    say::seen("nothing was leaked");
    cluster.stop()
}

fn replica(name: &str, parts: &Parts, redis: &Server) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(binary("ateapi")?);
    command
        .args(["--grpc-listen-addr", "127.0.0.1:0", "--log-format", "text"])
        .args(["--store", &redis.url()])
        .arg("--manifests")
        .arg(parts.manifests())
        .args(["--lease-ttl", &format!("{}ms", LEASE_TTL.as_millis())])
        .args(["--settle-after", &format!("{}ms", SETTLE_AFTER.as_millis())])
        .env("NO_COLOR", "1");
    let mut process = Process::spawn(name, parts.dir(), &mut command)?;
    let address = process.wait_until("the replica to serve", PATIENCE, |process| {
        Ok(process.log().lines().find_map(|line| {
            let (_, rest) = line.split_once("serving")?.1.split_once("address=")?;
            rest.split_whitespace().next()?.trim_matches('"').parse().ok()
        }))
    })?;
    Ok((process, address))
}
