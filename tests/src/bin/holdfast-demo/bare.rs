//! The `runsc` commands that a resume and a suspend cannot do without, run with nothing around them.
//!
//! They run in a process of their own, because whoever runs `runsc` must reap what it orphans, and the
//! demo's other children are not this one's business.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_sandbox::reaper::{Process, Reaper};

use crate::cluster::{Cluster, runsc};
use crate::figures::percentile;

const ROUNDS: usize = 7;
/// The argument that makes this program measure instead of show.
pub const ARGUMENT: &str = "--measure-bare-runsc";

pub struct Bare {
    pub restore: Duration,
    pub checkpoint: Duration,
}

/// Medians over some rounds, on the bundles of an actor of the cluster.
pub fn measure(cluster: &Cluster) -> Result<Bare> {
    // Its bundles are laid out while it runs.
    cluster.client.resume("actor-00")?;
    let actors = fs::read_dir(cluster.actors_dir())?;
    let bundles = actors
        .filter_map(|entry| Some(entry.ok()?.path().join("bundles")))
        .find(|path| path.to_string_lossy().contains("actor-00"))
        .context("no directory of actor-00")?;
    let output = Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        .arg(&bundles)
        .stderr(Stdio::inherit())
        .output()
        .context("run the bare commands")?;
    cluster.client.suspend("actor-00")?;
    ensure!(
        output.status.success(),
        "the bare commands failed: {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut micros = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || -> Result<Duration> {
        Ok(Duration::from_micros(
            micros.next().context("a figure is missing")??,
        ))
    };
    Ok(Bare {
        restore: next()?,
        checkpoint: next()?,
    })
}

/// Measures, and prints the medians in microseconds.
pub fn main(bundles: &Path) -> Result<()> {
    let reaper = Reaper::of_this_process()?;
    let work = tempfile::Builder::new().prefix("hfb").tempdir()?;
    let (mut restores, mut checkpoints) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let bare = Bench {
            root: work.path().join(round.to_string()),
            reaper,
            runsc: runsc().context("no runsc")?,
        };
        bare.lay_out(bundles)?;
        for container in ["pause", "counter"] {
            bare.run(&["run", "-detach"], container, &[])?;
        }
        let image = bare.root.join("image");
        let sandbox = bare.sandbox()?;
        checkpoints.push(timed(|| {
            let path = image.display().to_string();
            bare.command(&[
                "checkpoint",
                "-compression",
                "none",
                "-image-path",
                &path,
                "pause",
            ])?;
            // Containers cannot be deleted before their sandbox has ended.
            sandbox.wait();
            bare.command(&["delete", "-force", "counter", "pause"])
        })?);
        bare.lay_out(bundles)?;
        restores.push(timed(|| {
            let path = image.display().to_string();
            bare.run(&["restore", "-detach"], "pause", &["-image-path", &path])?;
            bare.run(&["restore", "-detach"], "counter", &["-image-path", &path])
        })?);
        bare.command(&["delete", "-force", "counter", "pause"])?;
    }
    restores.sort_unstable();
    checkpoints.sort_unstable();
    println!(
        "{} {}",
        percentile(&restores, 50).as_micros(),
        percentile(&checkpoints, 50).as_micros()
    );
    Ok(())
}

struct Bench {
    root: PathBuf,
    reaper: &'static Reaper,
    runsc: PathBuf,
}

impl Bench {
    /// Fresh bundles without a network: that costs least.
    fn lay_out(&self, from: &Path) -> Result<()> {
        let bundles = self.root.join("bundles");
        if bundles.exists() {
            fs::remove_dir_all(&bundles)?;
        }
        fs::create_dir_all(&bundles)?;
        for container in ["pause", "counter"] {
            let mut copy = Command::new("cp");
            copy.args(["-a", "--"]).arg(from.join(container)).arg(&bundles);
            let status = self.reaper.spawn(&mut copy).context("copy a bundle")?.wait();
            ensure!(status.success(), "cp: {status}");
            let rootfs = bundles.join(container).join("rootfs");
            for entry in fs::read_dir(&rootfs)? {
                let path = entry?.path();
                if path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with(".gvisor."))
                {
                    fs::remove_file(path)?;
                }
            }
            let file = bundles.join(container).join("config.json");
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
            if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
                for namespace in namespaces.iter_mut().filter_map(serde_json::Value::as_object_mut) {
                    namespace.remove("path");
                }
            }
            fs::write(&file, serde_json::to_vec(&config)?)?;
        }
        Ok(())
    }

    /// The sandbox's process, which has become ours to reap.
    fn sandbox(&self) -> Result<Process> {
        let pid = fs::read_to_string(self.root.join("pause.pid"))?.trim().parse()?;
        self.reaper.adopt(pid).context("the sandbox has no process")
    }

    fn run(&self, subcommand: &[&str], container: &str, more: &[&str]) -> Result<()> {
        let bundle = self.root.join("bundles").join(container).display().to_string();
        let pidfile = self.root.join(format!("{container}.pid")).display().to_string();
        let mut arguments = subcommand.to_vec();
        arguments.extend(["-bundle", &bundle, "-pid-file", &pidfile]);
        arguments.extend(more);
        arguments.push(container);
        self.command(&arguments)
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.runsc);
        command
            .arg("-root")
            .arg(self.root.join("state"))
            .args([
                "-platform",
                "systrap",
                "-network",
                "none",
                "-ignore-cgroups",
                "-net-disconnect-ok",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = self.reaper.spawn(&mut command)?.wait();
        ensure!(status.success(), "{command:?}: {status}");
        Ok(())
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}
