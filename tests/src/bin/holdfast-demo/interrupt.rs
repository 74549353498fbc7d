//! Ctrl-C: nothing of the demo is left behind.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use holdfast_runtime::shutdown::signalled;
use holdfast_runtime::tokio::runtime::Builder;
use holdfast_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

/// From now on a signal asks everything that the demo has started to end, and ends every wait. The scene
/// fails where it stands, and what it has made is removed as after any other failure.
pub fn watch() -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let signal = {
        let _guard = runtime.enter();
        signalled()?
    };
    thread::spawn(move || {
        runtime.block_on(signal);
        wait::interrupt();
        for child in children() {
            // Not reaped yet, or gone: the id is nobody else's in the moment since it was read.
            let _ = kill_process(child, Signal::TERM);
        }
        // Further signals are ignored as long as their handlers are there.
        runtime.block_on(std::future::pending::<()>());
    });
    Ok(())
}

/// The children of every thread of this process, see proc(5).
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
            pids.filter_map(Pid::from_raw).collect::<Vec<_>>()
        })
        .collect()
}
