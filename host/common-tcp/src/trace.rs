//! Traces: the line by which a connection says which trace its next command belongs to.
//!
//! The line is a `dae` with arguments, which no side answers. So it is harmless to a side that doesn't know of traces. Its
//! value is that of the header `traceparent` of W3C Trace Context (level 2): the trace, the span of the caller, and flags.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// The flag of a trace that its caller records.
const SAMPLED: u8 = 0b01;
/// The flags that version 00 defines: sampled, and that the trace id is random.
const KNOWN_FLAGS: u8 = 0b11;
/// The length of version 00, and of the part of any later version that is read (bytes).
const TEXT_BYTES: usize = 55;

/// The place of a command in a trace, as `traceparent` has it.
///
/// ```
/// use dae_common_tcp::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = text.parse()?;
/// assert!(parent.is_sampled());
/// assert_eq!(parent.to_string(), text);
/// # Ok::<(), dae_common_tcp::NotATraceParent>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Makes the place of a span in a trace. `flags` that version 00 doesn't define are left out. Returns `None` if the
    /// number of the trace or of the span is 0, which means none.
    #[must_use]
    pub fn new(trace_id: u128, span_id: u64, flags: u8) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then_some(TraceParent {
            trace_id,
            span_id,
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// Returns the number of the trace. As text it has 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the number of the span. As text it has 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Returns the flags.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Returns whether the caller records the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TraceParent {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// The error for a text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATraceParent;

impl fmt::Display for NotATraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected `00-`, 32 and 16 hexadecimal digits in lower case that are not all 0, and two for the flags, with `-` \
             between them",
        )
    }
}

impl std::error::Error for NotATraceParent {}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Reads the value of a `traceparent`. A version above 00 is read as far as it equals version 00.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        read(text).ok_or(NotATraceParent)
    }
}

fn read(text: &str) -> Option<TraceParent> {
    let (known, more) = text.split_at_checked(TEXT_BYTES)?;
    let mut parts = known.split('-');
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_number = part.bytes().all(is_digit);
        is_number.then(|| u128::from_str_radix(part, 16).ok())?
    };
    let version = number(2)?;
    let (trace_id, span_id, flags) = (number(32)?, number(16)?, number(2)?);
    let is_whole = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more.starts_with('-'),
    };
    let span_id = u64::try_from(span_id).ok()?;
    let flags = u8::try_from(flags).ok()?;
    TraceParent::new(trace_id, span_id, flags).filter(|_| is_whole && parts.next().is_none())
}

/// Returns the trace that the arguments of a `dae` name for the next command of the connection. Returns `None` for anything
/// else, such as a credential, or a value that breaks the rules: the command then belongs to no trace.
///
/// ```
/// use dae_common_tcp::trace_of;
///
/// let line = r#"[{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}]"#;
/// assert_eq!(trace_of(line).map(|parent| parent.span_id()), Some(0x00f0_67aa_0ba9_02b7));
/// assert_eq!(trace_of(r#"[{"traceparent":"nonsense"}]"#), None);
/// ```
#[must_use]
pub fn trace_of(arguments: &str) -> Option<TraceParent> {
    let object = request(arguments)?;
    object.get("traceparent")?.as_str()?.parse().ok()
}

/// Returns the object by which the arguments of a `dae` ask for something. A credential, which has a name, asks for
/// nothing.
pub(crate) fn request(arguments: &str) -> Option<Map<String, Value>> {
    let value = match serde_json::from_str(arguments).ok()? {
        Value::Array(all) => <[Value; 1]>::try_from(all).ok()?[0].take(),
        value => value,
    };
    match value {
        Value::Object(object) if !object.contains_key("name") => Some(object),
        _ => None,
    }
}

/// Appends the line that names the trace of the next command.
///
/// ```
/// use dae_common_tcp::{TraceParent, write_trace};
///
/// let mut out = Vec::new();
/// let parent = TraceParent::new(1, 2, 1).expect("numbers above 0");
/// write_trace(&mut out, &parent);
/// let expected = "dae [{\"traceparent\":\"00-00000000000000000000000000000001-0000000000000002-01\"}]\n";
/// assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
/// ```
pub fn write_trace(out: &mut Vec<u8>, parent: &TraceParent) {
    let line = format!("dae [{{\"traceparent\":\"{parent}\"}}]\n");
    out.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_that_breaks_a_rule_is_no_trace() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(good.parse::<TraceParent>().is_ok());
        for bad in [
            "",
            "00",
            // Upper case, zeros, the version that means none.
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            // Too long for version 00, or not parted by `-`.
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00 4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-3600f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\u{e9}",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotATraceParent), "{bad}");
        }
        let later: TraceParent = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more"
            .parse()
            .unwrap();
        assert!(later.to_string().starts_with("00-") && later.to_string().ends_with("-03"));
    }

    #[test]
    fn only_an_object_with_a_trace_and_without_a_name_names_one() {
        let parent = TraceParent::new(7, 9, 1).unwrap();
        for (arguments, names) in [
            (format!("[{{\"traceparent\":\"{parent}\"}}]"), true),
            (
                format!("{{\"traceparent\":\"{parent}\",\"parts\":true}}"),
                true,
            ),
            (
                format!("[{{\"traceparent\":\"{parent}\",\"name\":\"A\"}}]"),
                false,
            ),
            (format!("[\"{parent}\"]"), false),
            ("[{\"traceparent\":1}]".to_owned(), false),
            ("[]".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(trace_of(&arguments), names.then_some(parent), "{arguments}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., flags: u8) {
            let parent = TraceParent::new(trace_id, span_id, flags).expect("not 0");
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
            let _ = trace_of(&text);
        }
    }
}
