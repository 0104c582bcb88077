//! A guest that has not asked for parts gets one whole reply, as from any command.

use serde_json::json;

use super::{both, line};

#[test]
fn a_guest_of_version_1_gets_the_items_in_one_reply() {
    both(|_, _, mut guest| {
        for (sent, expected) in [
            ("count 3", "count [[1,2,3]]"),
            ("count#7 [3, 1]", "count#7 [[1,2,3]]"),
            ("count 0", "count [[]]"),
            ("fallible [2, 9]", "fallible [[1,2]]"),
            ("nulls 2", "nulls [[null,null]]"),
            ("repeat ['a\\n', 2]", r#"repeat [["a\n","a\n"]]"#),
            // Its reports are no part of its result.
            ("work 3", "work [30]"),
        ] {
            assert_eq!(line(&mut guest, sent), expected, "{sent}");
        }
        for (command, arguments, code, text) in [
            ("fallible", json!([0, 9]), "failed", "count to 1 at least"),
            ("fallible", json!([5, 2]), "failed", "no item 3"),
            ("panic_behind", json!([2]), "crashed", "no item 3"),
            ("count", json!(["x"]), "bad-arguments", "integer"),
        ] {
            let fault = guest.try_ask(command, &arguments).unwrap_err();
            assert_eq!(fault.code, code, "{fault:?}");
            assert!(fault.message.contains(text), "{fault:?}");
        }
    });
}

#[test]
fn untagged_replies_keep_their_order_around_a_stream() {
    both(|_, _, mut guest| {
        guest.send("count [3, 5]\nmade\ncount 1\n");
        assert_eq!(guest.line(), "count [[1,2,3]]");
        assert!(guest.line().starts_with("made ["));
        assert_eq!(guest.line(), "count [[1]]");
    });
}

#[test]
fn what_one_reply_collects_is_bounded_and_the_error_names_the_way_out() {
    both(|_, _, mut guest| {
        let fault = guest.try_ask("endless", &json!([])).unwrap_err();
        assert_eq!(fault.code, "failed");
        assert!(fault.message.contains("1047552 bytes"), "{fault:?}");
        assert!(fault.message.contains("in parts"), "{fault:?}");
        assert_eq!(guest.ask("dropped", &json!([])), 1);
    });
}

#[test]
fn another_daemon_gets_the_items_in_one_reply() {
    both(|ecosystem, name, mut guest| {
        assert_eq!(guest.ask("sum_of", &json!([name, 4])), 10);
        let _other = ecosystem.install(&format!("{name}-2"), "parts", &[]);
        let other = format!("{name}-2");
        assert_eq!(guest.ask("sum_of", &json!([other, 5])), 15);
        let help = guest.ask("help", &json!([]));
        assert_eq!(help["count"]["parts"], "items");
        assert_eq!(help["work"]["parts"], "progress");
        assert!(help["made"].get("parts").is_none());
        // The schema of the result is that of the whole reply.
        let items = json!({"type": "integer", "minimum": 0, "maximum": u64::MAX});
        for command in ["count", "fallible"] {
            let result = &help[command]["schema"]["result"];
            assert_eq!(result["type"], "array", "{command}: {result}");
            assert_eq!(result["items"], items, "{command}: {result}");
        }
        assert_eq!(help["work"]["schema"]["result"], items);
    });
}
