//! `call` and `options` by the schemas that a daemon publishes: words with types and names, and tables of signatures.

use std::io::Write as _;

use dae_tests::{Ecosystem, LIMIT, Output, program, until};
use serde_json::{Value, json};

use crate::cli::at_terminal;
use crate::foreign_text::{host_beside, serve};

/// Returns the description of a command that answers with its arguments.
fn find() -> Value {
    json!({
        "signature": "find(who: string, max_hits?: integer, loud?: boolean, where?: object, ...tags: string)",
        "doc": "Finds people.\nIn vain.",
        "schema": {
            "arguments": [
                {"name": "who", "schema": {"$ref": "#/$defs/Name", "$defs": {"Name": {"type": "string"}}}},
                {"name": "max_hits", "schema": {"type": ["integer", "null"]}, "optional": true},
                {"name": "loud", "schema": {"type": ["boolean", "null"]}, "optional": true},
                {"name": "where", "schema": {"anyOf": [{"type": "object"}, {"type": "null"}]}, "optional": true},
                {"name": "tags", "schema": {"type": "string"}, "rest": true},
            ],
            "result": {"type": "array"},
            "read_only": true,
        },
    })
}

/// Starts a host beside a daemon with the commands `find` and `knot`, which answer with their arguments. The reference
/// in the schema of `knot` leads to itself.
fn with_schema() -> Ecosystem {
    let knot = json!({
        "signature": "knot(any)",
        "doc": "",
        "schema": {"arguments": [{"name": "any", "schema": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}]},
    });
    let help = json!([{"find": find(), "knot": knot}]);
    host_beside(serve(move |name, arguments| match name {
        "help" => Some(format!("help {help}")),
        "options" => Some(r#"options [{"find":5,"knot":1}]"#.to_owned()),
        "text" => Some(r#"text ["a \"b\"\n\u001b"]"#.to_owned()),
        "find" | "knot" => Some(format!("{name} [{arguments}]")),
        _ => None,
    }))
}

/// Runs a command line with that text as its standard input.
fn fed(ecosystem: &Ecosystem, words: &[&str], input: &str) -> Output {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(input.as_bytes()).expect("space");
    let input = file.reopen().expect("the same file");
    program::run(
        ecosystem.command().args(words).stdin(input),
        dae_tests::LIMIT,
    )
}

/// Runs a command of a daemon with words that hold no blanks.
fn called(ecosystem: &Ecosystem, name: &str, words: &str) -> Output {
    let words = words.split(' ');
    let line: Vec<&str> = ["call", name].into_iter().chain(words).collect();
    ecosystem.cli(&line)
}

/// Checks that calls fail with an exit code and a text.
fn fail(ecosystem: &Ecosystem, name: &str, calls: &[(&str, i32, &str)]) {
    for (words, code, said) in calls {
        let output = called(ecosystem, name, words).code(*code);
        let is_silent = output.stdout.is_empty();
        assert!(output.says(&[said]) && is_silent, "{words}: {output:?}");
    }
}

#[test]
fn words_become_an_array_by_their_types_and_names() {
    let ecosystem = with_schema();
    for (words, expected) in [
        ("12", r#"["12"]"#),
        ("\"12\"", r#"["12"]"#),
        ("null", r#"["null"]"#),
        ("12 12 true", r#"["12",12,true]"#),
        ("12 null", r#"["12",null]"#),
        ("{x:1} 1 null {x:+1.50}", r#"["{x:1}",1,null,{"x":1.50}]"#),
        ("--who 12", r#"["12"]"#),
        ("--loud Ada", r#"["Ada",null,true]"#),
        ("--no-loud --who=Ada", r#"["Ada",null,false]"#),
        ("Ada --max-hits abc", r#"["Ada","abc"]"#),
        ("a --tags 1 --tags=--x", r#"["a",null,null,null,"1","--x"]"#),
        ("a 1 true {} b -- --c", r#"["a",1,true,{},"b","--c"]"#),
    ] {
        let output = called(&ecosystem, "Strange", &format!("find {words}")).ok();
        assert_eq!(output.stdout.trim_end(), expected, "{words}");
    }
    let output = called(&ecosystem, "Strange", "knot 12").ok();
    assert_eq!(output.stdout, "[12]\n", "a circle of references is no type");
}

/// Calls of the fixture `typed`, in this order, with their results.
const TYPED: [(&str, &str); 8] = [
    ("texts 1 2 \"3\" null", r#"["1","2","3","null"]"#),
    (
        "texts --more a --word=2 --letter 1 --more b",
        r#"["1","2","a","b"]"#,
    ),
    (
        "integers 1 -2 --huge 340282366920938463463374607431768211455 --large 3",
        "[1,-2,3,340282366920938463463374607431768211455]",
    ),
    ("add_point {x:+1,label:'a',}", "1"),
    (r#"add_point --label 12 --point {"x":2}"#, "2"),
    (
        "points_now",
        r#"[{"x":1,"y":0,"label":"a"},{"x":2,"y":0,"label":"12"}]"#,
    ),
    ("figure empty", r#""empty""#),
    (
        "figure {group:{parts:['empty']}}",
        r#"{"group":{"parts":["empty"]}}"#,
    ),
];

/// Calls of the fixture `typed` that fail, with their exit codes and messages.
const TYPED_WRONG: [(&str, i32, &str); 9] = [
    ("fraction 1 2", 1, "fraction: there is no command fraction"),
    (
        "fraction --double 1",
        1,
        "has no command fraction; did you mean",
    ),
    (
        "fractions one 2",
        1,
        "expected a number, got the string \"one\"",
    ),
    ("fractions true 2", 1, "expected a number, got true"),
    ("fractions 1", 1, "it takes 2 arguments"),
    (
        "fractions --single 1",
        1,
        "the argument double is missing; it is fractions(double: number",
    ),
    ("fractions 1 --singel 2", 2, "Did you mean --single?"),
    ("points_now --json", 2, "`dae-host call --json … "),
    ("add_point {x:", 2, "add_point is not JSON"),
];

#[test]
fn a_plugins_own_types_decide() {
    let ecosystem = Ecosystem::start();
    for (name, flags) in [("Here", &[][..]), ("Apart", &["--isolate"])] {
        let _guest = ecosystem.install(name, "typed", flags);
        for (words, expected) in TYPED {
            let output = called(&ecosystem, name, words).ok();
            assert_eq!(output.stdout.trim_end(), expected, "{name}: {words}");
        }
        fail(&ecosystem, name, &TYPED_WRONG);
    }
    let found = called(&ecosystem, "Dae", "find --name Here").ok();
    assert_eq!(found.json()["name"], "Here");
}

/// Calls of `Strange` that fail, with their exit codes and messages.
const WRONG: [(&str, i32, &str); 12] = [
    ("find --woh Ada", 2, "Did you mean --who?"),
    (
        "find Ada --who Eve",
        2,
        "given twice, by its position and by its name",
    ),
    ("find --who Ada --who Eve", 2, "given twice, by its name"),
    ("find --who", 2, "--who of Strange find takes a value"),
    (
        "find --loud",
        1,
        "the argument who is missing; it is find(who: string",
    ),
    (
        "find Ada --timeout 5s",
        2,
        "`dae-host call --timeout … Strange find`",
    ),
    (
        "find Ada --help",
        2,
        "`dae-host call Strange help find` describes",
    ),
    ("find Ada -q", 2, "-q is no argument"),
    ("find - --tags -", 2, "2 arguments of Strange find are `-`"),
    (
        "find Ada --where {x:",
        2,
        "argument 4 of Strange find is not JSON",
    ),
    ("text --who Ada", 1, "Strange has no command text"),
    ("fnd --who Ada", 1, "did you mean find?"),
];

#[test]
fn wrong_options_are_named_with_the_way_out() {
    fail(&with_schema(), "Strange", &WRONG);
}

#[test]
fn an_argument_comes_from_standard_input() {
    let ecosystem = with_schema();
    let call = |input: &str| {
        fed(
            &ecosystem,
            &["call", "Strange", "find", "Ada", "--where", "-"],
            input,
        )
    };
    let read = call("{\"a\":\n  1.50}\n").ok().json();
    assert_eq!(read, json!(["Ada", null, null, {"a": 1.5}]));
    assert_eq!(call("// c\n{a: 'b',}").ok().json()[3], json!({"a": "b"}));
    for (input, said) in [
        ("", "got nothing"),
        ("1 2", "this is not JSON"),
        ("Ada", "this is not JSON"),
    ] {
        let output = call(input).code(1);
        assert!(output.says(&[said]), "{input:?}: {output:?}");
    }
}

/// Answers to `help` from which no schema can be read: none at all, those of older hosts, and nonsense.
const NO_SCHEMAS: [Option<&str>; 5] = [
    None,
    Some(r#"help [{"echo":{"signature":"echo(...any)","doc":"Echoes."}}]"#),
    Some(r#"help [{"echo":{"signature":"echo()","schema":{"arguments":7}}}]"#),
    Some(r#"error [{"command":"help","code":"bad-arguments","message":"it takes none"}]"#),
    Some("help [{"),
];

#[test]
fn a_daemon_without_schemas_takes_positions() {
    for help in NO_SCHEMAS {
        let port = serve(move |name, arguments| match name {
            "help" => help.map(str::to_owned),
            "echo" => Some(format!("echo [{arguments}]")),
            _ => None,
        });
        let ecosystem = host_beside(port);
        let output = called(&ecosystem, "Strange", "echo 12 a {x:1} [1 -- --b").ok();
        assert_eq!(output.stdout, "[12,\"a\",{\"x\":1},\"[1\",\"--b\"]\n");
        let output = called(&ecosystem, "Strange", "echo --who Ada").code(2);
        let said = "doesn't publish the names of echo's";
        assert!(output.says(&[said]), "{help:?}: {output:?}");
        let output = ecosystem.cli(&["options", "-v", "Strange"]);
        match help.is_some_and(|help| help.contains("signature")) {
            true => assert!(
                output.ok().stdout.contains("publishes no schema"),
                "{help:?}"
            ),
            false => assert!(
                output
                    .code(1)
                    .says(&["Strange doesn't describe its commands"]),
                "{help:?}"
            ),
        }
    }
}

#[test]
fn raw_prints_a_string_without_quotes() {
    let ecosystem = with_schema();
    let output = ecosystem.cli(&["call", "Strange", "text"]).ok();
    assert_eq!(output.stdout, "\"a \\\"b\\\"\\n\\u001b\"\n");
    let output = ecosystem.cli(&["call", "--raw", "Strange", "text"]).ok();
    assert_eq!(output.stdout, "a \"b\"\n\u{1b}\n");
    let output = ecosystem
        .cli(&["call", "--raw", "Strange", "find", "Ada"])
        .ok();
    assert_eq!(output.stdout, "[\"Ada\"]\n");
    let output = ecosystem
        .cli(&["call", "--raw", "--json", "Strange", "text"])
        .code(2);
    assert!(
        output.says(&["--raw and --json exclude each other"]),
        "{output:?}"
    );
    let Some(shown) = at_terminal(&ecosystem, 80, &[], "call --raw Strange text") else {
        return;
    };
    assert!(
        shown.stdout.contains("\\u{1b}") && !shown.stdout.contains('\u{1b}'),
        "{shown:?}"
    );
}

#[test]
fn a_time_limit_has_a_unit() {
    let ecosystem = with_schema();
    for (limit, said) in [("500ms", "within 0.5 s"), ("1", "within 1 s")] {
        let output = ecosystem
            .cli(&["call", "--timeout", limit, "Strange", "nothing"])
            .code(1);
        assert!(output.says(&[said]), "{output:?}");
    }
    let output = ecosystem
        .cli(&["call", "--timeout", "0s", "Strange", "nothing"])
        .code(2);
    assert!(
        output.says(&["expected a time span above 0, such as 5s"]),
        "{output:?}"
    );
}

#[test]
fn a_pipe_gets_the_same_bytes_as_before() {
    let ecosystem = Ecosystem::start();
    let mut guest = ecosystem.install("Sample", "sample", &[]);
    let help = ecosystem.cli(&["call", "Sample", "help"]).ok();
    guest.send("help\n");
    assert_eq!(format!("help [{}]", help.stdout.trim_end()), guest.line());
    let options = ecosystem.cli(&["options", "Sample"]).ok().stdout;
    let start = "COMMAND  ARGUMENTS\nadd      2\n";
    assert!(options.starts_with(start), "{options}");
}

#[test]
fn a_terminal_gets_signatures() {
    let ecosystem = with_schema();
    let _guest = ecosystem.install("Sample", "sample", &[]);
    for words in ["call Sample help", "options Sample", "options Strange"] {
        let Some(shown) = at_terminal(&ecosystem, 80, &[], words) else {
            return;
        };
        let text = shown.stdout.replace('\r', "");
        assert!(text.starts_with("COMMAND"), "{text}");
        let (start, end) = match words.contains("Strange") {
            true => (
                "find(who: string, max_hits?: integer",
                "…     Finds people.",
            ),
            false => ("greet(who: string)  ", "  Greets `who`."),
        };
        let is_it = |line: &str| line.starts_with(start) && line.trim_end().ends_with(end);
        assert!(text.lines().any(is_it), "{text}");
    }
    let shown = at_terminal(&ecosystem, 80, &[], "call Sample help greet").expect("script");
    let text = shown.stdout.replace('\r', "");
    let details = "greet(who: string)\n  Greets `who`.\n  --who: {\"type\":\"string\"}\n";
    assert!(text.starts_with(details), "{text}");
    for words in [
        "call --json Sample help",
        "call --raw Sample help",
        "options --json Sample",
    ] {
        let shown = at_terminal(&ecosystem, 80, &[], words).expect("script was there");
        assert!(shown.json().is_object(), "{shown:?}");
    }
}

#[test]
fn options_in_full_show_the_schemas() {
    let ecosystem = with_schema();
    let shown = ecosystem
        .cli(&["options", "--verbose", "Strange"])
        .ok()
        .stdout;
    for line in [
        "  Finds people.",
        "  read-only",
        "  --max_hits (optional): {\"type\":[\"integer\",\"null\"]}",
        "  --tags (any number): {\"type\":\"string\"}",
        "  result: {\"type\":\"array\"}",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line}: {shown}");
    }
    let document = ecosystem
        .cli(&["options", "-v", "--json", "Strange"])
        .ok()
        .json();
    assert_eq!(document["find"], find());
}

#[test]
fn a_call_during_a_stop_says_that_the_daemon_is_just_being_stopped() {
    let ecosystem = Ecosystem::start_configured(&json!({"stop_grace_ms": 3000}));
    let mut guest = ecosystem.install("Probe", "probe", &[]);
    guest.send("slow#long [600000]\necho#now [1]\n");
    guest.expect("echo#now [1]");
    let mut stop = ecosystem.cli_running(&["stop", "Probe"]);
    until(LIMIT, "the port is closed", || {
        ecosystem.status("Probe")["port"].is_null()
    });
    let output = ecosystem.cli(&["call", "Probe", "pid"]).code(3);
    for part in ["just being started or stopped; `", "status Probe` shows"] {
        assert!(output.stderr.contains(part), "{output:?}");
    }
    assert_eq!(stop.end(LIMIT), Some(0));
    let output = ecosystem.cli(&["call", "Probe", "pid"]).code(3);
    assert!(
        output.stderr.contains("start Probe` starts it"),
        "{output:?}"
    );
}
