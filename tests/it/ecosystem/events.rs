//! Events over a connection: heard, refused, and questions to the side that connected.

use dae_tests::{LIMIT, until};
use serde_json::json;

use super::{Pair, heard};

#[test]
fn what_the_other_side_pushes_is_heard_in_order() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("listen", &json!([number, "tick"]));
        pair.a.ask("listen", &json!([number, "tock"]));
        for n in 0..3 {
            pair.a.ask("ask", &json!([number, "tell_me", "tick", n]));
            pair.a
                .ask("ask", &json!([number, "tell_me", "tock", n, "x"]));
            pair.a.ask("ask", &json!([number, "tell_me", "other", n]));
        }
        pair.until_a_heard(&[
            "tick [0]",
            "tock [0,\"x\"]",
            "tick [1]",
            "tock [1,\"x\"]",
            "tick [2]",
            "tock [2,\"x\"]",
        ]);
    }
}

#[test]
fn an_event_is_a_command_to_the_other_side_and_its_reply_is_no_event() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        for n in 0..3 {
            pair.a.ask("say", &json!([number, "note", n]));
        }
        until(LIMIT, &format!("{label}: the notes are taken"), || {
            pair.b.ask("notes", &json!([])) == json!([3, true])
        });
        assert_eq!(heard(&mut pair.a), Vec::<String>::new(), "{label}");
    }
}

#[test]
fn an_event_that_is_refused_is_told_as_one() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        pair.a.ask("say", &json!([number, "nothing_like_that"]));
        until(LIMIT, &format!("{label}: the refusal is heard"), || {
            heard(&mut pair.a).first().is_some_and(|event| {
                event.starts_with("error ") && event.contains("unknown-command")
            })
        });
    }
}

#[test]
fn who_has_come_can_be_asked_who_it_is() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        let credential = pair.a.ask("ask", &json!([number, "ask_me", "dae"]));
        assert_eq!(credential["name"], "A", "{}", pair.label);
        let options = pair.a.ask("ask", &json!([number, "ask_me", "options"]));
        assert_eq!(options["say"], 3, "{}", pair.label);
    }
}

#[test]
fn a_question_is_answered_by_an_event_of_its_name() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("answer_questions", &json!([number]));
        for n in 0..3 {
            let reply = pair.a.ask("ask", &json!([number, "ask_me", "question", n]));
            assert_eq!(reply, format!("to [{n}]"), "{}", pair.label);
        }
    }
}

#[test]
fn a_line_that_is_no_command_is_an_event_to_who_listens() {
    for mut pair in Pair::all() {
        let number = pair.connect();
        pair.a.ask("ask", &json!([number, "hear_me", "gossip"]));
        pair.a.ask("say", &json!([number, "gossip", "psst", 1]));
        super::until_heard(&mut pair.b, &["gossip [\"psst\",1]"], &pair.label);
    }
}

#[test]
fn a_closed_connection_is_closed_on_both_sides() {
    for mut pair in Pair::all() {
        let label = pair.label.clone();
        let number = pair.connect();
        pair.a.ask("follow", &json!([number]));
        pair.a.ask("close", &json!([number]));
        pair.until_a_heard(&["end"]);
        assert!(pair.a.try_ask("ask", &json!([number, "echo", 1])).is_err());
        let host = pair.host_of_b();
        until(LIMIT, &format!("{label}: the other side is told"), || {
            host.status(&pair.other)["guests"] == 1
        });
    }
}
