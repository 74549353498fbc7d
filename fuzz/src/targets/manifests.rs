//! Manifests: YAML of operators.

use holdfast_manifests::load;

/// A directory is read or refused. Each fault stands on one line and names the file, a place that the
/// file has, and no value of a secret.
pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("all.yaml");
    std::fs::write(&file, data).expect("a file");
    let manifests = match load(directory.path()) {
        Ok(manifests) => manifests,
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 2;
            for error in errors {
                let shown = error.to_string();
                // Elsewhere keys are shown, so that one can find them; what stands behind them is not.
                let is_secret = matches!(error.object.split(' ').next(), Some("Secret" | ""));
                let told = match is_secret {
                    true => shown.clone(),
                    false => format!("{:?} {}", error.value, error.fault),
                };
                assert!(!told.contains("HUNTER2"), "{shown}");
                assert!(!shown.contains('\n'), "{shown}");
                assert_eq!(error.place.file, file);
                if let Some(position) = error.place.position {
                    assert!(
                        (1..=lines).contains(&position.line) && position.column >= 1,
                        "{shown}"
                    );
                }
            }
            return;
        }
    };
    let again = load(directory.path()).expect("the same file");
    assert_eq!(manifests.catalog, again.catalog);
    assert_eq!(manifests.pools, again.pools);
    assert!(!format!("{manifests:?}").contains("HUNTER2"));
}
