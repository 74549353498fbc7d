//! Fences and identities in the metadata of a node call.

use holdfast_rpc::metadata::Credentials;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

const KEYS: [&str; 8] = [
    "holdfast-actor-fence",
    "holdfast-worker-fence",
    "holdfast-operation-id",
    "holdfast-actor-incarnation",
    "holdfast-atespace",
    "x-other",
    "holdfast-node-session",
    "holdfast-runs-until",
];

/// Each line is one value; its first byte says of which key. What is read is written back the same.
pub fn run(data: &[u8]) {
    let mut metadata = MetadataMap::new();
    for line in data.split(|byte| *byte == b'\n').take(64) {
        let Some((key, value)) = line.split_first() else {
            continue;
        };
        if let Ok(value) = AsciiMetadataValue::try_from(value) {
            metadata.append(KEYS[usize::from(*key) % KEYS.len()], value);
        }
    }
    let Ok(credentials) = Credentials::read(&metadata) else {
        return;
    };
    let mut written = MetadataMap::new();
    credentials
        .write(&mut written)
        .expect("what was read can be written");
    assert_eq!(
        Credentials::read(&written).expect("what was written"),
        credentials
    );
}
