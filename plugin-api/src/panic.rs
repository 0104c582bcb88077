//! Catches a plugin's panics on its side of the boundary, and logs them with message and place.
//!
//! Each library has its own std and therefore its own panic hook, so the host's hook never sees a plugin's panic. The
//! hook here stores the text in a thread-local for the code that catches the panic, and logs it for the daemon.

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
    ONCE.call_once(|| std::panic::set_hook(Box::new(told)));
}

fn told(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    let text = match info.location() {
        Some(place) => format!("panicked at {}:{}: {message}", place.file(), place.line()),
        None => format!("panicked: {message}"),
    };
    log::error("panic", &text);
    // A thread that is being destroyed may have lost its thread-local. Then nothing would read the text.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(text);
        }
    });
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
