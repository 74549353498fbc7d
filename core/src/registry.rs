//! The registry: what one replica knows of nodes and workers, and which workers are free.
//!
//! It puts two sources together. The *row* is what the store says: who promised the worker to whom.
//! The *sighting* is what the worker's node says: which pod and which run of ateom is there, and what
//! it hosts. Where they differ the registry wishes for repairs; it never performs one, and it never
//! frees a worker that an actor may still be on (that takes the actor's lease: see
//! [`Wish::Release`]). A worker that its node calls busy is busy, whatever its row says (S01).

mod free;
mod heard;
mod repair;
mod strays;

use self::free::{FreeLists, Groups, pick};
use self::repair::{awaits, end_of_promise, is_stray, promised_to, repair};
use crate::actor::Assignment;
use crate::attention::Attention;
use crate::catalog::PoolKey;
use crate::effect::NodeRow;
use crate::id::{ActorKey, Fence, Incarnation, Name, NodeName, PodUid, WorkerKey};
use crate::settings::Settings;
use crate::time::{Instant, mix};
use crate::timers::Timers;
use crate::trie::Trie;
use crate::worker::{self, Duty, Worker};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// What a node says of itself and its workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The node.
    pub node: NodeRow,
    /// Every worker that is on it; one that is not named is not there.
    pub workers: Vec<Sighting>,
}

/// What a node says of one of its workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sighting {
    /// The worker.
    pub key: WorkerKey,
    /// The pod.
    pub pod_uid: PodUid,
    /// The run of ateom.
    pub incarnation: Name,
    /// The pod's address.
    pub ip: Name,
    /// The node that says so.
    pub node: NodeName,
    /// Whether it takes new actors.
    pub duty: Duty,
    /// Whether its ateom does not answer: it may run, and nobody can tell. Then the incarnation is the one that
    /// it had when it was last heard, and empty if its atelet has never heard it.
    pub is_silent: bool,
    /// The highest worker fence that the node has seen: what it says of older promises is final.
    pub highest_fence: Fence,
    /// The actor it hosts, or is about to.
    pub hosting: Option<Hosting>,
}

/// An actor that a node says it hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosting {
    /// The actor.
    pub actor: ActorKey,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// The session of the node under which it may run; zero if it came without one.
    pub session: u64,
}

/// What the registry knows of a worker that an actor was assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Nothing speaks against it.
    Present,
    /// It is there, held still since its node's session lapsed: it may go on under this one.
    Frozen(u64),
    /// What the actor was on is no more.
    Gone(Going),
}

/// How a worker, or the sandbox in it, went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Going {
    /// Its pod was deleted, or its node does not know it any more.
    Worker,
    /// Another pod has its name, or another run of ateom is in the pod.
    Restarted,
    /// The worker is there; the sandbox in it is not.
    Sandbox,
    /// Its node has been silent for so long that it has surely frozen it.
    Session,
}

impl Going {
    /// How it went, in words, for loss marks and logs.
    pub fn describe(self) -> &'static str {
        match self {
            Going::Worker => "its worker is gone",
            Going::Restarted => "its worker was restarted",
            Going::Sandbox => "its sandbox died",
            Going::Session => "its node has not been heard of and its session is over",
        }
    }
}

/// A repair that the registry wishes for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    /// Write a worker's row; nobody's promise is touched by it.
    Write {
        /// What must be stored now.
        expect: Option<worker::Edition>,
        /// The row.
        worker: Box<Worker>,
    },
    /// Delete the row of a worker that is gone and promised to nobody.
    Drop {
        /// The worker.
        key: WorkerKey,
        /// The edition that must be stored.
        expect: worker::Edition,
    },
    /// What this actor was promised is gone: bring it to rest, then free the worker.
    Release {
        /// The actor.
        actor: ActorKey,
        /// The worker that is promised to it.
        worker: WorkerKey,
    },
    /// Suspend this actor, its worker is on the way out.
    Drain {
        /// The actor.
        actor: ActorKey,
    },
    /// This actor is held still on the worker that is promised to it: look whether it may go on.
    Thaw {
        /// The actor.
        actor: ActorKey,
        /// The worker.
        worker: WorkerKey,
    },
    /// Declare this node's session over, if nothing has been heard of it since.
    Lapse(NodeRow),
}

