//! Where a server listens and a client dials: flags, and what nodes say of themselves.

use holdfast_runtime::net::Address;

use crate::feed::text;

/// What is accepted is shown so that it is accepted again, and means the same.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(address) = text.parse::<Address>() else {
        return;
    };
    assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
}
