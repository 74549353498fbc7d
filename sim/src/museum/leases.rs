//! What goes wrong with leases: how they are believed in, renewed, given back and taken.

use super::flaw::{Flaw, Passes};
use crate::plan::MILLI;
use crate::world::World;
use holdfast_core::effect::{StoreError, StoreOp, StoreReply};
use holdfast_core::id::{ActorKey, EffectId, LeaseToken, RequestId};
use holdfast_core::replica::{Input, Output};
use holdfast_core::request::Request;
use holdfast_core::settings::Settings;
use holdfast_core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

type Asked = (usize, EffectId);

/// The holder counts its lease from when the answer came, not from when it asked.
///
/// What it asked for is granted once more at the moment at which it hears of it, without the store.
#[derive(Clone, Debug, Default)]
pub(super) struct ValidFromTheAnswer {
    asked: BTreeMap<Asked, LeaseToken>,
    granted: BTreeMap<(usize, LeaseToken), StoreReply>,
}

impl Flaw for ValidFromTheAnswer {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Store(effect, StoreOp::AcquireLease { token, .. }) = output {
            if let Some(reply) = self.granted.remove(&(replica, *token)) {
                let again = Input::Stored(*effect, Ok(reply));
                world.replica_hears_in(0, replica, again);
                return Passes::Not;
            }
            self.asked.insert((replica, *effect), *token);
        }
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Input::Stored(effect, result) = input
            && let Some(token) = self.asked.remove(&(replica, *effect))
            && let Ok(reply @ StoreReply::Acquired(_)) = result
        {
            self.granted.insert((replica, token), reply.clone());
            *result = Err(StoreError::Unavailable("asks once more".into()));
        }
        Passes::On
    }
}

/// Which renewals are under way, so that their answers are known when they come.
#[derive(Clone, Debug, Default)]
struct Renewals(BTreeMap<Asked, LeaseToken>);

impl Renewals {
    fn note(&mut self, replica: usize, output: &Output) {
        if let Output::Store(effect, StoreOp::RenewLease { token, .. }) = output {
            self.0.insert((replica, *effect), *token);
        }
    }

    fn answered(&mut self, replica: usize, input: &Input) -> Option<LeaseToken> {
        match input {
            Input::Stored(effect, _) => self.0.remove(&(replica, *effect)),
            _ => None,
        }
    }
}

/// A renewal without an answer is taken for the loss of the lease.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorIsLoss(Renewals);

impl Flaw for ErrorIsLoss {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        self.0.note(replica, output);
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if self.0.answered(replica, input).is_some()
            && let Input::Stored(_, result @ Err(_)) = input
        {
            *result = Ok(StoreReply::NotOwner);
        }
        Passes::On
    }
}

/// A renewal without an answer is taken for one that was done.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorIsRenewal(Renewals);

impl Flaw for ErrorIsRenewal {
    fn replica_says(&mut self, _: &mut World, replica: usize, output: &mut Output) -> Passes {
        self.0.note(replica, output);
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if self.0.answered(replica, input).is_some()
            && let Input::Stored(_, result @ Err(_)) = input
        {
            *result = Ok(StoreReply::Done);
        }
        Passes::On
    }
}

/// The loop that renews ends with the first failure, and the work goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct HeartbeatStops {
    renewals: Renewals,
    stopped: BTreeSet<(usize, LeaseToken)>,
}

impl Flaw for HeartbeatStops {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Store(effect, StoreOp::RenewLease { token, .. }) = output
            && self.stopped.contains(&(replica, *token))
        {
            let done = Input::Stored(*effect, Ok(StoreReply::Done));
            world.replica_hears_in(0, replica, done);
            return Passes::Not;
        }
        self.renewals.note(replica, output);
        Passes::On
    }

    fn replica_hears(&mut self, _: &mut World, replica: usize, input: &mut Input) -> Passes {
        if let Some(token) = self.renewals.answered(replica, input)
            && let Input::Stored(_, result @ Err(_)) = input
        {
            self.stopped.insert((replica, token));
            *result = Ok(StoreReply::Done);
        }
        Passes::On
    }
}

/// Nobody renews: the lease lives as long as it was granted for, and the work as long as it takes.
#[derive(Clone, Debug)]
pub(super) struct NoRenewal;

impl Flaw for NoRenewal {
    fn replica_says(&mut self, world: &mut World, replica: usize, output: &mut Output) -> Passes {
        if let Output::Store(effect, StoreOp::RenewLease { .. }) = output {
            let done = Input::Stored(*effect, Ok(StoreReply::Done));
            world.replica_hears_in(0, replica, done);
            return Passes::Not;
        }
        Passes::On
    }
}

/// A lease is believed in for as long as it lives in the store, to the last moment of whichever clock.
#[derive(Clone, Debug)]
pub(super) struct NoDriftMargin;

impl Flaw for NoDriftMargin {
    fn sets_replicas(&self, settings: &mut Settings) {
        settings.lease.drift_ppm = 0;
        settings.lease.margin = Duration::ZERO;
    }
}

/// Who gives a lease back gives back whatever lease there is.
#[derive(Clone, Debug)]
pub(super) struct ReleaseWithoutToken;

impl Flaw for ReleaseWithoutToken {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let now = world.store_shows();
        match op {
            StoreOp::ReleaseLease { key, .. } => {
                let token = world.store().holder(now, key)?;
                let key = key.clone();
                Some(StoreOp::ReleaseLease { key, token })
            }
            StoreOp::PutActor {
                expect,
                actor,
                release: Some(_),
            } => Some(StoreOp::PutActor {
                expect: *expect,
                actor: actor.clone(),
                release: world.store().holder(now, &actor.key),
            }),
            _ => None,
        }
    }
}

