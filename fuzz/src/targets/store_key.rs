//! Keys of the store, as a server lists them.

use holdfast_store::key;

use crate::feed::text;

/// A key that is read is the key of what was read.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(actor) = key::parse_actor(text) {
        assert_eq!(key::actor(&actor), text);
    }
    if let Some(worker) = key::parse_worker(text) {
        assert_eq!(key::worker(&worker), text);
    }
    if let Some((actor, incarnation, version)) = key::parse_grave(text) {
        assert_eq!(key::grave(&actor, incarnation, version), text);
    }
    if let Some(name) = key::parse_atespace(text) {
        assert_eq!(key::atespace(&name), text);
    }
    if let Some(name) = key::parse_node(text) {
        assert_eq!(key::node(&name), text);
    }
}
