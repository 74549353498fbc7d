//! Tasks that end with whoever began them.

use holdfast_runtime::tokio;
use holdfast_runtime::tokio::task::AbortHandle;

/// Running tasks. Dropping this ends them where they stand.
#[derive(Default)]
pub(crate) struct Tasks(Vec<AbortHandle>);

impl Tasks {
    /// Begins a task; the handle ends it sooner.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.0.retain(|task| !task.is_finished());
        let handle = tokio::spawn(task).abort_handle();
        self.0.push(handle.clone());
        handle
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
