//! Schemas that callers see: in `help`, by `check`, over a restart, and in agreement with the code.

use dae_tests::{Ecosystem, Guest};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{collection, sample};
use serde_json::{Value, json};

/// The names of the two daemons, and their flags of `install`.
const DAEMONS: [(&str, &[&str]); 2] = [("Here", &[]), ("Apart", &["--isolate"])];

/// Installs the daemon of every schema in both modes, and runs a test on each.
fn both(test: impl Fn(&str, &mut Guest)) {
    let mut ecosystem = Ecosystem::start();
    for (name, flags) in DAEMONS {
        let mut guest = ecosystem.install(name, "typed", flags);
        test(name, &mut guest);
    }
    ecosystem.stop();
}

fn schema_of(guest: &mut Guest, command: &str) -> Value {
    guest.ask("help", &json!([command]))[command]["schema"].clone()
}

/// Returns the places of schemas that exclude nothing.
fn unknown(at: &str, schema: &Value) -> Vec<String> {
    match schema {
        Value::Bool(true) if !at.ends_with("Properties") && !at.ends_with("_only") => {
            vec![at.to_owned()]
        }
        Value::Array(all) => all.iter().flat_map(|one| unknown(at, one)).collect(),
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| {
                !matches!(
                    name.as_str(),
                    "optional" | "rest" | "idempotent" | "destructive"
                )
            })
            .flat_map(|(name, one)| unknown(&format!("{at}.{name}"), one))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn help_has_the_schema_of_every_type_in_both_modes() {
    both(|name, guest| {
        let help = guest.ask("help", &json!([]));
        assert_eq!(unknown("", &help), [""; 0], "{name}: {help:#}");
        let add = schema_of(guest, "add_point");
        assert_eq!(add["result"]["type"], "integer");
        let [point, label] = [0, 1].map(|index| add["arguments"][index].clone());
        assert_eq!(point["description"], "The new point.");
        assert_eq!(
            point["schema"]["properties"]["x"]["description"],
            "Metres to the east."
        );
        assert_eq!(point["schema"]["required"], json!(["x"]));
        assert_eq!(label["optional"], true);
        let marks = |command| {
            let schema = schema_of(guest, command);
            ["read_only", "destructive", "idempotent"].map(|mark| schema[mark] == true)
        };
        let mut marks = marks;
        assert_eq!(marks("points_now"), [true, false, true]);
        assert_eq!(marks("clear"), [false, true, false]);
        assert_eq!(marks("add_point"), [false; 3]);
        let one = guest.ask("help", &json!(["clear"]));
        assert_eq!(one.as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(one["clear"], help["clear"]);
        let wrong = guest.ask_in_vain("help", &json!(["cleer"]));
        assert!(wrong.message.contains("did you mean clear?"), "{wrong:?}");
    });
}

#[test]
fn bytes_are_one_string_in_base64() {
    both(|name, guest| {
        assert_eq!(guest.ask("turned", &json!(["AQID"])), "AgMB", "{name}");
        assert_eq!(guest.ask("turned", &json!({"bytes": ""})), "", "{name}");
        let schema = schema_of(guest, "turned");
        let encodings = [&schema["arguments"][0]["schema"], &schema["result"]];
        assert!(
            encodings
                .iter()
                .all(|one| one["contentEncoding"] == "base64"),
            "{schema}"
        );
        let wrong = guest.ask_in_vain("turned", &json!(["AQI"]));
        let expected = "argument 1 (bytes: Bytes): expected a string in base64 with its padding, got a string of 3 bytes \
                        without it";
        assert_eq!(
            (wrong.code.as_str(), wrong.message.as_str()),
            ("bad-arguments", expected)
        );
    });
}

#[test]
fn no_plugin_of_the_house_leaves_a_schema_open() {
    let mut ecosystem = Ecosystem::start();
    for (name, library) in [
        ("Sample", "sample"),
        ("Counter", "counter"),
        ("Clock", "clock"),
    ] {
        let mut guest = ecosystem.install(name, library, &[]);
        let help = guest.ask("help", &json!([]));
        assert_eq!(unknown("", &help), [""; 0], "{name}: {help:#}");
    }
    let help = ecosystem.guest("Dae").ask("help", &json!([]));
    assert_eq!(unknown("", &help), [""; 0], "Dae: {help:#}");
    ecosystem.stop();
}

#[test]
fn check_says_which_schemas_the_file_does_not_have() {
    let ecosystem = Ecosystem::asleep();
    for (library, has_more) in [("typed", true), ("async_io", false)] {
        let file = ecosystem
            .plugin(library)
            .to_str()
            .expect("UTF-8")
            .to_owned();
        let text = ecosystem.cli(&["check", &file]).ok().stdout;
        let says = text.contains("of its own types after `install`, by `options --verbose`");
        assert_eq!(says, has_more, "{library}: {text}");
    }
}

#[test]
fn schemas_of_run_time_outlive_the_host() {
    for (name, flags) in DAEMONS {
        let mut ecosystem = Ecosystem::start();
        let before = schema_of(&mut ecosystem.install(name, "typed", flags), "figure");
        ecosystem.stop();
        let store = ecosystem.home().join("store");
        let kept = |dir: &std::path::Path| {
            let files = std::fs::read_dir(dir).expect("the store").flatten();
            let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.ends_with(".schema.json")).count()
        };
        assert_eq!(kept(&store), 1, "beside the stored file");
        ecosystem.wake(&[]);
        ecosystem.until_state(name, "ready");
        assert_eq!(schema_of(&mut ecosystem.guest(name), "figure"), before);
        let _ = ecosystem.cli(&["uninstall", name]).ok();
        ecosystem.stop();
        ecosystem.wake(&[]);
        assert_eq!(kept(&store), 0, "swept with the file");
        ecosystem.stop();
    }
}

/// The commands whose schemas are compared with the code, with arguments that they take.
const COMPARED: [(&str, &str); 8] = [
    ("add_point", r#"[{"x":1},"home"]"#),
    ("figure", r#"["empty"]"#),
    ("integers", "[1,-1,1,1]"),
    ("fractions", "[0.5,0.5]"),
    ("texts", r#"["a","b","c"]"#),
    ("turned", r#"["AQID"]"#),
    ("collections", r#"[[true],{"a":1},{"1":true},[1]]"#),
    ("anything", "[1,null]"),
];

/// Returns values near the edges of the types above. A number with a point is left out: JSON Schema has no word for the
/// difference between an integer and a whole number, and no type of 128 bits takes one.
fn values() -> impl Strategy<Value = Value> {
    let integers = [
        0,
        1,
        -1,
        127,
        128,
        255,
        256,
        -128,
        -129,
        65535,
        65536,
        i64::MAX,
        i64::MIN,
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        sample::select(integers.to_vec()).prop_map(Value::from),
        Just(json!(u64::MAX)),
        (-1000..1000_i32).prop_map(|hundredths| json!(f64::from(hundredths) / 64.0 + 0.001)),
        sample::select(vec!["", "a", "é", "ab", "empty", "dot", "1"]).prop_map(Value::from),
        sample::select(vec![
            "Zm9v", "Zg==", "Zm9vZm8=", "Zh==", "Zm9", "-_4A", "=", "Zg==Zm9v"
        ])
        .prop_map(Value::from),
    ];
    let keys = sample::select(vec![
        "x", "y", "label", "dot", "group", "parts", "1", "-5", "a",
    ]);
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            collection::btree_map(keys.clone(), inner, 0..3).prop_map(|members| json!(members)),
        ]
    })
}

/// A command with its schema, compiled.
struct Compared {
    command: &'static str,
    arguments: Vec<Value>,
    schemas: Vec<Validator>,
    result: Validator,
}

impl Compared {
    fn all(guest: &mut Guest) -> Vec<Self> {
        let compiled = |schema: &Value| {
            jsonschema::draft202012::new(schema).expect("a schema of the draft 2020-12")
        };
        let of = |(command, arguments): (&'static str, &str)| {
            let schema = schema_of(guest, command);
            let all = schema["arguments"].as_array().expect("a list").clone();
            Compared {
                command,
                arguments: serde_json::from_str(arguments).expect("JSON"),
                schemas: all.iter().map(|one| compiled(&one["schema"])).collect(),
                result: compiled(&schema["result"]),
            }
        };
        COMPARED.map(of).into()
    }

    /// Sends the command with `value` in place of one argument, and compares the answer with both schemas.
    fn check(&self, guest: &mut Guest, index: usize, value: &Value) -> Result<(), TestCaseError> {
        let at = index % self.schemas.len();
        let mut arguments = self.arguments.clone();
        arguments[at] = value.clone();
        // An integer that an `f64` would round is refused, and no schema can say that.
        if self.command == "fractions" && is_rounded(value) {
            return Ok(());
        }
        let fits = self.schemas[at].is_valid(value);
        match guest.try_ask(self.command, &json!(arguments)) {
            Ok(result) => {
                prop_assert!(fits, "{} takes {value} as argument {at}", self.command);
                prop_assert!(self.result.is_valid(&result), "{}: {result}", self.command);
            }
            Err(fault) => {
                prop_assert_eq!(&fault.code, "bad-arguments");
                prop_assert!(!fits, "{}: {value}: {}", self.command, fault.message);
            }
        }
        Ok(())
    }
}

fn is_rounded(value: &Value) -> bool {
    let limit = 1 << 53;
    let integer = value
        .as_i64()
        .map(i64::unsigned_abs)
        .or_else(|| value.as_u64());
    integer.is_some_and(|integer| integer > limit)
}

#[test]
fn a_command_takes_what_its_schema_allows_and_refuses_the_rest() {
    both(|_, guest| {
        let compared = Compared::all(guest);
        let guest = std::cell::RefCell::new(guest);
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::with_cases(500)
        });
        let cases = (0..compared.len(), any::<usize>(), values());
        let result = runner.run(&cases, |(which, index, value)| {
            compared[which].check(&mut guest.borrow_mut(), index, &value)
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn arguments_have_names_where_no_object_is_meant() {
    both(|_, guest| {
        let named = json!({"word": "b", "letter": "a", "more": ["c", "d"]});
        assert_eq!(guest.ask("texts", &named), json!(["a", "b", "c", "d"]));
        guest.send("fractions#5 {single: .5, double: 2}\n");
        guest.expect("fractions#5 [[2,0.5]]");
        let wrong = guest.ask_in_vain("fractions", &json!({"single": 1, "doubel": 2}));
        assert_eq!(wrong.code, "bad-arguments");
        assert_eq!(
            wrong.message,
            "there is no argument doubel; did you mean double?"
        );
        // The first argument of these takes an object, so an object is that argument.
        assert_eq!(guest.ask("add_point", &json!({"x": 1})), 1);
        let alone = guest.ask_in_vain("add_point", &json!({"point": {"x": 1}}));
        assert!(alone.message.contains("`x` is missing"), "{alone:?}");
        let any = guest.ask_in_vain("anything", &json!({"value": 1, "nothing": null}));
        assert!(any.message.contains("it takes 2 arguments"), "{any:?}");
    });
}

/// The plugin `counter` as it was built before manifests had schemas (release, opt-level "z", lto, stripped), for x86-64
/// Linux with glibc.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[test]
fn a_plugin_built_before_schemas_runs_as_it_did() {
    const BUILT_BEFORE: &[u8] = include_bytes!("schemas/counter-before-schemas.so");
    let mut ecosystem = Ecosystem::start();
    let file = dae_tests::spoil::write(&ecosystem.scratch(), "before.so", BUILT_BEFORE);
    let file = file.to_str().expect("UTF-8");
    let described = ecosystem.cli(&["check", file, "--json"]).ok().stdout;
    let described: Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described["manifest"]["run_time_schemas"], false);
    for (name, flags) in DAEMONS {
        let _ = ecosystem
            .cli(&[&["install", name, file], flags].concat())
            .ok();
        let mut guest = ecosystem.guest(name);
        assert_eq!(guest.ask("increment", &json!([5])), 5);
        let increment = schema_of(&mut guest, "increment");
        assert_eq!(increment["arguments"][0]["schema"], true, "it is not known");
        assert_eq!(increment["result"], true);
        // The running host takes a file with schemas in its place, and the state goes along.
        let newer = ecosystem.plugin("counter");
        let newer = newer.to_str().expect("UTF-8");
        let _ = ecosystem.cli(&["install", name, newer, "--replace"]).ok();
        assert_eq!(guest.ask("increment", &json!([1])), 6);
        assert_eq!(
            schema_of(&mut guest, "increment")["result"]["type"],
            "integer"
        );
    }
    ecosystem.stop();
}
