//! A call whose reply comes in parts: asks the daemon for them, and passes each on as it comes.
//!
//! Only a tag ties a part to its call, so such a call is tagged. A daemon that doesn't know of parts, or whose command sends
//! none, gives one whole reply.

use anyhow::{Context as _, Result};
use dae_common_tcp::PART;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Client, Stream, Until};
use crate::incoming::{Incoming, array, one};

/// The tag of a call in parts. One is enough, since one call is under way at a time.
const PARTS_TAG: &str = "call";

/// The line that asks for parts. No daemon answers it, whether it knows of parts or not.
const ASKS: &[u8] = b"dae [{\"parts\":true}]\n";

/// A part of a reply.
#[derive(Deserialize)]
pub(crate) struct ReplyPart {
    command: String,
    pub(crate) item: Box<RawValue>,
    /// True for a report, which is no part of the result.
    #[serde(default)]
    pub(crate) progress: bool,
}

/// A function that takes the parts of a reply.
pub(super) type TakePart<'a> = &'a mut dyn FnMut(ReplyPart) -> Result<()>;

impl<S: Stream> Client<S> {
    /// Does the same as [`Client::call`], and passes each part of the reply to `take`. The limit for an answer counts from
    /// the last part. Returns `None` if the items that were passed are the whole result.
    pub(crate) fn call_in_parts(
        &mut self,
        name: &str,
        arguments: &impl Serialize,
        take: TakePart<'_>,
    ) -> Result<Option<Box<RawValue>>> {
        self.tag = Some(PARTS_TAG);
        let mut line = ASKS.to_vec();
        self.write_call(&mut line, name, arguments)?;
        let mut has_items = false;
        let take = &mut |part: ReplyPart| {
            has_items |= !part.progress;
            take(part)
        };
        let reply = self.exchange(name, &line, Until { fence: None, take })?;
        let reply = reply.unwrap_or_default();
        let is_whole = has_items && reply.is_empty();
        (!is_whole).then(|| one(reply)).transpose()
    }

    /// Passes the line on if it is a part of the reply to our call. Returns whether it was.
    pub(super) fn pass_part(
        &mut self,
        line: &Incoming,
        name: &str,
        take: TakePart<'_>,
    ) -> Result<bool> {
        if line.name != PART || self.tag.is_none() || line.tag.as_deref() != self.tag {
            return Ok(false);
        }
        let arguments = array(&line.arguments)?;
        let text = arguments.first().map_or("null", |first| first.get());
        let part: ReplyPart = serde_json::from_str(text)
            .with_context(|| format!("{} sent a part that cannot be read: {text}", self.peer))?;
        if part.command != name {
            return Ok(false);
        }
        take(part)?;
        self.wait_anew();
        Ok(true)
    }
}
