//! A snapshot's table of contents, as it lies in an object store.

use holdfast_objects::{FileName, LocalName, MAX_FILES, Manifest};

use crate::feed::text;

/// What is read can be worked through, and is written back the same; so are the names in it.
pub fn run(data: &[u8]) {
    if let Some(text) = text(data) {
        for name in [
            text.parse::<LocalName>().map(String::from),
            text.parse::<FileName>().map(String::from),
        ] {
            let Ok(name) = name else { continue };
            assert_eq!(name, text);
            assert!(!name.contains(['/', '\0']) && !name.starts_with('.') && !name.is_empty());
        }
    }
    let Ok(manifest) = Manifest::from_json(data) else {
        return;
    };
    assert!(manifest.check().is_ok() && manifest.snapshot_files.len() <= MAX_FILES);
    let again = Manifest::from_json(&manifest.to_json()).expect("our own manifest");
    assert_eq!(again, manifest);
}
