//! What an image costs that comes for the first time, for the second, and that nobody wants any more.
//!
//! `cargo run --release -p holdfast-images --example cold -- REFERENCE DIRECTORY [--cancel COUNT]`
//!
//! REFERENCE is an image as actors name it: a registry on this machine is asked in plaintext, `oci:PATH:TAG` is a layout.
//! With `--cancel`, so many pulls of it are begun, dropped when a third is here, and discarded, as a node does.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use holdfast_images::{Cache, Layouts, Progress, PullOptions, Puller, Reference, Sharing, UnpackLimits};
use holdfast_runtime::tokio;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (reference, directory, cancelled) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        [reference, directory] => (reference, Path::new(directory).to_owned(), 0),
        [reference, directory, "--cancel", count] => {
            (reference, Path::new(directory).to_owned(), count.parse()?)
        }
        _ => return Err("want REFERENCE DIRECTORY [--cancel COUNT]".into()),
    };
    let reference: Reference = reference.parse()?;
    let cache = Cache::open(&directory.join("images"))?;
    let options = PullOptions {
        layouts: Layouts::Allowed,
        ..PullOptions::default()
    };
    let puller = Puller::new(cache.clone(), options);
    if cancelled > 0 {
        return cancel(&cache, &puller, &reference, cancelled).await;
    }
    let idle = status("VmHWM")?;
    println!("{:<34} {:>8} KiB", "peak memory, idle", idle);

    let start = Instant::now();
    let image = puller.pull(&reference, &Progress::default()).await?;
    say("pull", start.elapsed());
    let unpacking = Instant::now();
    let tree = image.unpacked(&UnpackLimits::default()).await?;
    say("unpack", unpacking.elapsed());
    for (what, name) in [("lay out", "first"), ("lay out again", "second")] {
        let laying = Instant::now();
        let bundle = directory.join(name);
        fs::create_dir(&bundle)?;
        let never = AtomicBool::new(false);
        let report = tree.lay_out(
            &bundle.join("rootfs"),
            &bundle.join("lease"),
            Sharing::Links,
            &never,
        )?;
        say(&format!("{what}, {} entries", report.entries), laying.elapsed());
    }
    say("all of that, cold", start.elapsed());
    drop(tree);

    let warm = Instant::now();
    let tree = puller
        .pull(&reference, &Progress::default())
        .await?
        .unpacked(&UnpackLimits::default())
        .await?;
    let bundle = directory.join("warm");
    fs::create_dir(&bundle)?;
    let never = AtomicBool::new(false);
    tree.lay_out(
        &bundle.join("rootfs"),
        &bundle.join("lease"),
        Sharing::Links,
        &never,
    )?;
    say("all of that, warm", warm.elapsed());
    let peak = status("VmHWM")?;
    println!(
        "{:<34} {:>8} KiB, {} more than idle",
        "peak memory",
        peak,
        peak - idle
    );
    Ok(())
}

async fn cancel(
    cache: &Cache,
    puller: &Puller,
    reference: &Reference,
    count: u32,
) -> Result<(), Box<dyn Error>> {
    let disk = || -> Result<u64, Box<dyn Error>> { Ok(cache.usage()?.used >> 10) };
    let before = (status("VmRSS")?, open_files()?, disk()?);
    println!(
        "{:<34} {} KiB, {} open files, disk {} KiB",
        "before", before.0, before.1, before.2
    );
    for _ in 0..count {
        let progress = Progress::default();
        let mut seen = progress.subscribe();
        let third = seen.wait_for(|counts| counts.total.is_some_and(|total| counts.done > total / 3));
        tokio::select! {
            biased;
            pulled = puller.pull(reference, &progress) => return Err(format!("it came too fast: {pulled:?}").into()),
            reached = third => drop(reached?),
        }
        let start = Instant::now();
        while !cache.discard(&progress, &BTreeSet::new())? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        say("given up", start.elapsed());
    }
    let start = Instant::now();
    while open_files()? > before.1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say("handles back", start.elapsed());
    let after = (status("VmRSS")?, open_files()?, disk()?);
    println!(
        "{:<34} {} KiB, {} open files, disk {} KiB",
        "after", after.0, after.1, after.2
    );
    Ok(())
}

fn say(what: &str, took: Duration) {
    println!("{what:<34} {:>8.0} ms", took.as_secs_f64() * 1e3);
}

/// A line of what the kernel knows of this process, in KiB.
fn status(field: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn open_files() -> Result<usize, Box<dyn Error>> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}
