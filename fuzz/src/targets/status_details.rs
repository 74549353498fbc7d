//! The answer of another server: status code, message and details.

use holdfast_core::effect::NodeFailureKind;
use holdfast_rpc::failure::{node_from_status, node_to_status};
use holdfast_rpc::status::{forward, reasons, retry_after};
use tonic::{Code, Status};

use crate::feed::{Feed, text};

/// The first byte is the code, the second the length of the message, the rest is the details. What a
/// failure means survives another hop.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let code = Code::from_i32(i32::from(feed.byte() % 17));
    let length = usize::from(feed.byte());
    let rest = feed.rest();
    let (message, details) = rest.split_at(length.min(rest.len()));
    let message = text(message).unwrap_or("not text");
    let status = Status::with_details(code, message, details.to_vec().into());
    let forwarded = forward(&status);
    assert_eq!(reasons(&forwarded), reasons(&status));
    assert_eq!(retry_after(&forwarded), retry_after(&status));
    if code == Code::Ok {
        return;
    }
    let failure = node_from_status(&status);
    let again = node_from_status(&node_to_status(&failure));
    // A connection that broke further on is an answer here.
    if failure.kind != NodeFailureKind::Unreachable {
        assert_eq!(again.kind, failure.kind);
    }
    // A crash is said in one way only.
    if failure.kind != NodeFailureKind::Crash {
        assert_eq!(again.code, failure.code);
    }
}
