//! For how long the actor may run: the worker enforces it by itself, also while the node daemon is dead.

use std::sync::Arc;

use holdfast_core::licence::{Hold, Licensed};
use holdfast_core::machine::Machine;
use holdfast_core::time::Duration;
use holdfast_rpc::holdfast_v1::SandboxState;
use holdfast_runtime::clock;
use holdfast_runtime::tokio;
use holdfast_sandbox::SandboxError;
use holdfast_sandbox::names::ActorRef;

use super::{Contents, Outcome, Slot};
use crate::verdict;

/// When a sandbox is tried again that would not be held still, or would not go on.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Slot {
    /// Holds the actor still whenever its licence ends. Never ends by itself.
    pub(crate) async fn enforce(self: Arc<Self>) {
        let mut alarm = self.alarm.subscribe();
        loop {
            let at = *alarm.borrow_and_update();
            let due = async {
                match at {
                    Some(at) => clock::sleep_until(&*self.clock, at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender is ours.
                _ = alarm.changed() => {}
                () = due => {
                    // What is due is seen to after every turn.
                    if let Err(status) = self.exclusively(|_| Ok(Vec::new())).await {
                        tracing::error!(%status, "the licence of an actor has ended unseen");
                    }
                }
            }
        }
    }

    /// Changes for how long the actor may run, and sees to it.
    pub(super) fn license(&self, contents: &mut Contents, actor: &ActorRef, word: Licensed) -> Outcome {
        let is_there = contents
            .hosted
            .as_ref()
            .is_some_and(|hosted| hosted.actor == *actor && hosted.sandbox.exited().is_none());
        if !is_there {
            return Err(verdict::gone(actor));
        }
        contents.licence.handle(self.clock.now(), word);
        self.hold(contents).map_err(|error| verdict::control(&error))?;
        Ok(Vec::new())
    }

    /// Holds the actor still, or lets it go on, as its licence has it. What fails is tried again.
    pub(super) fn hold(&self, contents: &mut Contents) -> Result<(), SandboxError> {
        let now = self.clock.now();
        let licence = &mut contents.licence;
        match contents.hosted {
            Some(_) => licence.handle_timeout(now),
            None => licence.handle(now, Licensed::Ended),
        }
        // What is wanted is compared with what is, so that a failure is not the end of it.
        while licence.poll_output().is_some() {}
        self.alarm.send_replace(licence.poll_timeout().map(|(at, _)| at));
        let is_wanted_frozen = licence.hold() == Hold::Frozen;
        let Some(hosted) = contents
            .hosted
            .as_mut()
            .filter(|hosted| hosted.is_frozen != is_wanted_frozen && hosted.sandbox.exited().is_none())
        else {
            return Ok(());
        };
        let (done, state, event) = if is_wanted_frozen {
            (hosted.sandbox.freeze(), SandboxState::Frozen, "Actor frozen")
        } else {
            (hosted.sandbox.thaw(), SandboxState::Running, "Actor thawed")
        };
        if let Err(error) = done {
            self.alarm.send_replace(Some(now.plus(TRY_AGAIN_AFTER)));
            return Err(error);
        }
        hosted.is_frozen = is_wanted_frozen;
        hosted.tagger.event(event);
        self.state.send_modify(|shown| {
            if let Some(hosted) = &mut shown.hosted {
                hosted.state = state.into();
            }
        });
        Ok(())
    }
}
