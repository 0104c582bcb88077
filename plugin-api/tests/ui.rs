//! Tests of the compiler's output for authors: signatures that a daemon may have, and the errors for others.
//!
//! Each program of `ui/pass` compiles and runs; its `main` checks the manifest that the macro wrote. Each program of
//! `ui/fail` is refused with exactly the text in the file beside it. The text points at the signature and says what is
//! allowed there. A crate has one daemon, so every case is a program of its own.
//!
//! After an intended change, run `TRYBUILD=overwrite cargo test -p dae-plugin-api --features client --test ui` and read the difference.

/// The compiler whose messages are in the expected texts. Another compiler may word its own part differently.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn signatures_of_all_kinds_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

#[test]
fn a_wrong_signature_is_shown_where_it_stands() {
    let ours = dae_plugin_api::RUSTC;
    if !ours.starts_with(WORDED_BY) {
        eprintln!("SKIPPED: the texts are those of {WORDED_BY}x, and this is {ours}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
