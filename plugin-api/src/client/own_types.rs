//! Tests of the comparison with the schemas that `schemars` makes of an author's types: one type is on both sides, or two
//! types with the same JSON.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fit::fits;
use crate::Bytes;
use crate::schema::run_time::DescribedLater as _;
use crate::schema::{Probe, Schema};

/// Returns the gap between the JSON that one type writes and that which another one reads.
macro_rules! gap {
    ($sent:ty => $read:ty) => {
        gap_of(
            (&&Probe::<$sent>::NEW).sent_schema(&Schema::Unknown),
            (&&Probe::<$read>::NEW).given_schema(&Schema::Unknown),
        )
    };
}

fn gap_of(sent: Option<Value>, read: Option<Value>) -> Option<String> {
    let (sent, read) = (sent.expect("a schema"), read.expect("a schema"));
    let gap = fits(&sent, &read).err()?;
    Some(format!(
        "at {}: {}, not {}; {sent} in {read}",
        gap.path, gap.given, gap.taken
    ))
}

mod shapes;

#[derive(Serialize, Deserialize, JsonSchema, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    far_east: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default)]
    tags: Vec<u8>,
    letter: char,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Circle {
    radius: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Outer {
    Nothing,
    #[serde(rename = "none")]
    Neither,
    One(Place),
    Pair(u8, Option<bool>),
    Named {
        circle: Circle,
    },
    Again(Box<Outer>),
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Tagged {
    Empty,
    Circle(Circle),
    Square { side: u32 },
}

/// The JSON of `Tagged`, otherwise written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum AlsoTagged {
    Empty,
    Circle { radius: u64 },
    Square { side: u32 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Empty,
    Circle(Circle),
    Square { side: u32 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Circle(Circle),
    List(Vec<Untagged>),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    circle: Circle,
    #[serde(flatten)]
    figure: Adjacent,
    #[serde(flatten)]
    side: Option<LeftRight>,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum LeftRight {
    Left(u8),
    Right(u8),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatLeftRight {
    id: u8,
    #[serde(flatten)]
    side: LeftRight,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatBoth {
    #[serde(flatten)]
    side: LeftRight,
    #[serde(flatten)]
    adjacent: Adjacent,
}

/// A value of `FlatLeftRight` is one of this type.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Merged {
    id: u8,
    #[serde(rename = "Left")]
    left: Option<u8>,
    #[serde(rename = "Right")]
    right: Option<u8>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BuiltIn {
    by_number: BTreeMap<u32, Circle>,
    by_name: HashMap<String, (u8, f32)>,
    set: HashSet<Place>,
    array: [i16; 3],
    took: Duration,
    bytes: Bytes,
    any: Value,
    nothing: (),
    wide: (i128, u128, usize),
    #[serde(rename = "type")]
    of: std::num::NonZeroU8,
    address: std::net::IpAddr,
    result: Result<u8, String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Hollow;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Wrapped(Vec<Place>);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Couple(u8, String);

#[derive(Serialize, Deserialize, JsonSchema)]
enum Light {
    Red,
    Green,
}

/// The JSON of `Light`. A documented variant has a schema of its own.
#[derive(Serialize, Deserialize, JsonSchema)]
enum DocumentedLight {
    /// Stop.
    Red,
    Green,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum DocumentedThree {
    /// Stop.
    Red,
    Green,
    Yellow,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Skipping {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

/// It reads what `Skipping` writes.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Defaulting {
    #[serde(default)]
    label: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Nullable {
    label: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatText {
    id: String,
    #[serde(rename = "Left")]
    left: u8,
}

#[test]
fn a_type_that_is_the_same_on_both_sides_fits() {
    for gap in [
        gap!(Place => Place),
        gap!(Outer => Outer),
        gap!(Tagged => Tagged),
        gap!(Adjacent => Adjacent),
        gap!(Untagged => Untagged),
        gap!(Flat => Flat),
        gap!(FlatLeftRight => FlatLeftRight),
        gap!(FlatBoth => FlatBoth),
        gap!(BuiltIn => BuiltIn),
        gap!(Hollow => Hollow),
        gap!(Wrapped => Wrapped),
        gap!(Couple => Couple),
        gap!(DocumentedLight => DocumentedLight),
        gap!(Skipping => Skipping),
        gap!(Vec<Option<Outer>> => Vec<Option<Outer>>),
        gap!(&[Place] => Vec<Place>),
        gap!(&Circle => Circle),
        gap!(Option<&Circle> => Option<Circle>),
    ] {
        assert_eq!(gap, None);
    }
}

#[test]
fn another_type_with_the_same_json_fits() {
    for gap in [
        gap!(Light => DocumentedLight),
        gap!(DocumentedLight => Light),
        gap!(Light => DocumentedThree),
        gap!(Option<Light> => Option<DocumentedLight>),
        gap!(Option<DocumentedLight> => Option<Light>),
        gap!(Skipping => Defaulting),
        gap!(Tagged => AlsoTagged),
        gap!(AlsoTagged => Tagged),
        gap!(FlatLeftRight => Merged),
        gap!(FlatBoth => Value),
        gap!(Flat => Circle),
        gap!(Couple => (u8, String)),
        gap!(Circle => HashMap<String, u64>),
        gap!(Hollow => ()),
        gap!(Option<Circle> => Option<Circle>),
    ] {
        assert_eq!(gap, None);
    }
}

#[test]
fn another_type_with_other_json_does_not_fit() {
    for (gap, path) in [
        (gap!(Circle => Place), "at .radius"),
        (gap!(Merged => Circle), "at .radius"),
        (gap!(Option<Circle> => Circle), "at :"),
        (gap!(Place => Circle), "at .radius"),
        (gap!(Couple => (u8, bool)), "at [1]"),
        (gap!(Vec<Circle> => Vec<Merged>), "at [0].id"),
        (gap!(LeftRight => Outer), "at :"),
        (gap!(DocumentedThree => Light), "at :"),
        (gap!(DocumentedThree => DocumentedLight), "at :"),
        (gap!(Nullable => Defaulting), "at .label"),
        (gap!(FlatText => FlatLeftRight), "at .id"),
    ] {
        let gap = gap.expect("it doesn't fit");
        assert!(gap.starts_with(path), "{gap}");
    }
}
