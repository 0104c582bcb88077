//! All that the commands print, compared with stored texts: a transcript of each command over daemons in every state,
//! and the screens of those that draw on a terminal.
//!
//! A stored text is for reading: it shows the operator's view of a change. After a wanted change, run the theme with
//! `INSTA_UPDATE=always`, and read the difference before you commit it.

mod changing;
mod cover;
mod endless;
mod neutral;
mod reading;
mod scene;
mod screens;
mod transcript;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Compares a text with the stored one of that name. Returns the name if they differ.
fn differs(name: &str, text: &str) -> Option<String> {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("shown/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let compare = || settings.bind(|| insta::assert_snapshot!(name, text));
    let compared = catch_unwind(AssertUnwindSafe(compare));
    compared.err().map(|_| name.to_owned())
}
