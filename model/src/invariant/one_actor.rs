//! I3: a worker runs at most one actor: nothing is booted or cleared where something serves. (That store and node come
//! to agree on who is where is part of [`super::settled`].)

use crate::fact::Fact;
use crate::history::History;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let (Fact::Up { worker, actor, .. } | Fact::Cleared(worker, actor)) = fact else {
        return Ok(());
    };
    match history.alive.get(worker) {
        Some(other) => Err(format!(
            "{worker} is made ready for {actor} while {other} serves there"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Ending;
    use crate::invariant::tests::{after, key, up};
    use holdfast_core::id::ActorKey;

    #[test]
    fn a_boot_where_something_serves_is_seen() {
        let other = Fact::Up {
            worker: "w1".into(),
            actor: ActorKey::new("s", "b"),
            count: 0,
        };
        assert!(check(&after([up("w1", 0)]), &other).is_err());
        let down = Fact::Down {
            worker: "w1".into(),
            actor: key(),
            how: Ending::Stopped,
        };
        assert_eq!(check(&after([up("w1", 0), down]), &other), Ok(()));
    }
}
