//! Closed connections: data on its way arrives in both directions, and nothing waits for their end.

use dae_tests::{LIMIT, until};
use serde_json::json;

use super::Pair;

#[test]
fn what_was_sent_arrives_though_the_connection_is_closed_at_once() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        pair.a.ask("say_and_close", &json!([pair.other, 900]));
        until(LIMIT, &format!("{label}: all have arrived"), || {
            pair.b.ask("notes", &json!([])) == json!([900, true])
        });
        let host = pair.host_of_b();
        until(LIMIT, &format!("{label}: the guest has gone"), || {
            host.status(&pair.other)["guests"] == 1
        });
    }
}

#[test]
fn what_was_pushed_before_a_reply_is_heard_though_the_connection_is_closed_behind_it() {
    for mut pair in Pair::all() {
        for _ in 0..20 {
            let heard = pair.a.ask("hear_and_close", &json!([pair.other, 100]));
            assert_eq!(heard, 100, "{}", pair.label);
        }
    }
}

#[test]
fn a_host_ends_in_time_whoever_visits_whom() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        pair.a.ask("call", &json!(["A", "echo", 1]));
        pair.a.ask("call", &json!([pair.other, "echo", 1]));
        // A host that waited for the grace would not end within the limit of `stop`.
        pair.here.stop();
    }
}