/// A lease is written whether or not somebody has one: SET without NX.
#[derive(Clone, Debug)]
pub(super) struct LeaseForEverybody;

impl Flaw for LeaseForEverybody {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::AcquireLease { key, token, ttl, .. } = op else {
            return None;
        };
        let now = world.store_shows();
        if let Some(holder) = world.store().holder(now, key) {
            let key = key.clone();
            let over = StoreOp::ReleaseLease { key, token: holder };
            world.store().perform(now, &over);
        }
        Some(StoreOp::AcquireLease {
            key: key.clone(),
            token: *token,
            ttl: *ttl,
            steal: None,
        })
    }
}

/// A lease that is written in two steps, the key and then its end, of which the second never comes; and nobody can tell
/// whether its holder lives.
#[derive(Clone, Debug)]
pub(super) struct LeaseWithoutEnd;

impl Flaw for LeaseWithoutEnd {
    fn store_does(&mut self, _: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::AcquireLease {
            key, token, steal, ..
        } = op
        else {
            return None;
        };
        Some(StoreOp::AcquireLease {
            key: key.clone(),
            token: *token,
            ttl: Duration::from_secs(1_000_000),
            steal: *steal,
        })
    }

    fn store_answers(&mut self, world: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        NoTakeover.store_answers(world, op, reply);
    }
}

/// Leases are kept by the actor's name alone. Of each two actors of this world one stands for its namesake in
/// another atespace.
#[derive(Clone, Debug)]
pub(super) struct KeyWithoutAtespace;

impl KeyWithoutAtespace {
    /// Under which actor's key the lease of an actor is kept.
    fn place(key: &ActorKey) -> ActorKey {
        let (stem, number) = key.name.as_str().rsplit_once('-').unwrap_or_default();
        let number: u64 = number.parse().unwrap_or_default();
        ActorKey::new(key.atespace.clone(), format!("{stem}-{}", number / 2 * 2))
    }
}

impl Flaw for KeyWithoutAtespace {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let now = world.store_shows();
        let mut op = op.clone();
        match &mut op {
            StoreOp::AcquireLease { key, .. }
            | StoreOp::RenewLease { key, .. }
            | StoreOp::ReleaseLease { key, .. } => *key = Self::place(key),
            StoreOp::PutActor {
                expect,
                actor,
                release: Some(token),
            } => {
                let is_written = world
                    .store()
                    .actors
                    .get(&actor.key)
                    .map(|stored| stored.edition())
                    == *expect;
                let release = StoreOp::ReleaseLease {
                    key: Self::place(&actor.key),
                    token: *token,
                };
                if is_written {
                    world.store().perform(now, &release);
                }
                return None;
            }
            StoreOp::DeleteActor { key, release, .. } => {
                let release = StoreOp::ReleaseLease {
                    key: Self::place(key),
                    token: *release,
                };
                world.store().perform(now, &release);
                return None;
            }
            _ => return None,
        }
        Some(op)
    }

    fn store_answers(&mut self, world: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        if let (StoreOp::AcquireLease { key, .. }, StoreReply::Acquired(actor)) = (op, reply) {
            *actor = world.store().actors.get(key).cloned().map(Box::new);
        }
    }
}

/// A caller who leaves takes the lease of its actor along, and the work goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseGoesWithTheCaller(BTreeMap<RequestId, ActorKey>);

impl Flaw for LeaseGoesWithTheCaller {
    fn replica_hears(&mut self, world: &mut World, replica: usize, input: &mut Input) -> Passes {
        match input {
            Input::Request(
                id,
                Request::Resume(key, _) | Request::Suspend(key) | Request::Pause(key) | Request::Revert(key),
            ) => {
                self.0.insert(*id, key.clone());
            }
            Input::CallerGone(id) => {
                if let Some(key) = self.0.remove(id)
                    && let Some(token) = world.token(replica, &key)
                {
                    world.store_does_in(MILLI, replica, StoreOp::ReleaseLease { key, token });
                }
            }
            _ => {}
        }
        Passes::On
    }
}

/// Replicas have no sessions of their own: who is dead is believed to live until its leases run out.
#[derive(Clone, Debug)]
pub(super) struct NoTakeover;

impl Flaw for NoTakeover {
    fn store_answers(&mut self, _: &mut World, op: &StoreOp, reply: &mut StoreReply) {
        if matches!(op, StoreOp::GetSession(_)) {
            *reply = StoreReply::Exists;
        }
    }
}

/// A renewal that fails is tried again at once, by everybody, for as long as it fails.
#[derive(Clone, Debug)]
pub(super) struct NoBackoff;

impl Flaw for NoBackoff {
    fn sets_replicas(&self, settings: &mut Settings) {
        settings.lease.retry_from = Duration::from_millis(50);
    }
}

/// Whoever asks whether a dead holder's lease may be taken takes it from whoever has it by then.
#[derive(Clone, Debug)]
pub(super) struct StealFromAnybody;

impl Flaw for StealFromAnybody {
    fn store_does(&mut self, world: &mut World, op: &StoreOp) -> Option<StoreOp> {
        let StoreOp::AcquireLease {
            key,
            steal: Some(steal),
            ..
        } = op
        else {
            return None;
        };
        let now = world.store_shows();
        let holder = world.store().holder(now, key);
        if holder.is_none_or(|holder| holder == *steal) {
            return None;
        }
        LeaseForEverybody.store_does(world, op)
    }
}
