//! Values that arrive exactly as sent, or are refused with their place: in both modes, by sync and async commands, in
//! state and config, and on the way to another daemon.

use dae_tests::{Ecosystem, Guest};
use serde_json::Value;

/// The names of the two daemons, and their flags of `install`.
const DAEMONS: [(&str, &[&str]); 2] = [("Here", &[]), ("Apart", &["--isolate"])];

/// A config whose numbers would change if they were rounded.
const CONFIG: &str = r#"{"double":10928588.983213553,"whole":9007199254740993,"any":[18446744073709551615,-0.0,1e23]}"#;

const KEPT: &str = r#"{"double":0.1966823842799887,"single":16777216.0,"whole":18446744073709551615,"wide":340282366920938463463374607431768211455,"low":-170141183460469231731687303715884105728,"any":[9007199254740993,5e-324]}"#;

fn line(guest: &mut Guest, sent: &str) -> String {
    guest.send(format!("{sent}\n"));
    guest.line()
}

/// Runs a test on each of both daemons of one host.
fn both(test: impl Fn(&Ecosystem, &str, &mut Guest)) {
    let mut ecosystem = Ecosystem::start();
    for (name, flags) in DAEMONS {
        let flags = [flags, &["--config", CONFIG]].concat();
        ecosystem.install(name, "values", &flags);
    }
    for (name, _) in DAEMONS {
        let mut guest = ecosystem.guest(name);
        test(&ecosystem, name, &mut guest);
    }
    ecosystem.stop();
}

/// Lines, each with its exact answer.
const EXACT: [(&str, &str); 37] = [
    ("double 10928588.983213553", "double [10928588.983213553]"),
    ("later [10928588.983213553]", "later [10928588.983213553]"),
    (
        "double [0.1966823842799887,]",
        "double [0.1966823842799887]",
    ),
    ("double 9007199254740992", "double [9007199254740992]"),
    ("double 9007199254740994.0", "double [9007199254740994.0]"),
    (
        "double 18446744073709551616",
        "double [1.8446744073709552e+19]",
    ),
    ("double 1e23", "double [1e+23]"),
    ("double 5e-324", "double [5e-324]"),
    (
        "double 2.2250738585072011e-308",
        "double [2.225073858507201e-308]",
    ),
    ("double -0", "double [-0.0]"),
    ("double [-0,]", "double [-0.0]"),
    ("double -0x0", "double [-0.0]"),
    ("double [.5]", "double [0.5]"),
    ("single 0.1", "single [0.1]"),
    ("single 16777216", "single [16777216]"),
    ("whole 18446744073709551615", "whole [18446744073709551615]"),
    ("whole [0xFFFFFFFFFFFFFFFF]", "whole [18446744073709551615]"),
    ("whole 9007199254740993", "whole [9007199254740993]"),
    (
        "signed -9223372036854775808",
        "signed [-9223372036854775808]",
    ),
    ("wide 18446744073709551616", "wide [18446744073709551616]"),
    (
        "wide [340282366920938463463374607431768211455,]",
        "wide [340282366920938463463374607431768211455]",
    ),
    (
        "low -170141183460469231731687303715884105728",
        "low [-170141183460469231731687303715884105728]",
    ),
    ("any 18446744073709551615", "any [18446744073709551615]"),
    (
        "any {\"a\":[9007199254740993,10928588.983213553]}",
        "any [{\"a\":[9007199254740993,10928588.983213553]}]",
    ),
    (
        "any {a: 9007199254740993}",
        "any [{\"a\":9007199254740993}]",
    ),
    ("any {\"a\":1}//x", "any [{\"a\":1}]"),
    ("any_later {\"a\":1} // x", "any_later [{\"a\":1}]"),
    ("any null // x", "any [null]"),
    ("any [[1] /* x */] // y", "any [[1]]"),
    (
        "config // x",
        "config [{\"double\":10928588.983213553,\"whole\":9007199254740993,\"any\":[18446744073709551615,-0.0,1e+23]}]",
    ),
    ("byte +5", "byte [5]"),
    ("colour 'red'", "colour [\"red\"]"),
    ("colour {grey: 5}", "colour [{\"grey\":5}]"),
    ("pair [[1,2]]", "pair [[1,2]]"),
    ("any 1e20", "any [1e+20]"),
    (
        "any \"100000000000000000000\"",
        "any [\"100000000000000000000\"]",
    ),
    ("any 'NaN'", "any [\"NaN\"]"),
];

