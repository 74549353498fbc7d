//! Installs what Holdfast runs beside itself, from the package sources that the machine already trusts.

mod runsc;
mod sources;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::say;
use crate::step::Step;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing, and exit with an error if anything is
    #[arg(long)]
    check: bool,
}

/// A program, the Debian package that has it, and who needs it.
struct Tool {
    program: &'static str,
    package: &'static str,
    needed_for: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        program: "redis-server",
        package: "redis-server",
        needed_for: "tests and demo of the Redis store",
    },
    Tool {
        program: "openssl",
        package: "openssl",
        needed_for: "tests: certificates",
    },
    Tool {
        program: "nft",
        package: "nftables",
        needed_for: "tests: firewall tables as others read them",
    },
    Tool {
        program: "ip",
        package: "iproute2",
        needed_for: "tests: network namespaces",
    },
    Tool {
        program: "chromium",
        package: "chromium",
        needed_for: "tests: the story of a run as a page",
    },
];

/// Installs packages and lets none of their services start: Debian's packages ask `policy-rc.d` first.
/// The file is there only while the installation runs; one that the machine has is left as it is.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"
"#;

/// Installs what is missing, or says how: the first step of whatever needs it.
pub fn ensure() -> Result<()> {
    run(&Args { check: false })
}

/// Detects what is missing and installs it, or says how.
pub fn run(args: &Args) -> Result<()> {
    let missing: Vec<_> = TOOLS.iter().filter(|tool| !is_present(tool)).collect();
    let runsc_missing = !runsc::is_present();
    if missing.is_empty() && !runsc_missing {
        return Ok(());
    }
    if args.check {
        bail!("something is missing: cargo xtask setup installs it");
    }
    if find("apt-get").is_none() {
        let packages: Vec<_> = missing.iter().map(|tool| tool.program).collect();
        runsc::explain_fallback();
        if packages.is_empty() {
            return Ok(());
        }
        bail!(
            "this is not a Debian system: install {} with its own package manager",
            packages.join(", ")
        );
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    if !is_root() {
        return explain(&packages, runsc_missing);
    }
    update();
    if !packages.is_empty() {
        install(&packages)?;
    }
    if packages.contains(&"redis-server") && Path::new("/run/systemd/system").exists() {
        Step::new("systemctl")
            .args(["disable", "--quiet", "redis-server"])
            .run_behind("redis-server stays off")?;
    }
    if runsc_missing {
        runsc::install()?;
    }
    Ok(())
}

/// The commands for whoever may run them.
fn explain(packages: &[&str], runsc_missing: bool) -> Result<()> {
    say::heading("Not root: run these, then try again");
    say::command("sudo apt-get update");
    if !packages.is_empty() {
        say::command(&format!(
            "sudo apt-get install -y --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    if runsc_missing {
        runsc::explain()?;
    }
    bail!("nothing was installed")
}

/// One broken source among many must not keep us from the others, so a failure here is not the end.
fn update() {
    let step = apt("apt-get").args(["update", "-o", "DPkg::Lock::Timeout=120"]);
    if let Err(error) = step.run_behind("read the package lists") {
        say::warn(&format!("going on with the package lists there are: {error:#}"));
    }
}

fn install(packages: &[&str]) -> Result<()> {
    let what = format!("install {}", packages.join(" "));
    apt("sh")
        .args(["-ec", INSTALL, "install"])
        .args(packages)
        .run_behind(&what)
}

/// A command of the package manager that asks nothing and answers in English.
fn apt(program: &str) -> Step {
    Step::new(program)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
}

fn is_present(tool: &Tool) -> bool {
    match find(tool.program) {
        Some(path) => say::ok(&format!("{} ({})", tool.program, path.display())),
        None => say::warn(&format!("{} is missing (for {})", tool.program, tool.needed_for)),
    }
    find(tool.program).is_some()
}

/// Where a program is; system directories count, also when they are not in `PATH`, as for users on Debian.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn is_root() -> bool {
    Step::new("id")
        .args(["-u"])
        .answer()
        .is_some_and(|id| id.trim() == "0")
}
