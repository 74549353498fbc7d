//! I2: at most one sandbox of an actor runs, in true time: one that is held still does not. And a node's
//! session is declared over only when what came under it is held still.

use crate::fact::Fact;
use crate::history::History;
use holdfast_core::id::{ActorKey, PodUid};

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    match fact {
        Fact::Up { worker, .. } if history.frozen.contains(worker) => Ok(()),
        Fact::Up { worker, actor, .. } | Fact::Thawed(worker, actor, _) => is_alone(history, worker, actor),
        Fact::DeclaredOver { node, workers, .. } => {
            let mut running = workers
                .iter()
                .filter(|worker| history.alive.contains_key(*worker) && !history.frozen.contains(*worker));
            match running.next() {
                Some(worker) => Err(format!("{node} is declared over, and {worker} runs what it ran")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn is_alone(history: &History, worker: &PodUid, actor: &ActorKey) -> Result<(), String> {
    let running = history
        .alive
        .iter()
        .filter(|(on, _)| !history.frozen.contains(*on));
    let mut others = running.filter(|(on, other)| *on != worker && *other == actor);
    match others.next() {
        Some((on, _)) => Err(format!("{actor} serves on {worker} and on {on}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{after, key, up};

    #[test]
    fn a_second_sandbox_of_one_actor_is_seen() {
        assert_eq!(check(&History::default(), &up("w2", 0)), Ok(()));
        assert!(check(&after([up("w1", 0)]), &up("w2", 0)).is_err());
    }

    #[test]
    fn one_that_is_held_still_may_have_a_successor_and_must_not_go_on_beside_it() {
        let frozen = after([up("w1", 0), Fact::Frozen("w1".into(), key())]);
        assert_eq!(check(&frozen, &up("w2", 0)), Ok(()));
        let both = after([up("w1", 0), Fact::Frozen("w1".into(), key()), up("w2", 0)]);
        assert!(check(&both, &Fact::Thawed("w1".into(), key(), 0)).is_err());
    }

    #[test]
    fn a_session_that_is_declared_over_while_something_runs_is_seen() {
        let over = Fact::DeclaredOver {
            node: "n".into(),
            workers: vec!["w1".into()],
            actors: Vec::new(),
        };
        assert!(check(&after([up("w1", 0)]), &over).is_err());
        let frozen = [up("w1", 0), Fact::Frozen("w1".into(), key())];
        assert_eq!(check(&after(frozen), &over), Ok(()));
    }
}
