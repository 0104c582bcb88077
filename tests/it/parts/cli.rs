//! `call` prints the items of a reply as they come, one a line.

use dae_tests::{Ecosystem, LIMIT, until};
use serde_json::json;

use super::{MODES, both};
use crate::cli::at_terminal;

#[test]
fn call_prints_an_item_a_line_and_its_result_otherwise() {
    both(|ecosystem, name, mut guest| {
        let cli = |words: &[&str]| ecosystem.cli(&[&["call", name], words].concat());
        assert_eq!(cli(&["count", "3"]).ok().stdout, "1\n2\n3\n");
        assert_eq!(
            cli(&["repeat", "a b", "2"]).ok().stdout,
            "\"a b\"\n\"a b\"\n"
        );
        assert_eq!(cli(&["count", "0"]).ok().stdout, "null\n");
        // Standard error is no terminal here, so reports are not shown.
        let worked = cli(&["work", "2"]).ok();
        assert_eq!(
            (worked.stdout.as_str(), worked.stderr.as_str()),
            ("20\n", "")
        );
        let failed = cli(&["fallible", "5", "2"]).code(1);
        assert_eq!(failed.stdout, "1\n2\n");
        assert!(
            failed.stderr.contains("no item 3 (failed)"),
            "{}",
            failed.stderr
        );
        assert_eq!(guest.ask("dropped", &json!([])), 2);
    });
}

#[test]
fn call_at_a_terminal_prints_each_report() {
    both(|ecosystem, name, _| {
        for (flags, reports) in [
            ("", "{\"done\":1,\"of\":2}\n{\"done\":2,\"of\":2}\n"),
            ("-q", ""),
        ] {
            let words = format!("call {flags} {name} work 2");
            let Some(shown) = at_terminal(ecosystem, 80, &[("NO_COLOR", "1")], &words) else {
                return;
            };
            let text = shown.stdout.replace('\r', "");
            assert_eq!(text, format!("{reports}20\n"), "{words}");
        }
    });
}

#[test]
fn call_prints_an_item_before_the_next_one_is_made_and_its_end_ends_the_stream() {
    both(|ecosystem, name, mut guest| {
        let mut call = ecosystem.cli_running(&["call", name, "count", "1000000", "20"]);
        for item in 1..=3 {
            assert_eq!(call.line(LIMIT), item.to_string());
        }
        drop(call);
        until(LIMIT, "the stream is dropped", || {
            guest.ask("dropped", &json!([])) == 1
        });
        assert!(guest.ask("made", &json!([])).as_u64() < Some(1_000_000));
    });
}

#[test]
fn the_wait_of_call_counts_from_the_last_part() {
    let mut ecosystem = Ecosystem::start();
    for (name, flags) in MODES {
        let _guest = ecosystem.install(name, "parts", flags);
        let call =
            |pause: &str| ecosystem.cli(&["call", "--timeout", "1", name, "count", "4", pause]);
        assert_eq!(call("400").ok().stdout, "1\n2\n3\n4\n");
        let given_up = call("60000");
        assert_ne!(given_up.status, 0);
        assert!(
            given_up.stderr.contains("did not answer within 1 s"),
            "{}",
            given_up.stderr
        );
    }
    ecosystem.stop();
}
