//! Worker pods and atelets, put together into what a node would report of itself and its workers.
//!
//! An atelet that reports by itself knows what it runs, and what it does not know the cluster adds: what the pod
//! behind each socket is called, where it is reached, and that it is about to go. What it said last is told again when
//! any of that changes. For any other atelet the cluster speaks, and what it says is no more than it knows: which
//! pods there are, and how many runs of ateom have ended in each. Of what a worker hosts it knows nothing, so a
//! promise stands until its pod, or the run of ateom in it, is no more.
//!
//! That a pod is not in the list that this replica has is no proof: another replica may have seen it come. What
//! counts is that it was here and went, that another pod has its name, or that the API server was asked for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use holdfast_core::effect::{NodeCall, NodeFailure, NodeFailureKind, NodeRow};
use holdfast_core::failure::Code;
use holdfast_core::id::{Fence, Name, NodeName, PodUid, WorkerKey};
use holdfast_core::registry::{Report, Sighting};
use holdfast_core::time::Instant;
use holdfast_core::worker::{Duty, Worker};
use holdfast_rpc::report::is_unnamed;

use crate::pods::{AteletPod, Read, WorkerPod};

/// How many pods that went are remembered: more than are told of in the calls of one moment.
const GONE_MAX: usize = 65_536;
/// The first report of a run may come before all workers are known; what is said here never does.
const FIRST_SEQUENCE: u64 = 2;
/// Each run of ateom that ended is worth so much of a worker's fence, as a power of two.
const RUN_BITS: u32 = 40;
/// Where the fences begin that no row reaches by being written.
const RUN_BASE: u64 = 1 << 8;

/// What the name of a run of ateom begins with here; how many ended before it follows.
const RUN: &str = "run-";

/// The name of a pod, with its namespace first.
pub type PodName = (Name, Name);

/// Everything that is known of worker pods, atelets and nodes.
#[derive(Debug)]
pub struct Fleet {
    /// The incarnation under which nodes are reported here.
    run: Name,
    /// How long a node that has reported by itself is left alone.
    respected_for: Duration,
    pods: BTreeMap<PodName, WorkerPod>,
    names: BTreeMap<PodUid, PodName>,
    atelets: BTreeMap<Name, AteletPod>,
    rows: BTreeMap<WorkerKey, Row>,
    row_of: BTreeMap<PodUid, WorkerKey>,
    nodes: BTreeMap<NodeName, Node>,
    gone: Gone,
    /// The nodes of which there is something new to be said.
    changed: BTreeSet<NodeName>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Node {
    pods: BTreeSet<PodName>,
    atelets: BTreeSet<Name>,
    rows: BTreeSet<WorkerKey>,
    /// When it last reported by itself.
    spoke_at: Option<Instant>,
    /// What it said then, if it was to this replica.
    said: Option<Report>,
    /// Where its atelet was last.
    address: Name,
}

/// What the store has of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    uid: PodUid,
    incarnation: Name,
    ip: Name,
    node: NodeName,
    duty: Duty,
}

/// Pods that went, the latest of them.
#[derive(Debug, Default)]
struct Gone {
    uids: BTreeSet<PodUid>,
    order: VecDeque<PodUid>,
}

/// What becomes of a call to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is made.
    Free,
    /// Its answer is known.
    Closed(NodeFailure),
    /// It depends on whether this pod still has this name.
    Ask(PodName, PodUid),
}

impl Fleet {
    /// A fleet of which nothing is known, reported under this incarnation. A node that has reported by itself is
    /// left alone for so long.
    pub fn new(run: impl Into<Name>, respected_for: Duration) -> Fleet {
        Fleet {
            run: run.into(),
            respected_for,
            pods: BTreeMap::new(),
            names: BTreeMap::new(),
            atelets: BTreeMap::new(),
            rows: BTreeMap::new(),
            row_of: BTreeMap::new(),
            nodes: BTreeMap::new(),
            gone: Gone::default(),
            changed: BTreeSet::new(),
            sequence: FIRST_SEQUENCE,
        }
    }

    /// A worker pod is there, or is not what it was.
    pub fn pod(&mut self, name: &PodName, uid: &PodUid, read: Read<WorkerPod>) {
        match read {
            Read::There(mut pod) => {
                let before = self.pods.get(name);
                if let Some(before) = before.filter(|before| before.uid == pod.uid) {
                    if pod.ip.is_empty() {
                        pod.ip = before.ip.clone();
                    }
                    if *before == pod {
                        return;
                    }
                }
                self.forget_pod(name, Some(&pod.uid));
                self.names.insert(pod.uid.clone(), name.clone());
                self.node(&pod.node).pods.insert(name.clone());
                self.changed.insert(pod.node.clone());
                self.pods.insert(name.clone(), pod);
            }
            Read::Ended => {
                self.forget_pod(name, None);
                self.went(uid);
            }
            Read::Waiting => self.forget_pod(name, Some(uid)),
        }
    }

