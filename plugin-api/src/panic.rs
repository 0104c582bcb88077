//! Catches a plugin's panics on its side of the boundary, and logs them with message and place.
//!
//! Each library has its own std and therefore its own panic hook, so the host's hook never sees a plugin's panic. The
//! hook here stores the text in a thread-local for the code that catches the panic, and logs it for the daemon. A daemon
//! that is part of a program shares the program's hook. Panics outside of a daemon's code then go to the hook before.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::log;

thread_local! {
    /// The text of this thread's last panic, until the catching code takes it.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs the hook, once for each library.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match log::is_program() {
            true => before(info),
            false => told(info),
        }));
    });
}

fn told(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    let place = info.location();
    let place = place.map(|place| format!(" at {}:{}", place.file(), place.line()));
    let text = format!(
        "panicked{}: {message}{}",
        place.unwrap_or_default(),
        hint(message, cfg!(feature = "tokio"))
    );
    log::error("panic", &text);
    // A thread that is being destroyed may have lost its thread-local. Then nothing would read the text.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(text);
        }
    });
}

/// Returns what to do about a panic whose own text doesn't say it, to be appended to that text.
///
/// Code that needs tokio panics outside of a runtime. An author can't know from tokio's text that this crate has one.
fn hint(message: &str, has_runtime: bool) -> &'static str {
    let lacks_runtime = message.contains("there is no reactor running")
        || message.contains("must be called from the context of a Tokio 1.x runtime");
    match (lacks_runtime, has_runtime) {
        (false, _) => "",
        (true, false) => {
            "; the feature `tokio` of dae-plugin-api gives the daemon a runtime: \
             in Cargo.toml, add features = [\"tokio\"] to dae-plugin-api"
        }
        (true, true) => {
            "; this thread isn't one that the host or tokio runs the daemon on: \
             keep tokio::runtime::Handle::current() from such a thread, and enter it here"
        }
    }
}

/// Runs `code` and catches its panic.
///
/// # Errors
/// The code panicked; the error is the message and the place in one line.
#[inline]
pub fn caught<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(text_of)
}

#[cold]
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = LAST.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take()));
    // A payload may panic in its own Drop. The payload of that second panic is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text.ok().flatten().unwrap_or_else(|| "panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_for_want_of_tokio_names_the_feature() {
        // The texts of tokio 1.
        let reactor =
            "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
        let blocking =
            "there is no reactor running, must be called from the context of Tokio runtime";
        for message in [reactor, blocking] {
            let without = hint(message, false);
            assert!(without.contains("features = [\"tokio\"]"), "{without}");
            let with = hint(message, true);
            assert!(with.contains("Handle::current()"), "{with}");
        }
        assert_eq!(hint("index out of bounds", false), "");
    }
}
