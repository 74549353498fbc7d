//! A node's report, as another machine sends it.

use holdfast_rpc::holdfast_v1::HeartbeatRequest;
use holdfast_rpc::report::{from_message, to_message};
use prost::Message;

/// What is accepted is written back the same.
pub fn run(data: &[u8]) {
    let Ok(message) = HeartbeatRequest::decode(data) else {
        return;
    };
    let Ok(report) = from_message(message) else {
        return;
    };
    let again = from_message(to_message(&report, Vec::new())).expect("our own message");
    assert_eq!(again, report);
}
