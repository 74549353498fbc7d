//! Who is at work in an actor's directory: many steps side by side, or one that empties it.
//!
//! A step that was abandoned may have a thread that has not noticed yet. It holds its place until it has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_runtime::tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use holdfast_sandbox::names::ActorRef;

/// The directories in which somebody is at work.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<BTreeMap<ActorRef, Arc<RwLock<()>>>>);

/// A place in a directory, beside others. Clones are the same place.
pub(crate) type Shared = Arc<OwnedRwLockReadGuard<()>>;

impl Rooms {
    /// Waits until nobody empties the directory.
    pub async fn shared(&self, actor: &ActorRef) -> Shared {
        Arc::new(self.room(actor).read_owned().await)
    }

    /// Waits until nobody is in the directory.
    pub async fn alone(&self, actor: &ActorRef) -> OwnedRwLockWriteGuard<()> {
        self.room(actor).write_owned().await
    }

    fn room(&self, actor: &ActorRef) -> Arc<RwLock<()>> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.retain(|_, room| Arc::strong_count(room) > 1);
        rooms.entry(actor.clone()).or_default().clone()
    }
}
