//! I12: every request gets exactly one verdict, with a code that says whether retrying helps. (That it gets
//! one at all is checked when everything has come to rest: see [`super::settled`].)

use crate::fact::Fact;
use crate::history::History;
use holdfast_core::failure::Code;

pub(super) fn check(history: &History, fact: &Fact) -> Result<(), String> {
    let Fact::Told(id, result) = fact else {
        return Ok(());
    };
    if !history.open.contains_key(id) {
        return Err(format!("{id} was told {result:?}, and nobody waits for it"));
    }
    let Err(failure) = result else { return Ok(()) };
    let is_passing = matches!(
        failure.code,
        Code::Aborted | Code::Unavailable | Code::DeadlineExceeded
    );
    if is_passing && failure.retry_after.is_none() {
        return Err(format!(
            "{id} was told {:?} without a hint to retry: {}",
            failure.code, failure.message
        ));
    }
    if failure.code == Code::Internal {
        return Err(format!("{id} was told of a fault of ours: {}", failure.message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Asked;
    use crate::invariant::tests::{after, key};
    use holdfast_core::failure::Failure;
    use holdfast_core::id::RequestId;

    #[test]
    fn a_second_verdict_is_seen() {
        let asked = Fact::Asked(RequestId(1), key(), Asked::Wake);
        let told = Fact::Told(RequestId(1), Ok(()));
        assert_eq!(check(&after([asked.clone()]), &told), Ok(()));
        assert!(check(&after([asked, told.clone()]), &told).is_err());
    }

    #[test]
    fn a_passing_failure_without_a_hint_and_a_fault_of_ours_are_seen() {
        let history = after([Fact::Asked(RequestId(1), key(), Asked::Wake)]);
        let told = |code| Fact::Told(RequestId(1), Err(Failure::new(code, "?")));
        assert!(check(&history, &told(Code::Aborted)).is_err());
        assert!(check(&history, &told(Code::Internal)).is_err());
        assert_eq!(check(&history, &told(Code::FailedPrecondition)), Ok(()));
    }
}
