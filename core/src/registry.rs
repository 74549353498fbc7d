//! The registry: what one replica knows of nodes and workers, and which workers are free.
//!
//! It puts two sources together. The *row* is what the store says: who promised the worker to whom.
//! The *sighting* is what the worker's node says: which pod and which run of ateom is there, and what
//! it hosts. Where they differ the registry wishes for repairs; it never performs one, and it never
//! frees a worker that an actor may still be on (that takes the actor's lease: see
//! [`Wish::Release`]). A worker that its node calls busy is busy, whatever its row says (S01).

mod repair;

use self::repair::{awaits, end_of_promise, is_stray, repair};
use crate::actor::Assignment;
use crate::catalog::PoolKey;
use crate::effect::NodeRow;
use crate::id::{ActorKey, Fence, Incarnation, Name, NodeName, PodUid, Version, WorkerKey};
use crate::session::Eviction;
use crate::settings::Settings;
use crate::time::{Instant, mix};
use crate::timers::Timers;
use crate::worker::{Duty, Worker};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

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
        expect: Option<Version>,
        /// The row.
        worker: Box<Worker>,
    },
    /// Delete the row of a worker that is gone and promised to nobody.
    Drop {
        /// The worker.
        key: WorkerKey,
        /// The version that must be stored.
        expect: Version,
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
    /// Declare this node's session over, if this was its last report.
    Lapse {
        /// The node.
        node: NodeName,
        /// The run of atelet.
        incarnation: Name,
        /// The report.
        sequence: u64,
    },
}

/// What one replica knows of nodes and workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registry {
    settings: Settings,
    nodes: BTreeMap<NodeName, Node>,
    silence: Timers<NodeName>,
    /// When the session of a silent node is surely over.
    sessions: Timers<NodeName>,
    workers: BTreeMap<WorkerKey, Entry>,
    free: BTreeMap<PoolKey, BTreeSet<Slot>>,
    free_on: BTreeMap<(PoolKey, NodeName), BTreeSet<Slot>>,
    /// Workers that host what their rows know nothing of.
    strays: BTreeSet<WorkerKey>,
    /// Those of them whose actor's record knows nothing of it either.
    condemned: BTreeSet<WorkerKey>,
    is_synced: bool,
    wishes: VecDeque<Wish>,
}

/// A worker's place in a free list: spread by hash, so that replicas do not race for the same one.
type Slot = (u64, WorkerKey);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    row: NodeRow,
    workers: BTreeSet<WorkerKey>,
    is_stale: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    row: Option<Worker>,
    seen: Seen,
    is_reserved: bool,
    /// A write to the row has been wished for and not yet been answered.
    is_under_repair: bool,
    /// The free list it is on.
    listed: Option<(PoolKey, NodeName)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Seen {
    /// Its node has not told this replica anything.
    #[default]
    Never,
    Here(Sighting),
    Gone,
}

impl Registry {
    /// An empty registry that waits for its first list.
    pub fn new(settings: Settings) -> Registry {
        Registry {
            settings,
            nodes: BTreeMap::new(),
            silence: Timers::default(),
            sessions: Timers::default(),
            workers: BTreeMap::new(),
            free: BTreeMap::new(),
            free_on: BTreeMap::new(),
            strays: BTreeSet::new(),
            condemned: BTreeSet::new(),
            is_synced: false,
            wishes: VecDeque::new(),
        }
    }

    /// Whether the rows have been listed.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// The rows as the store has them, all of them.
    pub fn listed(&mut self, rows: Vec<Worker>) {
        let mut vanished: BTreeSet<WorkerKey> = self
            .workers
            .iter()
            .filter(|(_, e)| e.row.is_some())
            .map(|(k, _)| k.clone())
            .collect();
        self.is_synced = true;
        for row in rows {
            vanished.remove(&row.key);
            self.written(row);
        }
        for key in vanished {
            self.deleted(&key);
        }
        let keys: Vec<WorkerKey> = self.workers.keys().cloned().collect();
        for key in keys {
            self.review(&key);
        }
    }

