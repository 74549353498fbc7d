//! Because of whose request something is done: the machine names the actor, and whoever waits for that actor is the
//! cause. What nobody waits for has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_core::id::ActorKey;
use holdfast_core::request::Request;
use holdfast_rpc::trace::Context;

/// Who waits for what becomes of which actor. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Causes(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By actor, the latest last.
    contexts: BTreeMap<ActorKey, BTreeMap<u64, Context>>,
}

/// Somebody waits, until this is dropped.
pub(crate) struct Cause {
    causes: Causes,
    of: Option<(ActorKey, u64)>,
}

impl Causes {
    /// Takes note of a request that came in this context, recorded or not: what is done because of it is recorded as it is.
    pub fn note(&self, request: &Request, context: Option<Context>) -> Cause {
        let of = context.zip(actor(request)).map(|(context, actor)| {
            let mut waiting = self.lock();
            waiting.next += 1;
            let number = waiting.next;
            let contexts = waiting.contexts.entry(actor.clone()).or_default();
            contexts.insert(number, context);
            (actor.clone(), number)
        });
        Cause {
            causes: self.clone(),
            of,
        }
    }

    /// Who waits for this actor; of several the one that came first, because of whom most is done.
    pub fn of(&self, actor: &ActorKey) -> Option<Context> {
        let waiting = self.lock();
        waiting.contexts.get(actor)?.values().next().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cause {
    fn drop(&mut self) {
        let Some((actor, number)) = self.of.take() else {
            return;
        };
        let mut waiting = self.causes.lock();
        if let Some(contexts) = waiting.contexts.get_mut(&actor) {
            contexts.remove(&number);
            if contexts.is_empty() {
                waiting.contexts.remove(&actor);
            }
        }
    }
}

/// The actor that a request is about.
fn actor(request: &Request) -> Option<&ActorKey> {
    match request {
        Request::GetActor(key)
        | Request::CreateActor { key, .. }
        | Request::UpdateActor { key, .. }
        | Request::Resume(key, _)
        | Request::Suspend(key)
        | Request::Pause(key)
        | Request::Delete(key)
        | Request::Revert(key) => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(span: u64) -> Option<Context> {
        Some(Context {
            trace: 1,
            span,
            is_sampled: span == 1,
        })
    }

    #[test]
    fn who_came_first_is_the_cause_until_nobody_waits() {
        let causes = Causes::default();
        let key = ActorKey::new("team", "a1");
        let suspend = Request::Suspend(key.clone());
        let first = causes.note(&suspend, context(1));
        let second = causes.note(&suspend, context(2));
        assert_eq!(causes.of(&key), context(1));
        assert_eq!(causes.of(&ActorKey::new("other", "a1")), None);
        drop(first);
        assert_eq!(causes.of(&key), context(2));
        drop(second);
        assert_eq!(causes.of(&key), None);
    }

    #[test]
    fn what_comes_in_no_trace_or_is_about_no_actor_is_not_kept() {
        let causes = Causes::default();
        let key = ActorKey::new("team", "a1");
        let _untraced = causes.note(&Request::Pause(key.clone()), None);
        let _elsewhere = causes.note(&Request::ListWorkers, context(1));
        assert_eq!(causes.of(&key), None);
        assert_eq!(causes.lock().contexts.len(), 0);
    }
}
