//! Workers whose ateom is the original's. It runs, checkpoints and restores, and says nothing of itself: neither
//! what it has nor which run of it this is. It cannot hold a sandbox still, nor end one without a checkpoint, and
//! it knows nothing of atespaces (compat.md 7.10 to 7.12).
//!
//! So what it has is what it was told to have, since this process began; and before that, what the disk shows:
//! the bundle of a sandbox names the network of its worker, and what is in `runsc-state` was made after the
//! socket of the ateom that made it. Which run it is, its socket tells.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use holdfast_core::id::PodUid;
use holdfast_core::node::Order;
use holdfast_core::worker::Duty;
use holdfast_rpc::holdfast_v1::worker_state::Hosted;
use holdfast_rpc::holdfast_v1::{SandboxState, WorkerState};
use holdfast_runtime::net::{Address, Socket};
use holdfast_runtime::tokio::io::AsyncReadExt;
use holdfast_runtime::tokio::sync::watch;
use holdfast_sandbox::layout::{ActorDirs, Layout};
use holdfast_sandbox::names::{ActorRef, Label, PAUSE};
use holdfast_sandbox::network::interior_netns;
use serde_json::Value;

use crate::work::StepError;
use crate::workers::SocketMark;

/// What is known of one run of the original's ateom.
pub(crate) struct Original {
    socket: SocketMark,
    state: watch::Sender<WorkerState>,
}

/// What a worker with the original's ateom is good for. Actors whose node reports may be moved elsewhere when the
/// node falls silent, because they are frozen then. Here they cannot be: those that are there are put to sleep,
/// and no others come.
pub(crate) fn duty(control_planes: &[Address]) -> Duty {
    if control_planes.is_empty() {
        Duty::Serving
    } else {
        Duty::Draining
    }
}

/// Says in the log which kind of ateom a worker has, and what that means.
pub(crate) fn announce(worker: &PodUid, duty: Duty) {
    match duty {
        Duty::Serving => tracing::info!(%worker, "the ateom of this worker is the original's"),
        Duty::Draining => tracing::warn!(
            %worker,
            "the ateom of this worker is the original's, which cannot hold an actor still when no control plane \
             answers: its actor is put to sleep, and it gets no other; give its pod our ateom image"
        ),
    }
}

impl Original {
    /// The run that has this socket, with whoever is in its sandbox.
    pub fn new(worker: &PodUid, socket: SocketMark, occupant: Option<ActorRef>) -> Original {
        let state = WorkerState {
            ateom_incarnation: socket.incarnation(),
            pod_uid: worker.to_string(),
            hosted: occupant.map(|actor| hosted(&actor, String::new(), SandboxState::Running)),
            ..WorkerState::default()
        };
        Original {
            socket,
            state: watch::Sender::new(state),
        }
    }

    /// Whether it is the run that has this socket.
    pub fn has(&self, socket: SocketMark) -> bool {
        self.socket == socket
    }

    /// What it has.
    pub fn state(&self) -> WorkerState {
        self.state.borrow().clone()
    }

    /// What it has, as that changes.
    pub fn states(&self) -> watch::Receiver<WorkerState> {
        self.state.subscribe()
    }

    /// Whether this actor is in its sandbox; atespaces are not compared.
    pub fn hosts(&self, actor: &ActorRef) -> bool {
        self.state.borrow().hosted.as_ref().is_some_and(|hosted| {
            hosted.actor_template_namespace == actor.template_namespace()
                && hosted.actor_template_name == actor.template_name()
                && hosted.actor_id == actor.actor_id()
        })
    }

    /// Its sandbox has gone.
    pub fn vacated(&self) {
        self.become_host(None);
    }

    /// Whether the actor's sandbox has gone, as it must have without a checkpoint.
    pub fn stopped(&self, worker: &PodUid, actor: &ActorRef) -> Result<(), StepError> {
        if self.hosts(actor) {
            return Err(StepError::CannotStop {
                worker: worker.clone(),
                actor: actor.to_string(),
            });
        }
        Ok(())
    }

    fn become_host(&self, hosted: Option<Hosted>) {
        self.state.send_modify(|state| state.hosted = hosted);
    }
}

/// Has an actor booted or restored by `call`. If its ateom is the original's, what becomes of it is noted.
pub(crate) async fn boot<T>(
    original: Option<Arc<Original>>,
    order: &Order,
    actor: &ActorRef,
    call: impl Future<Output = Result<T, StepError>>,
) -> Result<(), StepError> {
    let Some(original) = original else {
        return call.await.map(drop);
    };
    if actor.atespace().is_some() {
        return Err(StepError::NoAtespaces {
            worker: order.worker.clone(),
        });
    }
    let operation = order.op.map(|op| op.to_string()).unwrap_or_default();
    original.become_host(Some(hosted(actor, operation.clone(), SandboxState::Starting)));
    let booted = call.await;
    // Of what it could not boot it leaves nothing that the next boot of the actor does not clear away.
    let there = booted
        .is_ok()
        .then(|| hosted(actor, operation, SandboxState::Running));
    original.become_host(there);
    booted.map(drop)
}

