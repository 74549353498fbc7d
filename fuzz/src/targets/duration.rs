//! Durations, as flags have them.

use holdfast_runtime::duration::{parse, positive, show};

use crate::feed::text;

/// What is read is shown so that it is read again, exactly.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(duration) = parse(text) else {
        assert!(positive(text).is_err());
        return;
    };
    assert_eq!(positive(text).is_ok(), !duration.is_zero());
    assert_eq!(parse(&show(duration)), Ok(duration));
}
