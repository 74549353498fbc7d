//! Because of whose order something is done: the machine names the order, or the image that it needs, and whoever placed
//! an order for that actor on that worker is the cause. What nobody waits for has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::id::{Name, RequestId};
use holdfast_core::node::Order;
use holdfast_rpc::trace::Context;

/// Who waits for which order. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Causes(Arc<Mutex<BTreeMap<RequestId, Waiting>>>);

struct Waiting {
    context: Context,
    worker: Name,
    actor: Name,
    images: Vec<Name>,
}

impl Causes {
    /// Takes note of an order that came in this context, recorded or not: what is done because of it is recorded as it is.
    pub fn note(&self, id: RequestId, order: &Order, context: Option<Context>) {
        let Some(context) = context else {
            return;
        };
        let workload = &order.workload;
        let images = workload.containers.iter().map(|container| &container.image);
        let waiting = Waiting {
            context,
            worker: order.worker.clone(),
            actor: order.actor.name.clone(),
            images: images.chain([&workload.pause_image]).cloned().collect(),
        };
        self.lock().insert(id, waiting);
    }

    /// It is answered, or nobody waits for it any more.
    pub fn forget(&self, id: RequestId) {
        self.lock().remove(&id);
    }

    /// Who waits for what is done for an order; of several the one that came first.
    pub fn of(&self, order: &Order) -> Option<Context> {
        self.first(|waiting| waiting.worker == order.worker && waiting.actor == order.actor.name)
    }

    /// Who waits for an image; of several the one that came first.
    pub fn of_image(&self, image: &Name) -> Option<Context> {
        self.first(|waiting| waiting.images.contains(image))
    }

    fn first(&self, is_it: impl Fn(&Waiting) -> bool) -> Option<Context> {
        self.lock()
            .values()
            .find(|waiting| is_it(waiting))
            .map(|waiting| waiting.context)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
