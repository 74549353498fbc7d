//! Errors as people are to read them.

use std::error::Error;

/// An error and what it came of, in one line, each cause told once.
///
/// Most errors here tell their cause themselves, because they end up as the message of a status or the
/// field of a log, where nobody follows the chain; most contexts, and the errors of many other crates,
/// do not. A program that ends with an error has both kinds in one chain, so it adds what has not been
/// said.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_told = cause.to_string();
        if !told.contains(&cause_told) {
            told += ": ";
            told += &cause_told;
        }
        next = cause.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    enum Chained {
        #[error("cannot listen: {0}")]
        Says(#[source] io::Error),
        #[error("the node failed")]
        KeepsQuiet(#[source] Box<Chained>),
    }

    #[test]
    fn every_cause_is_told_once_whether_its_error_tells_it_or_not() {
        let taken = || io::Error::other("address in use");
        let says = Chained::Says(taken());
        assert_eq!(told(&says), "cannot listen: address in use");
        let quiet = Chained::KeepsQuiet(Box::new(says));
        assert_eq!(told(&quiet), "the node failed: cannot listen: address in use");
        assert_eq!(told(&taken()), "address in use");
    }
}
