//! The prefix of a snapshot, as a node call or a template has it.

use holdfast_objects::SnapshotUri;

use crate::feed::text;

/// What is accepted is shown as it came, and names nothing outside of itself.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(uri) = SnapshotUri::parse(text) else {
        return;
    };
    assert_eq!(uri.to_string(), text);
    assert!(!uri.bucket().is_empty() && !uri.bucket().contains('/'));
    assert!(!uri.bucket().starts_with('.'));
    if !uri.path().is_empty() {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        assert!(uri.path().split('/').all(is_plain), "{}", uri.path());
    }
}
