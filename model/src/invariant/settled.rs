//! I8, and the second half of I3: when everything has come to rest, every actor sleeps, serves or has
//! crashed, every worker that is promised has its actor on it, nothing runs that nobody knows, and nobody
//! waits for a verdict.

use crate::history::History;
use crate::host::Host;
use crate::store::Store;
use holdfast_core::actor::State;

/// Whether the world is at rest as it should be.
///
/// # Errors
/// What is not.
pub fn check<'a>(
    store: &Store,
    hosts: impl Iterator<Item = &'a Host>,
    history: &History,
) -> Result<(), String> {
    if let Some((id, (actor, asked))) = history.open.first_key_value() {
        return Err(format!("I12: {id}, {asked:?} of {actor}, has no verdict"));
    }
    for actor in store.actors.values() {
        if actor.operation().is_some() {
            return Err(format!("I8: {} is still {}", actor.key, actor.status()));
        }
        let State::Running { on } = &actor.state else {
            continue;
        };
        if history.alive.get(&on.pod_uid) != Some(&actor.key) {
            return Err(format!(
                "I8: {} is RUNNING on {}, and no sandbox of it is there",
                actor.key, on.worker
            ));
        }
        if history.frozen.contains(&on.pod_uid) {
            return Err(format!(
                "I8: {} is RUNNING on {}, and held still",
                actor.key, on.worker
            ));
        }
        let is_promised = store
            .workers
            .get(&on.worker)
            .is_some_and(|worker| worker.is_promised_to(&actor.key, actor.incarnation));
        if !is_promised {
            return Err(format!(
                "I3: {} is RUNNING on {}, which is not promised to it",
                actor.key, on.worker
            ));
        }
    }
    for (uid, ateom) in hosts.flat_map(|host| &host.ateoms) {
        let Some(worker) = store.workers.get(&ateom.key) else {
            return Err(format!("I8: worker {uid} is not recorded"));
        };
        let tenant = ateom.sandbox.as_ref().map(|live| &live.actor);
        let promised = worker.hosts.as_ref().map(|hosted| &hosted.actor);
        if tenant != promised {
            return Err(format!(
                "I3: worker {uid} is promised to {promised:?} and runs {tenant:?}"
            ));
        }
        let is_on_it = promised.is_none_or(|actor| {
            store
                .actors
                .get(actor)
                .is_some_and(|actor| matches!(&actor.state, State::Running { on } if on.worker == worker.key))
        });
        if !is_on_it {
            return Err(format!(
                "I8: worker {uid} is promised to {promised:?}, which is not on it"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Asked, Fact};
    use crate::host::{Ateom, Live};
    use crate::invariant::tests::{actor, after, key};
    use holdfast_core::actor::{Assignment, Boot};
    use holdfast_core::id::{Fence, OpId, ReplicaId, RequestId, Version, WorkerKey};
    use holdfast_core::worker::{Change, Duty, Worker};

    const OP: OpId = OpId {
        replica: ReplicaId(1),
        seq: 1,
    };

    fn worker() -> Worker {
        Worker {
            key: WorkerKey::new("ns", "pool", "w"),
            version: Version(3),
            pod_uid: "w".into(),
            incarnation: "run-1".into(),
            ip: "ip".into(),
            node: "n".into(),
            duty: Duty::Serving,
            hosts: None,
        }
    }

    fn promised() -> Worker {
        let actor = actor(State::Suspended);
        let promise = Change::Promise {
            actor: actor.key,
            incarnation: actor.incarnation,
            template: (actor.template_namespace, actor.template_name),
            session: 0,
        };
        worker().after(promise, Version::FIRST).unwrap()
    }

    fn on() -> Assignment {
        Assignment {
            fence: Fence(4),
            ..Assignment::of(&promised()).unwrap()
        }
    }

    fn host(is_serving: bool) -> Host {
        let ateom = Ateom {
            key: worker().key,
            sandbox: is_serving.then(|| Live {
                actor: key(),
                op: OP,
                count: 0,
            }),
            licence: holdfast_core::licence::Licence::default(),
            last: None,
        };
        Host {
            ateoms: [("w".into(), ateom)].into(),
            ..Host::default()
        }
    }

    fn seen(state: State, worker: Worker, is_serving: bool) -> Result<(), String> {
        let store = Store {
            actors: [(key(), actor(state))].into(),
            workers: [(worker.key.clone(), worker)].into(),
            ..Store::default()
        };
        let history = if is_serving {
            after([crate::invariant::tests::up("w", 0)])
        } else {
            History::default()
        };
        check(&store, [host(is_serving)].iter(), &history)
    }

    #[test]
    fn what_stands_still_leaks_or_is_unknown_is_seen() {
        assert_eq!(seen(State::Suspended, worker(), false), Ok(()));
        assert_eq!(seen(State::Running { on: on() }, promised(), true), Ok(()));
        let resuming = State::Resuming {
            op: OP,
            on: on(),
            boot: Boot::Golden,
        };
        let wrong = [
            seen(resuming, promised(), false),
            seen(State::Running { on: on() }, promised(), false),
            seen(State::Running { on: on() }, worker(), true),
            seen(State::Suspended, promised(), false),
            seen(State::Suspended, promised(), true),
            seen(State::Suspended, worker(), true),
        ];
        for (index, seen) in wrong.iter().enumerate() {
            assert!(seen.is_err(), "number {index}");
        }
    }

    #[test]
    fn a_caller_that_waits_for_ever_is_seen() {
        let history = after([Fact::Asked(RequestId(1), key(), Asked::Wake)]);
        let what = check(&Store::default(), [].iter(), &history).unwrap_err();
        assert!(what.contains("has no verdict"), "{what}");
    }
}
