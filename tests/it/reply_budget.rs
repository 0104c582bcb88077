//! Replies of many sizes, one after the other and side by side: each is sent, in its order, whatever the reply budget
//! makes wait.

use dae_tests::Ecosystem;
use serde_json::json;

/// Flags of `install` for each mode.
const MODES: [&[&str]; 2] = [&[], &["--isolate"]];

/// A reply that counts as a bulk (bytes).
const BULK: usize = 9 << 20;

#[test]
fn one_reply_after_the_other_never_uses_the_budget_up() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("M", "misbehave", flags);
        for command in ["give_later", "give_slowly", "give"] {
            // In all, more than a guest may have waiting.
            for _ in 0..70 {
                let reply = guest.ask(command, &json!([20_000]));
                assert!(!reply.is_null(), "{command}");
            }
        }
    }
}

#[test]
fn small_replies_stay_behind_a_large_one_before_them() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("M", "misbehave", flags);
        for _ in 0..5 {
            guest.send("give [600000]\n".to_owned() + &"echo [1]\n".repeat(20));
            let large = guest.line();
            assert!(large.starts_with("give [") && large.len() > 600_000);
            for _ in 0..20 {
                assert_eq!(guest.line(), "echo [1]", "{flags:?}");
            }
        }
    }
}

#[test]
fn a_reply_that_held_ones_wait_for_is_made_however_much_they_are() {
    for flags in MODES {
        let ecosystem = Ecosystem::start();
        let mut guest = ecosystem.install("M", "misbehave", flags);
        // The first run of a command is a case of its own.
        let _ = (
            guest.ask("give_later", &json!([1])),
            guest.ask("give", &json!([1])),
        );
        for _ in 0..2 {
            guest.send(format!("give_later [5]\ngive [{BULK}]\n"));
            let first = guest.line();
            assert!(first.starts_with("give_later ["), "{flags:?}: {first}");
            assert!(guest.line().len() > BULK, "{flags:?}");
        }
    }
}

#[test]
fn what_was_set_aside_goes_on_without_a_push() {
    let config = json!({"defaults": {"health_ms": 0}});
    let ecosystem = Ecosystem::start_configured(&config);
    let mut guest = ecosystem.install("P", "peer", &["--isolate"]);
    for _ in 0..20 {
        guest.send("note [12345678901234567890]\n".repeat(1_000));
        for _ in 0..1_000 {
            let _ = guest.line();
        }
    }
    let _ = (
        guest.ask("heard", &json!([])),
        guest.ask("block", &json!([1])),
    );
    for _ in 0..2 {
        guest.send("heard []\n".repeat(3) + &"block [20]\n".repeat(10));
        // Without a health check nothing else would let them go on.
        for _ in 0..13 {
            let _ = guest.line();
        }
    }
}