    /// A worker pod is no more.
    pub fn pod_gone(&mut self, name: &PodName, uid: &PodUid) {
        if self.pods.get(name).is_some_and(|pod| pod.uid == *uid) {
            self.forget_pod(name, None);
        }
        self.went(uid);
    }

    /// These are all worker pods.
    pub fn pods_listed(&mut self, listed: Vec<(PodName, PodUid, Read<WorkerPod>)>) {
        let named: BTreeSet<&PodName> = listed.iter().map(|(name, ..)| name).collect();
        let missing: Vec<PodName> = self
            .pods
            .keys()
            .filter(|name| !named.contains(name))
            .cloned()
            .collect();
        for name in missing {
            self.forget_pod(&name, None);
        }
        for (name, uid, read) in listed {
            self.pod(&name, &uid, read);
        }
    }

    /// An atelet is there, or is not what it was.
    pub fn atelet(&mut self, name: &Name, read: Read<AteletPod>) {
        match read {
            Read::There(atelet) => {
                if self.atelets.get(name) == Some(&atelet) {
                    return;
                }
                self.atelet_gone(name);
                let node = atelet.node.clone();
                self.atelets.insert(name.clone(), atelet);
                self.node(&node).atelets.insert(name.clone());
                self.readdress(&node);
            }
            Read::Ended | Read::Waiting => self.atelet_gone(name),
        }
    }

    /// An atelet is no more.
    pub fn atelet_gone(&mut self, name: &Name) {
        if let Some(atelet) = self.atelets.remove(name) {
            self.node(&atelet.node).atelets.remove(name);
            self.readdress(&atelet.node);
        }
    }

    /// These are all atelets.
    pub fn atelets_listed(&mut self, listed: Vec<(Name, Read<AteletPod>)>) {
        let named: BTreeSet<&Name> = listed.iter().map(|(name, _)| name).collect();
        let missing: Vec<Name> = self
            .atelets
            .keys()
            .filter(|name| !named.contains(name))
            .cloned()
            .collect();
        for name in missing {
            self.atelet_gone(&name);
        }
        for (name, read) in listed {
            self.atelet(&name, read);
        }
    }

    /// The store has this row.
    pub fn row(&mut self, worker: &Worker) {
        let row = Row {
            uid: worker.pod_uid.clone(),
            incarnation: worker.incarnation.clone(),
            ip: worker.ip.clone(),
            node: worker.node.clone(),
            duty: worker.duty,
        };
        if self.rows.get(&worker.key) == Some(&row) {
            return;
        }
        self.row_gone(&worker.key);
        self.row_of.insert(row.uid.clone(), worker.key.clone());
        self.node(&row.node).rows.insert(worker.key.clone());
        // The report of a node says something of every row on it.
        if !self.names.contains_key(&row.uid) {
            self.changed.insert(row.node.clone());
        }
        self.rows.insert(worker.key.clone(), row);
    }

    /// The store has no row of this worker any more.
    pub fn row_gone(&mut self, key: &WorkerKey) {
        if let Some(row) = self.rows.remove(key) {
            self.node(&row.node).rows.remove(key);
            if self.row_of.get(&row.uid) == Some(key) {
                self.row_of.remove(&row.uid);
            }
        }
    }

    /// A node has reported by itself.
    pub fn spoke(&mut self, now: Instant, node: &NodeName) {
        self.node(node).spoke_at = Some(now);
    }

    /// A node has reported by itself, to this replica: the same, with what is known here of its workers.
    pub fn said(&mut self, now: Instant, report: Report) -> Report {
        let node = self.node(&report.node.name);
        node.spoke_at = Some(now);
        node.said = Some(report.clone());
        self.related(report)
    }

    /// What a node has said, with what is known here of its workers. The API server's word on what a pod is called
    /// goes before what lies beside its socket; after that comes its row, should the pod have gone. Of what nobody
    /// knows the name it is too early to speak.
    fn related(&self, mut report: Report) -> Report {
        report.workers.retain_mut(|worker| {
            let pod = self
                .names
                .get(&worker.pod_uid)
                .and_then(|name| self.pods.get(name));
            let row = self.row_of.get(&worker.pod_uid);
            let row = row.and_then(|key| Some((key, self.rows.get(key)?)));
            let (key, ip) = match (pod, row) {
                (Some(pod), row) => (
                    &pod.key,
                    row.map(|(_, row)| &row.ip)
                        .filter(|_| pod.ip.is_empty())
                        .unwrap_or(&pod.ip),
                ),
                (None, Some((key, row))) => (key, &row.ip),
                (None, None) => return !is_unnamed(worker),
            };
            worker.key = key.clone();
            // Told by the cluster before, as of an atelet that does not report: it is the same run of ateom for as long
            // as its kubelet has seen none end since.
            if let Some((_, row)) = row
                && pod.is_some_and(|pod| runs_of(&row.incarnation) == Some(pod.runs_ended))
                && !worker.incarnation.is_empty()
            {
                worker.incarnation = row.incarnation.clone();
            }
            if !ip.is_empty() {
                worker.ip = ip.clone();
            }
            if pod.is_some_and(|pod| pod.is_leaving) {
                worker.duty = Duty::Draining;
            }
            !worker.ip.is_empty()
        });
        report
    }

