//! Actors that came here while their atespace was unknown, and are known by it now: the control plane, or the
//! daemon before this one, was the original's, and what has taken its place is not.
//!
//! They live where the original has them (compat.md 7.1), and move home when they are put to sleep. Nothing
//! is taken from there that belongs to a namesake of another atespace.

use std::fs;

use holdfast_core::catalog::Scope;
use holdfast_core::id::PodUid;
use holdfast_core::node::Order;
use holdfast_objects::{FileName, LocalName, LocalSnapshots, SnapshotError};

use super::failure::StepError;
use super::{Site, Workshop, blocking, local_checkpoints, record};

impl Workshop {
    /// Puts an actor to sleep that is not at `home`, where it belongs, and brings its files there. If it is
    /// not where the original has it either, then `absence` it is.
    pub(super) async fn fetch_home(
        &self,
        order: &Order,
        home: &Site,
        scope: Scope,
        absence: StepError,
    ) -> Result<Vec<FileName>, StepError> {
        let away = self.site_of(home.actor.without_atespace());
        if away.actor == home.actor {
            return Err(absence);
        }
        let files = match self.checkpoint(order, &away, scope).await {
            Err(error) if error.is_absence() => return Err(absence),
            captured => captured?,
        };
        let occupant = |worker: &PodUid| self.ateoms.occupant(worker);
        self.tenants.move_in(&order.worker, &home.actor, occupant)?;
        let room = self.rooms.alone(&home.actor).await;
        let (from, to, moving) = (away.dirs.clone(), home.dirs.clone(), files.clone());
        blocking(move || {
            let _room = room;
            let (captured, target) = (from.checkpoint_state(), to.checkpoint_state());
            // An attempt that was cut off may have moved them already.
            if moving.iter().all(|file| captured.join(file.as_str()).exists()) {
                let moved = to
                    .reset()
                    .and_then(|()| fs::remove_dir(&target))
                    .and_then(|()| fs::rename(&captured, &target));
                moved.map_err(|source| StepError::disk(target, source))?;
            }
            record::write(&to, &record::read(&from)?)
        })
        .await??;
        self.tidy(order, away).await;
        Ok(files)
    }

    /// Ends the sandbox of an order's actor where the original has it, unless it is known to be at `home`.
    /// Returns where it was.
    pub(super) async fn stop_unscoped(&self, order: &Order, home: Site) -> Result<Site, StepError> {
        let away = self.site_of(home.actor.without_atespace());
        let occupant = self.ateoms.occupant(&order.worker);
        if away.actor == home.actor || occupant.as_ref() == Some(&home.actor) {
            return Ok(home);
        }
        // Silence may mean that ateom has not been heard of yet.
        self.ateoms.stop(order, &away.actor).await?;
        Ok(if occupant.as_ref() == Some(&away.actor) {
            away
        } else {
            home
        })
    }

    /// The local snapshots of the actor at `home`, `name` among them.
    pub(super) async fn snapshots_with(
        &self,
        order: &Order,
        home: &Site,
        name: &LocalName,
    ) -> Result<LocalSnapshots, StepError> {
        let away = self.site_of(home.actor.without_atespace()).dirs;
        let [home, away] = [&home.dirs, &away].map(|dirs| LocalSnapshots::new(local_checkpoints(dirs)));
        let (name, atespace) = (name.clone(), order.actor.atespace.clone());
        blocking(move || {
            let is_missing = |found: &Result<_, _>| matches!(found, Err(SnapshotError::NotFound { .. }));
            if !is_missing(&home.read_manifest(&name)) {
                return home;
            }
            let found = away.read_manifest(&name);
            let is_anothers = found.as_ref().is_ok_and(|manifest| {
                let owner = manifest.actor.as_ref().map(|owner| owner.atespace.as_str());
                owner.is_some_and(|owner| !owner.is_empty() && owner != atespace.as_str())
            });
            if is_missing(&found) || is_anothers {
                home
            } else {
                away
            }
        })
        .await
    }
}
