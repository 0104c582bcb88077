//! The lines that a host or a daemon sends, and their contents.
//!
//! `dae_common_tcp` parses the lines; this module interprets them for the connecting side. It parses JSON no further
//! than needed: a result is passed on as it was written.

use anyhow::{Context as _, Result, bail};
use dae_common_tcp::{Line, write_message};
use serde::Deserialize;
use serde_json::value::RawValue;

use dae_store::json5_text;

/// The unparsed arguments of a line: a number keeps its digits, and an object the order of its keys.
pub(super) type Arguments = Vec<Box<RawValue>>;

/// A received line that owns its text.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) name: String,
    pub(super) tag: Option<String>,
    pub(super) arguments: String,
}

/// The contents of an `error` line. The code stays text: the control socket has more codes than the protocol.
#[derive(Default, Deserialize)]
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
    /// Returns the line, if it is a message; anything else ends the conversation.
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

    /// Returns whether the line is a request to us: a `dae` or `options` without arguments is never a reply.
    pub(super) fn asks_us(&self) -> bool {
        matches!(self.name.as_str(), "dae" | "options") && self.arguments.is_empty()
    }
}

/// Returns our answer to a request, which both sides of a connection must give; it is short.
pub(super) fn answer(line: &Incoming) -> Vec<u8> {
    let pid = std::process::id();
    let result = match line.name.as_str() {
        "dae" => format!(r#"[{{"name":"dae-host-guest","pid":{pid},"port":0}}]"#),
        _ => "[{}]".to_owned(),
    };
    let mut reply = Vec::new();
    let tag = line.tag.as_deref();
    write_message(&mut reply, &line.name, tag, result.as_bytes());
    reply
}

/// Parses arguments in each form that a peer may send: an array, nothing at all, or one value, perhaps in JSON5.
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

/// Returns a reply's one result. Several results, which another make of daemon may send, stay an array.
pub(super) fn one(mut arguments: Arguments) -> Result<Box<RawValue>> {
    match arguments.len() {
        1 => Ok(arguments.remove(0)),
        0 => Ok(RawValue::from_string("null".to_owned())?),
        _ => Ok(serde_json::value::to_raw_value(&arguments)?),
    }
}
