//! I12: every request gets exactly one verdict, unless its replica died or its caller left.

use super::Oracle;
use crate::fact::{Asked, Fact};
use holdfast_core::id::{ActorKey, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct OneVerdict {
    open: BTreeMap<RequestId, (ActorKey, Asked)>,
    told: BTreeSet<RequestId>,
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

#[cfg(test)]
mod tests {
    use super::*;

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
