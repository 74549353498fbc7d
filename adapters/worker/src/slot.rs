//! The one sandbox of this worker, and the operations on it.

mod drain;
mod hold;

use std::process::ExitStatus;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use holdfast_core::licence::{Licence, Licensed};
use holdfast_core::machine::Machine;
use holdfast_core::time::Instant;
use holdfast_rpc::holdfast_v1::worker_state::Hosted as HostedState;
use holdfast_rpc::holdfast_v1::{SandboxState, WorkerState};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio;
use holdfast_sandbox::layout::Layout;
use holdfast_sandbox::logs::{Destination, Tagger};
use holdfast_sandbox::names::ActorRef;
use holdfast_sandbox::{Activation, Driver, Fate, Sandbox, SandboxError, Scope};
use tokio::sync::{Mutex, mpsc, watch};
use tonic::Status;

use crate::record::Record;
use crate::request::{Kind, Operation, Workload};
use crate::verdict;

/// How often a restore is tried.
const RESTORE_TRIES: u32 = 3;

/// Names of snapshot files; empty for operations that make none.
pub(crate) type Outcome = Result<Vec<String>, Status>;

type Running = Shared<BoxFuture<'static, Outcome>>;

/// What the worker has and does.
pub(crate) struct Slot {
    driver: Driver,
    layout: Layout,
    record: Record,
    clock: Arc<dyn Clock>,
    actor_log: Destination,
    /// Serialises operations: whoever holds it is the one that changes the sandbox.
    contents: Arc<Mutex<Contents>>,
    operations: StdMutex<Operations>,
    state: watch::Sender<WorkerState>,
    /// The sandbox that is meant to run, by its number: the end of any other surprises nobody.
    meant_to_run: StdMutex<Option<u64>>,
    deaths: mpsc::UnboundedSender<Death>,
    /// When the actor's licence is to be looked at again.
    alarm: watch::Sender<Option<Instant>>,
}

/// A sandbox has ended, asked to or not.
pub(crate) struct Death {
    number: u64,
    status: ExitStatus,
}

#[derive(Default)]
struct Contents {
    hosted: Option<Hosted>,
    /// For how long that may run.
    licence: Licence,
    started: u64,
    is_closed: bool,
}

struct Hosted {
    actor: ActorRef,
    sandbox: Sandbox,
    /// Counts the sandboxes of this incarnation.
    number: u64,
    operation: Option<String>,
    tagger: Tagger,
    is_frozen: bool,
}

#[derive(Default)]
struct Operations {
    /// Begun and not ended.
    running: Vec<(Operation, Running)>,
    /// The last checkpoint that succeeded. It cannot be had twice, so who repeats it gets its result; all
    /// other operations can tell by the slot's contents that they are done.
    checkpointed: Option<(Operation, Vec<String>)>,
}

impl Slot {
    pub(crate) fn new(
        driver: Driver,
        layout: Layout,
        record: Record,
        clock: Arc<dyn Clock>,
        actor_log: Destination,
        state: WorkerState,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Death>) {
        let (deaths, receiver) = mpsc::unbounded_channel();
        let slot = Arc::new(Self {
            driver,
            layout,
            record,
            clock,
            actor_log,
            contents: Arc::default(),
            operations: StdMutex::default(),
            state: watch::Sender::new(state),
            meant_to_run: StdMutex::default(),
            deaths,
            alarm: watch::Sender::default(),
        });
        (slot, receiver)
    }

    /// Tells the world of each sandbox that ended unasked, and clears it away. Ends with the slot.
    pub(crate) async fn bury(self: Arc<Self>, mut deaths: mpsc::UnboundedReceiver<Death>) {
        while let Some(death) = deaths.recv().await {
            if !self.show_death(&death) {
                continue;
            }
            let slot = self.clone();
            let cleared = self.exclusively(move |contents| {
                if contents
                    .hosted
                    .as_ref()
                    .is_some_and(|hosted| hosted.number == death.number)
                {
                    slot.end(contents).map_err(|error| verdict::control(&error))?;
                }
                Ok(Vec::new())
            });
            if let Err(error) = cleared.await {
                tracing::error!(%error, "the remains of a dead sandbox could not be cleared away");
            }
        }
    }