/// What one replica knows of nodes and workers. Nothing that it does for one worker, one node or one actor costs
/// more because there are more of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registry {
    settings: Settings,
    nodes: Trie<NodeName, Box<Node>>,
    silence: Timers<NodeName>,
    /// When the session of a silent node is surely over.
    sessions: Timers<NodeName>,
    /// The node that was heard last.
    heard_last: Option<NodeName>,
    workers: Trie<WorkerKey, Box<Entry>>,
    /// The workers whose rows are on a node, whether or not it has been heard.
    rows_on: Groups<NodeName>,
    attention: Attention,
    free: FreeLists,
    /// Workers that host what their rows know nothing of.
    strays: BTreeSet<WorkerKey>,
    /// What workers hosted as strays when the record of that actor knew nothing of it either. Nodes tell one replica
    /// this and another that: what this one knows outlasts reports to others.
    condemned: BTreeMap<WorkerKey, (ActorKey, Incarnation)>,
    is_synced: bool,
    /// While the rows are being listed: those that have been heard of since the list was asked for.
    heard_meanwhile: Option<BTreeSet<WorkerKey>>,
    wishes: VecDeque<Wish>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    row: NodeRow,
    /// What it said last, if that still counts.
    said: Vec<Arc<Sighting>>,
    /// Workers that it does not name any more, and whose rows are still there.
    gone: Vec<WorkerKey>,
    /// Everything that its last report says has been dealt with: to hear it again changes nothing.
    is_settled: Shortcut,
    free: FreeLists,
    is_stale: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    row: Option<Worker>,
    seen: Seen,
    is_reserved: bool,
    /// A write to the row has been wished for and not yet been answered.
    is_under_repair: bool,
    /// It is on the free lists: on those of all nodes and on those of this one.
    listed_on: Option<NodeName>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Seen {
    /// Its node has not told this replica anything.
    #[default]
    Never,
    Here(Arc<Sighting>),
    Gone,
}

/// What saves work and changes nothing else: registries that differ in it alone are the same.
#[derive(Clone, Copy, Debug)]
struct Shortcut(bool);

impl PartialEq for Shortcut {
    fn eq(&self, _: &Shortcut) -> bool {
        true
    }
}

impl Eq for Shortcut {}

impl Hash for Shortcut {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Registry {
    /// An empty registry that waits for its first list.
    pub fn new(settings: Settings) -> Registry {
        Registry {
            settings,
            nodes: Trie::default(),
            silence: Timers::default(),
            sessions: Timers::default(),
            heard_last: None,
            workers: Trie::default(),
            rows_on: Groups::default(),
            attention: Attention::default(),
            free: FreeLists::default(),
            strays: BTreeSet::new(),
            condemned: BTreeMap::new(),
            is_synced: false,
            heard_meanwhile: None,
            wishes: VecDeque::new(),
        }
    }

    /// Whether the rows have been listed.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// The rows are about to be listed: what has been heard of them so far is older than that list.
    pub fn listing(&mut self) {
        self.heard_meanwhile = Some(BTreeSet::new());
    }

    /// The rows as the store has them, all of them. A store that has lost writes has rows that are older than
    /// what is known, or none: they are what there is.
    pub fn listed(&mut self, rows: Vec<Worker>) {
        self.is_synced = true;
        let newer = self.heard_meanwhile.take().unwrap_or_default();
        let mut named = Trie::default();
        for row in rows {
            named.insert(row.key.clone(), ());
            if !newer.contains(&row.key) {
                self.replace(row);
            } else if self.row(&row.key).is_some() {
                self.written(row);
            }
        }
        let keys: Vec<WorkerKey> = self.workers.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            let is_gone = !named.contains_key(&key) && !newer.contains(&key);
            if is_gone && self.row(&key).is_some() {
                self.deleted(&key);
            } else {
                self.review(&key);
            }
        }
    }

