//! JSON5 to strict JSON, for people who type: the seed's own example leaves a key unquoted.
//!
//! Only reached when strict JSON failed. The JSON5 reader recurses by nesting, so the nesting is bounded before it sees
//! a byte: no line of a guest may end the host's stack.

use serde_json::Value;

/// How deep arrays and objects may nest; serde_json's own limit, so that both dialects allow the same.
const DEPTH_MAX: usize = 128;

/// The same arguments as strict JSON.
///
/// # Errors
/// A text for the guest: what is wrong with it, as JSON5.
pub fn to_strict(arguments: &str) -> Result<String, String> {
    if depth(arguments) > DEPTH_MAX {
        return Err(format!("the arguments nest deeper than {DEPTH_MAX}"));
    }
    let value: Value = json5::from_str(arguments).map_err(|error| {
        format!("the arguments are neither JSON nor JSON5: {error}; expected e.g. [\"text\", 5]")
    })?;
    Ok(value.to_string())
}

/// The deepest nesting that the brackets could mean. Those within strings count as well: too careful for a string of
/// 129 brackets that isn't strict JSON, which nobody types.
fn depth(arguments: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in arguments.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_becomes_json() {
        for (typed, strict) in [
            (
                "[\"argument1\", {x: \"argumenttwo\"}]",
                r#"["argument1",{"x":"argumenttwo"}]"#,
            ),
            ("['hi',]", r#"["hi"]"#),
            ("[0x10, +1, .5]", "[16,1,0.5]"),
            ("[1, /* two */ 2]", "[1,2]"),
        ] {
            assert_eq!(to_strict(typed).unwrap(), strict, "{typed}");
        }
    }

    #[test]
    fn nonsense_is_an_error_and_so_is_depth() {
        assert!(
            to_strict("hello world")
                .unwrap_err()
                .contains("neither JSON nor JSON5")
        );
        let deep = "[".repeat(1 << 20);
        assert!(to_strict(&deep).unwrap_err().contains("nest deeper"));
    }
}
