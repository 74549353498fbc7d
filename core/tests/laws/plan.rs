//! The plan: what holds of every decision of a workflow, whatever it finds and has learned.

use crate::records::{actor, assignment, fact, goal, op, reply, token};
use crate::registry::row;
use crate::stage::template;
use holdfast_core::actor::Change;
use holdfast_core::id::*;
use holdfast_core::plan::{self, CallOf, Facts, Next, WishedChange};
use proptest::option::of;
use proptest::prelude::*;

fn call_of() -> impl Strategy<Value = CallOf> {
    prop_oneof![
        op().prop_map(CallOf::Recorded),
        Just(CallOf::Stop),
        Just(CallOf::Upload),
        (1..4u64).prop_map(CallOf::Thaw),
    ]
}

proptest! {
    /// The plan has an answer for every record, goal and state of knowledge; what it wishes to write is
    /// in the table; and it never acts on a worker or node under a claim that is not its own.
    #[test]
    fn the_plan_always_has_a_lawful_answer(
        actor in actor(),
        goal in goal(),
        token in token(),
        worker in fact(),
        promised in of(0..3u8),
        leaving in of(assignment()),
        outcome in of((call_of(), reply())),
        has_template in any::<bool>(),
        is_undoing in any::<bool>(),
        is_sole in any::<bool>(),
    ) {
        let declared = template();
        let golden = Name::from("golden");
        let promised = promised.map(|w| row(w, 3, true));
        let facts = Facts {
            token,
            template: actor.pinned.as_deref().or(has_template.then_some(&*declared)),
            golden: Some(&golden),
            worker,
            promised: promised.as_ref(),
            leaving: leaving.as_ref(),
            outcome: outcome.as_ref().map(|(call, reply)| (call, reply)),
            is_undoing,
            is_sole,
        };
        match plan::next(&goal, &actor, &facts) {
            Next::Write { change, .. } => {
                let change = match change {
                    WishedChange::Exactly(change) => change,
                    WishedChange::ClaimAbove(_) => Change::Claim,
                    WishedChange::Resume(on, boot) => {
                        Change::Resume { op: OpId { replica: ReplicaId(1), seq: 1 }, on: *on, boot }
                    }
                    WishedChange::Suspend => {
                        Change::Suspend { op: OpId { replica: ReplicaId(1), seq: 1 }, snapshot: "s".into() }
                    }
                    WishedChange::Pause => {
                        Change::Pause { op: OpId { replica: ReplicaId(1), seq: 1 }, snapshot: "s".into() }
                    }
                    WishedChange::Reserve => Change::Reserve { snapshot: "s".into() },
                };
                prop_assert!(actor.after(&change, Some(token), Version::FIRST).is_ok(), "{:?}", change);
            }
            Next::Call { .. } => prop_assert!(actor.is_claimed_by(token), "a call before the claim"),
            Next::Finish(_) | Next::Place { .. } | Next::Delete | Next::Free(_) | Next::CallAgain => {}
        }
    }
}
