//! What nodes say of themselves and of their workers, and what is made of it.

use super::{Entry, Node, Registry, Report, Seen, Shortcut, Sighting, Wish};
use crate::actor::Assignment;
use crate::effect::NodeRow;
use crate::id::{NodeName, WorkerKey};
use crate::registry::free::FreeLists;
use crate::time::Instant;
use crate::trie::Trie;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Registry {
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
            node.is_settled = Shortcut(false);
            let said = core::mem::take(&mut node.said);
            let gone = core::mem::take(&mut node.gone);
            for key in said.iter().map(|sighting| &sighting.key).chain(&gone) {
                self.sighted(key, Seen::Never);
                self.review(key);
            }
        }
    }

    fn alive(&mut self, now: Instant, row: NodeRow) {
        let name = row.name.clone();
        let is_new = !self.nodes.contains_key(&name);
        if is_new {
            let node = Node {
                row: row.clone(),
                said: Vec::new(),
                gone: Vec::new(),
                is_settled: Shortcut(false),
                free: FreeLists::default(),
                is_stale: true,
            };
            self.nodes.insert(name.clone(), Box::new(node));
        }
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        let had_session = node.row.has_session();
        let before = (node.row.session, node.row.lapsed);
        let lapsed = node.row.lapsed.max(row.lapsed);
        let is_same_run = node.row.incarnation == row.incarnation;
        let is_known = is_same_run && node.row.sequence >= row.sequence;
        // A report that the store has not taken yet comes without a version.
        let is_written = row.version > node.row.version;
        let version = match is_same_run {
            true => node.row.version.max(row.version),
            false if row.version == 0 => node.row.version,
            false => row.version,
        };
        // What is known already is no sign of life.
        if !is_known || is_new {
            node.row = row;
            self.silence
                .set(name.clone(), Some(now.plus(self.settings.node.stale_silence())));
            self.heard_last = Some(name.clone());
        }
        node.row.version = version;
        // Of what the store took before this it may have had something else in between, which was answered.
        if !is_known || is_new || is_written {
            let over = now.plus(self.settings.session_over_after());
            self.sessions.set(name.clone(), Some(over));
        }
        node.row.lapsed = lapsed;
        node.is_settled.0 &= before == (node.row.session, node.row.lapsed);
        if !node.row.has_session() {
            self.sessions.set(name.clone(), None);
        }
        let is_revived = (!is_known || is_new) && core::mem::take(&mut node.is_stale);
        if is_revived || had_session != node.row.has_session() {
            self.review_node(&name);
        }
    }

    /// The store has taken what a node reported to this replica.
    pub fn noted(&mut self, now: Instant, heard: &NodeRow, version: u64) {
        let known = self.nodes.get(&heard.name).map(|node| node.row.clone());
        if let Some(known) = known.filter(|known| known.incarnation == heard.incarnation) {
            self.alive(now, NodeRow { version, ..known });
        }
    }

    /// The store has another edition of a node's row than this one, and so its session was not declared over. An
    /// earlier report in the version that is known is the last that was answered: the store has not heard what this
    /// replica has, so nothing has come of that.
    pub fn not_lapsed(&mut self, now: Instant, expect: &NodeRow, stored: NodeRow) {
        let Some(node) = self.nodes.get_mut(&stored.name) else {
            return self.heard(now, stored);
        };
        let is_same_run = stored.incarnation == expect.incarnation && node.row.edition() == expect.edition();
        if is_same_run && stored.version == expect.version && stored.sequence < expect.sequence {
            self.wishes.push_back(Wish::Lapse(stored));
        } else if is_same_run && stored.version < expect.version {
            // The store has lost what it had, and nobody knows what it answered meanwhile.
            node.row.version = stored.version;
            node.row.sequence = stored.sequence;
            let over = now.plus(self.settings.session_over_after());
            self.sessions.set(stored.name, Some(over));
        } else {
            self.heard(now, stored);
        }
    }

    /// Whether a node has said something newer than this in the same run.
    fn is_outdated(&self, row: &NodeRow) -> bool {
        self.nodes
            .get(&row.name)
            .is_some_and(|n| n.row.incarnation == row.incarnation && n.row.sequence > row.sequence)
    }

    /// A node reported to this replica. A report that is older than what is known changes nothing.
    pub fn reported(&mut self, now: Instant, report: Report) {
        if self.is_outdated(&report.node) {
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
        let mut workers = report.workers;
        let mut unknown = Vec::new();
        workers.retain_mut(|sighting| {
            let is_known = self.is_told(sighting);
            unknown.extend((!is_known).then(|| sighting.key.clone()));
            is_known
        });
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        // Nearly every report says what the one before said.
        if node.is_settled.0 && node.said.iter().map(|s| &**s).eq(&workers) {
            return;
        }
        let said: Vec<Arc<Sighting>> = workers.into_iter().map(Arc::new).collect();
        let before = core::mem::replace(&mut node.said, said.clone());
        let mut unnamed: BTreeSet<WorkerKey> = core::mem::take(&mut node.gone).into_iter().collect();
        if !before.iter().map(|s| &s.key).eq(said.iter().map(|s| &s.key)) {
            unnamed.extend(before.iter().map(|s| s.key.clone()));
        }
        // Rows that nobody has vouched for to this replica: what it lists as on this node is there or is gone
        // (S47).
        let is_unheard = |key: &WorkerKey| self.workers.get(key).is_some_and(|e| e.seen == Seen::Never);
        let rows = self.rows_on.of(&name).into_iter().flat_map(Trie::iter);
        unnamed.extend(rows.map(|(key, ())| key.clone()).filter(is_unheard));
        // A pod of that name may be on another node by now, which is the one to ask then.
        unnamed.retain(|key| match self.workers.get(key).map(|entry| &entry.seen) {
            Some(Seen::Here(sighting)) => sighting.node == name,
            _ => true,
        });
        if !unnamed.is_empty() {
            for key in said.iter().map(|sighting| &sighting.key).chain(&unknown) {
                unnamed.remove(key);
            }
        }
        // Of two words about one worker the later one counts, so all are noted before any is looked into.
        for sighting in &said {
            self.sighted(&sighting.key, Seen::Here(sighting.clone()));
        }
        for key in &unnamed {
            self.sighted(key, unsaid.clone());
        }
        // What the node has said of these before it says no more, and it does not say that they are gone either.
        let is_of_node = |key: &&WorkerKey| {
            let entry = self.workers.get(key);
            entry.is_some_and(|entry| entry.seen.node() == Some(&name))
        };
        let outdated: Vec<WorkerKey> = unknown.iter().filter(is_of_node).cloned().collect();
        for key in &outdated {
            self.sighted(key, Seen::Never);
            self.review(key);
        }
        let mut is_settled = unnamed.is_empty() && unknown.is_empty();
        for sighting in &said {
            is_settled &= self.review(&sighting.key) && sighting.node == name;
        }
        for key in &unnamed {
            self.review(key);
        }
        // What this node has said of a worker that is gone is forgotten like the rest when it has told
        // another replica something newer.
        unnamed.retain(|key| unsaid == Seen::Gone && self.workers.contains_key(key));
        if let Some(node) = self.nodes.get_mut(&name) {
            node.is_settled = Shortcut(is_settled);
            node.gone.extend(unnamed);
        }
    }

    /// Whether enough is said of a worker to go by. One that nobody has heard in this run of its atelet is taken
    /// to be what its row says that it was.
    fn is_told(&self, sighting: &mut Sighting) -> bool {
        if !sighting.is_silent || !sighting.incarnation.is_empty() {
            return true;
        }
        let row = self.row(&sighting.key);
        let Some(row) = row.filter(|row| row.pod_uid == sighting.pod_uid) else {
            return false;
        };
        sighting.incarnation = row.incarnation.clone();
        true
    }

    /// Notes the last word of a node about a worker, which is to be reviewed then.
    fn sighted(&mut self, key: &WorkerKey, seen: Seen) {
        if let Some(entry) = self.workers.get_mut(key) {
            if entry.seen != seen {
                let before = core::mem::replace(&mut entry.seen, seen);
                self.unsettle(before.node());
            }
        } else if matches!(seen, Seen::Here(_)) {
            let entry = Entry {
                seen,
                ..Entry::default()
            };
            self.workers.insert(key.clone(), Box::new(entry));
        }
    }

    /// Something is known of a worker that this node named, or has to name, by which its report is to be read
    /// again.
    pub(super) fn unsettle(&mut self, node: Option<&NodeName>) {
        if let Some(node) = node.and_then(|name| self.nodes.get_mut(name)) {
            node.is_settled = Shortcut(false);
        }
    }

    /// A node has answered that it has vacated a worker, and its next report may take a while: what it said
    /// there of that promise is out of date. The worker is free when its row is.
    pub fn vacated(&mut self, on: &Assignment) {
        if let Some(entry) = self.workers.get_mut(&on.worker)
            && let Seen::Here(sighting) = &mut entry.seen
            && sighting.pod_uid == on.pod_uid
            && sighting.highest_fence <= on.fence
        {
            Arc::make_mut(sighting).hosting = None;
            // Should its next report still say what its last one said, it is to be read.
            let node = sighting.node.clone();
            self.unsettle(Some(&node));
        }
    }
}
