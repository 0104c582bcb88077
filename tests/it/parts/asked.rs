//! A guest that has asked for parts gets each item as a line of its own.

use dae_tests::{LIMIT, until};
use serde_json::json;

use super::{ASKS, both, line, part};

/// The most bytes of an item.
const ITEM_BYTES_MAX: usize = (1 << 20) - (1 << 10);

#[test]
fn a_guest_that_asks_gets_each_item_in_front_of_the_reply() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        guest.send("count#7 3\n");
        for item in 1..=3 {
            assert_eq!(guest.line(), part("7", "count", item));
        }
        assert_eq!(guest.line(), "count#7 []");
        guest.send("work#w 2\n");
        for done in 1..=2 {
            let report = format!(
                r#"part#w [{{"command":"work","item":{{"done":{done},"of":2}},"progress":true}}]"#
            );
            assert_eq!(guest.line(), report);
        }
        assert_eq!(guest.line(), "work#w [20]");
        assert_eq!(line(&mut guest, "count#8 0"), "count#8 []");
        guest.send("nulls#n 1\n");
        assert_eq!(guest.line(), part("n", "nulls", "null"));
        assert_eq!(guest.line(), "nulls#n []");
    });
}

#[test]
fn only_a_tag_ties_a_part_to_its_command() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        assert_eq!(line(&mut guest, "count 2"), "count [[1,2]]");
        assert_eq!(line(&mut guest, "work 2"), "work [20]");
    });
}

#[test]
fn it_may_ask_in_json5_ask_late_and_ask_for_no_more() {
    both(|_, _, mut guest| {
        assert_eq!(line(&mut guest, "count#1 1"), "count#1 [[1]]");
        guest.send("dae {parts: true,}\n");
        assert_eq!(line(&mut guest, "count#2 1"), part("2", "count", 1));
        assert_eq!(guest.line(), "count#2 []");
        guest.send("dae {\"parts\":false}\n");
        assert_eq!(line(&mut guest, "count#3 1"), "count#3 [[1]]");
        // A credential is the late reply to a call, whatever its members are.
        guest.send("dae [{\"name\":\"X\",\"pid\":1,\"port\":1,\"parts\":true}]\n");
        assert_eq!(line(&mut guest, "count#4 1"), "count#4 [[1]]");
    });
}

#[test]
fn each_part_comes_as_soon_as_it_is_made() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        // The pause behind the first item is longer than the test waits.
        guest.send("count#a [2, 30]\ncount#b 1\n");
        let mut lines: Vec<String> = (0..5).map(|_| guest.line()).collect();
        assert_eq!(lines.remove(0), part("b", "count", 1), "it overtakes");
        assert_eq!(lines.remove(0), "count#b []");
        let expected = [part("a", "count", 1), part("a", "count", 2)];
        assert_eq!(lines[..2], expected);
        assert_eq!(lines[2], "count#a []");
    });
}

#[test]
fn an_error_ends_the_parts_in_the_place_of_the_reply() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        guest.send("fallible#7 [5, 2]\n");
        assert_eq!(guest.line(), part("7", "fallible", 1));
        assert_eq!(guest.line(), part("7", "fallible", 2));
        let error = guest.message();
        assert_eq!(
            (error.name.as_str(), error.tag.as_deref()),
            ("error", Some("7"))
        );
        assert_eq!(error.arguments[0]["message"], "no item 3");
        guest.send("panic_behind#8 1\n");
        assert_eq!(guest.line(), part("8", "panic_behind", 1));
        assert_eq!(guest.message().arguments[0]["code"], "crashed");
        guest.send("fallible#9 [0, 2]\n");
        assert_eq!(
            guest.message().arguments[0]["message"],
            "count to 1 at least"
        );
    });
}

#[test]
fn an_item_that_is_too_long_for_a_line_is_refused() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        guest.send(format!("large#7 [{}]\n", ITEM_BYTES_MAX - 2));
        assert_eq!(guest.line(), part("7", "large", "\"a\""));
        let longest = guest.line().len();
        assert!((ITEM_BYTES_MAX..1 << 20).contains(&longest), "{longest}");
        assert_eq!(guest.line(), part("7", "large", "\"b\""));
        assert_eq!(guest.line(), "large#7 []");
        guest.send(format!("large#8 [{}]\n", ITEM_BYTES_MAX - 1));
        assert_eq!(guest.line(), part("8", "large", "\"a\""));
        let error = guest.message();
        let text = error.arguments[0]["message"].as_str().expect("a text");
        assert!(text.contains("an item of 1047553 bytes"), "{text}");
        assert_eq!(guest.ask("made", &json!([])), 0);
    });
}

#[test]
fn events_and_parts_come_in_the_order_in_which_they_were_sent() {
    both(|_, _, mut guest| {
        guest.send(ASKS);
        guest.send("with_events#7 2\n");
        for item in 1..=2 {
            assert_eq!(guest.line(), format!("before [{item}]"));
            assert_eq!(guest.line(), part("7", "with_events", item));
        }
        assert_eq!(guest.line(), "with_events#7 []");
    });
}

#[test]
fn a_guest_that_does_not_read_holds_the_stream_up_and_loses_nothing() {
    both(|ecosystem, name, mut guest| {
        guest.send(ASKS);
        guest.send("endless#7\n");
        let mut other = ecosystem.guest(name);
        let mut made = || other.ask("made", &json!([])).as_u64().expect("a count");
        // The sockets' buffers hold a few MiB; then nothing is made any more.
        let mut before = 0;
        until(LIMIT, "the stream stands still", || {
            let now = made();
            std::mem::replace(&mut before, now) == now && now > 0
        });
        assert!(before * (16 << 10) < 64 << 20, "{before} items were made");
        for _ in 0..before + 100 {
            assert!(guest.line().starts_with("part#7 "));
        }
        assert!(made() > before, "it goes on");
    });
}
