//! A target under libFuzzer, named by `DAE_FUZZ_TARGET`. It needs no nightly compiler and no cargo subcommand:
//!
//! ```sh
//! passes='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cdebug-assertions
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
//! RUSTFLAGS=$passes cargo build -p dae-fuzz --features libfuzzer --release \
//!   --target x86_64-unknown-linux-gnu --target-dir target/fuzz
//! DAE_FUZZ_TARGET=codec nice target/fuzz/x86_64-unknown-linux-gnu/release/dae-fuzz -max_total_time=600 \
//!   target/fuzz/found tests/fuzz/corpus/codec
//! ```
//!
//! The directory `target/fuzz/found` collects the inputs that were found. The corpus is kept small: an input is added
//! by hand, together with the fix for it.
#![no_main]
#![allow(unsafe_code)]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<dae_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("DAE_FUZZ_TARGET").unwrap_or_default();
    dae_fuzz::target(&name).unwrap_or_else(|| {
        let names = dae_fuzz::TARGETS.map(|(name, _)| name).join(", ");
        panic!("DAE_FUZZ_TARGET={name:?} is none of {names}")
    })
});

fuzz_target!(|bytes: &[u8]| TARGET(bytes));
