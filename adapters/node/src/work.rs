//! The steps of operations: directories, images, snapshots and ateom, brought together.
//!
//! Each step is idempotent and may be cut anywhere: the next attempt finds whole files or none.

mod assemble;
mod failure;
mod record;
mod refetch;
mod rooms;
mod snapshot;
mod tenants;
mod unscoped;

use std::path::PathBuf;
use std::sync::Arc;

use holdfast_core::catalog::Scope;
use holdfast_core::effect::Verb;
use holdfast_core::failure::Code;
use holdfast_core::id::{Name, PodUid};
use holdfast_core::node::{Entry, Order, Work, WorkResult};
use holdfast_core::time::Instant;
use holdfast_objects::{Backend, FileName, Unfinished};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio::task::{spawn, spawn_blocking};
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::ActorRef;

use crate::assets::{Assets, Paths};
use crate::ateom::Ateoms;
use crate::images::Images;
pub(crate) use failure::StepError;
use rooms::Rooms;
use tenants::Tenants;

/// Everything that steps work with.
pub(crate) struct Workshop {
    layout: Layout,
    backend: Arc<Backend>,
    assets: Assets,
    images: Arc<Images>,
    ateoms: Arc<Ateoms>,
    clock: Arc<dyn Clock>,
    rooms: Rooms,
    tenants: Tenants,
}

/// What becomes of a step that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// It ends where it stands: what it has is kept for the next attempt, or of no use.
    Ends,
    /// It runs on: what it does to a sandbox or to directories is not left half done.
    RunsOn,
}

/// What becomes of this step when nobody waits for it any more.
pub(crate) fn when_abandoned(work: &Work) -> Abandoned {
    match work {
        Work::Fetch | Work::Assemble | Work::Save(_) | Work::Upload => Abandoned::Ends,
        Work::Clear | Work::Boot { .. } | Work::Thaw { .. } | Work::Capture | Work::Stop => Abandoned::RunsOn,
    }
}

/// Where an actor lives.
struct Site {
    actor: ActorRef,
    dirs: ActorDirs,
}

