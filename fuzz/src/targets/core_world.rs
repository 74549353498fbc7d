//! The whole core as one world: replicas, nodes, a store and callers, in which bytes say what happens next.

use holdfast_model::model::{Liveness, Model};
use holdfast_model::scope::{Budget, Fault, Scope, Wish};
use holdfast_model::search::System;
use holdfast_model::story;

use crate::feed::Feed;

/// What callers ask for, and how much of it.
const WISHES_MAX: usize = 8;
const CALLERS_MAX: usize = 3;
/// How long a history is.
const STEPS_MAX: usize = 250;
/// How often each thing may go wrong, less one.
const TIMES_MAX: usize = 3;

/// Whatever happens, in whichever order, no invariant is broken on the way, and at its end the world comes to
/// rest and serves when nothing goes wrong any more.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut model = Model::new(scope(&mut feed), Liveness::Everywhere);
    let mut state = model.initial();
    let mut way = Vec::new();
    while !feed.is_empty() && way.len() < STEPS_MAX {
        let steps = model.steps(&state);
        if steps.is_empty() {
            break;
        }
        way.push(feed.pick(&steps));
        state = match model.after(&state, &way[way.len() - 1]) {
            Ok(state) => state,
            Err(wrong) => fail(&mut model, &way, &wrong),
        };
    }
    if let Err(wrong) = model.check(&state) {
        fail(&mut model, &way, &wrong);
    }
}

fn fail(model: &mut Model, way: &[<Model as System>::Step], wrong: &str) -> ! {
    let lines = story::tell(model, way);
    panic!("{wrong}\nin {}:\n{}", model.scope, lines.join("\n"))
}

fn scope(feed: &mut Feed<'_>) -> Scope {
    let (nodes, workers, actors) = (1 + feed.below(2), 1 + feed.below(2), 1 + feed.below(2));
    let callers = (0..=feed.below(CALLERS_MAX)).map(|_| {
        let wishes = (0..=feed.below(WISHES_MAX)).map(|_| {
            let actor = feed.below(actors);
            feed.pick(&[Wish::Resume(actor), Wish::Suspend(actor), Wish::Pause(actor)])
        });
        wishes.collect()
    });
    let callers = callers.collect();
    let times = Fault::ALL.iter().flat_map(|fault| {
        // One of the two replicas stays.
        let most = if *fault == Fault::Crash { 2 } else { TIMES_MAX };
        vec![*fault; feed.below(most)]
    });
    let budget = Budget {
        fires: 40,
        ..Budget::once(&times.collect::<Vec<_>>())
    };
    Scope {
        budget,
        ..Scope::of(nodes, workers, actors, callers)
    }
}