    /// A row was written. Older news than what is known changes nothing.
    pub fn written(&mut self, row: Worker) {
        self.is_heard(&row.key);
        // One of the version that is known, and not the one that is known: the store counts once more.
        let is_old = |known: &Worker| {
            let is_known = known.edition() == row.edition();
            known.pod_uid == row.pod_uid && (known.version > row.version || is_known)
        };
        if !self.row(&row.key).is_some_and(is_old) {
            self.replace(row);
        }
    }

    /// A row is stored in place of what a write expected to be there. One below that is no older news: the store
    /// has lost what it had.
    pub fn conflicted(&mut self, expected: Option<worker::Edition>, stored: Worker) {
        if expected.is_some_and(|expected| stored.version < expected.version) {
            self.replace(stored);
        } else {
            self.written(stored);
        }
    }

    fn replace(&mut self, row: Worker) {
        let key = row.key.clone();
        if !self.workers.contains_key(&key) {
            self.workers.insert(key.clone(), Box::default());
        }
        if self.row(&key) != Some(&row) {
            self.set_row(&key, Some(row));
        }
    }

    fn is_heard(&mut self, key: &WorkerKey) {
        if let Some(heard) = &mut self.heard_meanwhile {
            heard.insert(key.clone());
        }
    }

    /// A row was deleted.
    pub fn deleted(&mut self, key: &WorkerKey) {
        self.is_heard(key);
        self.set_row(key, None);
    }

    fn set_row(&mut self, key: &WorkerKey, row: Option<Worker>) {
        let Some(entry) = self.workers.get_mut(key) else {
            return;
        };
        if entry.row.is_none() && row.is_none() {
            return;
        }
        let before = core::mem::replace(&mut entry.row, row);
        entry.is_under_repair = false;
        let (seen_on, now) = (entry.seen.node().cloned(), entry.row.as_ref());
        let (promise, broken) = (now.and_then(promised_to), before.as_ref().and_then(promised_to));
        if promise != broken {
            if let Some(actor) = broken {
                self.attention.freed(actor, key);
            }
            if let Some(actor) = promise {
                self.attention.promised(actor, key);
            }
        }
        let (node, left) = (now.map(|row| row.node.clone()), before.map(|row| row.node));
        for node in [&seen_on, &node, &left] {
            self.unsettle(node.as_ref());
        }
        if node != left {
            if let Some(left) = left {
                self.rows_on.leave(&left, key);
            }
            if let Some(node) = node {
                self.rows_on.join(node, key.clone());
            }
        }
        self.review(key);
    }

    /// A repair could not be made; the next report or write will bring it up again.
    pub fn repair_failed(&mut self, key: &WorkerKey) {
        if let Some(entry) = self.workers.get_mut(key) {
            entry.is_under_repair = false;
        }
    }

