//! What a replica asks for, carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::effect::{NodeCall, NodeFailure, StoreOp, StoreReply};
use holdfast_core::id::EffectId;
use holdfast_core::replica::{Event, Input, Output};
use holdfast_rpc::trace::{Kind, Span, Tracer};
use holdfast_runtime::driver::{Effects, Flow, Inbox};
use holdfast_runtime::net::Security;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::oneshot;
use holdfast_runtime::tokio::task::AbortHandle;
use holdfast_store::Store;
use holdfast_telemetry::replica::{Watched, names};

use crate::desk::Desk;
use crate::nodes::Nodes;
use crate::surroundings::{DERIVED, Known, Surroundings};

/// What a replica tells its process.
pub struct Signals {
    /// It can serve.
    pub ready: oneshot::Receiver<()>,
    /// It has gone.
    pub left: oneshot::Receiver<()>,
}

/// Carries out a replica's outputs.
pub struct ReplicaEffects {
    store: Arc<dyn Store>,
    nodes: Nodes,
    surroundings: Arc<dyn Surroundings>,
    desk: Desk,
    inbox: Inbox<Input>,
    tracer: Tracer,
    calls: BTreeMap<EffectId, AbortHandle>,
    /// How long a node may take to delete what it is told to.
    discarded_within: Duration,
    ready: Option<oneshot::Sender<()>>,
    left: Option<oneshot::Sender<()>>,
}

impl ReplicaEffects {
    /// Effects on this store, telling this desk.
    pub fn new(
        store: Arc<dyn Store>,
        desk: Desk,
        inbox: Inbox<Input>,
        surroundings: Arc<dyn Surroundings>,
        discarded_within: Duration,
        security: Security,
        tracer: Tracer,
    ) -> (ReplicaEffects, Signals) {
        let (ready_sender, ready) = oneshot::channel();
        let (left_sender, left) = oneshot::channel();
        let effects = ReplicaEffects {
            store,
            nodes: Nodes::new(security),
            surroundings,
            desk,
            inbox,
            tracer,
            calls: BTreeMap::new(),
            discarded_within,
            ready: Some(ready_sender),
            left: Some(left_sender),
        };
        (effects, Signals { ready, left })
    }
}

impl ReplicaEffects {
    /// The span of a store operation; renewals of leases and sessions come by themselves, and often.
    fn storing(&self, op: &StoreOp) -> Span {
        let actor = match op {
            StoreOp::GetActor(key)
            | StoreOp::AcquireLease { key, .. }
            | StoreOp::ReleaseLease { key, .. }
            | StoreOp::DeleteActor { key, .. } => Some(key),
            StoreOp::PutActor { actor, .. } => Some(&actor.key),
            StoreOp::PutWorker { worker, .. } => worker.hosts.as_ref().map(|hosted| &hosted.actor),
            _ => None,
        };
        let Some(cause) = actor.and_then(|actor| self.desk.causes().of(actor)) else {
            return Tracer::default().span(Kind::Client, "", None);
        };
        let name = names::operation(op);
        let mut span = self.tracer.span(Kind::Client, name, Some(cause));
        span.set("db.system", || "holdfast-store".into());
        if let StoreOp::PutActor { actor, .. } = op {
            span.set("holdfast.actor.state", || {
                names::status(actor.state.status()).into()
            });
        }
        span
    }

    /// The span of a call to a node, which is one of its own trace if nobody asked for it.
    fn calling(&self, call: &NodeCall) -> Span {
        let cause = self.desk.causes().of(&call.actor);
        let mut span = self.tracer.span(Kind::Client, names::verb(&call.verb), cause);
        span.set("holdfast.actor", || call.actor.to_string().into());
        span.set("holdfast.operation", || call.op.to_string().into());
        span.set("holdfast.node", || call.node.to_string().into());
        span
    }
}

impl Effects<Watched> for ReplicaEffects {
    fn perform(&mut self, output: Output) -> Flow {
        match output {
            // Every replica derives it for itself; one that is stored is a node's own.
            Output::Store(effect, StoreOp::PutNode(row)) if row.incarnation.as_str() == DERIVED => {
                self.inbox
                    .send(Input::Stored(effect, Ok(StoreReply::NodeAt(row.version))));
            }
            Output::Store(effect, op) => {
                let (store, inbox) = (self.store.clone(), self.inbox.clone());
                let surroundings = self.surroundings.clone();
                let span = self.storing(&op);
                tokio::spawn(async move {
                    let answer = span.trying(|error| format!("{error:?}"), store.execute(op)).await;
                    match &answer {
                        Ok(StoreReply::Workers(rows)) => {
                            rows.iter().for_each(|row| surroundings.learn(Known::Worker(row)));
                        }
                        Ok(StoreReply::Nodes(rows)) => {
                            rows.iter().for_each(|row| surroundings.learn(Known::Node(row)));
                        }
                        _ => {}
                    }
                    inbox.send(Input::Stored(effect, answer));
                });
            }
            Output::Node(effect, address, call) => {
                let (inbox, surroundings) = (self.inbox.clone(), self.surroundings.clone());
                let channel = self.nodes.channel(&address);
                self.calls.retain(|_, task| !task.is_finished());
                let span = self.calling(&call);
                let task = tokio::spawn(async move {
                    let calling = crate::nodes::call(channel, &call, &*surroundings);
                    let reply = span
                        .trying(|failure: &NodeFailure| failure.message.to_string(), calling)
                        .await;
                    inbox.send(Input::Called(effect, reply));
                });
                self.calls.insert(effect, task.abort_handle());
            }
            Output::Discard(effect, address, discard) => {
                let (inbox, within) = (self.inbox.clone(), self.discarded_within);
                let channel = self.nodes.channel(&address);
                tokio::spawn(async move {
                    let result = crate::nodes::discard(channel, &discard, within).await;
                    if let Err(error) = &result {
                        let (actor, snapshots) = (&discard.actor, &discard.snapshots);
                        tracing::warn!(%actor, %address, ?snapshots, error, "snapshots not deleted yet");
                    }
                    inbox.send(Input::Discarded(effect, result));
                });
            }
            Output::Cancel(effect) => {
                if let Some(task) = self.calls.remove(&effect) {
                    task.abort();
                }
            }
            Output::Reply(id, verdict) => self.desk.tell(id, verdict),
            Output::Ready => {
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(());
                }
            }
            Output::Left => {
                self.desk.close();
                if let Some(left) = self.left.take() {
                    let _ = left.send(());
                }
                return Flow::Stop;
            }
            Output::Event(event) => log(&event),
        }
        Flow::GoOn
    }
}

fn log(event: &Event) {
    match event {
        Event::Renewed { actor, step } => tracing::info!(%actor, step, "lease renewed"),
        Event::Moved { actor, moved } => tracing::debug!(%actor, "{moved}"),
        Event::Setback { actor, setback } => tracing::warn!(%actor, "{setback}"),
        Event::Settled { failure: None, .. } => {}
        Event::Settled {
            actor,
            failure: Some(failure),
        } => {
            tracing::info!(%actor, code = ?failure.code, failure = %failure.message, "not settled yet");
        }
    }
}
