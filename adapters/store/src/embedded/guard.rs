//! Where a panic of redb becomes an error.
//!
//! redb trusts its file: it panics on some pages that are not what it wrote. A damaged file is no defect of
//! this process, so it must neither end it nor tell people about lines of code.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives, or the text of the panic that ended it, which is printed nowhere. What it has borrowed
/// must be fit for use, or not used again, wherever a panic may have left it.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                print(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.map_err(|panic| text(&*panic))
}

fn text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a page is not what was written".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_text_and_what_does_not_panic_is_given_back() {
        assert_eq!(guarded(|| 3), Ok(3));
        let number = 7;
        assert_eq!(
            guarded(|| panic!("page {number}")),
            Err::<(), _>("page 7".to_owned())
        );
        assert_eq!(guarded(|| panic!("torn")), Err::<(), _>("torn".to_owned()));
    }
}
