//! Work that blocks on the disk, away from the threads that must not.

use holdfast_runtime::tokio;

use crate::PullError;

/// Runs `work` on a thread that may block. Dropping the future lets the work that has begun run to its
/// end, so work that holds a lock or a file is kept short.
#[allow(
    deprecated,
    reason = "the simulator warns about it and then runs the work in place, as it should"
)]
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, PullError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) if error.is_cancelled() => Err(PullError::Interrupted),
        Err(error) => panic!("work on the image cache panicked: {error}"),
    }
}
