//! Tables of words and the arguments that they become.

use super::*;
use serde_json::json;

fn schema(arguments: Value) -> CommandSchema {
    serde_json::from_value(json!({"arguments": arguments, "result": true})).expect("a schema")
}

fn find() -> CommandSchema {
    schema(json!([
        {"name": "who", "schema": {"type": "string"}},
        {"name": "max_hits", "schema": {"type": ["integer", "null"]}, "optional": true},
        {"name": "loud", "schema": {"type": ["boolean", "null"]}, "optional": true},
        {"name": "tags", "schema": {"type": "string"}, "rest": true},
    ]))
}

/// Returns the arguments as one text: `12` for a word, `+` and `~` for flags, `_` for one that is absent.
fn arranged(schema: Option<&CommandSchema>, words: &str) -> Result<String, String> {
    let called = Called {
        daemon: "Sample",
        command: "find",
        signature: schema.map(|_| "find(…)"),
        schema,
    };
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let arguments = arrange(called, &words).map_err(|fault| fault.to_string())?;
    let shown = arguments.iter().map(|argument| match argument {
        Argument::Word(word, _) => (*word).to_owned(),
        Argument::Flag(true) => "+".to_owned(),
        Argument::Flag(false) => "~".to_owned(),
        Argument::Absent => "_".to_owned(),
    });
    Ok(shown.collect::<Vec<_>>().join(" "))
}

#[test]
fn names_and_positions_become_one_order() {
    let find = find();
    for (words, expected) in [
        ("", ""),
        ("Ada", "Ada"),
        ("Ada 5 true a b", "Ada 5 true a b"),
        ("--who Ada", "Ada"),
        ("--who=Ada", "Ada"),
        ("--who=", ""),
        ("--who=a=b", "a=b"),
        ("--who=--loud", "--loud"),
        ("--who -x", "-x"),
        ("--who -5", "-5"),
        ("--who Ada --max_hits 5", "Ada 5"),
        ("--max-hits 5 --who Ada", "Ada 5"),
        ("Ada --loud", "Ada _ +"),
        ("Ada --loud 5", "Ada 5 +"),
        ("Ada --loud false", "Ada _ false"),
        ("Ada --loud=null", "Ada _ null"),
        ("Ada --no-loud", "Ada _ ~"),
        ("Ada --tags a --tags b", "Ada _ _ a b"),
        ("Ada 5 true a --tags b", "Ada 5 true a b"),
        ("--loud Ada -- --tags", "Ada --tags +"),
        ("--who Ada --", "Ada"),
        ("-- --who", "--who"),
        ("-7 -.5", "-7 -.5"),
        ("- --tags a", "- _ _ a"),
    ] {
        let arranged = arranged(Some(&find), words);
        assert_eq!(arranged.as_deref(), Ok(expected), "{words}");
    }
}

/// Words that are refused, with parts of the message.
const WRONG: [(&str, &[&str]); 19] = [
    (
        "Ada --woh x",
        &["Sample find has no argument --woh; it is find(…). Did you mean --who?"],
    ),
    (
        "Ada --nothing-like-it",
        &["no argument --nothing-like-it", "it is find(…)"],
    ),
    (
        "Ada --timeout 5s",
        &[
            "no argument --timeout",
            "`dae-host call --timeout … Sample find`",
        ],
    ),
    (
        "Ada --help",
        &["`dae-host call Sample help find` describes the command"],
    ),
    ("Ada --json", &["stand before the daemon's name"]),
    (
        "Ada --who Eve",
        &["who of Sample find is given twice, by its position and by its name"],
    ),
    (
        "--who Eve Ada",
        &["who of Sample find is given twice, by its position and by its name"],
    ),
    (
        "--who Eve --who Ada",
        &["who of Sample find is given twice, by its name"],
    ),
    (
        "Ada --loud --no-loud",
        &["loud of Sample find is given twice, by its name"],
    ),
    (
        "--who",
        &["--who of Sample find takes a value", "--who=VALUE"],
    ),
    ("--who --loud", &["--who of Sample find takes a value"]),
    ("--who -- Ada", &["--who of Sample find takes a value"]),
    (
        "Ada --no-loud=true",
        &["--no-loud of Sample find takes no value"],
    ),
    ("Ada --no-who", &["no argument --no-who"]),
    (
        "--loud",
        &["Sample find: the argument who is missing; it is find(…)"],
    ),
    ("--max-hits 5 --tags a", &["the argument who is missing"]),
    ("Ada -q", &["-q is no argument", "behind `--`"]),
    ("- 5 true -", &["2 arguments of Sample find are `-`"]),
    ("- --tags=-", &["2 arguments of Sample find are `-`"]),
];

#[test]
fn wrong_words_have_their_own_message() {
    let find = find();
    for (words, parts) in WRONG {
        let text = arranged(Some(&find), words).expect_err(words);
        for part in parts {
            assert!(text.contains(part), "{words}: {text}");
        }
    }
}

#[test]
fn without_a_schema_only_positions_count() {
    for (words, expected) in [
        ("", ""),
        ("Ada -5 -", "Ada -5 -"),
        ("-- --who -q", "--who -q"),
    ] {
        assert_eq!(arranged(None, words).as_deref(), Ok(expected));
    }
    for (words, part) in [
        (
            "--who Ada",
            "--who names no argument: Sample doesn't publish the names of find's",
        ),
        ("Ada --timeout 5", "`dae-host call --timeout … Sample find`"),
        ("-q", "-q is no argument"),
    ] {
        let text = arranged(None, words).expect_err(words);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_daemon_judges_a_number_of_arguments_without_names() {
    let add = schema(json!([
        {"name": "a", "schema": {"type": "number"}},
        {"name": "b", "schema": {"type": "number"}},
    ]));
    for words in ["1", "1 2 3"] {
        assert_eq!(arranged(Some(&add), words).as_deref(), Ok(words));
    }
    let text = arranged(Some(&add), "--b 2 1 3 4").expect_err("b is the second");
    assert!(text.contains("b of Sample find is given twice"), "{text}");
    let text = arranged(Some(&schema(json!([{"name": "a"}]))), "1 2 --a 1");
    assert!(text.is_err(), "{text:?}");
    let named = schema(
        json!([{"name": "no-loud", "schema": {"type": "string"}}, {"name": "loud",
        "schema": {"type": "boolean"}, "optional": true}]),
    );
    assert_eq!(arranged(Some(&named), "--no-loud x").as_deref(), Ok("x"));
    let text = arranged(Some(&named), "x 1 2 --loud").expect_err("loud stands at 1");
    assert!(
        text.contains("loud of Sample find is given twice"),
        "{text}"
    );
}