impl Workshop {
    pub fn new(
        layout: Layout,
        backend: Arc<Backend>,
        assets: Assets,
        images: Arc<Images>,
        ateoms: Arc<Ateoms>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            layout,
            backend,
            assets,
            images,
            ateoms,
            clock,
            rooms: Rooms::default(),
            tenants: Tenants::default(),
        }
    }

    /// Takes note of what a worker hosts from now on.
    pub fn note(&self, worker: &PodUid, entry: &Entry) {
        self.tenants.note(worker, entry);
    }

    /// Performs one step.
    pub async fn perform(&self, work: &Work, order: &Order) -> WorkResult {
        let nothing = |()| Vec::new();
        let result = match work {
            Work::Clear => self.clear(order).await.map(nothing),
            Work::Fetch => self.fetch_undamaged(order).await.map(nothing),
            Work::Assemble => self.assemble(order).await.map(nothing),
            Work::Boot { until } => self.boot(order, *until).await.map(nothing),
            Work::Thaw { until } => self.thaw(order, *until).await.map(nothing),
            Work::Capture => self.capture(order).await,
            Work::Save(files) => self.save(order, files).await.map(nothing),
            Work::Upload => self.upload(order).await.map(nothing),
            Work::Stop => self.stop(order).await.map(nothing),
        };
        result.map_err(|error| {
            if error.code() == Code::ResourceExhausted {
                self.images.want_room();
            }
            error.into_failure(work)
        })
    }

    /// Empties the actor's directories, once nothing runs in them any more.
    async fn clear(&self, order: &Order) -> Result<(), StepError> {
        let site = self.site(order)?;
        let occupant = |worker: &PodUid| self.ateoms.occupant(worker);
        self.tenants.move_in(&order.worker, &site.actor, occupant)?;
        if let Some(leftover) = self.ateoms.occupant(&order.worker) {
            self.ateoms.stop(order, &leftover).await?;
        }
        self.reset(site).await
    }

    async fn boot(&self, order: &Order, until: Option<Instant>) -> Result<(), StepError> {
        let Site { actor, dirs } = self.site(order)?;
        let paths = self.recorded_assets(dirs).await?;
        match &order.verb {
            Verb::Restore { scope, .. } => {
                let restore = self.ateoms.restore(order, &actor, &paths, *scope, until);
                restore.await
            }
            _ => self.ateoms.run(order, &actor, &paths, until).await,
        }
    }

    async fn thaw(&self, order: &Order, until: Instant) -> Result<(), StepError> {
        let Site { actor, .. } = self.site(order)?;
        self.ateoms.thaw(order, &actor, until).await
    }

    async fn capture(&self, order: &Order) -> Result<Vec<Name>, StepError> {
        let Verb::Checkpoint { scope, .. } = &order.verb else {
            return Err(StepError::Misdirected);
        };
        let site = self.site(order)?;
        let files = match self.checkpoint(order, &site, *scope).await {
            Err(error) if error.is_absence() => self.fetch_home(order, &site, *scope, error).await?,
            captured => captured?,
        };
        Ok(files.iter().map(|file| file.as_str().into()).collect())
    }

    /// Puts the actor to sleep that lives at `site`; its files, in its directory for checkpoints.
    async fn checkpoint(&self, order: &Order, site: &Site, scope: Scope) -> Result<Vec<FileName>, StepError> {
        let paths = self.recorded_assets(site.dirs.clone()).await?;
        let files = self.ateoms.checkpoint(order, &site.actor, &paths, scope).await?;
        if files.is_empty() {
            return Err(StepError::NoFiles);
        }
        snapshot::file_names(files.iter().map(String::as_str))
    }

    async fn stop(&self, order: &Order) -> Result<(), StepError> {
        let site = self.site(order)?;
        let original = self.ateoms.original(&order.worker);
        if original.is_some_and(|original| original.hosts(&site.actor)) {
            // Nothing else ends a sandbox there; its files are of no use to anybody.
            let away = self.site_of(site.actor.without_atespace());
            self.checkpoint(order, &away, Scope::Full).await?;
            self.tidy(order, away).await;
            return Ok(());
        }
        self.ateoms.stop(order, &site.actor).await?;
        let site = self.stop_unscoped(order, site).await?;
        self.tidy(order, site).await;
        Ok(())
    }

    /// Where an order's actor belongs.
    fn site(&self, order: &Order) -> Result<Site, StepError> {
        let (namespace, template) = &order.template;
        let actor = ActorRef::parse(namespace.as_str(), template.as_str(), order.actor.name.as_str())?;
        Ok(self.site_of(actor.within(Some(order.actor.atespace.as_str()))?))
    }

    fn site_of(&self, actor: ActorRef) -> Site {
        let dirs = self.layout.actor(&actor);
        Site { actor, dirs }
    }

    /// What the sandbox is made with, as it was recorded when it was made.
    async fn recorded_assets(&self, dirs: ActorDirs) -> Result<Paths, StepError> {
        let record = blocking(move || record::read(&dirs)).await??;
        Ok(self.assets.ensure(&record.assets).await?)
    }

    async fn reset(&self, site: Site) -> Result<(), StepError> {
        let room = self.rooms.alone(&site.actor).await;
        let at = site.dirs.root().to_owned();
        let reset = blocking(move || {
            let _room = room;
            let unfinished = Unfinished::beside(&site.dirs.checkpoint_state());
            site.dirs.reset().map(|()| unfinished)
        });
        let unfinished = reset.await?.map_err(|source| StepError::disk(at, source))?;
        if let Some(unfinished) = unfinished {
            // Nobody waits for a store that may not answer.
            let backend = self.backend.clone();
            spawn(async move { backend.give_up(unfinished).await });
        }
        Ok(())
    }

    /// Gives back the space of what an actor leaves behind. Nobody waits for it but who needs the directory
    /// next; should it fail, the next Clear does it.
    async fn tidy(&self, order: &Order, site: Site) {
        let occupant = |worker: &PodUid| self.ateoms.occupant(worker);
        if !self.tenants.is_alone(&order.worker, &site.actor, occupant) {
            return;
        }
        // The room is taken before anybody hears that the actor is gone from it.
        let room = self.rooms.alone(&site.actor).await;
        let backend = self.backend.clone();
        spawn(async move {
            let tidied = blocking(move || {
                let _room = room;
                let unfinished = Unfinished::beside(&site.dirs.checkpoint_state());
                if let Err(error) = site.dirs.reset() {
                    tracing::warn!(actor = %site.actor, %error, "cannot tidy up behind an actor");
                }
                unfinished
            });
            if let Ok(Some(unfinished)) = tidied.await {
                backend.give_up(unfinished).await;
            }
        });
    }
}

/// Where an actor's local snapshots are.
pub(crate) fn local_checkpoints(dirs: &ActorDirs) -> PathBuf {
    dirs.root().join("local-checkpoint")
}

/// Runs work that blocks on the disk where that does no harm. It runs to its end even if nobody waits.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StepError> {
    spawn_blocking(work).await.map_err(|_| StepError::Interrupted)
}
