//! Going away without losing anything: what is awake is put to sleep first.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use holdfast_pods::PodKey;
use holdfast_rpc::ateapi::actor::Status as ActorStatus;
use holdfast_rpc::ateapi::{Actor, ActorRef, ListActorsRequest, SuspendActorRequest};
use holdfast_runtime::terminal::tell;
use holdfast_runtime::{duration, tokio};
use tonic::{Code, Status};

use super::activator::ControlPlane;

/// How long all of it may take.
const BUDGET: Duration = Duration::from_secs(60);
/// The pause before another look at what is on its way to sleep, or awake.
const GLANCE: Duration = Duration::from_millis(100);
/// So many actors are suspended at a time.
const AT_ONCE: usize = 8;

/// Which actors are meant.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Those of the whole cluster.
    Everybody,
    /// Those on these workers.
    On(BTreeSet<PodKey>),
}

/// Suspends every actor that runs or comes to run, until none does: who is being resumed is waited for.
/// What cannot be suspended, and what is still awake when time is up, is named.
pub async fn suspend(control_plane: &ControlPlane, whose: &Whose) {
    let mut drain = Drain {
        control_plane,
        whose,
        refused: BTreeSet::new(),
        awake: Vec::new(),
    };
    let why = match tokio::time::timeout(BUDGET, drain.run()).await {
        Ok(Ok(())) => return,
        Ok(Err(status)) => status.message().to_owned(),
        Err(_) => format!("not done after {}", duration::show(BUDGET)),
    };
    tell(format_args!("not every actor could be suspended: {why}"));
    if !drain.awake.is_empty() {
        tell(format_args!(
            "back to their last snapshots go: {}",
            names(&drain.awake)
        ));
    }
}

struct Drain<'a> {
    control_plane: &'a ControlPlane,
    whose: &'a Whose,
    /// Those who will not be suspended however often that is asked for.
    refused: BTreeSet<String>,
    /// Those of the last look.
    awake: Vec<Actor>,
}

impl Drain<'_> {
    async fn run(&mut self) -> Result<(), Status> {
        let mut announced = 0;
        loop {
            self.awake = self.look().await?;
            if self.awake.is_empty() {
                return Ok(());
            }
            if self.awake.len() > announced {
                announced = self.awake.len();
                tell(format_args!("suspending what is awake: {}", names(&self.awake)));
            }
            let running: Vec<Actor> = self
                .awake
                .iter()
                .filter(|actor| actor.status() == ActorStatus::Running)
                .cloned()
                .collect();
            let mut suspending = futures_util::stream::iter(running)
                .map(|actor| async { (name(&actor), self.control_plane.suspend(actor).await) })
                .buffer_unordered(AT_ONCE);
            let mut refused = Vec::new();
            while let Some((name, suspended)) = suspending.next().await {
                match suspended {
                    Ok(()) => {}
                    // The next look tells.
                    Err(status) if matches!(status.code(), Code::Aborted | Code::Unavailable) => {}
                    Err(status) => {
                        tell(format_args!("  {name} not suspended: {}", status.message()));
                        refused.push(name);
                    }
                }
            }
            drop(suspending);
            self.refused.extend(refused);
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Who is awake, or about to be, or about to sleep.
    async fn look(&self) -> Result<Vec<Actor>, Status> {
        let mut found = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListActorsRequest {
                page_token,
                ..ListActorsRequest::default()
            };
            let page = self.control_plane.client().list_actors(request).await?;
            let page = page.into_inner();
            found.extend(page.actors.into_iter().filter(|actor| self.concerns(actor)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }

    fn concerns(&self, actor: &Actor) -> bool {
        let is_awake = match actor.status() {
            ActorStatus::Running | ActorStatus::Resuming | ActorStatus::Suspending | ActorStatus::Pausing => {
                true
            }
            ActorStatus::Unspecified
            | ActorStatus::Suspended
            | ActorStatus::Paused
            | ActorStatus::Crashed => false,
        };
        let is_meant = match self.whose {
            Whose::Everybody => true,
            Whose::On(pods) => pods.iter().any(|key| {
                (key.namespace.as_str(), key.pod.as_str())
                    == (actor.ateom_pod_namespace.as_str(), actor.ateom_pod_name.as_str())
            }),
        };
        is_awake && is_meant && !self.refused.contains(&name(actor))
    }
}

impl ControlPlane {
    async fn suspend(&self, actor: Actor) -> Result<(), Status> {
        let request = SuspendActorRequest {
            actor_ref: Some(ActorRef {
                atespace: actor.atespace,
                name: actor.actor_id,
            }),
        };
        self.client().suspend_actor(request).await.map(drop)
    }
}

fn name(actor: &Actor) -> String {
    format!("{}/{}", actor.atespace, actor.actor_id)
}

/// The first few by name, and how many more there are.
fn names(actors: &[Actor]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = actors.iter().take(SHOWN).map(name).collect();
    match actors.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
