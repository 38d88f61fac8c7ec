//! Calls of other people's parsers on files of unknown origin. They return errors for most of what
//! is wrong with a file, and panic at the rest.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` returns, or a sentence: its error, or that it panicked. `work` must only make
/// something new or read, since what it was changing would be left half-changed.
pub(crate) fn call<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("its reader gave up: {}", message_of(&*panic))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        _ => "without a word",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn errors_and_panics_become_sentences() {
        assert_eq!(call(|| Ok::<_, String>(5)), Ok(5));
        assert_eq!(call(|| Err::<(), _>("torn")), Err("torn".to_owned()));
        let number: usize = "0".parse().unwrap();
        let said = call(|| Ok::<_, String>(1 / number)).unwrap_err();
        assert_eq!(said, "its reader gave up: attempt to divide by zero");
    }
}
