//! Workers are told for how long their actors may run. Nobody waits for it: what a worker says of itself
//! tells, and what was not heard is said again with the next report.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_core::id::{ActorKey, Name, PodUid};
use holdfast_core::node::Tend;
use holdfast_runtime::tokio::sync::mpsc;

use crate::ateom::Ateoms;
use crate::tasks::Tasks;

/// So many words wait for a worker that is slow to listen; what comes on top is left out.
const WAITING_MAX: usize = 16;

/// A word for a worker.
struct Word {
    actor: ActorKey,
    template: (Name, Name),
    tend: Tend,
}

/// Tells each worker, in order.
pub(crate) struct Tending {
    ateoms: Arc<Ateoms>,
    workers: BTreeMap<PodUid, mpsc::Sender<Word>>,
}

impl Tending {
    pub fn new(ateoms: Arc<Ateoms>) -> Self {
        Self {
            ateoms,
            workers: BTreeMap::new(),
        }
    }

    /// Has a worker told, after what it was to be told before; `tasks` are where the telling goes on.
    pub fn tell(
        &mut self,
        tasks: &mut Tasks,
        worker: PodUid,
        actor: ActorKey,
        template: (Name, Name),
        tend: Tend,
    ) {
        let ateoms = &self.ateoms;
        self.workers.retain(|uid, _| *uid == worker || ateoms.knows(uid));
        let words = self.workers.entry(worker.clone()).or_insert_with(|| {
            let (sender, mut words) = mpsc::channel::<Word>(WAITING_MAX);
            let (ateoms, worker) = (ateoms.clone(), worker.clone());
            tasks.spawn(async move {
                while let Some(Word { actor, template, tend }) = words.recv().await {
                    if let Err(error) = ateoms.tend(&worker, &actor, &template, tend).await {
                        tracing::debug!(%worker, %actor, ?tend, %error, "a worker did not hear for how long its actor may run");
                    }
                }
            });
            sender
        });
        let word = Word {
            actor,
            template,
            tend,
        };
        if words.try_send(word).is_err() {
            tracing::debug!(%worker, ?tend, "a worker is slow to listen");
        }
    }
}
