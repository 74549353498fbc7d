//! I2: at most one sandbox serves for an actor, in true time.

use crate::fact::Fact;
use crate::history::History;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let Fact::Up { worker, actor, .. } = fact else {
        return Ok(());
    };
    match history
        .alive
        .iter()
        .find(|(on, other)| *on != worker && *other == actor)
    {
        Some((on, _)) => Err(format!("{actor} serves on {worker} and on {on}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{after, up};

    #[test]
    fn a_second_sandbox_of_one_actor_is_seen() {
        assert_eq!(check(&History::default(), &up("w2", 0)), Ok(()));
        assert!(check(&after([up("w1", 0)]), &up("w2", 0)).is_err());
    }
}
