//! The same JSON in the many shapes that serde has for it: tagged, flattened, untagged and recursive types.

use super::*;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StrictCircle {
    radius: u64,
}

/// Serde removes the tag before the struct sees it.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum StrictTagged {
    Empty,
    Circle(StrictCircle),
    Square { side: u32 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Round {
    Circle,
    Disc,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct RoundFigure {
    kind: Round,
    radius: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum RoundTagged {
    /// A line.
    Circle(Circle),
    Disc {
        radius: u64,
    },
}

/// It has no discs.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Discless {
    Circle(Circle),
    Ring(Circle),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Loose {
    kind: String,
    radius: Option<u64>,
    side: Option<u32>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum TextTagged {
    Empty,
    Circle { radius: String },
    Square { side: u32 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatCircle {
    id: u8,
    #[serde(flatten)]
    circle: Circle,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatStrict {
    id: u8,
    #[serde(flatten)]
    circle: StrictCircle,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct InlineCircle {
    radius: u64,
    id: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatTagged {
    id: u8,
    #[serde(flatten)]
    figure: Tagged,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum TaggedWithId {
    Empty { id: u8 },
    Circle(InlineCircle),
    Square { id: u8, side: u32 },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum LeftOrRight {
    Left(Left),
    Right {
        #[serde(rename = "Right")]
        right: u8,
    },
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Left {
    #[serde(rename = "Left")]
    left: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct LeftWithId {
    id: u8,
    #[serde(rename = "Left")]
    left: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatOption {
    #[serde(flatten)]
    circle: Option<Circle>,
    id: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct MaybeCircle {
    id: u8,
    radius: Option<u64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FlatMap {
    id: u8,
    #[serde(flatten)]
    others: HashMap<String, u64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Both {
    of: Value,
    kind: String,
    #[serde(flatten)]
    side: LeftRight,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct BothAndMore {
    kind: String,
    more: u8,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op")]
enum Expression {
    Number { value: i64 },
    Sum(Pair),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Pair {
    left: Box<Expression>,
    right: Box<Expression>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op")]
enum InlineExpression {
    Number(Number),
    Sum {
        left: Box<InlineExpression>,
        right: Box<InlineExpression>,
    },
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Number {
    value: i64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op")]
enum ByteExpression {
    Number {
        value: u8,
    },
    Sum {
        left: Box<ByteExpression>,
        right: Box<ByteExpression>,
    },
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "of")]
enum AlsoAdjacent {
    Empty,
    Circle { radius: u64 },
    Square(SquareSide),
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct SquareSide {
    side: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Numbered {
    #[serde(rename = "7")]
    seven: u8,
}

/// The types of this file, with all of which a type fits that is the same on both sides.
macro_rules! same {
    ($($of:ty),* $(,)?) => {
        [$((stringify!($of), gap!($of => $of))),*]
    };
}

#[test]
fn each_shape_fits_itself() {
    for (name, gap) in same![
        StrictTagged,
        RoundFigure,
        RoundTagged,
        Loose,
        FlatCircle,
        FlatStrict,
        FlatTagged,
        TaggedWithId,
        LeftOrRight,
        FlatOption,
        FlatMap,
        Both,
        Expression,
        InlineExpression,
        AlsoAdjacent,
        Numbered,
        Vec<Option<FlatTagged>>,
        HashMap<String, Expression>,
    ] {
        assert_eq!(gap, None, "{name}");
    }
}

#[test]
fn other_shapes_of_the_same_json_fit_in_both_directions() {
    for gap in [
        gap!(StrictTagged => Tagged),
        gap!(Tagged => StrictTagged),
        gap!(StrictTagged => AlsoTagged),
        gap!(AlsoTagged => StrictTagged),
        gap!(RoundFigure => RoundTagged),
        gap!(RoundTagged => RoundFigure),
        gap!(FlatCircle => InlineCircle),
        gap!(InlineCircle => FlatCircle),
        gap!(FlatStrict => InlineCircle),
        gap!(InlineCircle => FlatStrict),
        gap!(FlatTagged => TaggedWithId),
        gap!(TaggedWithId => FlatTagged),
        gap!(LeftRight => LeftOrRight),
        gap!(LeftOrRight => LeftRight),
        gap!(Expression => InlineExpression),
        gap!(InlineExpression => Expression),
        gap!(Adjacent => AlsoAdjacent),
        gap!(AlsoAdjacent => Adjacent),
        gap!(Option<Vec<FlatTagged>> => Option<Vec<TaggedWithId>>),
    ] {
        assert_eq!(gap, None);
    }
}

#[test]
fn a_shape_fits_one_that_reads_more() {
    for gap in [
        gap!(Tagged => Loose),
        gap!(StrictTagged => Loose),
        gap!(Loose => Tagged),
        gap!(FlatTagged => Tagged),
        gap!(FlatOption => MaybeCircle),
        gap!(InlineCircle => FlatOption),
        gap!(FlatMap => InlineCircle),
        gap!(LeftWithId => FlatLeftRight),
        gap!(ByteExpression => Expression),
        gap!(ByteExpression => InlineExpression),
        gap!(Numbered => BTreeMap<u32, u64>),
    ] {
        assert_eq!(gap, None);
    }
}

#[test]
fn shapes_of_other_json_do_not_fit() {
    for (gap, path) in [
        (gap!(Tagged => TextTagged), "at :"),
        (gap!(StrictTagged => TextTagged), "at :"),
        (gap!(TextTagged => Tagged), "at :"),
        (
            gap!(RoundTagged => Discless),
            r#"at .kind: "Disc", not "Circle" or "Ring";"#,
        ),
        (gap!(RoundFigure => Discless), "at .kind"),
        (
            gap!(Tagged => RoundTagged),
            r#"at .kind: "Empty", not "Circle" or "Disc";"#,
        ),
        (gap!(Tagged => Circle), "at .radius: an object that may"),
        (gap!(FlatCircle => MaybeText), "at .radius"),
        (gap!(FlatTagged => TaggedText), "at .id"),
        (gap!(TaggedWithId => LeftWithId), "at .Left"),
        (gap!(FlatLeftRight => LeftWithId), "at .Left"),
        (gap!(LeftOrRight => Left), "at .Left"),
        (gap!(Circle => FlatCircle), "at .id"),
        (gap!(FlatLeftRight => LeftRight), "at .id"),
        (gap!(Circle => FlatLeftRight), "at "),
        (gap!(FlatBoth => BothAndMore), "at .more"),
        (gap!(FlatBoth => LeftWithId), "at "),
        (gap!(Expression => ByteExpression), "at :"),
        (gap!(InlineExpression => ByteExpression), "at :"),
        (gap!(Adjacent => Tagged), "at :"),
        (gap!(Tagged => Adjacent), "at :"),
        (gap!(FlatTagged => Vec<Tagged>), "at :"),
        (gap!(FlatBoth => String), "at :"),
        (gap!(StrictTagged => u8), "at :"),
    ] {
        let gap = gap.unwrap_or_else(|| panic!("it fits, and its gap begins with {path}"));
        assert!(gap.starts_with(path), "{gap}");
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct MaybeText {
    radius: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum TaggedText {
    Empty { id: String },
    Circle { id: String, radius: u64 },
    Square { id: String },
}
