//! How fast a snapshot of incompressible memory moves, beside what its hashing and compression alone cost.
//!
//! `cargo run --release -p holdfast-objects --example throughput [MEGABYTES]`

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_objects::{Backend, Config, LocalSnapshots, Manifest, Progress, Sha256};
use holdfast_runtime::tokio;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: u64 = std::env::args().nth(1).map_or(Ok(256), |text| text.parse())?;
    let root = tempfile::tempdir()?;
    let path = |name: &str| root.path().join(name);
    for directory in ["source", "store", "dest", "dest-local"] {
        fs::create_dir(path(directory))?;
    }
    std::io::copy(
        &mut File::open("/dev/urandom")?.take(megabytes << 20),
        &mut File::create(path("source/pages.img"))?,
    )?;
    File::open(path("source/pages.img"))?.sync_all()?;
    let report = |what: &str, took: Duration| {
        println!(
            "{what:<34} {:>7.0} ms  {:>6.0} MB/s",
            took.as_secs_f64() * 1e3,
            (megabytes << 20) as f64 / 1e6 / took.as_secs_f64()
        );
    };

    let backend = Backend::new(Config::file(path("store"))?);
    let uri = "file://bucket/snapshot".parse()?;
    let plan = Manifest {
        snapshot_files: vec!["pages.img".parse()?],
        ..Manifest::default()
    };
    let start = Instant::now();
    let manifest = backend
        .upload(&uri, &path("source"), &plan, &Progress::default())
        .await?;
    report("upload (zstd, 2x sha256, fsync)", start.elapsed());
    let start = Instant::now();
    backend
        .download(&uri, &manifest, &path("dest"), &Progress::default())
        .await?;
    report("download (2x sha256, unzstd)", start.elapsed());

    let local = LocalSnapshots::new(path("local"));
    let name = "snapshot".parse()?;
    let start = Instant::now();
    let manifest = local.save(&path("source"), &name, &plan)?;
    report("local save (sha256, fsync)", start.elapsed());
    let start = Instant::now();
    local.fetch(&name, &manifest, &path("dest-local"))?;
    report("local fetch (sha256, copy)", start.elapsed());

    // Before anything holds a whole file in memory.
    let status = fs::read_to_string("/proc/self/status")?;
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or_default()
    );
    bare(&path("dest/pages.img"), report)?;
    Ok(())
}

/// One pass of each on one core, over data that is in memory already.
fn bare(path: &Path, report: impl Fn(&str, Duration)) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = fs::read(path)?;
    let start = Instant::now();
    black_box(Sha256::of(&bytes));
    let sha256 = start.elapsed();
    report("sha256 alone", sha256);
    let start = Instant::now();
    let mut sink = zstd::Encoder::new(std::io::sink(), 1)?;
    sink.include_checksum(true)?;
    std::io::copy(&mut &bytes[..], &mut sink)?;
    sink.finish()?;
    let zstd = start.elapsed();
    report("zstd level 1 alone", zstd);
    report("zstd level 1 + sha256, one core", zstd + sha256);
    Ok(())
}
