//! The order of the scenes.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Options};
use crate::figures::Figures;
use crate::say;
use crate::{Args, Store, scenes};

pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let mut figures = Figures::default();
    say::title("Holdfast: many sleeping actors on a few workers");
    if args.store != Store::Redis {
        let mut cluster = Cluster::start(&Options::from(args))?;
        say::note(&format!(
            "{} workers, sandbox: {}; everything lies in {}",
            args.workers,
            cluster.sandbox.describe(),
            cluster.dir().display()
        ));
        cluster.client.create_atespace()?;
        // First of all: what has grown already would hide how much it takes.
        if args.large_image {
            scenes::pulls::large(&cluster)?;
        }
        scenes::lifecycle::first_requests(&cluster, args, &mut figures)?;
        scenes::lifecycle::rounds(&cluster, args, &mut figures)?;
        scenes::pulls::slow(&cluster)?;
        scenes::pulls::hung(&cluster)?;
        scenes::deaths::of_a_sandbox(&cluster)?;
        scenes::deaths::of_a_worker(&cluster)?;
        scenes::deaths::of_the_control_plane(&mut cluster)?;
        scenes::corruption::corrupted_snapshot(&cluster)?;
        figures.measure_bare(&cluster)?;
        cluster.stop().context("the cluster did not stop cleanly")?;
    }
    if args.store != Store::Embedded {
        scenes::replicas::one_of_two_dies(args)?;
    }
    figures.print(began.elapsed());
    say::title("Try it yourself");
    for line in [
        "cargo xtask images DIR                      images of a counter, and manifests that go with them",
        "ate dev --manifests DIR/manifests           a cluster on this machine",
        "ate create atespace demo",
        "ate create actor hello -a demo -t demo/counter",
        "curl -H 'Host: hello.demo.actors.resources.substrate.ate.dev' http://127.0.0.1:8080/",
    ] {
        say::note(line);
    }
    Ok(())
}
