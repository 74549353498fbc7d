//! What the driver costs beside the bare runsc commands, in one run: medians in milliseconds.
//!
//! `cargo run --release -p holdfast-sandbox --example overhead [rounds]`, as root.
//!
//! | row | is |
//! |---|---|
//! | documented | create, start per container; checkpoint, state until stopped, delete each; create, restore each |
//! | same | exactly the commands the driver runs, and nothing else |
//! | driver | the driver, without a network |
//! | driver, network | the driver, with the worker's network and until the first 200 of readyz |
//!
//! And what a worker's network costs: making all of it, and adopting what is there.

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/worker/mod.rs"]
mod worker;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use holdfast_sandbox::{Activation, Driver, Scope};
use worker::{RUNSC, Worker, reaper};

/// Run, checkpoint, restore; in milliseconds.
type Sample = [f64; 3];

fn main() {
    let rounds: usize = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let mut worker = Worker::new(100);
    let alone = Driver::gvisor(reaper(), None);
    let networked = worker.driver();
    let mut table: [(&str, Vec<Sample>); 4] = [
        ("documented", vec![]),
        ("same", vec![]),
        ("driver", vec![]),
        ("driver, network", vec![]),
    ];
    for _ in 0..rounds {
        table[0].1.push(bare(&worker, &alone, &DOCUMENTED));
        table[1].1.push(bare(&worker, &alone, &SAME));
        table[2].1.push(driven(&worker, &alone, without_probe));
        table[3]
            .1
            .push(worker.inside(|| driven(&worker, &networked, |activation| activation)));
    }
    println!(
        "{:<16} {:>8} {:>12} {:>9}",
        "median of runs", "run", "checkpoint", "restore"
    );
    for (name, samples) in &table {
        let [run, checkpoint, restore] =
            [0, 1, 2].map(|column| median(samples.iter().map(|sample| sample[column])));
        println!("{name:<16} {run:>8.1} {checkpoint:>12.1} {restore:>9.1}");
    }
    drop(networked);
    let (mut made, mut adopted) = (vec![], vec![]);
    for _ in 0..rounds {
        worker.remove_network();
        worker.lose_network();
        made.push(timed(|| worker.reopen_network()));
        worker.lose_network();
        adopted.push(timed(|| worker.reopen_network()));
    }
    let (made, adopted) = (median(made.into_iter()), median(adopted.into_iter()));
    println!("network: made in {made:.1}, adopted in {adopted:.1}");
}

struct Sequence {
    run: &'static [&'static [&'static str]],
    checkpoint: &'static [&'static [&'static str]],
    restore: &'static [&'static [&'static str]],
}

const DOCUMENTED: Sequence = Sequence {
    run: &[
        &["create", "pause"],
        &["start", "pause"],
        &["create", "main"],
        &["start", "main"],
    ],
    checkpoint: &[
        &["checkpoint", "pause"],
        &["state", "pause"],
        &["delete", "main"],
        &["delete", "pause"],
    ],
    restore: &[
        &["create", "pause"],
        &["restore", "pause"],
        &["create", "main"],
        &["restore", "main"],
    ],
};

const SAME: Sequence = Sequence {
    run: &[&["run", "pause"], &["run", "main"]],
    checkpoint: &[&["checkpoint", "pause"], &["delete", "main", "pause"]],
    restore: &[&["restore", "pause"], &["restore", "main"]],
};

/// The commands, one after the other, with nothing in between. The sandbox must have been told to have no
/// network, which is what starting it once through the driver does to its bundles.
fn bare(worker: &Worker, driver: &Driver, sequence: &Sequence) -> Sample {
    let prepare = || {
        let activation = without_probe(worker.counter("bare"));
        driver.run(&activation).unwrap().stop().unwrap();
        activation
    };
    let activation = prepare();
    let run = timed(|| commands(&activation, sequence.run));
    let checkpoint = timed(|| commands(&activation, sequence.checkpoint));
    let activation = worker.carry_over(&activation.dirs, prepare);
    let restore = timed(|| commands(&activation, sequence.restore));
    holdfast_sandbox::sweep(&activation.dirs).unwrap();
    [run, checkpoint, restore]
}

fn driven(worker: &Worker, driver: &Driver, shape: fn(Activation) -> Activation) -> Sample {
    let mut activation = shape(worker.counter("driven"));
    let mut sandbox = None;
    let run = timed(|| sandbox = Some(driver.run(&activation).unwrap()));
    let mut sandbox = sandbox.unwrap();
    let checkpoint = timed(|| drop(sandbox.checkpoint(Scope::Full).unwrap()));
    activation = worker.carry_over(&activation.dirs, || shape(worker.counter("driven")));
    let restore = timed(|| sandbox = driver.restore(&activation, Scope::Full).unwrap());
    sandbox.stop().unwrap();
    [run, checkpoint, restore]
}

fn commands(activation: &Activation, commands: &[&[&str]]) {
    for command in commands {
        runsc(activation, command[0], &command[1..]);
    }
}

fn runsc(activation: &Activation, subcommand: &str, targets: &[&str]) {
    let dirs = &activation.dirs;
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let bundle = path(&dirs.bundle(targets[0]));
    let pidfile = path(&dirs.pidfile(targets[0]));
    let args: Vec<String> = match subcommand {
        "create" => vec!["-bundle".into(), bundle, "-pid-file".into(), pidfile],
        "run" => vec![
            "-detach".into(),
            "-bundle".into(),
            bundle,
            "-pid-file".into(),
            pidfile,
        ],
        "restore" => {
            let image = path(&dirs.restore_state());
            [
                "-detach",
                "-bundle",
                &bundle,
                "-pid-file",
                &pidfile,
                "-image-path",
                &image,
            ]
            .map(Into::into)
            .into()
        }
        "checkpoint" => {
            fs::remove_dir(dirs.checkpoint_state()).unwrap();
            [
                "-compression",
                "none",
                "-image-path",
                &path(&dirs.checkpoint_state()),
            ]
            .map(Into::into)
            .into()
        }
        "delete" => vec!["-force".into()],
        _ => vec![],
    };
    loop {
        let answer = dirs.root().join("answer");
        let mut command = Command::new(RUNSC);
        command.arg("-root").arg(dirs.runsc_state());
        command.args([
            "-platform",
            "systrap",
            "-network",
            "none",
            "-ignore-cgroups",
            "-net-disconnect-ok",
        ]);
        command.arg(subcommand).args(&args).args(targets);
        let quiet = fs::File::create(&answer).unwrap();
        command.stdin(Stdio::null()).stdout(quiet).stderr(Stdio::null());
        let status = reaper().spawn(&mut command).unwrap().wait();
        assert!(status.success(), "{command:?}: {status}");
        // The one command that is repeated: until the sandbox has stopped.
        if subcommand != "state" || fs::read_to_string(answer).unwrap().contains("stopped") {
            return;
        }
    }
}

fn without_probe(mut activation: Activation) -> Activation {
    for container in &mut activation.containers {
        container.readyz = None;
    }
    activation
}

fn timed(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1000.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