    /// A row was written. Older news than what is known changes nothing.
    pub fn written(&mut self, row: Worker) {
        let key = row.key.clone();
        let entry = self.workers.entry(key.clone()).or_default();
        if entry
            .row
            .as_ref()
            .is_some_and(|known| known.pod_uid == row.pod_uid && known.version >= row.version)
        {
            return;
        }
        entry.row = Some(row);
        entry.is_under_repair = false;
        self.review(&key);
    }

    /// A row was deleted.
    pub fn deleted(&mut self, key: &WorkerKey) {
        let Some(entry) = self.workers.get_mut(key) else {
            return;
        };
        if entry.row.take().is_none() {
            return;
        }
        entry.is_under_repair = false;
        self.review(key);
    }

    /// A repair could not be made; the next report or write will bring it up again.
    pub fn repair_failed(&mut self, key: &WorkerKey) {
        if let Some(entry) = self.workers.get_mut(key) {
            entry.is_under_repair = false;
        }
    }

    /// A node was heard, by this replica or by another. When it has told another replica something
    /// newer than what it told this one, what it told this one no longer counts.
    pub fn heard(&mut self, now: Instant, row: NodeRow) {
        let name = row.name.clone();
        let is_newer = self
            .nodes
            .get(&name)
            .is_some_and(|n| n.row.incarnation != row.incarnation || n.row.sequence < row.sequence);
        self.alive(now, row);
        if is_newer && let Some(node) = self.nodes.get_mut(&name) {
            for key in core::mem::take(&mut node.workers) {
                if let Some(entry) = self.workers.get_mut(&key) {
                    entry.seen = Seen::Never;
                }
                self.review(&key);
            }
        }
    }

