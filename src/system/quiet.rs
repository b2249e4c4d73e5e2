//! Runs library code that may panic on odd input.
//!
//! Input: a closure. Output: its result, or nothing when it panicked. A panic's message may hold the user's text, so a
//! panic caught here prints none; all others are reported as before.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The closure's result, or `None` when it panicked.
///
/// After a panic, whatever the closure changed may be half changed: throw it away.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = take_hook();
        set_hook(Box::new(move |panic| {
            // A thread that is ending no longer has this value; its panics are reported.
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                told(panic);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const CHILD: &str = "system::quiet::tests::child_that_panics";

    #[test]
    #[ignore = "run by the next test, in a process of its own"]
    fn child_that_panics() {
        assert_eq!(quietly(|| panic!("a secret")), None::<()>);
        assert_eq!(quietly(|| quietly(|| 1)), Some(Some(1)));
        assert!(catch_unwind(|| panic!("no secret")).is_err());
    }

    #[test]
    fn a_caught_panic_is_silent_and_others_are_reported() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let done = child.args(["--ignored", "--exact", "--nocapture", CHILD]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(said.contains("no secret") && !said.contains("a secret"), "{said}");
    }
}
