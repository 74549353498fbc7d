//! Image references, as templates have them.

use holdfast_images::{LocalhostReplacement, Location, Reference};

use crate::feed::text;

/// What is accepted is shown so that it is accepted again, and no part of it leads out of a registry.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let _ = text.parse::<LocalhostReplacement>();
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
    assert_eq!(reference.is_pinned(), reference.digest().is_some());
    if let Location::Registry { host, repository } = reference.location() {
        assert!(!host.contains(['/', '@', '?', '#', ' ']), "{host}");
        assert!(
            repository.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "{repository}"
        );
    }
}
