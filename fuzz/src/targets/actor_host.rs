//! The `Host` header of a request to the router.

use holdfast_core::name::{check_actor_id, check_atespace};
use holdfast_router::{DOMAIN, parse_host};

use crate::feed::text;

/// What names an actor names a possible one, and its own host name leads back to it.
pub fn run(data: &[u8]) {
    let Some(host) = text(data) else { return };
    let Ok(key) = parse_host(host) else { return };
    assert!(check_actor_id(key.name.as_str()).is_ok() && check_atespace(key.atespace.as_str()).is_ok());
    let again = format!("{}.{}.{DOMAIN}", key.name, key.atespace);
    assert_eq!(parse_host(&again).as_ref(), Ok(&key));
}
