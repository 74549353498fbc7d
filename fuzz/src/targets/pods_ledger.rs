//! The ledger of the workers that `ate dev` keeps running.

/// It is read or refused.
pub fn run(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("pods.json"), data).expect("a file");
    let _ = holdfast_pods::worker_pids(directory.path());
}
