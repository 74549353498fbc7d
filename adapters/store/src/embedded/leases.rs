//! Who holds which lease, and which replicas live, by a clock that is read elsewhere.

use std::collections::BTreeMap;

use holdfast_core::id::{ActorKey, LeaseToken, ReplicaId};
use holdfast_core::time::{Duration, Instant};

/// Below this many leases it is not worth looking for those that have ended.
const FEW: usize = 1024;

/// Every lease and session that may still be valid.
#[derive(Default)]
pub(super) struct Leases {
    held: BTreeMap<ActorKey, Lease>,
    /// How many leases there may be before those that have ended are forgotten.
    sweep_at: usize,
    sessions: BTreeMap<ReplicaId, Instant>,
}

struct Lease {
    token: LeaseToken,
    until: Instant,
}

impl Leases {
    /// Who holds the lease on `key`, unless it is one of these two.
    pub(super) fn holder_other_than(
        &self,
        now: Instant,
        key: &ActorKey,
        token: LeaseToken,
        steal: Option<LeaseToken>,
    ) -> Option<LeaseToken> {
        let holder = self.held.get(key).filter(|lease| now < lease.until)?.token;
        (holder != token && Some(holder) != steal).then_some(holder)
    }

    pub(super) fn grant(&mut self, now: Instant, key: ActorKey, token: LeaseToken, ttl: Duration) {
        if self.held.len() >= self.sweep_at.max(FEW) {
            self.held.retain(|_, lease| now < lease.until);
            self.sweep_at = 2 * self.held.len();
        }
        self.held.insert(
            key,
            Lease {
                token,
                until: now.plus(ttl),
            },
        );
    }

    pub(super) fn renew(&mut self, now: Instant, key: &ActorKey, token: LeaseToken, ttl: Duration) -> bool {
        match self.held.get_mut(key) {
            Some(lease) if lease.token == token && now < lease.until => {
                lease.until = now.plus(ttl);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn release(&mut self, key: &ActorKey, token: LeaseToken) {
        if self.held.get(key).is_some_and(|lease| lease.token == token) {
            self.held.remove(key);
        }
    }

    pub(super) fn put_session(&mut self, now: Instant, replica: ReplicaId, ttl: Duration) {
        self.sessions.retain(|_, until| now < *until);
        self.sessions.insert(replica, now.plus(ttl));
    }

    pub(super) fn has_session(&self, now: Instant, replica: ReplicaId) -> bool {
        self.sessions.get(&replica).is_some_and(|until| now < *until)
    }

    pub(super) fn drop_session(&mut self, replica: ReplicaId) {
        self.sessions.remove(&replica);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_have_ended_are_forgotten() {
        let mut leases = Leases::default();
        let token = LeaseToken {
            replica: ReplicaId(1),
            seq: 1,
        };
        let second = Duration::from_secs(1);
        for actor in 0..10 * FEW as u64 {
            let now = Instant::ORIGIN.plus(second * u32::try_from(actor).unwrap());
            leases.grant(now, ActorKey::new("a", actor.to_string()), token, second);
        }
        assert!(leases.held.len() <= FEW, "{}", leases.held.len());
    }
}
