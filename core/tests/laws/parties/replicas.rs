//! Two actors of one replica, each with a pool, a worker and a node to itself.

use super::{HASTY, Shared, Sharing};
use crate::history::Recorder;
use crate::replica::{Around, Outcome, Reply, Verb, asleep, outcomes, replies, row, verbs};
use crate::stage::{catalog, template};
use holdfast_core::catalog::{Catalog, Labels, Pool, Selector};
use holdfast_core::effect::{StoreOp, StoreReply};
use holdfast_core::id::{EffectId, ReplicaId};
use holdfast_core::replica::{Event, Input, Output, Replica};
use holdfast_core::time::Duration;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Where the second party's requests begin.
const SECOND: u64 = 1_000_000;

pub struct Actors {
    r: Recorder<Replica>,
    around: [Around; 2],
    calls: BTreeMap<EffectId, usize>,
    seen: [Vec<String>; 2],
}

#[derive(Clone, Debug)]
pub enum Deed {
    Ask(Verb),
    Store(Outcome),
    Call(Reply),
    Report(bool, bool, bool),
}

/// Two pools, of which each takes the actors of one party.
fn pools() -> Catalog {
    let mut catalog = catalog(Some(template()));
    for party in ["0", "1"] {
        catalog.add_pool(Pool {
            namespace: "ns".into(),
            name: format!("pool{party}").into(),
            labels: Labels::from([("party".into(), party.into())]),
            sandbox_class: "gvisor".into(),
            sandbox_config: None,
        });
    }
    catalog
}

fn party(party: usize, sharing: Sharing) -> Around {
    let pool = if sharing == Sharing::Nothing { party } else { 0 };
    let selector = Selector {
        match_labels: [("party".into(), format!("{pool}").into())].into(),
    };
    let workers = vec![row(&format!("w{party}"), &format!("pool{pool}"))];
    let first = if party == 0 { 0 } else { SECOND };
    Around::new(
        &format!("node{party}"),
        workers,
        vec![asleep(&format!("demo/a{party}"), selector)],
        first,
    )
}

impl Actors {
    fn note(&mut self, outputs: Vec<Output>) {
        let mut outputs: std::collections::VecDeque<Output> = outputs.into();
        while let Some(output) = outputs.pop_front() {
            let (party, line) = match &output {
                Output::Store(effect, op) => match party_of(op) {
                    // What concerns the whole replica is answered at once.
                    None => {
                        let answer = Input::Stored(*effect, Ok(self.everything(op)));
                        outputs.extend(self.r.input(answer));
                        continue;
                    }
                    Some(party) => (party, gist(op)),
                },
                Output::Node(effect, _, call) => {
                    let party = digit(call.actor.name.as_str());
                    self.calls.insert(*effect, party);
                    (party, format!("{:?} fence {}", kind(&call.verb), call.fence))
                }
                Output::Discard(_, _, discard) => (
                    digit(discard.actor.name.as_str()),
                    format!("discard {:?}", discard.snapshots),
                ),
                Output::Cancel(effect) => (self.calls[effect], "cancel".into()),
                Output::Reply(id, Ok(_)) => (usize::from(id.0 >= SECOND), "OK".into()),
                Output::Reply(id, Err(why)) => (usize::from(id.0 >= SECOND), format!("{:?}", why.code)),
                Output::Event(Event::Settled { actor, failure }) => (
                    digit(actor.name.as_str()),
                    format!("settled: {}", failure.is_none()),
                ),
                Output::Event(Event::Setback { actor, setback }) => {
                    (digit(actor.name.as_str()), format!("warns: {setback}"))
                }
                Output::Event(Event::Renewed { .. } | Event::Moved { .. }) | Output::Ready | Output::Left => {
                    continue;
                }
            };
            self.seen[party].push(line);
            self.around[party].note(&[output]);
        }
    }

    fn everything(&self, op: &StoreOp) -> StoreReply {
        let workers = self
            .around
            .iter()
            .flat_map(|around| around.store.workers.values().cloned());
        match op {
            StoreOp::ListWorkers => StoreReply::Workers(workers.collect()),
            StoreOp::ListNodes => StoreReply::Nodes(Vec::new()),
            _ => StoreReply::Done,
        }
    }
}