    fn alive(&mut self, now: Instant, row: NodeRow) {
        let name = row.name.clone();
        let is_new = !self.nodes.contains_key(&name);
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node {
            row: row.clone(),
            workers: BTreeSet::new(),
            is_stale: true,
        });
        let had_session = node.row.has_session();
        let lapsed = node.row.lapsed.max(row.lapsed);
        let is_known = node.row.incarnation == row.incarnation && node.row.sequence >= row.sequence;
        // What is known already is no sign of life.
        if !is_known || is_new {
            node.row = row;
            self.silence
                .set(name.clone(), Some(now.plus(self.settings.node.stale_silence())));
            let over = now.plus(self.settings.session_over_after());
            self.sessions.set(name.clone(), Some(over));
        }
        node.row.lapsed = lapsed;
        if !node.row.has_session() {
            self.sessions.set(name.clone(), None);
        }
        let is_revived = (!is_known || is_new) && core::mem::take(&mut node.is_stale);
        if is_revived || had_session != node.row.has_session() {
            self.review_node(&name);
        }
    }

    /// A node reported to this replica. A report that is older than what is known changes nothing.
    pub fn reported(&mut self, now: Instant, report: Report) {
        let known = self.nodes.get(&report.node.name).map(|n| &n.row);
        if known
            .is_some_and(|k| k.incarnation == report.node.incarnation && k.sequence > report.node.sequence)
        {
            return;
        }
        let name = report.node.name.clone();
        // The first report of a run may come before all workers have been found: of those that it leaves
        // out it says nothing.
        let unsaid = if report.node.sequence <= 1 {
            Seen::Never
        } else {
            Seen::Gone
        };
        self.alive(now, report.node);
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        let mut unnamed = core::mem::take(&mut node.workers);
        // Rows that nobody has vouched for to this replica: what it lists as on this node is there or is gone
        // (S47).
        let unheard = self.workers.iter().filter(|(_, entry)| {
            entry.seen == Seen::Never && entry.row.as_ref().is_some_and(|row| row.node == name)
        });
        unnamed.extend(unheard.map(|(key, _)| key.clone()));
        // A pod of that name may be on another node by now, which is the one to ask then.
        unnamed.retain(|key| match self.workers.get(key).map(|entry| &entry.seen) {
            Some(Seen::Here(sighting)) => sighting.node == name,
            _ => true,
        });
        let mut named = Vec::new();
        for sighting in report.workers {
            let key = sighting.key.clone();
            unnamed.remove(&key);
            node.workers.insert(key.clone());
            named.push(key.clone());
            self.workers.entry(key).or_default().seen = Seen::Here(sighting);
        }
        for key in &unnamed {
            if let Some(entry) = self.workers.get_mut(key) {
                entry.seen = unsaid.clone();
            }
        }
        for key in named.iter().chain(&unnamed) {
            self.review(key);
        }
        // What this node has said of a worker that is gone is forgotten like the rest when it has told
        // another replica something newer.
        unnamed.retain(|key| unsaid == Seen::Gone && self.workers.contains_key(key));
        if let Some(node) = self.nodes.get_mut(&name) {
            node.workers.append(&mut unnamed);
        }
    }

    /// When a node falls silent for too long.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.silence.next(), self.sessions.next()];
        next.into_iter().flatten().map(|(at, _)| at).min()
    }

    /// Nodes that have been silent for too long become stale: their workers get no new actors. Their
    /// sessions are to be declared over when that is surely so.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(name) = self.sessions.expired(now) {
            let Some(node) = self.nodes.get(&name) else {
                continue;
            };
            self.wishes.push_back(Wish::Lapse {
                node: name.clone(),
                incarnation: node.row.incarnation.clone(),
                sequence: node.row.sequence,
            });
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
            let slot = match nodes {
                None => self.free.get(pool).and_then(|slots| pick(slots, avoid, seed)),
                Some(nodes) => nodes.iter().find_map(|node| {
                    self.free_on
                        .get(&(pool.clone(), node.clone()))
                        .and_then(|slots| pick(slots, avoid, seed))
                }),
            };
            if let Some((_, key)) = slot {
                return self.workers.get(key)?.row.as_ref();
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

    /// A node's session has been declared over; nothing had been heard of it since this report.
    pub fn lapsed(&mut self, now: Instant, node: &NodeName, incarnation: &Name, sequence: u64) {
        if let Some(known) = self.nodes.get(node)
            && let Some(row) = known.row.lapse(incarnation, sequence)
        {
            self.heard(now, row);
        }
    }

    /// Workers that host what their rows know nothing of.
    pub fn strays(&self) -> &BTreeSet<WorkerKey> {
        &self.strays
    }

    /// The actor that a stray worker hosts.
    pub fn stray(&self, key: &WorkerKey) -> Option<&Hosting> {
        self.strays.get(key)?;
        match &self.workers.get(key)?.seen {
            Seen::Here(sighting) => sighting.hosting.as_ref(),
            Seen::Never | Seen::Gone => None,
        }
    }

    /// The record of the actor that a stray worker hosts knows nothing of it: its node is told to end it.
    pub fn condemn(&mut self, key: &WorkerKey) {
        if self.strays.contains(key) {
            self.condemned.insert(key.clone());
        }
    }

    /// What a node is to end.
    pub fn evictions(&self, node: &NodeName) -> Vec<Eviction> {
        let of_node = self.nodes.get(node).map(|node| &node.workers);
        let keys = of_node
            .into_iter()
            .flatten()
            .filter(|key| self.condemned.contains(*key));
        let rows = keys.filter_map(|key| self.workers.get(key)?.row.as_ref());
        rows.map(|row| Eviction {
            pod_uid: row.pod_uid.clone(),
            fence: Fence(
                row.hosts
                    .as_ref()
                    .map_or(row.version.0, |hosted| hosted.fence.0 - 1),
            ),
        })
        .collect()
    }

    /// The row of a worker.
    pub fn row(&self, key: &WorkerKey) -> Option<&Worker> {
        self.workers.get(key)?.row.as_ref()
    }

    /// The row of every worker.
    pub fn rows(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter_map(|e| e.row.as_ref())
    }

    /// Where a node's atelet listens.
    pub fn address(&self, node: &NodeName) -> Option<&Name> {
        self.nodes.get(node).map(|n| &n.row.address)
    }

    /// Whether what an actor was assigned to is still there, as far as is known. Not knowing is no
    /// proof, so it counts as present.
    pub fn fact(&self, on: &Assignment) -> Fact {
        let Some(entry) = self.workers.get(&on.worker) else {
            let lapsed = self.nodes.get(&on.node).map_or(0, |node| node.row.lapsed);
            return if on.session > 0 && lapsed >= on.session {
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
        if entry.seen == Seen::Gone {
            return Fact::Gone(Going::Worker);
        }
        if is_over {
            return Fact::Gone(Going::Session);
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

    /// Compares row and sighting, wishes for what would make them agree, and keeps the free lists.
    fn review(&mut self, key: &WorkerKey) {
        self.relist(key);
        let Some(entry) = self.workers.get_mut(key) else {
            return;
        };
        if !self.is_synced {
            return;
        }
        let is_stray = is_stray(entry.row.as_ref(), &entry.seen);
        if is_stray {
            self.strays.insert(key.clone());
        } else if self.strays.remove(key) {
            self.condemned.remove(key);
        }
        if entry.row.is_none() && !matches!(entry.seen, Seen::Here(_)) {
            self.workers.remove(key);
            return;
        }
        if entry.is_under_repair {
            return;
        }
        let node = match (&entry.seen, &entry.row) {
            (Seen::Here(s), _) => self.nodes.get(&s.node),
            (Seen::Never | Seen::Gone, row) => row.as_ref().and_then(|row| self.nodes.get(&row.node)),
        };
        let Some(wish) = repair(entry.row.as_ref(), &entry.seen, node.map(|node| &node.row)) else {
            return;
        };
        entry.is_under_repair = matches!(wish, Wish::Write { .. } | Wish::Drop { .. });
        self.wishes.push_back(wish);
    }

    fn review_node(&mut self, name: &NodeName) {
        let on_node: Vec<WorkerKey> = self
            .workers
            .iter()
            .filter(|(_, e)| e.row.as_ref().is_some_and(|r| r.node == *name))
            .map(|(k, _)| k.clone())
            .collect();
        for key in on_node {
            self.review(&key);
        }
    }

    fn relist(&mut self, key: &WorkerKey) {
        let Some(entry) = self.workers.get_mut(key) else {
            return;
        };
        let slot = (mix(hash(key)), key.clone());
        if let Some((pool, node)) = entry.listed.take() {
            unlist(&mut self.free, &pool, &slot);
            unlist(&mut self.free_on, &(pool, node), &slot);
        }
        let Some(row) = &entry.row else { return };
        let is_occupied = match &entry.seen {
            Seen::Never => false,
            Seen::Gone => true,
            Seen::Here(s) => {
                s.hosting.is_some()
                    || s.duty == Duty::Draining
                    || s.pod_uid != row.pod_uid
                    || s.incarnation != row.incarnation
            }
        };
        let is_lapsed = |n: &Node| n.row.session > 0 && !n.row.has_session();
        let is_stale = self
            .nodes
            .get(&row.node)
            .is_none_or(|n| n.is_stale || is_lapsed(n));
        if row.hosts.is_none() && row.duty == Duty::Serving && !entry.is_reserved && !is_occupied && !is_stale
        {
            let pool = (row.key.namespace.clone(), row.key.pool.clone());
            entry.listed = Some((pool.clone(), row.node.clone()));
            self.free.entry(pool.clone()).or_default().insert(slot.clone());
            self.free_on
                .entry((pool, row.node.clone()))
                .or_default()
                .insert(slot);
        }
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

fn pick<'a>(slots: &'a BTreeSet<Slot>, avoid: &BTreeSet<WorkerKey>, seed: u64) -> Option<&'a Slot> {
    let from = (mix(seed), WorkerKey::new("", "", ""));
    slots
        .range(from.clone()..)
        .chain(slots.range(..from))
        .find(|(_, key)| !avoid.contains(key))
}

fn unlist<K: Ord>(lists: &mut BTreeMap<K, BTreeSet<Slot>>, list: &K, slot: &Slot) {
    if let Some(slots) = lists.get_mut(list) {
        slots.remove(slot);
        if slots.is_empty() {
            lists.remove(list);
        }
    }
}

/// FNV-1a over a worker's name: the same on every platform and in every process.
fn hash(key: &WorkerKey) -> u64 {
    let parts = [&key.namespace, &key.pool, &key.pod];
    let bytes = parts.iter().flat_map(|part| part.as_str().bytes().chain([b'/']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}
