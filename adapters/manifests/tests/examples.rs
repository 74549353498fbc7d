//! What `examples/` shows is what is accepted.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_core::catalog::Selector;
use holdfast_manifests::load;

fn examples() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = fs::read_dir(&root)
        .expect("examples/")
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

#[test]
fn every_example_loads_and_its_actors_find_workers_and_sandbox_files() {
    let examples = examples();
    assert!(!examples.is_empty(), "there are no examples");
    for directory in examples {
        let manifests = load(&directory).unwrap_or_else(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", errors.join("\n"));
        });
        let mut templates = 0;
        for template in manifests.catalog.templates() {
            templates += 1;
            let pools = manifests.catalog.eligible(template, &Selector::default());
            assert!(
                !pools.is_empty(),
                "{}: no pool for {}",
                directory.display(),
                template.name
            );
            for pool in &pools {
                if let Err(error) = manifests.catalog.assets(pool) {
                    panic!("{}: {error}", directory.display());
                }
            }
        }
        assert!(templates > 0, "{}: no template", directory.display());
    }
}
