//! Names and identities, as the core checks them for everybody.

use holdfast_core::catalog::Selector;
use holdfast_core::id::{LeaseToken, OpId};
use holdfast_core::name::{check_actor_id, check_atespace, check_selector, is_dns_label, is_dns_subdomain};

use crate::feed::text;

/// A name that passes is a path component and a part of a store key that means only itself, and an
/// identity has one spelling.
pub fn run(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let passes = [
        check_actor_id(text).is_ok(),
        check_atespace(text).is_ok(),
        is_dns_label(text),
        is_dns_subdomain(text),
    ];
    if passes.contains(&true) {
        assert!(!text.is_empty() && text.len() <= 253 && !text.contains(['/', ':', '\0', '{', '}']));
        assert!(!text.starts_with('.') && !text.contains(".."));
        assert!(is_dns_subdomain(text), "labels are subdomains");
    }
    if let Ok(op) = text.parse::<OpId>() {
        assert_eq!(op.to_string().parse(), Ok(op));
    }
    if let Ok(token) = text.parse::<LeaseToken>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    let labels = text.split('\n').filter_map(|line| line.split_once('='));
    // Either answer is fine; it is the scan that must hold.
    let _ = check_selector(&Selector {
        match_labels: labels.map(|(key, value)| (key.into(), value.into())).collect(),
    });
}
