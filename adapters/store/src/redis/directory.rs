//! Which actors, workers and nodes there are, so that a list need not walk all keys.
//!
//! A walk finds the keys once, and from then on each is kept up by what the servers announce, for as long as
//! somebody listens without a gap. Every list asks for a sign of life first on each connection that announcements come
//! on: the answer comes behind everything that was announced before, so that whoever lists sees what anybody
//! had been told was written.
//!
//! ```text
//!            a list walks              announcements              a look back: another walk
//! unknown ---------------------> known -------------> known ------------------------------> known
//!    ^                             | the connection ends, slots move       | it finds another set of keys
//!    +-----------------------------+                                       +---------------> doubted
//! ```
//!
//! **Whom this cannot see**: the original announces workers as we do, and actors not at all; nor does an operator with a
//! command line. So the keys are walked again every [`Timing::look_back_every`](super::Timing::look_back_every), beside
//! the lists. Where that finds anything that was not announced, somebody else writes here, and for
//! [`DOUBTED_FOR`] such looks lists walk, as they do where nobody listens. An original's replica that is started beside
//! ours is noticed by the first look after its first actor; what it has made until then is not listed before.
//!
//! A key here may have lost its record: whoever lists reads the records, and leaves out those that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redis::{RedisError, cmd};
use futures_util::future::try_join_all;
use holdfast_core::id::{ActorKey, NodeName, WorkerKey};
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::time::Instant;

use super::Fault;
use super::deadline::Deadline;
use super::link::Live;
use super::servers::Servers;
use super::walk::Walk;
use crate::key;

/// For how many looks back lists walk after one that found what nobody had announced.
const DOUBTED_FOR: u32 = 10;
/// How many look-backs may be missed before what is known counts for nothing.
const MISSED_MAX: u32 = 2;

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Gone,
}

/// What keys stand for.
pub(super) trait Kept: Ord + Clone + Send + Sync + 'static {
    /// What all of them begin with.
    const PREFIX: &'static str;
    fn parse(path: &str) -> Option<Self>;
    /// Those of the directory.
    fn shelf(state: &mut State) -> &mut Shelf<Self>;
}

impl Kept for ActorKey {
    const PREFIX: &'static str = key::ACTORS;
    fn parse(path: &str) -> Option<ActorKey> {
        key::parse_actor(path)
    }
    fn shelf(state: &mut State) -> &mut Shelf<ActorKey> {
        &mut state.actors
    }
}

impl Kept for WorkerKey {
    const PREFIX: &'static str = key::WORKERS;
    fn parse(path: &str) -> Option<WorkerKey> {
        key::parse_worker(path)
    }
    fn shelf(state: &mut State) -> &mut Shelf<WorkerKey> {
        &mut state.workers
    }
}

impl Kept for NodeName {
    const PREFIX: &'static str = key::NODES;
    fn parse(path: &str) -> Option<NodeName> {
        key::parse_node(path)
    }
    fn shelf(state: &mut State) -> &mut Shelf<NodeName> {
        &mut state.nodes
    }
}

/// What one process knows of the keys.
#[derive(Default)]
pub(super) struct Directory {
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Every connection on which something may be announced; none while nobody listens to all of them.
    posts: Option<Arc<[Live]>>,
    actors: Shelf<ActorKey>,
    workers: Shelf<WorkerKey>,
    nodes: Shelf<NodeName>,
}

pub(super) struct Shelf<K> {
    known: Option<Known<K>>,
    /// What has been announced since the walk began that is under way.
    announced: Option<Announced<K>>,
    /// How many looks back are still to come before what is known is believed again.
    doubts: u32,
}

type Announced<K> = BTreeMap<K, Presence>;

impl<K> Default for Shelf<K> {
    fn default() -> Self {
        Shelf {
            known: None,
            announced: None,
            doubts: 0,
        }
    }
}

struct Known<K> {
    keys: BTreeSet<K>,
    walked: Instant,
}

impl<K: Kept> Shelf<K> {
    fn tell(&mut self, key: &K, presence: Presence) {
        if let Some(announced) = &mut self.announced {
            announced.insert(key.clone(), presence);
        }
        if let Some(known) = &mut self.known {
            put(&mut known.keys, key, presence);
        }
    }

    /// Something may have been missed.
    fn forget(&mut self) {
        self.known = None;
        self.announced = None;
    }

