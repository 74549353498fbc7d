//! Custom resources, as an API server serves them.

use holdfast_core::catalog::Catalog;
use holdfast_manifests::{Declared, load};
use serde_json::Value;

/// An object is read or refused in one line that has nothing of a secret. One that a directory of manifests would
/// accept means the same when it is served.
pub fn run(data: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let declared = Declared::read(&object);
    if let Err(refused) = &declared {
        let shown = refused.to_string();
        assert!(!shown.is_empty() && !shown.contains('\n'), "{shown}");
        assert!(
            object["kind"] != "Secret" || !shown.contains("HUNTER2"),
            "{shown}"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("one.yaml"), data).expect("a file");
    let Ok(manifests) = load(directory.path()) else {
        return;
    };
    if manifests.catalog != Catalog::new() && object["kind"] != "List" {
        let mut served = Catalog::new();
        match declared.expect("what a directory accepts") {
            Declared::Template(template) => served.add_template(template),
            Declared::Pool(pool) => served.add_pool(pool),
            Declared::SandboxConfig(config) => served.add_sandbox_config(config),
        }
        assert_eq!(served, manifests.catalog);
    }
}
