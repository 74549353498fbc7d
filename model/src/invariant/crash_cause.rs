//! I10: an actor is called crashed, or said to have lost something, only when its sandbox, its checkpoint or
//! its snapshot really came to harm.

use crate::fact::Fact;
use crate::history::History;
use holdfast_core::actor::State;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let Fact::Recorded { before, after } = fact else {
        return Ok(());
    };
    if history.harmed.contains(&after.key) {
        return Ok(());
    }
    match &after.state {
        State::Crashed(crash) if before.state != after.state => Err(format!(
            "{} is called crashed ({}); nothing was harmed",
            after.key, crash.reason
        )),
        _ => match &after.loss {
            Some(loss) if before.loss != after.loss => Err(format!(
                "{} is said to have lost something ({}); nothing was harmed",
                after.key, loss.reason
            )),
            _ => Ok(()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{actor, after, key, recorded};
    use holdfast_core::actor::{Actor, Crash, Loss, Transition};
    use holdfast_core::id::WorkerKey;

    #[test]
    fn a_crash_or_a_loss_without_harm_is_seen() {
        let crash = Crash {
            during: Transition::Suspend,
            reason: "?".into(),
            node: "n".into(),
        };
        let crashed = recorded(actor(State::Suspended), actor(State::Crashed(crash)));
        let loss = Some(Loss {
            worker: WorkerKey::new("n", "p", "w"),
            reason: "?".into(),
        });
        let lost = recorded(
            actor(State::Suspended),
            Actor {
                loss,
                ..actor(State::Suspended)
            },
        );
        for fact in [crashed, lost] {
            assert!(check(&History::default(), &fact).is_err());
            assert_eq!(check(&after([Fact::Harmed(key())]), &fact), Ok(()));
        }
    }
}
