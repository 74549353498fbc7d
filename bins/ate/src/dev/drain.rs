//! Going away without losing anything: every running actor is put to sleep first.

use std::time::Duration;

use holdfast_rpc::ateapi::actor::Status as ActorStatus;
use holdfast_rpc::ateapi::{Actor, ActorRef, ListActorsRequest, SuspendActorRequest};
use holdfast_runtime::net::deadline;
use tonic::Status;

use super::activator::ControlPlane;

/// How long all of it may take.
const BUDGET: Duration = Duration::from_secs(60);

/// Suspends every running actor, and says so. What cannot be suspended is named.
pub async fn suspend_all(control_plane: &ControlPlane) {
    match deadline(BUDGET, async { suspend_running(control_plane).await }).await {
        Ok(()) => {}
        Err(status) => eprintln!("not every actor could be suspended: {}", status.message()),
    }
}

async fn suspend_running(control_plane: &ControlPlane) -> Result<(), Status> {
    let awake = running(control_plane).await?;
    if !awake.is_empty() {
        eprintln!(
            "suspending {} running actors; press Ctrl-C again to leave them to their last snapshot",
            awake.len()
        );
    }
    for actor in awake {
        let name = format!("{}/{}", actor.atespace, actor.actor_id);
        let actor_ref = ActorRef {
            atespace: actor.atespace,
            name: actor.actor_id,
        };
        let request = SuspendActorRequest {
            actor_ref: Some(actor_ref),
        };
        if let Err(status) = control_plane.client().suspend_actor(request).await {
            eprintln!("  {name} not suspended: {}", status.message());
        }
    }
    Ok(())
}

async fn running(control_plane: &ControlPlane) -> Result<Vec<Actor>, Status> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListActorsRequest {
            page_token,
            ..ListActorsRequest::default()
        };
        let page = control_plane.client().list_actors(request).await?.into_inner();
        found.extend(
            page.actors
                .into_iter()
                .filter(|actor| actor.status() == ActorStatus::Running),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}