    /// A walk has shown `keys`. Where nothing was missed meanwhile, that is what there is, but for what was announced since
    /// it began.
    fn walked(&mut self, keys: &mut BTreeSet<K>, began: Instant) {
        let Some(announced) = self.announced.take() else {
            return;
        };
        for (key, presence) in announced {
            put(keys, &key, presence);
        }
        self.doubts = match &self.known {
            Some(known) if known.keys != *keys => DOUBTED_FOR,
            Some(_) => self.doubts.saturating_sub(1),
            None => self.doubts,
        };
        self.known = Some(Known {
            keys: keys.clone(),
            walked: began,
        });
    }
}

fn put<K: Ord + Clone>(keys: &mut BTreeSet<K>, key: &K, presence: Presence) {
    match presence {
        Presence::There => drop(keys.insert(key.clone())),
        Presence::Gone => drop(keys.remove(key)),
    }
}

/// What a list may do.
enum Look<T> {
    Known(T),
    /// Find the keys, for those who come later too.
    Find,
    /// Walk as if there were no directory.
    Walk,
}

impl Directory {
    /// From now on everything is announced on these connections.
    pub(super) fn listening(&self, posts: Vec<Live>) {
        self.state().posts = Some(posts.into());
    }

    /// From now on something may be missed.
    pub(super) fn deaf(&self) {
        self.missed();
        self.state().posts = None;
    }

    /// Something may have been missed, and nothing will be from now on.
    pub(super) fn missed(&self) {
        let mut state = self.state();
        state.actors.forget();
        state.workers.forget();
        state.nodes.forget();
    }

    /// This was announced.
    pub(super) fn tell<K: Kept>(&self, key: &K, presence: Presence) {
        K::shelf(&mut self.state()).tell(key, presence);
    }

    /// Reads from all keys of a kind, or says that they are not known and have to be walked.
    pub(super) async fn read<K: Kept, T>(
        self: &Arc<Self>,
        servers: &Arc<Servers>,
        deadline: Deadline,
        read: impl Fn(&BTreeSet<K>) -> T,
    ) -> Result<Option<T>, Fault> {
        let Some(posts) = self.caught_up(deadline).await else {
            return Ok(None);
        };
        match self.look(servers, &posts, &read) {
            Look::Known(answer) => Ok(Some(answer)),
            Look::Find => Ok(Some(read(&self.find(servers, deadline).await?))),
            Look::Walk => Ok(None),
        }
    }

    fn look<K: Kept, T>(
        self: &Arc<Self>,
        servers: &Arc<Servers>,
        posts: &Arc<[Live]>,
        read: &impl Fn(&BTreeSet<K>) -> T,
    ) -> Look<T> {
        let mut state = self.state();
        if !state.posts.as_ref().is_some_and(|now| Arc::ptr_eq(now, posts)) {
            return Look::Walk;
        }
        let shelf = K::shelf(&mut state);
        let every = servers.timing.look_back_every;
        let age = shelf.known.as_ref().map(|known| known.walked.elapsed());
        let is_old = age.is_none_or(|age| age >= every * MISSED_MAX);
        let may_find = shelf.announced.is_none();
        match &shelf.known {
            Some(known) if !is_old => {
                let is_due = age.is_some_and(|age| age >= every) && may_find;
                let look = match shelf.doubts {
                    0 => Look::Known(read(&known.keys)),
                    _ => Look::Walk,
                };
                if is_due {
                    shelf.announced = Some(Announced::new());
                    let (directory, servers) = (self.clone(), servers.clone());
                    tokio::spawn(async move { directory.look_back::<K>(&servers).await });
                }
                look
            }
            _ if may_find => {
                shelf.announced = Some(Announced::new());
                Look::Find
            }
            _ => Look::Walk,
        }
    }

    /// Every connection that announcements come on, when all that was announced on it before has been heard.
    async fn caught_up(&self, deadline: Deadline) -> Option<Arc<[Live]>> {
        let posts = self.state().posts.clone()?;
        let pings = posts.iter().map(async |live| {
            let mut connection = live.connection.clone();
            cmd("PING").exec_async(&mut connection).await
        });
        let answered: Option<Result<_, RedisError>> = deadline.bound(try_join_all(pings)).await;
        answered?.ok()?;
        Some(posts)
    }