    /// When a node falls silent for too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.silence.next(), self.sessions.next()) {
            (Some((silence, _)), Some((session, _))) => Some(silence.min(session)),
            (next, None) | (None, next) => next.map(|(at, _)| at),
        }
    }

    /// Nodes that have been silent for too long become stale: their workers get no new actors. Their
    /// sessions are to be declared over when that is surely so.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(name) = self.sessions.expired(now) {
            let Some(node) = self.nodes.get(&name) else {
                continue;
            };
            self.wishes.push_back(Wish::Lapse(node.row.clone()));
            // Until an answer says more.
            let again = now.plus(self.settings.node.heartbeat_every);
            self.sessions.set(name, Some(again));
        }
        while let Some(name) = self.silence.expired(now) {
            if let Some(node) = self.nodes.get_mut(&name) {
                node.is_stale = true;
            }
            self.review_node(&name);
        }
    }

    /// The next repair that is wished for.
    pub fn poll_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    /// A free worker of one of the pools, and on one of the nodes if any are named. The cost does not
    /// depend on how many workers there are, only on how many are to be avoided. `seed` spreads the
    /// choice.
    pub fn place(
        &self,
        pools: &[PoolKey],
        nodes: Option<&[NodeName]>,
        avoid: &BTreeSet<WorkerKey>,
        seed: u64,
    ) -> Option<&Worker> {
        let start = usize::try_from(mix(seed) % (pools.len().max(1) as u64)).unwrap_or(0);
        let (before, from) = pools.split_at(start.min(pools.len()));
        for pool in from.iter().chain(before) {
            let key = match nodes {
                None => pick(&self.free, pool, avoid, seed),
                Some(nodes) => nodes
                    .iter()
                    .filter_map(|node| self.nodes.get(node))
                    .find_map(|node| pick(&node.free, pool, avoid, seed)),
            };
            if let Some(key) = key {
                return self.row(key);
            }
        }
        None
    }

    /// Keeps a worker out of the free list while a workflow of this replica is about to claim it.
    pub fn reserve(&mut self, key: &WorkerKey, reservation: Reservation) {
        if let Some(entry) = self.workers.get_mut(key) {
            entry.is_reserved = reservation == Reservation::Made;
            self.relist(key);
        }
    }

    /// The session under which a node's workers may be promised now.
    pub fn session(&self, node: &NodeName) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.row.session)
    }

    /// Up to which of a node's sessions each has been declared over.
    pub fn lapsed_of(&self, node: &NodeName) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.row.lapsed)
    }

    /// The session of this row has been declared over.
    pub fn lapsed(&mut self, now: Instant, row: &NodeRow) {
        if let Some(known) = self.nodes.get(&row.name)
            && let Some(row) = NodeRow::lapse(Some(&known.row), row)
        {
            self.heard(now, row);
        }
    }

    /// The row of a worker.
    pub fn row(&self, key: &WorkerKey) -> Option<&Worker> {
        self.workers.get(key)?.row.as_ref()
    }

    /// The row of every worker, in no order that means anything, but always in the same.
    pub fn rows(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter_map(|(_, entry)| entry.row.as_ref())
    }

    /// Who looks after which actor, as far as promises are known.
    pub fn attention(&self) -> &Attention {
        &self.attention
    }

    /// The same, for those who attend to actors.
    pub fn attention_mut(&mut self) -> &mut Attention {
        &mut self.attention
    }

    /// Where the atelet of this node listens, or the one that was heard last if none is named; none if it
    /// has not been heard for long.
    pub fn in_reach(&self, node: Option<&NodeName>) -> Option<&Name> {
        let name = node.or(self.heard_last.as_ref())?;
        let node = self.nodes.get(name).filter(|node| !node.is_stale)?;
        Some(&node.row.address)
    }

    /// Where a node's atelet listens.
    pub fn address(&self, node: &NodeName) -> Option<&Name> {
        self.reach(node).map(|(address, _)| address)
    }

    /// Where a node's atelet listens, and which run of it that is.
    pub fn reach(&self, node: &NodeName) -> Option<(&Name, &Name)> {
        self.nodes.get(node).map(|n| (&n.row.address, &n.row.incarnation))
    }

    /// Whether what an actor was assigned to is still there, as far as is known. Not knowing is no
    /// proof, so it counts as present.
    pub fn fact(&self, on: &Assignment) -> Fact {
        let Some(entry) = self.workers.get(&on.worker) else {
            return if on.session > 0 && self.lapsed_of(&on.node) >= on.session {
                Fact::Gone(Going::Session)
            } else {
                Fact::Present
            };
        };
        let node = self.nodes.get(&on.node).map(|node| &node.row);
        let is_over = on.session > 0 && node.is_some_and(|node| node.lapsed >= on.session);
        if let Seen::Here(sighting) = &entry.seen
            && (sighting.pod_uid != on.pod_uid || sighting.highest_fence >= on.fence)
        {
            let session = node.map_or(0, |node| node.session);
            let is_held = sighting.hosting.as_ref().is_some_and(|h| awaits(h, session));
            return match end_of_promise(sighting, &on.pod_uid, on.fence) {
                Some(going) => Fact::Gone(going),
                None if is_held && node.is_some_and(NodeRow::has_session) => Fact::Frozen(session),
                None if is_over => Fact::Gone(Going::Session),
                None => Fact::Present,
            };
        }
        // Where the session is over nobody need be asked, and perhaps nobody is there to answer.
        if is_over {
            return Fact::Gone(Going::Session);
        }
        if entry.seen == Seen::Gone {
            return Fact::Gone(Going::Worker);
        }
        let is_other = |row: &Worker| {
            row.pod_uid != on.pod_uid || (!on.incarnation.is_empty() && row.incarnation != on.incarnation)
        };
        match &entry.row {
            Some(row) if is_other(row) && row.hosts.as_ref().is_none_or(|h| h.fence != on.fence) => {
                Fact::Gone(Going::Restarted)
            }
            Some(_) | None => Fact::Present,
        }
    }

    /// Compares row and sighting, wishes for what would make them agree, and keeps the free lists. Says whether
    /// they agree.
    fn review(&mut self, key: &WorkerKey) -> bool {
        self.relist(key);
        let Some(entry) = self.workers.get_mut(key) else {
            return true;
        };
        if !self.is_synced {
            return false;
        }
        let is_stray = is_stray(entry.row.as_ref(), &entry.seen);
        if is_stray {
            self.strays.insert(key.clone());
        } else {
            self.strays.remove(key);
        }
        if entry.row.is_none() || !is_stray && entry.seen != Seen::Never {
            self.condemned.remove(key);
        }
        if entry.row.is_none() && !matches!(entry.seen, Seen::Here(_)) {
            self.workers.remove(key);
            return true;
        }
        if entry.is_under_repair {
            return false;
        }
        let node = match (&entry.seen, &entry.row) {
            (Seen::Here(s), _) => self.nodes.get(&s.node),
            (Seen::Never | Seen::Gone, row) => row.as_ref().and_then(|row| self.nodes.get(&row.node)),
        };
        let wish = repair(entry.row.as_ref(), &entry.seen, node.map(|node| &node.row));
        let is_agreed = wish.is_none();
        entry.is_under_repair = matches!(wish, Some(Wish::Write { .. } | Wish::Drop { .. }));
        self.wishes.extend(wish);
        is_agreed
    }

    fn review_node(&mut self, name: &NodeName) {
        let rows = self.rows_on.of(name).cloned().unwrap_or_default();
        for (key, ()) in rows.iter() {
            self.review(key);
        }
    }

    /// Puts a worker on the free lists or takes it off, if it is not as it should be.
    fn relist(&mut self, key: &WorkerKey) {
        let Some(entry) = self.workers.get_mut(key) else {
            return;
        };
        let free_on = entry.free_on().filter(|node| {
            self.nodes
                .get(node)
                .is_some_and(|n| !n.is_stale && !n.is_lapsed())
        });
        if free_on == entry.listed_on.as_ref() {
            return;
        }
        let free_on = free_on.cloned();
        let listed_on = core::mem::replace(&mut entry.listed_on, free_on.clone());
        let pool = (key.namespace.clone(), key.pool.clone());
        if let Some(node) = listed_on {
            self.free.leave(&pool, key);
            if let Some(node) = self.nodes.get_mut(&node) {
                node.free.leave(&pool, key);
            }
        }
        if let Some(node) = free_on {
            if let Some(node) = self.nodes.get_mut(&node) {
                node.free.join(pool.clone(), key.clone());
            }
            self.free.join(pool, key.clone());
        }
    }
}

impl Node {
    /// Whether it had a session and has none now.
    fn is_lapsed(&self) -> bool {
        self.row.session > 0 && !self.row.has_session()
    }
}

impl Seen {
    /// The node that says so.
    fn node(&self) -> Option<&NodeName> {
        match self {
            Seen::Here(sighting) => Some(&sighting.node),
            Seen::Never | Seen::Gone => None,
        }
    }
}

impl Entry {
    /// The node on which it would be free, if that node is alive.
    fn free_on(&self) -> Option<&NodeName> {
        let row = self.row.as_ref()?;
        let is_occupied = match &self.seen {
            Seen::Never => false,
            Seen::Gone => true,
            Seen::Here(s) => {
                s.hosting.is_some()
                    || s.is_silent
                    || s.duty == Duty::Draining
                    || s.pod_uid != row.pod_uid
                    || s.incarnation != row.incarnation
            }
        };
        let is_free = row.hosts.is_none() && row.duty == Duty::Serving && !self.is_reserved && !is_occupied;
        is_free.then_some(&row.node)
    }
}

/// Whether a worker is kept for a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// It is.
    Made,
    /// It is not.
    Lifted,
}
