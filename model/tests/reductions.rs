//! What is left out of the search because it changes nothing does change nothing: with it the same is reached.

use holdfast_model::model::{Liveness, Model};
use holdfast_model::scope::Fault::{Crash, Message, Pause};
use holdfast_model::scope::Wish::{Resume, Suspend};
use holdfast_model::scope::{Fault, Late, Scope, Wish};
use holdfast_model::scopes::one_actor;
use holdfast_model::search::{Limits, System, Verdict, explore};
use holdfast_model::state::{Name, State};
use holdfast_model::step::Step;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A world of which is noted how everything stands that is not on its way.
struct Noted {
    model: Model,
    seen: BTreeSet<u64>,
}

impl System for Noted {
    type State = State;
    type Name = Name;
    type Step = Step;

    fn initial(&mut self) -> State {
        self.model.initial()
    }

    fn name(&self, state: &State) -> Name {
        self.model.name(state)
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        self.model.steps(state)
    }

    fn after(&mut self, state: &State, step: &Step) -> Result<State, String> {
        self.model.after(state, step)
    }

    fn check(&mut self, state: &State) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        state.seats.iter().for_each(|seat| (**seat).hash(&mut hasher));
        state
            .atelets
            .iter()
            .for_each(|atelet| (**atelet).hash(&mut hasher));
        state.hosts.iter().for_each(|host| (**host).hash(&mut hasher));
        (*state.store).hash(&mut hasher);
        (*state.outside).hash(&mut hasher);
        (*state.history).hash(&mut hasher);
        self.seen.insert(hasher.finish());
        Ok(())
    }
}

/// How many states a world has, and how everything stands in them.
fn seen(scope: Scope) -> (usize, BTreeSet<u64>) {
    let mut noted = Noted {
        model: Model::new(scope, Liveness::Off),
        seen: BTreeSet::new(),
    };
    let limits = Limits {
        states: usize::MAX,
        time: Duration::MAX,
    };
    let outcome = explore(&mut noted, limits);
    assert!(matches!(outcome.verdict, Verdict::Exhausted));
    (outcome.states, noted.seen)
}

#[test]
fn messages_that_are_forgotten_because_they_can_do_nothing_would_have_done_nothing() {
    let round = [Resume(0), Suspend(0)];
    let worlds: [(&[Wish], &[Fault]); 3] = [
        (&round, &[Crash]),
        (&round, &[Message]),
        (&round[..1], &[Crash, Pause]),
    ];
    for (wishes, faults) in worlds {
        let scope = one_actor(wishes).with_faults(faults);
        let all = Scope {
            late: Late::All,
            ..scope.clone()
        };
        let (fewer, some) = seen(scope);
        let (more, every) = seen(all);
        assert!(some == every, "{faults:?}: {} and {}", some.len(), every.len());
        assert!(fewer < more, "{faults:?}: {fewer} and {more}");
    }
}