/// Waits until the other end hangs up. What comes in is of no interest.
pub(crate) async fn end_of(connection: &mut Socket) {
    let mut buffer = [0; 256];
    while connection.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

fn hosted(actor: &ActorRef, operation_id: String, state: SandboxState) -> Hosted {
    Hosted {
        actor_template_namespace: actor.template_namespace().to_owned(),
        actor_template_name: actor.template_name().to_owned(),
        actor_id: actor.actor_id().to_owned(),
        state: state as i32,
        operation_id,
        atespace: String::new(),
    }
}

/// Whose sandbox the run of ateom has that has this socket, as the disk shows it. Blocks.
pub(crate) fn occupant(layout: &Layout, worker: &PodUid, socket: SocketMark) -> Option<ActorRef> {
    let worker = Label::parse("worker UID", worker.as_str()).ok()?;
    let network = interior_netns(&worker);
    // Any actor's directory is in the one of all.
    let any = layout.actor(&ActorRef::parse("x", "x", "x").ok()?);
    let entries = fs::read_dir(any.root().parent()?).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut actors = names.filter_map(|name| {
        let mut parts = name.splitn(3, ':');
        ActorRef::parse(parts.next()?, parts.next()?, parts.next()?).ok()
    });
    actors.find(|actor| {
        let dirs = layout.actor(actor);
        is_in(&dirs, &network) && is_newer(&dirs.runsc_state(), socket)
    })
}

/// Whether the actor's sandbox was made for this network.
fn is_in(dirs: &ActorDirs, network: &Path) -> bool {
    let config = fs::read(dirs.bundle(PAUSE).join("config.json")).unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let namespaces = config["linux"]["namespaces"].as_array();
    namespaces.is_some_and(|namespaces| {
        let is_it = |namespace: &Value| {
            namespace["type"] == "network" && namespace["path"].as_str().map(Path::new) == Some(network)
        };
        namespaces.iter().any(is_it)
    })
}

/// Whether something in a directory was made after the socket.
fn is_newer(directory: &Path, socket: SocketMark) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    let metadata = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    let made = metadata.map(|metadata| (metadata.mtime(), metadata.mtime_nsec()));
    made.max() > Some((socket.seconds, socket.nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::bundle;

    const EARLIER: SocketMark = SocketMark {
        inode: 7,
        seconds: 0,
        nanoseconds: 0,
    };

    /// The directories of an actor that the original's daemon has had booted in this worker.
    fn booted(layout: &Layout, actor: &ActorRef, worker: &str) -> ActorDirs {
        let dirs = layout.actor(actor);
        dirs.reset().unwrap();
        fs::create_dir_all(dirs.rootfs(PAUSE)).unwrap();
        let network = interior_netns(&Label::parse("uid", worker).unwrap());
        bundle::write_pause(&dirs, &network, &[]).unwrap();
        fs::write(dirs.runsc_state().join("pause.state"), "{}").unwrap();
        dirs
    }

    #[test]
    fn who_was_in_the_sandbox_before_this_process_began_is_found_on_the_disk() {
        let base = tempfile::tempdir().unwrap();
        let layout = Layout::new(base.path());
        let (one, two) = (PodUid::from("uid-1"), PodUid::from("uid-2"));
        assert_eq!(occupant(&layout, &one, EARLIER), None, "nothing was ever here");
        let actor = ActorRef::parse("ns", "t", "a1").unwrap();
        let dirs = booted(&layout, &actor, "uid-1");
        assert_eq!(occupant(&layout, &one, EARLIER), Some(actor));
        assert_eq!(occupant(&layout, &two, EARLIER), None, "it is another worker's");

        let later = SocketMark {
            seconds: i64::MAX,
            ..EARLIER
        };
        assert_eq!(
            occupant(&layout, &one, later),
            None,
            "it died with the run that had made it"
        );
        dirs.reset().unwrap();
        assert_eq!(occupant(&layout, &one, EARLIER), None, "it was put to sleep");
    }

    #[test]
    fn what_a_sandbox_cannot_be_asked_for_is_refused_and_said_what_to_do_about() {
        let worker = PodUid::from("uid-1");
        let actor = ActorRef::parse("ns", "t", "a1").unwrap();
        let original = Original::new(&worker, EARLIER, Some(actor.clone()));
        let somebody_else = ActorRef::parse("ns", "t", "a2").unwrap();
        assert!(original.stopped(&worker, &somebody_else).is_ok());
        let refusal = original.stopped(&worker, &actor).unwrap_err().to_string();
        assert!(
            refusal.contains("uid-1") && refusal.contains("delete the worker's pod"),
            "{refusal}"
        );
        original.vacated();
        assert!(original.stopped(&worker, &actor).is_ok());
    }
}
