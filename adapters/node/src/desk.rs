//! Where callers wait for the answers to their orders.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::effect::NodeReply;
use holdfast_core::id::RequestId;
use holdfast_core::node::{Input, Order};
use holdfast_rpc::trace;
use holdfast_runtime::driver::Inbox;
use holdfast_runtime::tokio::sync::oneshot;

use crate::causes::Causes;

/// Hands orders to the machine and answers to those who wait.
#[derive(Clone)]
pub(crate) struct Desk {
    inbox: Inbox<Input>,
    waiting: Arc<Mutex<Waiting>>,
    causes: Causes,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    callers: BTreeMap<RequestId, oneshot::Sender<NodeReply>>,
}

/// The machine went before it answered; what it had begun is finished after its return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

impl Desk {
    pub fn new(inbox: Inbox<Input>) -> Self {
        Self {
            inbox,
            waiting: Arc::default(),
            causes: Causes::default(),
        }
    }

    /// Because of whose orders things are done.
    pub fn causes(&self) -> &Causes {
        &self.causes
    }

    /// Places an order and waits for its answer. Dropping the future ends the waiting, not the work.
    pub async fn place(&self, order: Order) -> Result<NodeReply, Gone> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.lock();
            waiting.next += 1;
            let id = RequestId(waiting.next);
            waiting.callers.insert(id, sender);
            id
        };
        let _leaving = Leaving { desk: self, id };
        self.causes.note(id, &order, trace::current());
        self.inbox.send(Input::Order(id, Box::new(order)));
        receiver.await.map_err(|_| Gone)
    }

    /// Answers whoever waits under this number.
    pub fn answer(&self, id: RequestId, reply: NodeReply) {
        let caller = self.lock().callers.remove(&id);
        if let Some(caller) = caller {
            // A caller who left a moment ago does not hear it; that is a caller's right.
            let _ = caller.send(reply);
        }
    }

    /// Nobody will be answered any more.
    pub fn close(&self) {
        self.lock().callers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the machine when a caller stops waiting before it has its answer.
struct Leaving<'a> {
    desk: &'a Desk,
    id: RequestId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.desk.causes.forget(self.id);
        let unanswered = self.desk.lock().callers.remove(&self.id).is_some();
        if unanswered {
            self.desk.inbox.send(Input::CallerGone(self.id));
        }
    }
}
