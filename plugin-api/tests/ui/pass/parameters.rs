//! Every kind of parameter and result, in sync, blocking and async commands, and what the manifest says about them.

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

/// An error that is only a text.
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

    #[command(name = "waits-too", blocking)]
    fn waits_too(&self, r#type: &str) -> String {
        r#type.to_owned()
    }

    #[command]
    fn r#match(&self, mut n: u8) -> u8 {
        n += self.no_command();
        n
    }

    fn no_command(&self) -> u8 {
        1
    }
}

/// `name: type` of each argument of a command, as `help` would show it.
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

fn main() {
    let manifest: Value = json::from_str(Everything::manifest()).expect("valid JSON");
    assert_eq!(manifest["name"], "Every-thing_1.0");
    assert_eq!(
        manifest["about"],
        "Takes \"everything\".\n\nEven a \\ in its text."
    );
    assert_eq!(manifest["abi"], dae_plugin_api::ABI_VERSION_MAX);
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["api_version"], dae_plugin_api::API_VERSION);
    assert_eq!(manifest["rustc"], dae_plugin_api::RUSTC);
    assert_eq!(manifest["target"], dae_plugin_api::TARGET);
    assert_eq!(manifest["panic"], "unwind");
    for absent in ["start", "run", "stop"] {
        assert_eq!(manifest[absent], Value::Null, "{absent}");
    }
    let commands = manifest["commands"].as_array().expect("a list");
    let found: Vec<_> = commands
        .iter()
        .map(|one| {
            let name = one["name"].as_str().expect("a name");
            (name, one["kind"].as_str().expect("a kind"), arguments(one))
        })
        .collect();
    let expected = [
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
    ];
    assert_eq!(
        found,
        expected.map(|(name, kind, arguments)| (name, kind, arguments.to_owned()))
    );
    assert_eq!(commands[0]["doc"], "Nothing in, nothing out.");
    assert_eq!(commands[1]["doc"], "");
}
