//! What the node machine asks for, carried out.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_core::id::{EffectId, Name, PodUid};
use holdfast_core::node::{Input, Kept, Order, Output, Work, WorkFailure};
use holdfast_core::pull::{self, Attempt};
use holdfast_core::registry::Report;
use holdfast_core::table::Kind as _;
use holdfast_rpc::trace::{Kind, Span, Tracer};
use holdfast_runtime::driver::{Effects, Flow, Inbox};
use holdfast_runtime::tokio::sync::mpsc;
use holdfast_runtime::tokio::task::AbortHandle;

use holdfast_telemetry::node::step;

use crate::ateom::Ateoms;
use crate::desk::Desk;
use crate::heartbeat::Heartbeat;
use crate::images::Images;
use crate::journal::{self, Journal};
use crate::settling::Settling;
use crate::tasks::Tasks;
use crate::tending::Tending;
use crate::work::{Abandoned, Workshop, when_abandoned};
use crate::workers;

/// Carries out a node's outputs. Dropping it ends all of them where they stand.
pub(crate) struct NodeEffects {
    inbox: Inbox<Input>,
    desk: Desk,
    workshop: Arc<Workshop>,
    images: Arc<Images>,
    heartbeat: Arc<Heartbeat>,
    ateoms: Arc<Ateoms>,
    tracer: Tracer,
    journal: mpsc::UnboundedSender<(EffectId, Kept)>,
    tending: Tending,
    tasks: Tasks,
    /// The steps that end when they are cancelled, and looks.
    steps: BTreeMap<EffectId, AbortHandle>,
    pulls: BTreeMap<Attempt, AbortHandle>,
}

impl NodeEffects {
    pub fn new(
        inbox: Inbox<Input>,
        desk: Desk,
        journal: Journal,
        workshop: Arc<Workshop>,
        images: Arc<Images>,
        heartbeat: Arc<Heartbeat>,
        ateoms: Arc<Ateoms>,
    ) -> Self {
        let mut tasks = Tasks::default();
        let (sender, arriving) = mpsc::unbounded_channel();
        let kept = inbox.clone();
        tasks.spawn(journal::keep(journal, arriving, move |effect, result| {
            kept.send(Input::Kept(effect, result));
        }));
        Self {
            inbox,
            desk,
            workshop,
            images,
            heartbeat,
            tracer: Tracer::default(),
            journal: sender,
            tending: Tending::new(ateoms.clone()),
            ateoms,
            tasks,
            steps: BTreeMap::new(),
            pulls: BTreeMap::new(),
        }
    }

    /// The same, and there are spans of what is done.
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    fn keep(&self, effect: EffectId, kept: Kept) {
        self.workshop.note(&kept.worker, &kept.entry);
        if let Err(unkept) = self.journal.send((effect, kept)) {
            let (effect, _) = unkept.0;
            self.inbox
                .send(Input::Kept(effect, Err("the journal is closed".to_owned())));
        }
    }

    fn work(&mut self, effect: EffectId, work: Work, order: Arc<Order>) {
        let is_abortable = when_abandoned(&work) == Abandoned::Ends;
        let (workshop, inbox) = (self.workshop.clone(), self.inbox.clone());
        let span = self.step(&work, &order);
        let task = self.tasks.spawn(async move {
            let why = |failure: &WorkFailure| failure.message.clone();
            let result = span.trying(why, workshop.perform(&work, &order)).await;
            inbox.send(Input::Worked(effect, result));
        });
        self.steps.retain(|_, step| !step.is_finished());
        if is_abortable {
            self.steps.insert(effect, task);
        }
    }

    /// The span of a step, which is one of its own trace if nobody waits for it.
    fn step(&self, work: &Work, order: &Order) -> Span {
        let cause = self.desk.causes().of(order);
        let mut span = self.tracer.span(Kind::Internal, step(work), cause);
        span.set("holdfast.actor", || order.actor.to_string().into());
        span.set("holdfast.worker", || order.worker.to_string().into());
        if let Some(op) = order.op {
            span.set("holdfast.operation", || op.to_string().into());
        }
        span
    }

    fn look(&mut self, effect: EffectId, worker: PodUid) {
        let (ateoms, inbox) = (self.ateoms.clone(), self.inbox.clone());
        let task = self.tasks.spawn(async move {
            let answer = workers::look(ateoms, worker).await;
            inbox.send(Input::Looked(effect, answer));
        });
        self.steps.retain(|_, step| !step.is_finished());
        self.steps.insert(effect, task);
    }

    fn pull(&mut self, image: Name, attempt: Attempt) {
        let (images, inbox) = (self.images.clone(), self.inbox.clone());
        let cause = self.desk.causes().of_image(&image);
        let mut span = self.tracer.span(Kind::Internal, "pull", cause);
        span.set("holdfast.image", || image.to_string().into());
        let task = self.tasks.spawn(async move {
            let tell = |bytes| inbox.send(Input::Pull(pull::Input::Progress(attempt, bytes)));
            let why = |failure: &pull::PullFailure| failure.message.clone();
            let result = span.trying(why, images.pull(&image, tell)).await;
            inbox.send(Input::Pull(pull::Input::Ended(attempt, result)));
        });
        self.pulls.retain(|_, pull| !pull.is_finished());
        self.pulls.insert(attempt, task);
    }

    fn report(&mut self, report: Report) {
        self.heartbeat.note(&report);
        let (heartbeat, images, inbox) = (self.heartbeat.clone(), self.images.clone(), self.inbox.clone());
        self.tasks.spawn(async move {
            let answer = heartbeat.send(&report, images.under_way()).await;
            inbox.send(Input::Reported(answer));
        });
    }
}

impl Effects<Settling> for NodeEffects {
    fn perform(&mut self, output: Output) -> Flow {
        match output {
            Output::Work(effect, work, order) => self.work(effect, work, order),
            Output::Look(effect, worker) => self.look(effect, worker),
            Output::Cancel(effect) => {
                if let Some(step) = self.steps.remove(&effect) {
                    step.abort();
                }
            }
            Output::Keep(effect, kept) => self.keep(effect, *kept),
            Output::Pull(image, attempt) => self.pull(image, attempt),
            Output::CancelPull(attempt) => {
                if let Some(pull) = self.pulls.remove(&attempt) {
                    pull.abort();
                }
            }
            Output::Reply(id, reply) => self.desk.answer(id, reply),
            Output::Report(report) => self.report(report),
            Output::Tend {
                worker,
                actor,
                template,
                tend,
            } => {
                let tasks = &mut self.tasks;
                self.tending.tell(tasks, worker, actor, template, tend);
            }
            Output::Note(note) => tracing::warn!("{note}"),
            Output::Moved(what, moved) => {
                tracing::debug!(%what, "{moved}");
                let is_abandoned =
                    moved.record == pull::TABLE.record() && moved.event == pull::Event::Abandon.name();
                if is_abandoned {
                    let images = self.images.clone();
                    self.tasks.spawn(async move { images.abandon(&what).await });
                }
            }
        }
        Flow::GoOn
    }
}

impl Drop for NodeEffects {
    fn drop(&mut self) {
        self.desk.close();
    }
}
