//! A hint for a daemon that holds something which can be had only once, and doesn't say so.
//!
//! During a reload the old and the new instance exist side by side for a moment. The new one then fails at the port or
//! the locked file that the old one still holds. Only a text crosses the boundary to a plugin, so this is a guess by
//! words. Nothing but the hint depends on it.

/// Adds the hint to the reason why a new instance failed beside or right after the old one, unless its daemon is
/// exclusive already.
pub(super) fn with_hint(cause: String, is_exclusive: bool) -> String {
    match !is_exclusive && speaks_of_exclusive_use(&cause) {
        true => format!(
            "{cause}; if the instance before it still held this, #[daemon(exclusive)] cures it: \
             the old instance then ends before the new one starts"
        ),
        false => cause,
    }
}

/// Parts of the texts that Rust and the system have for such errors.
const PHRASES: [&str; 5] = [
    "address already in use",
    "address in use",
    "addrinuse",
    "resource temporarily unavailable",
    "would block",
];

/// Words that authors and libraries use for such errors.
const WORDS: [&str; 3] = ["lock", "locked", "busy"];

fn speaks_of_exclusive_use(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    PHRASES.iter().any(|phrase| lower.contains(phrase)) || words.any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn errors_of_things_that_only_one_can_have_get_the_hint() {
        let in_use = Error::from(ErrorKind::AddrInUse);
        let held = Error::from(ErrorKind::WouldBlock);
        for (cause, is_hinted) in [
            (
                "bind: Address already in use (os error 98)".to_owned(),
                true,
            ),
            (format!("its `run` failed: {in_use}"), true),
            (format!("panicked at src/lib.rs:3: {in_use:?}"), true),
            (format!("the journal: {held}"), true),
            ("database is locked".to_owned(), true),
            ("Device or resource busy (os error 16)".to_owned(), true),
            ("it is blocked".to_owned(), false),
            ("the address is wrong".to_owned(), false),
        ] {
            let hinted = with_hint(cause.clone(), false);
            assert_eq!(
                hinted.contains("#[daemon(exclusive)]"),
                is_hinted,
                "{cause}"
            );
            assert_eq!(with_hint(cause.clone(), true), cause, "it says so already");
        }
    }
}