    /// The API server was asked for a pod that is not in the list, and it has none of this name that is this one.
    pub fn confirmed_gone(&mut self, uid: &PodUid) {
        if !self.names.contains_key(uid) {
            self.went(uid);
            if let Some(row) = self.row_of.get(uid).and_then(|key| self.rows.get(key)) {
                self.changed.insert(row.node.clone());
            }
        }
    }

    /// The pods behind rows of which nobody here knows whether they are there.
    pub fn unknown(&self) -> Vec<(PodName, PodUid)> {
        let unknown = self.rows.iter().filter(|(key, row)| self.is_unknown(key, row));
        unknown
            .map(|(key, row)| (name_of(key), row.uid.clone()))
            .collect()
    }

    /// Whether there is something new to be said.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The nodes of which there is something new to be said; they are not told again.
    pub fn take_changed(&mut self) -> Vec<NodeName> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// Every node that is known. One of which nothing is left is forgotten.
    pub fn all_nodes(&mut self) -> Vec<NodeName> {
        let changed = &self.changed;
        self.nodes.retain(|name, node| {
            let is_empty = node.pods.is_empty() && node.atelets.is_empty() && node.rows.is_empty();
            !is_empty || node.spoke_at.is_some() || changed.contains(name)
        });
        self.nodes.keys().cloned().collect()
    }

    /// What is to be said of a node; while it reports by itself, what it said last to this replica, if that was to it.
    pub fn report(&mut self, now: Instant, name: &NodeName) -> Option<Report> {
        let node = self.nodes.get(name)?;
        if node.spoke_at.is_some_and(|at| now.since(at) < self.respected_for) {
            return node.said.clone().map(|said| self.related(said));
        }
        let has_atelet = self.atelet_of(node).is_ok();
        let pods = node.pods.iter().filter_map(|pod| self.pods.get(pod));
        let mut workers: Vec<Sighting> = pods.filter_map(|pod| self.sighting(pod, has_atelet)).collect();
        let rows = node
            .rows
            .iter()
            .filter_map(|key| Some((key, self.rows.get(key)?)));
        workers.extend(rows.filter(|(key, row)| self.is_unknown(key, row)).map(unheard));
        let report = Report {
            node: NodeRow {
                name: name.clone(),
                address: node.address.clone(),
                incarnation: self.run.clone(),
                sequence: self.sequence,
                session: 0,
                lapsed: 0,
                version: 0,
            },
            workers,
        };
        self.sequence += 1;
        Some(report)
    }

    /// What becomes of a call.
    ///
    /// A node that has a session is the one to ask, whatever becomes of its pods: it may be cut off, and a pod that
    /// was deleted by force runs on there until the session is over.
    pub fn way(&self, call: &NodeCall) -> Way {
        let Some(target) = &call.worker else {
            return self.way_to(&call.node);
        };
        if target.session > 0 || self.names.contains_key(&target.pod_uid) {
            return self.way_to(&call.node);
        }
        if self.gone.uids.contains(&target.pod_uid) {
            return Way::Closed(pod_is_gone());
        }
        match self.row_of.get(&target.pod_uid) {
            // Another pod has its name.
            Some(key) if self.pods.contains_key(&name_of(key)) => Way::Closed(pod_is_gone()),
            Some(key) => Way::Ask(name_of(key), target.pod_uid.clone()),
            None => self.way_to(&call.node),
        }
    }

    /// What becomes of a call about a pod that is there.
    pub fn way_to(&self, name: &NodeName) -> Way {
        let Some(node) = self.nodes.get(name) else {
            return Way::Free;
        };
        match self.atelet_of(node) {
            Ok(_) => Way::Free,
            Err(_) if node.spoke_at.is_some() => Way::Free,
            Err(count) => Way::Closed(NodeFailure::unreachable(format!(
                "found {count} atelet pods on node \"{name}\", expected 1"
            ))),
        }
    }