/// Lines that are refused with `bad-arguments`, each with parts of the message.
const REFUSED: [(&str, &[&str]); 31] = [
    ("double NaN", &["argument 1", "NaN"]),
    ("later [NaN]", &["argument 1", "NaN"]),
    ("any [Infinity]", &["argument 1", "Infinity"]),
    (
        "any_later [{a: [1, -Infinity]}]",
        &["argument 1, at .a[1]", "-Infinity"],
    ),
    ("any {a: NaN}", &["argument 1, at .a", "NaN"]),
    ("double 1e400", &["argument 1", "too large"]),
    ("any [1e400]", &["argument 1", "too large"]),
    ("any [[{\"a\":-1e400}]]", &["argument 1", ".a", "too large"]),
    (
        "any_later [[1,{\"a\":1e999}]]",
        &["(x: any), at [1].a:", "too large"],
    ),
    ("single 1e39", &["argument 1"]),
    (
        "any [0x100000000000000000000000000000000]",
        &["too large", "column"],
    ),
    (
        "any [18446744073709551616]",
        &["argument 1", "18446744073709551616", "64 bits"],
    ),
    (
        "any {a: [0x10000000000000000]}",
        &["(x: any), at .a[0]:", "18446744073709551616"],
    ),
    (
        "any_later [-9223372036854775809]",
        &["argument 1", "-9223372036854775809"],
    ),
    (
        "double 9007199254740993",
        &["argument 1", "9007199254740993", "rounded"],
    ),
    (
        "double 18446744073709551615",
        &["18446744073709551615", "rounded"],
    ),
    ("single 16777217", &["16777217", "rounded"]),
    (
        "whole 18446744073709551616",
        &["expected a number", "got 18446744073709551616"],
    ),
    (
        "wide 340282366920938463463374607431768211456",
        &["argument 1", "too large"],
    ),
    (
        "double \"x\"",
        &["argument 1 (x: number): expected a number, got the string \"x\""],
    ),
    ("later true", &["expected a number, got true"]),
    (
        "byte 300",
        &["expected a number, whole and from 0 to 255, got 300"],
    ),
    ("byte {}", &["the argument x is missing", "integer from 0"]),
    (
        "shape {\"points\":[{\"x\":1,\"y\":2},{\"x\":1,\"y\":256}]}",
        &["at .points[1].y: expected a number", "got 256"],
    ),
    ("shape [5]", &["expected an object, got 5"]),
    (
        "shape {points: [{x: 1}]}",
        &["at .points[0]: the member `y` is missing"],
    ),
    ("pair [[1,2,3]]", &["argument 1", "more elements"]),
    ("pair [[1]]", &["expected an array of 2 elements, got 1"]),
    ("colour 5", &["argument 1", "known names"]),
    (
        "colour \"blue\"",
        &["`blue` is not known", "`red` or `grey`"],
    ),
    ("any [\"\\ud800\"]", &["argument 1", "surrogate"]),
];

/// Names of serde and of Rust that no message contains.
const RUST: [&str; 9] = [
    "f64",
    "u8",
    "u64",
    "u128",
    "struct",
    "tuple",
    "variant",
    "invalid type",
    "unit",
];

#[test]
fn a_config_that_is_read_later_is_exact_or_refused_too() {
    both(|_, name, guest| {
        let answer = line(guest, "config_in_floats");
        assert!(
            answer.contains("the config doesn't fit") && answer.contains("9007199254740993"),
            "{name}: {answer}"
        );
    });
}

#[test]
fn numbers_arrive_exact_or_are_refused_with_their_place() {
    both(|_, name, guest| {
        for (sent, answer) in EXACT {
            assert_eq!(line(guest, sent), answer, "{name}: {sent}");
        }
        for (sent, parts) in REFUSED {
            let fault = refusal(guest, sent, "bad-arguments");
            for part in parts {
                assert!(
                    fault.contains(part),
                    "{name}: {sent}: {part:?} is not in {fault:?}"
                );
            }
            for word in RUST {
                assert!(
                    !fault.contains(word),
                    "{name}: {sent}: {word:?} is in {fault:?}"
                );
            }
        }
        nesting(guest);
    });
}

/// Asserts that a value may nest as deep as serde_json reads, and no deeper.
fn nesting(guest: &mut Guest) {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for command in ["any", "any_later"] {
        let inside = deep(126);
        assert_eq!(
            line(guest, &format!("{command} [{inside}]")),
            format!("{command} [{inside}]")
        );
        for levels in [128, 129, 1000] {
            let strict = refusal(
                guest,
                &format!("{command} {}", deep(levels)),
                "bad-arguments",
            );
            assert!(
                strict.contains("deeper than 127 levels"),
                "{levels}: {strict}"
            );
            let json5 = deep(levels).replacen("[]", "[1,]", 1);
            let json5 = refusal(guest, &format!("{command} {json5}"), "bad-arguments");
            assert!(
                json5.contains("deeper than 127 levels"),
                "{levels}: {json5}"
            );
        }
    }
}

#[track_caller]
fn refusal(guest: &mut Guest, sent: &str, code: &str) -> String {
    guest.send(format!("{sent}\n"));
    match guest.message().result() {
        Ok(value) => panic!("{sent} was answered {value}; an error was expected"),
        Err(fault) => {
            assert_eq!(fault.code, code, "{sent}: {fault:?}");
            fault.message
        }
    }
}

