//! I12: every request gets exactly one verdict, which says whether trying again helps.
//!
//! Formally: of every request that was made, and whose replica did not die and whose caller did not leave before, there
//! is exactly one verdict when the run is over; a verdict of Aborted or Unavailable says when to try again, one
//! of any other code but FailedPrecondition and DeadlineExceeded does not, and none is Internal or Unknown; and who
//! is turned away for a lease is turned away for one of the actor that was asked for.

use super::Oracle;
use crate::fact::{Asked, Fact};
use holdfast_core::failure::{Code, Failure};
use holdfast_core::id::{ActorKey, LeaseToken, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneVerdict {
    open: BTreeMap<RequestId, (ActorKey, Asked)>,
    told: BTreeSet<RequestId>,
    /// The last lease of each actor, and whose each of them is.
    last: BTreeMap<ActorKey, LeaseToken>,
    leases: BTreeMap<LeaseToken, ActorKey>,
}

impl Oracle for OneVerdict {
    fn see(&mut self, _now: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Asked(id, actor, what) => {
                self.open.insert(*id, (actor.clone(), *what));
            }
            Fact::Told(id, result) => {
                if !self.told.insert(*id) {
                    return Err(format!("request {id} got a second verdict: {result:?}"));
                }
                self.open.remove(id);
                if let Err(failure) = result {
                    return is_helpful(*id, failure);
                }
            }
            Fact::Granted { actor, token, .. } => {
                if let Some(before) = self.last.insert(actor.clone(), *token) {
                    self.leases.remove(&before);
                }
                self.leases.insert(*token, actor.clone());
            }
            Fact::TurnedAway { actor, token } => {
                if let Some(other) = self.leases.get(token).filter(|other| *other != actor) {
                    return Err(format!(
                        "whoever asked for {actor} was turned away for the lease {token} of {other}"
                    ));
                }
            }
            Fact::Unheard(id) => {
                self.open.remove(id);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.first_key_value() {
            Some((id, (actor, what))) => {
                Err(format!("request {id}, {what:?} of {actor}, never got a verdict"))
            }
            None => Ok(()),
        }
    }
}

fn is_helpful(id: RequestId, failure: &Failure) -> Result<(), String> {
    let says_when = failure.retry_after.is_some();
    let is_right = match failure.code {
        Code::Internal | Code::Unknown => false,
        Code::Aborted | Code::Unavailable => says_when,
        // Whether that helps depends on what stands in the way: a state, or that no worker is free; and on
        // what took so long.
        Code::FailedPrecondition | Code::DeadlineExceeded => true,
        _ => !says_when,
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("request {id} was told what does not help: {failure:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::id::ReplicaId;

    #[test]
    fn a_verdict_that_does_not_say_whether_trying_again_helps_is_seen() {
        let told = |code| Fact::Told(RequestId(1), Err(Failure::new(code, "?")));
        let mut oracle = OneVerdict::default();
        let what = oracle.clone().see(0, &told(Code::Unavailable)).unwrap_err();
        assert!(what.contains("does not help"), "{what}");
        assert!(oracle.clone().see(0, &told(Code::Internal)).is_err());
        assert_eq!(oracle.see(0, &told(Code::NotFound)), Ok(()));
    }

    #[test]
    fn to_be_turned_away_for_the_lease_of_another_actor_is_seen() {
        let token = LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        };
        let actor = |name| ActorKey::new("s", name);
        let turned_away = |name| Fact::TurnedAway {
            actor: actor(name),
            token,
        };
        let mut oracle = OneVerdict::default();
        let granted = Fact::Granted {
            actor: actor("a"),
            replica: 0,
            token,
            from: None,
            is_named: false,
            is_orphan: false,
        };
        oracle.see(0, &granted).unwrap();
        assert_eq!(oracle.see(1, &turned_away("a")), Ok(()));
        let what = oracle.see(2, &turned_away("b")).unwrap_err();
        assert!(what.contains("asked for s/b was turned away"), "{what}");
    }

    #[test]
    fn no_verdict_and_two_verdicts_are_seen() {
        let mut oracle = OneVerdict::default();
        oracle
            .see(
                0,
                &Fact::Asked(RequestId(1), ActorKey::new("s", "a"), Asked::Resume),
            )
            .unwrap();
        assert!(oracle.end().unwrap_err().contains("never got a verdict"));
        assert_eq!(oracle.see(0, &Fact::Told(RequestId(1), Ok(()))), Ok(()));
        assert_eq!(oracle.end(), Ok(()));
        assert!(oracle.see(0, &Fact::Told(RequestId(1), Ok(()))).is_err());
    }
}
