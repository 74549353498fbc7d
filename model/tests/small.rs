//! Small worlds, all of whose histories are looked at in less than a minute.

use holdfast_model::model::{Liveness, Model};
use holdfast_model::search::{Limits, Verdict, explore};
use holdfast_model::{scopes, story};
use std::time::Duration;

#[test]
fn nothing_goes_wrong_in_any_history_of_a_small_world() {
    let limits = Limits {
        states: usize::MAX,
        time: Duration::MAX,
    };
    for scope in scopes::small() {
        let line = scope.to_string();
        let mut model = Model::new(scope, Liveness::Everywhere);
        let outcome = explore(&mut model, limits);
        if let Verdict::Violated(way, what) = &outcome.verdict {
            let story = story::tell(&mut model, way).join("\n");
            panic!("{line}\n{story}\n{what}");
        }
        assert!(outcome.states > 100, "{line}: only {} states", outcome.states);
    }
}
