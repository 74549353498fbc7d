//! Waiting for a condition, never for a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every [`until`] of this process, those to come included: somebody wants it to end.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether [`interrupt`] has been called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Asks `probe` again and again until it has an answer, and returns that.
///
/// `what` completes the sentence "waited in vain for …". An error of `probe` ends the wait at once: a
/// condition that may still come true is `Ok(None)`.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    to_the_end(what, within, || {
        ensure!(!is_interrupted(), "interrupted");
        probe()
    })
}

/// As [`until`], and not ended by [`interrupt`]: for what is cleared up on the way out.
pub fn to_the_end<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(answer) = probe().with_context(|| format!("while waiting for {what}"))? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {within:?} in vain for {what}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