    /// Walks all keys of a kind, and remembers them if nothing was missed meanwhile.
    async fn find<K: Kept>(&self, servers: &Servers, deadline: Deadline) -> Result<BTreeSet<K>, Fault> {
        let walking = Walking {
            directory: self,
            kind: std::marker::PhantomData::<K>,
        };
        let began = Instant::now();
        let mut keys = BTreeSet::new();
        let pattern = format!("{}*", K::PREFIX);
        servers
            .walk(&pattern, deadline, |found| {
                keys.extend(K::parse(found));
                Walk::On
            })
            .await?;
        // What was announced before the walk ended has come about by now.
        if self.caught_up(deadline).await.is_some() {
            K::shelf(&mut self.state()).walked(&mut keys, began);
        }
        drop(walking);
        Ok(keys)
    }

    /// Finds the keys once more, and whether anybody has written without a word.
    async fn look_back<K: Kept>(&self, servers: &Servers) {
        let deadline = Deadline::after(servers.timing.list);
        let doubted = |directory: &Self| K::shelf(&mut directory.state()).doubts > 0;
        let before = doubted(self);
        // What is wrong with the servers is told to those who ask them for something.
        let found = self.find::<K>(servers, deadline).await;
        if found.is_ok() && !before && doubted(self) {
            tracing::info!(
                keys = K::PREFIX,
                "somebody else writes here without announcing it: lists walk all keys for a time"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A walk that is given up makes room for the next.
struct Walking<'a, K: Kept> {
    directory: &'a Directory,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kept> Drop for Walking<'_, K> {
    fn drop(&mut self) {
        K::shelf(&mut self.directory.state()).announced = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| NodeName::from(*name)).collect()
    }

    /// While somebody walks for the first time.
    fn walking() -> Shelf<NodeName> {
        Shelf {
            announced: Some(Announced::new()),
            ..Shelf::default()
        }
    }

    fn known(names: &[&str]) -> Shelf<NodeName> {
        let mut shelf = walking();
        shelf.walked(&mut keys(names), Instant::now());
        shelf
    }

    fn names(shelf: &Shelf<NodeName>) -> BTreeSet<NodeName> {
        shelf.known.as_ref().unwrap().keys.clone()
    }

    #[test]
    fn what_is_announced_while_somebody_walks_counts_more_than_what_the_walk_has_seen() {
        let mut shelf = walking();
        shelf.tell(&"came".into(), Presence::There);
        shelf.tell(&"went".into(), Presence::Gone);
        shelf.tell(&"back".into(), Presence::Gone);
        shelf.tell(&"back".into(), Presence::There);
        let mut walked = keys(&["stays", "went"]);
        shelf.walked(&mut walked, Instant::now());
        assert_eq!(walked, keys(&["back", "came", "stays"]));
        assert_eq!(names(&shelf), walked);
        assert_eq!(shelf.doubts, 0);
    }

    #[test]
    fn what_is_known_follows_what_is_announced() {
        let mut shelf = known(&["a", "b"]);
        shelf.tell(&"c".into(), Presence::There);
        shelf.tell(&"a".into(), Presence::Gone);
        assert_eq!(names(&shelf), keys(&["b", "c"]));
        shelf.forget();
        shelf.tell(&"d".into(), Presence::There);
        assert!(shelf.known.is_none());
    }

    #[test]
    fn a_walk_during_which_something_may_have_been_missed_is_not_remembered() {
        let mut shelf = walking();
        shelf.forget();
        shelf.walked(&mut keys(&["a"]), Instant::now());
        assert!(shelf.known.is_none());
    }

    #[test]
    fn what_nobody_had_announced_is_doubted_until_so_many_looks_have_found_nothing_more() {
        for found in [&["a", "foreign"][..], &[]] {
            let mut shelf = known(&["a"]);
            let mut look = |found: &[&str]| {
                shelf.announced = Some(Announced::new());
                shelf.walked(&mut keys(found), Instant::now());
                shelf.doubts
            };
            assert_eq!(look(&["a"]), 0);
            assert_eq!(look(found), DOUBTED_FOR);
            for left in (0..DOUBTED_FOR).rev() {
                assert_eq!(look(found), left);
            }
            assert_eq!(look(found), 0);
        }
    }
}
