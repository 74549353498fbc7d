//! Records, as a store that others write to has them.

use holdfast_core::id::{ActorKey, WorkerKey};
use holdfast_store::record::{
    decode_actor, decode_any_node, decode_any_worker, decode_grave, decode_node, decode_worker,
    decode_worker_key, encode_actor, encode_grave, encode_node, encode_worker,
};

/// What is read is written back the same, whichever record it is; under another key it is refused.
pub fn run(data: &[u8]) {
    let key = ActorKey::new("team-a", "id1");
    if let Ok(actor) = decode_actor(&key, data) {
        assert_eq!(
            decode_actor(&key, encode_actor(&actor).as_bytes()).as_ref(),
            Ok(&actor)
        );
        assert!(decode_actor(&ActorKey::new("team-b", "id1"), data).is_err());
    }
    let note = "team-a:id1:1:1";
    if let Ok(grave) = decode_grave(note, data) {
        assert_eq!(
            decode_grave(note, encode_grave(&grave).as_bytes()).as_ref(),
            Ok(&grave)
        );
        assert!(decode_grave("team-a:id1:1:2", data).is_err());
    }
    if let Ok(worker) = decode_any_worker(data) {
        let written = encode_worker(&worker);
        assert_eq!(
            decode_worker(&worker.key, written.as_bytes()).as_ref(),
            Ok(&worker)
        );
        assert!(decode_worker(&WorkerKey::new("", "other", ""), data).is_err());
        let named = decode_worker_key(written.as_bytes());
        assert!(named.is_ok_and(|named| named.is_none_or(|named| named == worker.key)));
    }
    if let Ok(node) = decode_any_node(data) {
        assert_eq!(
            decode_node(&node.name, encode_node(&node).as_bytes()).as_ref(),
            Ok(&node)
        );
    }
}