/// Arguments without their quotes, each with the correction that the message offers.
const UNQUOTED: [(&str, &str); 6] = [
    ("n", r#"["n"]"#),
    ("[n]", r#"["n"]"#),
    ("n, m", r#"["n", "m"]"#),
    ("tru", r#"["tru"]"#),
    ("hello world", r#"["hello world"]"#),
    ("[1, 2", "[1, 2]"),
];

#[test]
fn what_is_not_in_quotes_is_answered_with_what_to_write() {
    let check = |guest: &mut Guest, command: &str| {
        for (typed, example) in UNQUOTED {
            let said = refusal(guest, &format!("{command} {typed}"), "bad-arguments");
            let begins = format!("expected JSON arguments such as {example}, got {typed}: ");
            assert!(said.starts_with(&begins), "{command}: {said}");
        }
    };
    both(|ecosystem, _, guest| {
        check(guest, "double");
        check(guest, "later");
        check(&mut ecosystem.guest("Dae"), "find");
        // Valid JSON5 of the wrong type.
        let said = refusal(guest, "double 'n'", "bad-arguments");
        assert!(said.contains("expected a number"), "{said}");
    });
}

#[test]
fn a_result_that_json_does_not_have_is_named_and_no_error_is_silent() {
    both(|ecosystem, name, guest| {
        let said = refusal(guest, "infinite", "failed");
        assert!(said.contains("it holds Infinity"), "{name}: {said}");
        let said = refusal(guest, "nan_inside", "failed");
        assert!(
            said.contains("at [0].values[1]: it holds NaN"),
            "{name}: {said}"
        );
        for silent in ["silent", "silent_later"] {
            let said = refusal(guest, silent, "failed");
            assert!(said.contains("gave no reason"), "{name}: {said:?}");
        }
        // The earlier state stays, and the daemon runs on.
        assert_eq!(line(guest, &format!("keep {KEPT}")), "keep []");
        assert_eq!(line(guest, "spoil"), "spoil []");
        let refused = ecosystem.cli(&["reload", name]).code(1);
        assert!(refused.says(&["at .double: it holds NaN"]), "{refused:?}");
        guest.expect_alive();
    });
}

#[test]
fn state_and_other_daemons_get_the_same_numbers() {
    both(|ecosystem, name, guest| {
        // A line has no `.0` after a whole number of this type.
        let answer = format!("kept [{}]", KEPT.replace("16777216.0", "16777216"));
        assert_eq!(line(guest, &format!("keep {KEPT}")), "keep []");
        for _ in 0..2 {
            let _ = ecosystem.cli(&["reload", name]).ok();
            assert_eq!(line(guest, "kept"), answer, "{name}");
        }
        for other in ["Here", "Apart"] {
            let ask = format!("ask_double [\"{other}\",10928588.983213553]");
            assert_eq!(line(guest, &ask), "ask_double [10928588.983213553]");
            let ask = format!("ask_wide [\"{other}\",18446744073709551617]");
            assert_eq!(line(guest, &ask), "ask_wide [18446744073709551617]");
            let ask = format!("ask_wide_as_double [\"{other}\",18446744073709551617]");
            let said = refusal(guest, &ask, "failed");
            assert!(
                said.contains("18446744073709551617 would be rounded"),
                "{said}"
            );
        }
        let call = |command: &str, argument: &str| {
            let output = ecosystem.cli(&["call", name, command, argument]).ok();
            output.stdout.trim_end().to_owned()
        };
        assert_eq!(call("double", "10928588.983213553"), "10928588.983213553");
        assert_eq!(call("wide", "18446744073709551617"), "18446744073709551617");
        assert_eq!(
            call("any", "\u{feff}[9007199254740993]"),
            "[9007199254740993]"
        );
    });
}

/// Some editors put a byte order mark at the beginning of a file.
#[test]
fn a_byte_order_mark_in_front_of_a_file_is_dropped() {
    let mut ecosystem = Ecosystem::asleep();
    let write = |name: &str, text: &str| {
        let path = ecosystem.scratch().join(name);
        std::fs::write(&path, format!("\u{feff}{text}")).expect("a file");
        path
    };
    let (config, settings) = (
        write("config.json", CONFIG),
        write("settings.json", "{\"health_ms\": 60000} // x"),
    );
    let at = |path: &std::path::Path| format!("@{}", path.to_str().expect("UTF-8"));
    let flags = ["--config", &at(&config), "--settings", &at(&settings)];
    ecosystem.wake(&[]);
    let mut guest = ecosystem.install("Values", "values", &flags);
    let said: Value = guest.ask("config", &Value::Array(Vec::new()));
    assert_eq!(said["whole"], 9_007_199_254_740_993_u64);
    ecosystem.stop();
    // All files of the home that a person may edit.
    let state = ecosystem.home().join("states/Values.json");
    for path in [
        state,
        ecosystem.home().join("registry.json"),
        ecosystem.home().join("config.json5"),
    ] {
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        std::fs::write(&path, format!("\u{feff}{text}")).expect("a file");
    }
    ecosystem.wake(&[]);
    ecosystem.until_state("Values", "ready");
    assert_eq!(
        ecosystem.guest("Values").ask("double", &Value::from(1.5)),
        1.5
    );
    ecosystem.stop();
}
