//! What the compiler says to an author: signatures that are a daemon's, and the errors for those that are not.
//!
//! Each program of `ui/pass` compiles and runs; its `main` checks the manifest that the macro wrote. Each of `ui/fail`
//! is refused with exactly the text beside it, which points at the signature and says what is allowed there. A crate
//! has one daemon, so every case is a program of its own.
//!
//! After a wanted change: `TRYBUILD=overwrite cargo test -p dae-plugin-api --test ui`, then read the difference.

/// The compiler whose words are beside the cases. Another one may word its own part differently.
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
