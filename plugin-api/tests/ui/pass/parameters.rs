//! Every kind of parameter and result, in sync, blocking and async commands, and their entries in the manifest.

use std::collections::HashMap;
use std::fmt;

use dae_plugin_api::export::Exported;
use dae_plugin_api::prelude::*;
use json::{Value, json};

/// A point, as an author's own type.
#[derive(Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
}

/// An error with nothing but a text.
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

type Outcome<T> = std::result::Result<T, Refused>;

#[derive(Default)]
struct Everything;

/// Takes "everything".
///
/// Even a \ in its text.
#[daemon(name = "Every-thing_1.0")]
impl Everything {
    /// Nothing in, nothing out.
    #[command]
    fn nothing(&self) {}

    #[command]
    fn owned(&self, text: String, flag: bool, count: u32, letter: char) -> Value {
        json!([text, flag, count, letter])
    }

    #[command]
    fn borrowed(&self, text: &str, other: &str) -> usize {
        text.len() + other.len()
    }

    #[command]
    async fn borrowed_async(&self, text: &str, point: Point) -> String {
        format!("{text} {} {}", point.x, point.y)
    }

    #[command]
    fn given(&self, guest: Guest, eco: Ecosystem, n: i64) -> u64 {
        let _ = (eco.credential(), n);
        guest.id()
    }

    #[command]
    async fn given_by_reference(&self, n: i64, guest: &Guest, eco: &Ecosystem) -> Result<()> {
        eco.sleep(std::time::Duration::ZERO).await;
        guest.emit("n", (n,))
    }

    #[command]
    fn given_in_full(&self, guest: &dae_plugin_api::Guest, eco: dae_plugin_api::Ecosystem) {
        let _ = (guest, eco);
    }

    #[command]
    fn trailing(&self, a: u8, b: Option<u8>, c: Option<Point>) -> Option<u8> {
        c.and(Some(a)).or(b)
    }

    #[command]
    fn null_in_front(&self, a: Option<u8>, b: u8) -> u8 {
        a.unwrap_or(b)
    }

    #[command]
    fn rest(&self, first: Option<String>, #[rest] more: Vec<f64>, guest: &Guest) -> f64 {
        let _ = (first, guest);
        more.iter().sum()
    }

    #[command]
    async fn rest_async(&self, #[rest] points: Vec<Point>) -> usize {
        points.len()
    }

    #[command(name = "other-name")]
    fn renamed(&self, list: Vec<HashMap<String, u8>>, pair: (u8, String)) -> Outcome<Point> {
        let _ = (list, pair);
        Err(Refused)
    }

    #[command(blocking)]
    fn waits(&self) -> std::io::Result<String> {
        std::fs::read_to_string("/dev/null")
    }

    #[command(name = "waits-too", blocking, timeout_s = 5)]
    fn waits_too(&self, r#type: &str) -> String {
        r#type.to_owned()
    }

    #[command(timeout_s = 0.25)]
    fn r#match(&self, mut n: u8) -> u8 {
        n += self.no_command();
        n
    }

    /// A `const fn` is as good as a `fn`.
    #[command(timeout_s = 86_400)]
    const fn constant(&self) -> u8 {
        1
    }

    fn no_command(&self) -> u8 {
        1
    }
}

/// Returns `name: type` of each argument of a command, as `help` shows it.
fn arguments(command: &Value) -> String {
    let all = command["arguments"].as_array().expect("a list");
    let shown = all.iter().map(|one| {
        let text = |key: &str| one[key].as_str().expect("a text");
        let rest = if one["rest"] == true { "..." } else { "" };
        let optional = if one["optional"] == true { "?" } else { "" };
        format!("{rest}{}{optional}: {}", text("name"), text("type"))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The name, kind and arguments of every command, in the order of the source.
const COMMANDS: [(&str, &str, &str); 16] = [
    ("nothing", "sync", ""),
    (
        "owned",
        "sync",
        "text: string, flag: boolean, count: integer from 0, letter: string",
    ),
    ("borrowed", "sync", "text: string, other: string"),
    ("borrowed_async", "async", "text: string, point: Point"),
    ("given", "sync", "n: integer"),
    ("given_by_reference", "async", "n: integer"),
    ("given_in_full", "sync", ""),
    (
        "trailing",
        "sync",
        "a: integer from 0, b?: integer from 0, c?: Point",
    ),
    (
        "null_in_front",
        "sync",
        "a: integer from 0 or null, b: integer from 0",
    ),
    ("rest", "sync", "first?: string, ...more: number"),
    ("rest_async", "async", "...points: Point"),
    (
        "other-name",
        "sync",
        "list: array of object of integer from 0, pair: [integer from 0, string]",
    ),
    ("waits", "blocking", ""),
    ("waits-too", "blocking", "type: string"),
    ("match", "sync", "n: integer from 0"),
    ("constant", "sync", ""),
];

/// The time limits of the commands that have one.
const LIMITS_MS: [(&str, u64); 3] = [("waits-too", 5000), ("match", 250), ("constant", 86_400_000)];

fn main() {
    let manifest: Value = json::from_str(Everything::manifest()).expect("valid JSON");
    let facts = [
        ("name", json!("Every-thing_1.0")),
        (
            "about",
            json!("Takes \"everything\".\n\nEven a \\ in its text."),
        ),
        ("abi", json!(dae_plugin_api::ABI_VERSION_MAX)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("api_version", json!(dae_plugin_api::API_VERSION)),
        ("rustc", json!(dae_plugin_api::RUSTC)),
        ("target", json!(dae_plugin_api::TARGET)),
        ("panic", json!("unwind")),
        ("start", Value::Null),
        ("run", Value::Null),
        ("stop", Value::Null),
    ];
    for (key, fact) in facts {
        assert_eq!(manifest[key], fact, "{key}");
    }
    let commands = manifest["commands"].as_array().expect("a list");
    assert_eq!(commands[0]["doc"], "Nothing in, nothing out.");
    assert_eq!(commands[1]["doc"], "");
    assert_eq!(commands.len(), COMMANDS.len());
    for (command, (name, kind, expected)) in commands.iter().zip(COMMANDS) {
        assert_eq!(
            (&command["name"], &command["kind"]),
            (&json!(name), &json!(kind))
        );
        assert_eq!(arguments(command), expected, "{name}");
        let limit = LIMITS_MS.iter().find(|(of, _)| *of == name);
        assert_eq!(command.get("timeout_ms"), limit.map(|(_, ms)| json!(ms)).as_ref());
    }
}
