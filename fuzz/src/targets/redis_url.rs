//! Where the Redis server is, as a flag has it.

use holdfast_store::redis::Url;

use crate::feed::text;

/// What is shown has no password, and is accepted again.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Url>() {
        Ok(url) => {
            let shown = url.to_string();
            assert!(!shown.contains('@') && !shown.contains("HUNTER2"), "{shown}");
            let again: Url = shown.parse().expect("what is shown");
            assert_eq!(again.to_string(), shown);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
