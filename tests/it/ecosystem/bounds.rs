//! Floods between daemons: bounded, answered, and nobody else's trouble.

use dae_tests::{LIMIT, until};
use serde_json::json;

use super::{Pair, heard};

#[test]
fn a_flood_of_calls_is_answered_every_one() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let ends = pair.a.ask("flood", &json!([pair.other, 3000, 50]));
        let count = |end: &str| ends[end].as_u64().unwrap_or(0);
        assert_eq!(
            count("answered") + count("unavailable"),
            3000,
            "{label}: {ends}"
        );
        assert!(count("answered") >= 1000, "{label}: {ends}");
        assert_eq!(
            pair.a.ask("call", &json!([pair.other, "echo", 1])),
            1,
            "{label}"
        );
    }
}

#[test]
fn one_who_does_not_read_what_is_pushed_to_it_is_let_go() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        // 64 MiB, and nobody of A's takes them as quickly as they come.
        pair.a.send(format!("ask [{number},\"pour\",65536,1024]\n"));
        let _ = pair.a.message();
        until(LIMIT, &format!("{label}: both go on"), || {
            pair.a.try_ask("call", &json!([pair.other, "echo", 1])) == Ok(json!(1))
        });
        assert!(heard(&mut pair.a).len() <= 65536 + 3, "{label}");
    }
}
