//! Where callers wait for their verdicts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_core::id::RequestId;
use holdfast_core::replica::Input;
use holdfast_core::request::{Request, Verdict};
use holdfast_rpc::trace;
use holdfast_runtime::driver::Inbox;
use holdfast_runtime::tokio::sync::oneshot;

use crate::causes::Causes;

/// Hands requests to the machine and verdicts to those who wait.
#[derive(Clone, Debug)]
pub struct Desk {
    inbox: Inbox<Input>,
    waiting: Arc<Mutex<Waiting>>,
    causes: Causes,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    callers: BTreeMap<RequestId, oneshot::Sender<Verdict>>,
}

/// The machine went before it gave a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Gone;

impl Desk {
    /// A desk in front of a machine.
    pub fn new(inbox: Inbox<Input>) -> Desk {
        Desk {
            inbox,
            waiting: Arc::default(),
            causes: Causes::default(),
        }
    }

    /// Because of whose requests things are done.
    pub(crate) fn causes(&self) -> &Causes {
        &self.causes
    }

    /// Asks, and waits for the verdict. Dropping the future ends the waiting, not what was begun.
    ///
    /// # Errors
    /// [`Gone`] if the replica has stopped.
    pub async fn ask(&self, request: Request) -> Result<Verdict, Gone> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.next += 1;
            let id = RequestId(waiting.next);
            waiting.callers.insert(id, sender);
            id
        };
        let mut leaving = Leaving {
            desk: self,
            id,
            is_told: false,
        };
        let _cause = self.causes.note(&request, trace::current());
        self.inbox.send(Input::Request(id, request));
        let verdict = receiver.await.map_err(|_| Gone);
        leaving.is_told = true;
        verdict
    }

    /// Gives a verdict to whoever waits for it.
    pub(crate) fn tell(&self, id: RequestId, verdict: Verdict) {
        let caller = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .callers
            .remove(&id);
        if let Some(caller) = caller {
            // A caller who left a moment ago does not hear it; that is a caller's right.
            let _ = caller.send(verdict);
        }
    }

    /// Nobody will be told any more.
    pub(crate) fn close(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .callers
            .clear();
    }
}

/// Tells the machine when a caller stops waiting.
struct Leaving<'a> {
    desk: &'a Desk,
    id: RequestId,
    is_told: bool,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.desk
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .callers
                .remove(&self.id);
            self.desk.inbox.send(Input::CallerGone(self.id));
        }
    }
}
