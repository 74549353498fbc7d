//! One writer of events, many readers, none of whom can miss something without hearing of it.

use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_core::effect::StoreEvent;
use holdfast_runtime::tokio::sync::broadcast;
use holdfast_runtime::tokio::sync::broadcast::error::RecvError;

/// How many events a reader may be behind before it must list again.
const BACKLOG: usize = 1024;

/// What happens in a store, as one reader hears it.
#[derive(Debug)]
pub struct Watch {
    events: broadcast::Receiver<StoreEvent>,
    resync: bool,
}

impl Watch {
    /// The next event; `None` once the store is gone. A call that is cancelled loses nothing.
    pub async fn next(&mut self) -> Option<StoreEvent> {
        if std::mem::take(&mut self.resync) {
            return Some(StoreEvent::Resync);
        }
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(_)) => Some(StoreEvent::Resync),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where a store says what happens.
pub(crate) struct Hub {
    events: broadcast::Sender<StoreEvent>,
    /// Whether everything that happens arrives here at this time.
    live: AtomicBool,
}

impl Hub {
    /// A hub that everything arrives at, or will, once [`Hub::live`] says so.
    pub(crate) fn new(live: bool) -> Hub {
        Hub {
            events: broadcast::Sender::new(BACKLOG),
            live: AtomicBool::new(live),
        }
    }

    /// A reader of everything from now on.
    pub(crate) fn watch(&self) -> Watch {
        // Subscribing before looking: a hub that becomes live in between says so to this reader too.
        let events = self.events.subscribe();
        Watch {
            events,
            resync: self.live.load(Ordering::SeqCst),
        }
    }

    /// Tells every reader.
    pub(crate) fn tell(&self, event: StoreEvent) {
        // An error means that nobody listens, which is nobody's loss.
        let _ = self.events.send(event);
    }

    /// From now on everything arrives; until now something may have been missed.
    pub(crate) fn live(&self) {
        self.live.store(true, Ordering::SeqCst);
        self.tell(StoreEvent::Resync);
    }

    /// From now on something may be missed.
    pub(crate) fn deaf(&self) {
        self.live.store(false, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use holdfast_core::id::WorkerKey;

    fn gone(pod: usize) -> StoreEvent {
        StoreEvent::WorkerGone(WorkerKey::new("ns", "pool", format!("pod-{pod}")))
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told_to_list_again_and_then_goes_on() {
        let hub = Hub::new(true);
        let mut watch = hub.watch();
        assert_eq!(watch.next().await, Some(StoreEvent::Resync));
        for pod in 0..BACKLOG + 10 {
            hub.tell(gone(pod));
        }
        assert_eq!(watch.next().await, Some(StoreEvent::Resync));
        assert_eq!(watch.next().await, Some(gone(10)));
    }

    #[tokio::test]
    async fn a_hub_that_is_deaf_says_nothing_until_it_is_live() {
        let hub = Hub::new(false);
        let mut watch = hub.watch();
        hub.live();
        hub.tell(gone(1));
        assert_eq!(watch.next().await, Some(StoreEvent::Resync));
        assert_eq!(watch.next().await, Some(gone(1)));
        hub.deaf();
        let mut late = hub.watch();
        hub.tell(gone(2));
        assert_eq!(late.next().await, Some(gone(2)), "no promise was made yet");
        drop(hub);
        assert_eq!(late.next().await, None);
    }
}
