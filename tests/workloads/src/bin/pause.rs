//! The container that holds a sandbox open: sleeps for ever, lets the kernel reap its orphans, ends on SIGTERM.
//!
//! As process 1 of its namespace it inherits every orphan, and signals without a handler do not reach it.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the signal numbers below are those of Linux on x86_64 and aarch64");

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
/// `SIG_IGN`: for SIGCHLD it means that children never become zombies.
const IGNORE: usize = 1;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    safe fn pause() -> i32;
    safe fn _exit(status: i32) -> !;
}

extern "C" fn stop(_signal: i32) {
    _exit(0)
}

fn main() {
    let stop = stop as extern "C" fn(i32) as usize;
    // SAFETY: `stop` has the signature of a signal handler and calls only `_exit`, which is async-signal-safe.
    unsafe {
        signal(SIGCHLD, IGNORE);
        signal(SIGTERM, stop);
        signal(SIGINT, stop);
    }
    loop {
        pause();
    }
}