fn digit(name: &str) -> usize {
    usize::from(name.ends_with('1'))
}

fn party_of(op: &StoreOp) -> Option<usize> {
    match op {
        StoreOp::GetActor(key)
        | StoreOp::DeleteActor { key, .. }
        | StoreOp::AcquireLease { key, .. }
        | StoreOp::RenewLease { key, .. }
        | StoreOp::ReleaseLease { key, .. } => Some(digit(key.name.as_str())),
        StoreOp::PutActor { actor, .. } => Some(digit(actor.key.name.as_str())),
        StoreOp::PutGrave(grave) => Some(digit(grave.actor.name.as_str())),
        StoreOp::DropGrave { key, .. } => Some(digit(key.name.as_str())),
        StoreOp::GetWorker(key) | StoreOp::DeleteWorker { key, .. } => Some(digit(key.pod.as_str())),
        StoreOp::PutWorker { worker, .. } => Some(digit(worker.key.pod.as_str())),
        _ => None,
    }
}

fn gist(op: &StoreOp) -> String {
    match op {
        StoreOp::PutActor { actor, release, .. } => {
            format!("put {} v{} {}", actor.status(), actor.version, release.is_some())
        }
        StoreOp::PutWorker { worker, .. } => {
            format!(
                "put {} v{} {}",
                worker.key.pod,
                worker.version,
                worker.hosts.is_some()
            )
        }
        StoreOp::GetActor(_) => "get".into(),
        StoreOp::AcquireLease { .. } => "acquire".into(),
        StoreOp::RenewLease { .. } => "renew".into(),
        StoreOp::ReleaseLease { .. } => "release".into(),
        other => format!("{other:?}").split(' ').next().unwrap_or_default().into(),
    }
}

fn kind(verb: &holdfast_core::effect::Verb) -> &'static str {
    use holdfast_core::effect::Verb;
    match verb {
        Verb::Run { .. } => "run",
        Verb::Restore { .. } => "restore",
        Verb::Checkpoint { .. } => "checkpoint",
        Verb::Upload { .. } => "upload",
        Verb::Stop => "stop",
        Verb::Thaw => "thaw",
    }
}

impl Shared for Actors {
    type Deed = Deed;

    fn deeds() -> BoxedStrategy<Deed> {
        let often = || prop::bool::weighted(0.9);
        prop_oneof![
            3 => verbs().prop_map(Deed::Ask),
            12 => outcomes().prop_map(Deed::Store),
            4 => replies().prop_map(Deed::Call),
            1 => (often(), often(), often()).prop_map(|(there, serving, hosting)| Deed::Report(there, serving, hosting)),
        ]
        .boxed()
    }

    fn new(sharing: Sharing) -> Actors {
        let r = Recorder::new(Replica::new(ReplicaId(1), HASTY, pools()));
        let mut actors = Actors {
            r,
            around: [party(0, sharing), party(1, sharing)],
            calls: BTreeMap::new(),
            seen: [Vec::new(), Vec::new()],
        };
        let outputs = actors.r.input(Input::Start);
        actors.note(outputs);
        for party in 0..2 {
            actors.act(party, &Deed::Report(true, true, true));
        }
        actors
    }

    fn act(&mut self, party: u8, deed: &Deed) {
        let now = self.r.now;
        let around = &mut self.around[usize::from(party)];
        let input = match deed {
            Deed::Ask(verb) => Some(around.ask(*verb, party)),
            Deed::Store(outcome) => {
                // A lease that is renewed late would be asked for again at a jittered time.
                let is_renewal = matches!(around.asked.first(), Some((_, StoreOp::RenewLease { .. })));
                around.stored(now, 0, if is_renewal { Outcome::Done } else { *outcome })
            }
            Deed::Call(reply) => around.called(0, *reply),
            Deed::Report(is_there, is_serving, is_hosting) => {
                Some(around.report(&[(*is_there, *is_serving, *is_hosting)]))
            }
        };
        if let Some(input) = input {
            let outputs = self.r.input(input);
            self.note(outputs);
        }
    }

    fn pass(&mut self, time: Duration) {
        let outputs = self.r.pass(time);
        self.note(outputs);
    }

    fn seen(&self) -> &[Vec<String>; 2] {
        &self.seen
    }
}
