//! The logins in a Docker `config.json`.

use holdfast_images::Credentials;

/// A file is read or refused; the refusal names the file and no password.
pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.json");
    std::fs::write(&path, data).expect("a file");
    let shown = match Credentials::from_docker_config(&path) {
        Ok(logins) => format!("{logins:?}"),
        Err(error) => error.to_string(),
    };
    assert!(!shown.contains("HUNTER2"), "{shown}");
}
