//! Messages that nobody waits for and that can do nothing any more: a reduction.
//!
//! A sender that has given up, or died, leaves its message on its way. It may arrive at any moment of all that follows,
//! which multiplies states; most of the time there is nothing left that it could do. Such a message is
//! forgotten at once, where this is certain for the rest of the history:
//!
//! * A renewal changes nothing in the model's store, whose leases have no clock.
//! * A conditional write of an actor that expects a version below the stored one: versions of one life only
//!   rise. (Of workers' rows this is not assumed: they are dropped and made anew, and that their versions rise
//!   all the same is what is to be checked.)
//! * Giving back a lease that is not held under that token, when nobody has that token any more or asks for
//!   a lease under it.
//! * A call below the actor's fence in the node's journal: that fence never falls (forgotten, it is below the floor), and the call is refused
//!   before anything else is looked at.
//!
//! Where a defect is planted none of this is certain, and nothing is forgotten.

use crate::flight::Message;
use crate::scene::Scene;
use crate::scope::Late;
use holdfast_core::actor::Actor;
use holdfast_core::effect::StoreOp;
use holdfast_core::id::LeaseToken;
use holdfast_core::replica::Replica;

impl Scene<'_> {
    /// Forgets them.
    pub(crate) fn forget_futile(&mut self) {
        let scope = &self.model.scope;
        if scope.late == Late::All || scope.defect.is_some() {
            return;
        }
        let messages = self.flight.messages().iter();
        let kept: Vec<bool> = messages.map(|message| !self.is_futile(message)).collect();
        if kept.contains(&false) {
            let mut kept = kept.into_iter();
            self.flight.retain(|_| kept.next().unwrap_or(true));
        }
    }

    fn is_futile(&self, message: &Message) -> bool {
        match message {
            Message::ToStore { from: None, op, .. } => self.does_nothing(op),
            Message::ToNode {
                from: None,
                node,
                call,
                ..
            } => {
                let known = self.hosts[*node]
                    .disk
                    .fences
                    .get(&(call.actor.clone(), call.incarnation));
                known.is_some_and(|known| call.fence < *known)
            }
            _ => false,
        }
    }

    fn does_nothing(&self, op: &StoreOp) -> bool {
        match op {
            StoreOp::RenewLease { .. } => true,
            StoreOp::PutActor {
                expect: Some(expect),
                actor,
                ..
            } => {
                let stored = self.store.actors.get(&actor.key).map(Actor::edition);
                stored.is_some_and(|stored| {
                    stored.incarnation == expect.incarnation && stored.version > expect.version
                })
            }
            StoreOp::ReleaseLease { key, token } => {
                self.store.leases.get(key) != Some(token) && !self.is_anybodys(*token)
            }
            _ => false,
        }
    }

    /// Whether somebody may still come to hold a lease under this token.
    fn is_anybodys(&self, token: LeaseToken) -> bool {
        let machines = self.seats.iter().filter_map(|seat| seat.machine.as_ref());
        let mut flows = machines.flat_map(Replica::workflows);
        let is_asked_for = |message: &Message| {
            matches!(message, Message::ToStore { op: StoreOp::AcquireLease { token: asked, .. }, .. }
                if *asked == token)
        };
        flows.any(|flow| flow.token() == token)
            || self.flight.messages().iter().any(|message| is_asked_for(message))
    }
}
