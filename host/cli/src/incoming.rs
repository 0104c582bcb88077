//! What comes in from a host or a daemon: lines, and what they carry.
//!
//! The grammar is `dae_common_tcp`'s; here is what a connecting side makes of it. The JSON is not looked into more than
//! needed: a result is handed on as it was written.

use anyhow::{Context as _, Result, bail};
use dae_common_tcp::Line;
use serde::Deserialize;
use serde_json::value::RawValue;

use dae_store::json5_text;

/// The arguments of a line, unparsed: a number keeps its digits, an object the order of its keys.
pub(super) type Arguments = Vec<Box<RawValue>>;

/// A line that came in, free of the buffer it lay in.
pub(super) struct Incoming {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) arguments: String,
}

/// What an `error` line says. Its code stays text: the control socket has more of them than the protocol.
#[derive(Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) command: String,
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

impl Refusal {
    /// Returns the message; a foreign daemon may have sent none.
    pub(super) fn text(&self) -> &str {
        match self.message.trim().is_empty() {
            true => "it gave no reason",
            false => &self.message,
        }
    }
}

impl Incoming {
    /// The line, if it is one; whatever else came ends the conversation.
    pub(super) fn take(line: Line<'_>, peer: &str) -> Result<Incoming> {
        match line {
            Line::Message(message) => Ok(Incoming {
                name: message.name.to_owned(),
                tag: message.tag.map(str::to_owned),
                arguments: message.arguments.to_owned(),
            }),
            Line::Fault(fault) => bail!(
                "{peer} sent a line that is not Common TCP: {}",
                fault.message
            ),
            Line::OtherProtocol(protocol) => bail!("{peer} speaks {protocol}, not Common TCP"),
        }
    }

    /// A `dae` or `options` without arguments is a question, never a reply.
    pub(super) fn asks_us(&self) -> bool {
        matches!(self.name.as_str(), "dae" | "options") && self.arguments.is_empty()
    }
}

/// The arguments as a sender of ours and of others writes them: an array, nothing at all, or one value, perhaps in JSON5.
pub(super) fn array(arguments: &str) -> Result<Arguments> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let strict = || {
        let strict = json5_text::to_strict(arguments).map_err(anyhow::Error::msg)?;
        Ok::<_, anyhow::Error>(serde_json::from_str::<Box<RawValue>>(&strict)?)
    };
    let value = serde_json::from_str::<Box<RawValue>>(arguments).or_else(|_| strict());
    let value = value.with_context(|| format!("expected JSON, got {arguments}"))?;
    match value.get().starts_with('[') {
        true => Ok(serde_json::from_str(value.get())?),
        false => Ok(vec![value]),
    }
}

/// A reply's one result. A daemon of another make may send several: then they stay an array.
pub(super) fn one(mut arguments: Arguments) -> Result<Box<RawValue>> {
    match arguments.len() {
        1 => Ok(arguments.remove(0)),
        0 => Ok(RawValue::from_string("null".to_owned())?),
        _ => Ok(serde_json::value::to_raw_value(&arguments)?),
    }
}
