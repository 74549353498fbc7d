//! A machine that panics is a bug of ours, and an outcome of a run like any other: it is told with its place,
//! and ends neither the process nor the thousand runs beside it.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Whether a run is being played on this thread.
    static IS_PLAYING: Cell<bool> = const { Cell::new(false) };
    /// What was said by the panic that ended it.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does it; the error says where it panicked, and why. Nothing is printed, unless somebody else panics.
pub(crate) fn caught(play: impl FnOnce()) -> Result<(), String> {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if IS_PLAYING.get() {
                SAID.set(panicked.to_string().replace('\n', " "));
            } else {
                usual(panicked);
            }
        }));
    });
    IS_PLAYING.set(true);
    let played = panic::catch_unwind(AssertUnwindSafe(play));
    IS_PLAYING.set(false);
    played.map_err(|_| SAID.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_one_line_with_its_place_and_the_next_one_by_itself() {
        assert_eq!(caught(|| {}), Ok(()));
        for what in ["first\nof all", "second"] {
            let told = caught(|| panic!("{what}")).unwrap_err();
            assert!(told.starts_with("panicked at "), "{told}");
            assert!(told.contains("caught.rs:"), "{told}");
            assert!(told.ends_with(&what.replace('\n', " ")), "{told}");
        }
        assert!(!IS_PLAYING.get());
    }
}
