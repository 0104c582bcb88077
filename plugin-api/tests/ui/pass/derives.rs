//! The derives of the prelude: they write and read what serde's own do, with all of serde's attributes, beside other
//! derives, in a module that uses serde itself, and on types of any name.

// The code of the derives must not warn, as serde's own doesn't.
#![deny(warnings)]

use std::collections::BTreeMap;

use dae_plugin_api::prelude::*;

/// A struct with a type parameter, a lifetime and attributes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry<'a, T: Clone> {
    /// A field with a doc comment.
    #[serde(default)]
    first_name: String,
    #[serde(skip)]
    kept: u8,
    #[serde(borrow)]
    text: &'a str,
    #[serde(flatten)]
    more: BTreeMap<String, u8>,
    value: T,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Shape {
    #[serde(rename = "dot")]
    Dot,
    Circle {
        radius: f64,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, Option<Unit>);

/// It names serde's crate itself.
#[derive(Serialize)]
#[serde(rename_all = "UPPERCASE", crate = "dae_plugin_api::serde")]
struct Named {
    name: u8,
}

/// Serde's code uses a deprecated item without a warning.
#[derive(Serialize, Deserialize)]
#[deprecated]
struct Old {
    n: u8,
}

#[derive(Serialize, Deserialize)]
#[allow(deprecated)]
struct WithOld {
    old: Old,
}

#[derive(Serialize, Deserialize)]
enum Signal {
    #[deprecated]
    Stop,
    Go,
}

/// Only one of the two, and a const parameter.
#[derive(Serialize)]
#[serde(transparent)]
struct Wrapped<const N: usize>
where
    [u8; N]: Serialize,
{
    bytes: [u8; N],
}

/// Serde's own derive, by a path of its own.
mod own {
    #[allow(unused_imports)]
    use dae_plugin_api::prelude::*;
    use dae_plugin_api::serde::Serialize;

    #[derive(Serialize)]
    #[serde(crate = "dae_plugin_api::serde")]
    pub struct Own {
        pub own: bool,
    }
}

macro_rules! named {
    ($($name:ident)*) => { $(
        /// A type of the author's with a name that the code of the macro has, too.
        #[derive(Default, Serialize, Deserialize)]
        struct $name {
            n: u8,
        }
    )* };
}

named!(Arc Call Ended Exported Live Optional Required Rest StartRequest Started Text);

/// A daemon whose `start` takes only its config.
struct Sample(usize);

#[daemon]
impl Sample {
    async fn start(config: BTreeMap<String, String>) -> Self {
        Sample(config.len())
    }

    #[command]
    fn count(&self) -> usize {
        self.0
    }

    #[command]
    fn named(&self, a: Arc, c: Call, l: Live, o: Optional, r: Required, s: Started, t: Text) -> Ended {
        let n = a.n + c.n + l.n + o.n + r.n + s.n + t.n;
        Ended { n }
    }

    #[command]
    async fn named_async(&self, e: Exported, s: StartRequest, #[rest] more: Vec<Rest>) -> Result<u8> {
        Ok(e.n + s.n + more.iter().map(|one| one.n).sum::<u8>())
    }

    #[command]
    fn shape(&self, shape: Shape) -> Shape {
        shape
    }
}

fn text(value: &impl Serialize) -> String {
    json::to_string(value).expect("it can be written")
}

fn main() {
    let given = r#"{"firstName":"Ada","text":"x","value":[1]}"#;
    let wrong = r#"{"firstName":1,"text":"x","value":[1]}"#;
    let entry: Entry<Vec<u8>> = json::from_str(given).expect("it can be read");
    assert_eq!((entry.first_name.as_str(), entry.kept, entry.text), ("Ada", 0, "x"));
    assert_eq!(text(&entry), given);
    assert!(json::from_str::<Entry<Vec<u8>>>(wrong).is_err());

    for (shape, written) in [
        (Shape::Dot, r#"{"kind":"dot"}"#),
        (Shape::Circle { radius: 0.5 }, r#"{"kind":"Circle","radius":0.5}"#),
    ] {
        assert_eq!(text(&shape), written);
        assert_eq!(json::from_str::<Shape>(written).expect("it can be read"), shape);
    }
    assert_eq!(text(&Pair(1, None)), "[1,null]");
    assert_eq!(json::from_str::<Pair>("[1,null]").expect("it can be read"), Pair(1, None));
    assert_eq!(text(&Named { name: 1 }), r#"{"NAME":1}"#);
    assert_eq!(text(&Wrapped { bytes: [1, 2] }), "[1,2]");
    #[allow(deprecated)]
    let old = WithOld { old: Old { n: 1 } };
    assert_eq!(text(&old), r#"{"old":{"n":1}}"#);
    assert_eq!(text(&Signal::Go), r#""Go""#);
    assert_eq!(text(&own::Own { own: true }), r#"{"own":true}"#);
}
