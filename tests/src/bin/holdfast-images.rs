//! Something to run: images of a counter, and the manifests of `examples/` with their digests put in, as
//! `cargo xtask images DIR` writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use holdfast_images::Platform;
use holdfast_tests::images::Images;
use sha2::{Digest, Sha256};

/// Write images of a counter, and manifests that go with them, to a directory
#[derive(Parser, Debug)]
#[command(name = "cargo xtask images", bin_name = "cargo xtask images")]
struct Args {
    /// The directory, made if there is none
    dir: PathBuf,
}

/// The manifests for gVisor, which keeps memory, and those for plain processes, which keep a directory.
const FOR_GVISOR: &str = include_str!("../../../examples/counter/template.yaml");
const FOR_PROCESSES: &str = include_str!("../../../examples/counter-data/template.yaml");
const POOL: &str = include_str!("../../../examples/counter/pool.yaml");
const SANDBOX: &str = include_str!("../../../examples/counter/sandbox.yaml");

fn main() -> ExitCode {
    match run(&Args::parse().dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> Result<()> {
    let images = dir.join("images");
    fs::create_dir_all(&images).with_context(|| images.display().to_string())?;
    let images = images.canonicalize()?;
    let built = Images::build(&images)?;
    let runsc = runsc();
    let (template, sandbox) = match &runsc {
        Some(file) => (FOR_GVISOR, with_runsc(file)?),
        None => (FOR_PROCESSES, SANDBOX.to_owned()),
    };
    let zeros = "0".repeat(64);
    let template = put(
        template,
        &format!("registry.example/pause@sha256:{zeros}"),
        &built.pause.to_string(),
    )?;
    let template = put(
        &template,
        &format!("registry.example/counter@sha256:{zeros}"),
        &built.counter.to_string(),
    )?;
    let manifests = dir.join("manifests");
    fs::create_dir_all(&manifests).with_context(|| manifests.display().to_string())?;
    for (file, text) in [
        ("template.yaml", template.as_str()),
        ("pool.yaml", POOL),
        ("sandbox.yaml", &sandbox),
    ] {
        let path = manifests.join(file);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    anstream::println!("images:    {}", images.display());
    anstream::println!("manifests: {}", manifests.display());
    if runsc.is_none() {
        anstream::println!(
            "for plain processes: there is no runsc on the PATH, so a count is kept in a file and not in memory"
        );
    }
    Ok(())
}

/// The configuration of sandboxes, with this machine's runsc in it.
fn with_runsc(file: &Path) -> Result<String> {
    let digest = hex::encode(Sha256::digest(
        fs::read(file).with_context(|| file.display().to_string())?,
    ));
    let named = put(
        SANDBOX,
        "file:///usr/bin/runsc",
        &format!("file://{}", file.display()),
    )?;
    let arch = Platform::host().architecture;
    put(
        &put(&named, &"0".repeat(64), &digest)?,
        "    amd64:\n",
        &format!("    {arch}:\n"),
    )
}

/// Puts something in the place of what stands there in an example, once.
fn put(text: &str, placeholder: &str, value: &str) -> Result<String> {
    ensure!(
        text.matches(placeholder).count() == 1,
        "examples/ has no longer one {placeholder:?}"
    );
    Ok(text.replace(placeholder, value))
}

fn runsc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("runsc"))
        .find(|file| file.is_file())
}