    /// What is known of a pod. Nothing yet of one that has no address, unless a row says that it had one.
    fn sighting(&self, pod: &WorkerPod, has_atelet: bool) -> Option<Sighting> {
        let row = self.rows.get(&pod.key).filter(|row| row.uid == pod.uid);
        let ip = match (pod.ip.is_empty(), row) {
            (true, None) => return None,
            (true, Some(row)) => row.ip.clone(),
            (false, _) => pod.ip.clone(),
        };
        // Whoever has seen another run begin knows more than this replica does.
        let known = row.and_then(|row| runs_of(&row.incarnation));
        let runs = pod.runs_ended.max(known.unwrap_or_default());
        Some(Sighting {
            key: pod.key.clone(),
            pod_uid: pod.uid.clone(),
            incarnation: format!("{RUN}{runs}").into(),
            ip,
            node: pod.node.clone(),
            duty: if pod.is_leaving {
                Duty::Draining
            } else {
                Duty::Serving
            },
            is_silent: !pod.is_ready || !has_atelet,
            highest_fence: fence_after(runs),
            hosting: None,
        })
    }

    /// Whether a row's pod is neither known to be there nor known to be gone.
    fn is_unknown(&self, key: &WorkerKey, row: &Row) -> bool {
        !self.names.contains_key(&row.uid)
            && !self.gone.uids.contains(&row.uid)
            && !self.pods.contains_key(&name_of(key))
    }

    /// The one atelet of a node, or how many there are instead. One that goes still serves until another has come.
    fn atelet_of(&self, node: &Node) -> Result<&AteletPod, usize> {
        let of_node = node.atelets.iter().filter_map(|name| self.atelets.get(name));
        let all: Vec<&AteletPod> = of_node.filter(|atelet| !atelet.address.is_empty()).collect();
        let staying: Vec<&AteletPod> = all.iter().copied().filter(|atelet| !atelet.is_leaving).collect();
        match (&staying[..], &all[..]) {
            ([atelet], _) | ([], [atelet]) => Ok(atelet),
            ([], all) => Err(all.len()),
            (staying, _) => Err(staying.len()),
        }
    }

    fn readdress(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        // The address of an atelet that is away is kept: whoever asks is told that nobody is there.
        if let Ok(atelet) = self.atelet_of(node) {
            let address = atelet.address.clone();
            self.node(name).address = address;
        }
        self.changed.insert(name.clone());
    }

    /// Takes a pod out of the lists; one that is not `still` there is gone.
    fn forget_pod(&mut self, name: &PodName, still: Option<&PodUid>) {
        let Some(pod) = self.pods.remove(name) else { return };
        self.node(&pod.node).pods.remove(name);
        self.names.remove(&pod.uid);
        self.changed.insert(pod.node.clone());
        if still != Some(&pod.uid) {
            self.went(&pod.uid);
        }
    }

    fn went(&mut self, uid: &PodUid) {
        if self.gone.uids.insert(uid.clone()) {
            self.gone.order.push_back(uid.clone());
        }
        if self.gone.order.len() > GONE_MAX
            && let Some(oldest) = self.gone.order.pop_front()
        {
            self.gone.uids.remove(&oldest);
        }
    }

    fn node(&mut self, name: &NodeName) -> &mut Node {
        self.nodes.entry(name.clone()).or_default()
    }
}

/// What is said of a worker of which nothing is known but its row: all of that, and that nobody hears it.
fn unheard((key, row): (&WorkerKey, &Row)) -> Sighting {
    Sighting {
        key: key.clone(),
        pod_uid: row.uid.clone(),
        incarnation: row.incarnation.clone(),
        ip: row.ip.clone(),
        node: row.node.clone(),
        duty: row.duty,
        is_silent: true,
        highest_fence: Fence(0),
        hosting: None,
    }
}

/// How many runs of ateom had ended before this one, if it was named here.
fn runs_of(incarnation: &Name) -> Option<u64> {
    incarnation.as_str().strip_prefix(RUN)?.parse().ok()
}

/// The fence below which every promise is over once so many runs of ateom have ended in a pod: with a run ends
/// the sandbox in it. The same on every replica, and above all that rows of the run before have counted to.
fn fence_after(runs: u64) -> Fence {
    match runs {
        0 => Fence(0),
        runs => {
            let begins = (RUN_BASE - 1).saturating_add(runs).saturating_mul(1 << RUN_BITS);
            Fence::try_from(begins).unwrap_or(Fence::MAX)
        }
    }
}

fn name_of(key: &WorkerKey) -> PodName {
    (key.namespace.clone(), key.pod.clone())
}

/// What a node would say that knows that there is no such sandbox.
pub fn pod_is_gone() -> NodeFailure {
    NodeFailure {
        code: Code::FailedPrecondition,
        message: "worker pod not found".to_owned(),
        kind: NodeFailureKind::SandboxGone,
    }
}

#[cfg(test)]
mod tests;
