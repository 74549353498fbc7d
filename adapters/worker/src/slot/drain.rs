//! Being told to stop while an actor runs here: it is put to sleep first.
//!
//! The worker cannot do that by itself, because only the control plane knows what its snapshot is called. It says
//! that it is draining; the node reports that; and the control plane suspends the actor, as it does with that of
//! a pod which is told to go.

use std::time::Duration;

use holdfast_runtime::shutdown::Shutdown;
use holdfast_runtime::tokio;

use super::Slot;

impl Slot {
    /// Takes no actor any more, and waits until there is none: for `limit` at most, and not when `hurry` says so.
    pub(crate) async fn drain(self: &std::sync::Arc<Self>, limit: Duration, hurry: &Shutdown) {
        self.state.send_modify(|state| state.draining = true);
        let mut state = self.state.subscribe();
        let emptied = async {
            // Whoever was let in before the word was out shows what it hosts by now.
            let _ = self.exclusively(|_| Ok(Vec::new())).await;
            if let Some(hosted) = &state.borrow_and_update().hosted {
                tracing::info!(
                    actor = hosted.actor_id,
                    ?limit,
                    "waiting until the actor has been put to sleep"
                );
            }
            // The sender is ours.
            let _ = state.wait_for(|state| state.hosted.is_none()).await;
        };
        tokio::select! {
            biased;
            () = emptied => return,
            () = hurry.triggered() => {}
            () = tokio::time::sleep(limit) => {}
        }
        if let Some(hosted) = &self.state.borrow().hosted {
            tracing::warn!(
                actor = hosted.actor_id,
                "the actor has not been put to sleep in time; it goes back to its last snapshot"
            );
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.state.borrow().draining
    }
}