    /// What the worker is doing, and every change of it.
    pub(crate) fn watch(&self) -> watch::Receiver<WorkerState> {
        self.state.subscribe()
    }

    /// Performs an operation, joins it when it is in progress, or repeats its result when it is done.
    ///
    /// The work goes on when the caller gives up. Different operations wait for each other.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        operation: Operation,
        workload: Option<Workload>,
    ) -> Outcome {
        let running = {
            let mut operations = lock(&self.operations);
            if let Some((_, running)) = operations.running.iter().find(|(other, _)| *other == operation) {
                running.clone()
            } else if let Some((done, files)) = &operations.checkpointed
                && operation.id.is_some()
                && *done == operation
            {
                return Ok(files.clone());
            } else {
                let running = self.clone().begin(operation.clone(), workload).boxed().shared();
                operations.running.push((operation, running.clone()));
                running
            }
        };
        running.await
    }

    /// Spawns the work, so that it needs nobody who waits for it.
    fn begin(
        self: Arc<Self>,
        operation: Operation,
        workload: Option<Workload>,
    ) -> impl Future<Output = Outcome> {
        let work = tokio::spawn(async move {
            let outcome = self.clone().execute(operation.clone(), workload).await;
            let mut operations = lock(&self.operations);
            operations.running.retain(|(running, _)| *running != operation);
            if let (Kind::Checkpoint(_), Ok(files)) = (operation.kind, &outcome) {
                operations.checkpointed = Some((operation, files.clone()));
            }
            outcome
        });
        async move { work.await.unwrap_or_else(|error| Err(verdict::defect(error))) }
    }

    async fn execute(self: Arc<Self>, operation: Operation, workload: Option<Workload>) -> Outcome {
        let slot = self.clone();
        self.exclusively(move |contents| {
            if contents.is_closed {
                return Err(verdict::stopping());
            }
            if let Some(id) = &operation.id {
                slot.state
                    .send_modify(|state| state.last_operation_id.clone_from(id));
            }
            match (operation.kind, workload) {
                (Kind::Run, Some(workload)) => slot.start(contents, &operation, workload, None),
                (Kind::Restore(scope), Some(workload)) => {
                    slot.start(contents, &operation, workload, Some(scope))
                }
                (Kind::Run | Kind::Restore(_), None) => {
                    Err(verdict::defect("an activation without a workload"))
                }
                (Kind::Checkpoint(scope), _) => slot.checkpoint(contents, &operation, scope),
                (Kind::Stop, _) => slot.stop(contents, &operation.actor),
                (Kind::Extend(until), _) => {
                    slot.license(contents, &operation.actor, Licensed::Extended(until))
                }
                (Kind::Freeze, _) => slot.license(contents, &operation.actor, Licensed::Freeze),
                (Kind::Thaw(until), _) => slot.license(contents, &operation.actor, Licensed::Thaw(until)),
            }
        })
        .await
    }

    /// Ends the sandbox, after the operation in progress, and takes no more operations.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), Status> {
        let slot = self.clone();
        let closed = self.exclusively(move |contents| {
            contents.is_closed = true;
            slot.end(contents)
                .map(|()| Vec::new())
                .map_err(|error| verdict::control(&error))
        });
        closed.await.map(drop)
    }

    /// Runs blocking work on the slot's contents, when it is its turn. After each, the actor runs or does
    /// not as its licence has it.
    async fn exclusively(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Contents) -> Outcome + Send + 'static,
    ) -> Outcome {
        let slot = self.clone();
        let mut contents = self.contents.clone().lock_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut contents);
            if let Err(error) = slot.hold(&mut contents) {
                tracing::error!(%error, "the sandbox does not do what its licence says; it is tried again");
            }
            outcome
        });
        let done = done.await;
        done.unwrap_or_else(|error| Err(verdict::defect(error)))
    }

    fn start(
        &self,
        contents: &mut Contents,
        operation: &Operation,
        workload: Workload,
        scope: Option<Scope>,
    ) -> Outcome {
        if let Some(hosted) = &contents.hosted {
            let is_same_actor = hosted.actor == operation.actor;
            let is_alive = hosted.sandbox.exited().is_none();
            if is_alive && is_same_actor && operation.id.is_some() && hosted.operation == operation.id {
                if let Some(until) = workload.until {
                    contents
                        .licence
                        .handle(self.clock.now(), Licensed::Extended(until));
                }
                return Ok(Vec::new());
            }
            // A caller without operation ids is the original's node daemon. It has replaced the directories
            // under this sandbox already, so that only a new one is of any use.
            if is_alive && !(is_same_actor && operation.id.is_none()) {
                return Err(verdict::occupied(&hosted.actor));
            }
            self.end(contents).map_err(|error| verdict::control(&error))?;
        }
        if self.is_draining() {
            return Err(verdict::stopping());
        }
        let tagger = self.tagger(&operation.actor);
        let activation = Activation {
            actor: operation.actor.clone(),
            dirs: self.layout.actor(&operation.actor),
            runsc: workload.runsc,
            containers: workload.containers,
            output: Arc::new(tagger.clone()),
        };
        self.state.send_modify(|state| state.exit_cause.clear());
        self.show(operation, SandboxState::Starting);
        tagger.event(if scope.is_some() {
            "Actor restoring"
        } else {
            "Actor starting"
        });
        let started = self
            .record
            .write(&activation.dirs)
            .map_err(io("record the activation"))
            .and_then(|()| match scope {
                None => self.driver.run(&activation),
                Some(scope) => self.restore(&activation, scope),
            });
        let sandbox = match started {
            Ok(sandbox) => sandbox,
            Err(error) => {
                self.forget();
                tracing::error!(actor = %operation.actor, %error, "an actor did not start");
                return Err(if scope.is_some() {
                    verdict::restore(&error)
                } else {
                    verdict::boot(&error)
                });
            }
        };
        tagger.event(if scope.is_some() {
            "Actor restored"
        } else {
            "Actor started"
        });
        contents.started += 1;
        let number = contents.started;
        self.show(operation, SandboxState::Running);
        *lock(&self.meant_to_run) = Some(number);
        let deaths = self.deaths.clone();
        // Nobody hears it when the worker itself is gone.
        sandbox.on_exit(move |status| drop(deaths.send(Death { number, status })));
        contents.hosted = Some(Hosted {
            actor: operation.actor.clone(),
            sandbox,
            number,
            operation: operation.id.clone(),
            tagger,
            is_frozen: false,
        });
        contents
            .licence
            .handle(self.clock.now(), Licensed::Booted(workload.until));
        Ok(Vec::new())
    }

    /// Restores an actor. What fails may have been killed, and a snapshot that one restore in vain condemned would
    /// be lost with everything that was acknowledged with it: only what fails each time is the snapshot's fault.
    fn restore(&self, activation: &Activation, scope: Scope) -> Result<Sandbox, SandboxError> {
        let mut tries = 1;
        loop {
            match self.driver.restore(activation, scope) {
                Err(error) if error.may_be_the_moment() && tries < RESTORE_TRIES => {
                    tracing::warn!(actor = %activation.actor, %error, tries, "a restore failed; trying it again");
                    tries += 1;
                }
                restored => return restored,
            }
        }
    }

    fn checkpoint(&self, contents: &mut Contents, operation: &Operation, scope: Scope) -> Outcome {
        let Some(hosted) = contents
            .hosted
            .as_mut()
            .filter(|hosted| hosted.actor == operation.actor)
        else {
            return Err(verdict::gone(&operation.actor));
        };
        hosted.tagger.event("Actor checkpointing");
        self.show(operation, SandboxState::Checkpointing);
        *lock(&self.meant_to_run) = None;
        match hosted.sandbox.checkpoint(scope) {
            Ok(files) => {
                hosted.tagger.event("Actor checkpointed");
                contents.hosted = None;
                self.forget();
                Ok(files)
            }
            Err(error) => {
                tracing::error!(actor = %operation.actor, %error, "an actor was not checkpointed");
                if error.sandbox == Fate::Alive {
                    let state = if hosted.is_frozen {
                        SandboxState::Frozen
                    } else {
                        SandboxState::Running
                    };
                    self.show(operation, state);
                    *lock(&self.meant_to_run) = Some(hosted.number);
                    // It may have died since, when that surprised nobody.
                    if let Some(status) = hosted.sandbox.exited() {
                        let _ = self.deaths.send(Death {
                            number: hosted.number,
                            status,
                        });
                    }
                } else {
                    self.state
                        .send_modify(|state| state.exit_cause = error.to_string());
                    contents.hosted = None;
                    self.forget();
                }
                Err(verdict::checkpoint(&error))
            }
        }
    }

    fn stop(&self, contents: &mut Contents, actor: &ActorRef) -> Outcome {
        if contents
            .hosted
            .as_ref()
            .is_some_and(|hosted| hosted.actor == *actor)
        {
            self.end(contents).map_err(|error| verdict::control(&error))?;
        }
        Ok(Vec::new())
    }

    /// Ends the sandbox and clears it away. When that fails it stays the slot's, so that it is tried again.
    fn end(&self, contents: &mut Contents) -> Result<(), SandboxError> {
        if let Some(hosted) = &mut contents.hosted {
            *lock(&self.meant_to_run) = None;
            hosted.sandbox.stop()?;
            hosted.tagger.event("Actor stopped");
            contents.hosted = None;
            self.forget();
        }
        Ok(())
    }

    /// Whether the death comes as a surprise, in which case it is shown.
    fn show_death(&self, death: &Death) -> bool {
        if *lock(&self.meant_to_run) != Some(death.number) {
            return false;
        }
        let status = death.status;
        tracing::error!(%status, "the sandbox ended without having been asked to");
        self.state.send_modify(|state| {
            state.exit_cause = format!("the sandbox ended by itself ({status})");
            if let Some(hosted) = &mut state.hosted {
                hosted.state = SandboxState::Stopped.into();
            }
        });
        true
    }

    fn show(&self, operation: &Operation, sandbox: SandboxState) {
        let hosted = HostedState {
            actor_template_namespace: operation.actor.template_namespace().to_owned(),
            actor_template_name: operation.actor.template_name().to_owned(),
            actor_id: operation.actor.actor_id().to_owned(),
            state: sandbox.into(),
            operation_id: operation.id.clone().unwrap_or_default(),
            atespace: operation.actor.atespace().unwrap_or_default().to_owned(),
        };
        self.state.send_modify(|state| state.hosted = Some(hosted));
    }

    /// Nothing is hosted any more.
    fn forget(&self) {
        if let Err(error) = self.record.remove() {
            tracing::warn!(%error, "a record of a sandbox that is gone stays behind");
        }
        self.state.send_modify(|state| state.hosted = None);
    }

    fn tagger(&self, actor: &ActorRef) -> Tagger {
        let clock = self.clock.clone();
        let now = Arc::new(move || UNIX_EPOCH + Duration::from_millis(clock.wall_ms()));
        Tagger::new(actor, self.actor_log.clone(), now)
    }
}

fn io(step: &str) -> impl FnOnce(std::io::Error) -> SandboxError + '_ {
    move |source| SandboxError::Io {
        step: step.to_owned(),
        source,
    }
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
