//! A test that the host allocates no memory for a plain command.
//!
//! This test has the host in its own process, under an allocator that counts. A plugin's library has its own allocator,
//! so only the host's allocations are counted. Background work of the host (clocks, checks for blocked handlers) may
//! allocate at any time. A command that allocates would do so in every round, so a single round without allocations is
//! sufficient proof.

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use dae_host::Dae;
use dae_tests::Artefacts;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The number of commands in flight.
const BATCH: usize = 64;
/// The batches in one round: enough to catch an allocation that happens only once in many commands.
const BATCHES: usize = 100;
/// The number of rounds, one of which must be without allocations. The first rounds make one-time allocations.
const ROUNDS_MAX: usize = 50;

/// Returns the number of allocations while one round of a command is answered.
fn round(guest: &mut TcpStream, (command, reply): (&str, &str)) -> usize {
    let commands = command.repeat(BATCH);
    let expected = reply.repeat(BATCH);
    let mut replies = vec![0; expected.len()];
    let region = Region::new(COUNTED);
    for _ in 0..BATCHES {
        guest.write_all(commands.as_bytes()).unwrap();
        guest.read_exact(&mut replies).unwrap();
        assert_eq!(replies, expected.as_bytes());
    }
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn a_plain_command_allocates_nothing_in_the_host() {
    let home = tempfile::tempdir().unwrap();
    let plugin = Artefacts::of_tests().plugin("vectors");
    std::fs::write(
        home.path().join("config.json5"),
        "{defaults:{preflight:false}}",
    )
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dae = runtime
        .block_on(Dae::builder().home(home.path()).start())
        .unwrap();
    let vectors = runtime.block_on(dae.install("Vectors", plugin)).unwrap();
    let mut guest = TcpStream::connect(("127.0.0.1", vectors.port.unwrap())).unwrap();
    guest.set_nodelay(true).unwrap();
    for plain in [
        ("nothing\n", "nothing []\n"),
        ("add [1,2]\n", "add [3]\n"),
        ("add#7 [1,2]\r\n", "add#7 [3]\n"),
        ("ready [1]\n", "ready [1]\n"),
        (
            "echo [\"12345678901234567890\"]\n",
            "echo [\"12345678901234567890\"]\n",
        ),
    ] {
        let is_without = (0..ROUNDS_MAX).any(|_| round(&mut guest, plain) == 0);
        assert!(is_without, "{plain:?}");
    }
    // This proves that the counter works: the message of this error is built anew each time.
    let unknown = (
        "x\n",
        "error [{\"command\":\"x\",\"code\":\"unknown-command\",\"message\":\"there is no command x; `options` lists all\"}]\n",
    );
    assert!(round(&mut guest, unknown) >= BATCH * BATCHES);
    runtime.block_on(dae.shutdown(Duration::from_secs(5)));
}
