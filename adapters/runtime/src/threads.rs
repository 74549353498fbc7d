//! How many threads a server runs on.

use std::num::NonZero;
use std::thread::available_parallelism;

/// Half of the processors that this process may use, and at least one.
///
/// A machine is one task, and every call passes through it: what runs beside it (HTTP/2, records, TLS) keeps some more
/// threads busy, and a thread that only ever waits for the others is woken for each call and put to sleep again,
/// which costs more than it does. The kernel's share, and that of a store on the same host, are on the
/// other processors (decision 022).
pub fn for_a_server() -> usize {
    half(available_parallelism().map_or(1, NonZero::get))
}

fn half(processors: usize) -> usize {
    (processors / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leaves_half_of_the_processors_to_others_and_has_one_at_least() {
        let threads = [1, 2, 3, 4, 8, 64].map(half);
        assert_eq!(threads, [1, 1, 1, 2, 4, 32]);
        assert!(for_a_server() >= 1);
    }
}
