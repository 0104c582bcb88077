//! Replies in parts: the items of a stream and the reports of a command, on their way to the caller.
//!
//! A plain call, [`DaemonVtableV1::call`](crate::abi::DaemonVtableV1), has one reply. So a stream's items are collected in
//! that reply here, and reports are dropped: an older host, another daemon and a client that asked for nothing get a plain
//! reply. A host whose caller has asked for parts uses a second entry point, [`CallPartsV1`], and gives the call a number.
//! Each item then goes to the host by the operation [`PART`](crate::operation::PART). The host answers once it has taken
//! the item, so a caller that doesn't read holds up the author's stream, and nothing queues up here.

#![allow(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::abi::{CallV1, HostV1, Output, SinkV1, StepV1, VecSink, status};
use crate::crossing::Reply;
use crate::{Error, Result, operation, reply};

/// The name under which a plugin's `query` returns a [`CallPartsV1`].
pub const CALL_PARTS: &str = "call_parts.v1";

/// A function that starts a command whose caller takes parts. It is
/// [`DaemonVtableV1::call`](crate::abi::DaemonVtableV1) with one more argument: the number of the call, which is never 0
/// and never used twice.
pub type CallPartsV1 = unsafe extern "C" fn(
    this: *const (),
    call: &CallV1<'_>,
    number: u64,
    sink: *mut SinkV1,
) -> StepV1;

/// The kinds of parts, as the byte in front of an item.
pub mod kind {
    /// An item of a stream: it belongs to the result.
    pub const ITEM: u8 = 0;
    /// A report of progress: the result doesn't hold it.
    pub const PROGRESS: u8 = 1;
}

/// The most bytes of items that one plain reply collects. With a name and a tag it stays within 1 MiB, the longest line
/// that every side of Common TCP reads.
pub const COLLECTED_BYTES_MAX: usize = (1 << 20) - (1 << 10);
/// The most bytes of one part's item, for the same reason.
pub const PART_BYTES_MAX: usize = COLLECTED_BYTES_MAX;

/// The bytes in front of an item on its way to the host: guest, call, kind.
const HEAD_BYTES: usize = 8 + 8 + 1;

/// The destination of a call's parts.
#[derive(Clone, Copy)]
pub struct PartsTarget {
    pub(crate) host: HostV1,
    pub(crate) guest: u64,
    /// The number of the call; 0 if its caller has not asked for parts.
    pub(crate) call: u64,
}

impl PartsTarget {
    /// Returns the author's handle for reports.
    #[must_use]
    pub fn progress<T>(self) -> Progress<T> {
        Progress {
            parts: self,
            item: PhantomData,
        }
    }

    fn head(self, kind: u8) -> Vec<u8> {
        let mut request = Vec::with_capacity(2 * HEAD_BYTES);
        request.extend_from_slice(&self.guest.to_le_bytes());
        request.extend_from_slice(&self.call.to_le_bytes());
        request.push(kind);
        request
    }

    /// Sends an item behind its head, and waits until the host has taken it.
    async fn send(self, request: Vec<u8>) -> Result<(), Refused> {
        match self.host.ask_later(operation::PART, request).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.status == status::GONE => Err(Refused::gone()),
            Err(fault) => Err(Refused {
                status: status::FAILED,
                text: fault.to_string(),
            }),
        }
    }
}

/// The reason why a stream ends early: the status of the answer, and its text.
struct Refused {
    status: u32,
    text: String,
}

impl Refused {
    fn gone() -> Self {
        Refused {
            status: status::GONE,
            text: "the caller no longer waits for this command".to_owned(),
        }
    }
}

/// Writes one item: the author's value, or the author's error as text. Returns the status.
type Write<I> = fn(I, &mut Output) -> u32;

/// Sends or collects the items of a stream. Returns the status of the reply, which is in `out`.
pub async fn drain<S: Stream>(
    parts: PartsTarget,
    stream: S,
    out: &mut Output,
    write: Write<S::Item>,
) -> u32 {
    let mut stream = pin!(stream);
    let drained = match parts.call {
        0 => collect(stream.as_mut(), out, write).await,
        _ => forward(parts, stream.as_mut(), write).await,
    };
    drained.unwrap_or_else(|refused| {
        out.replace(&refused.text);
        refused.status
    })
}

async fn next<S: Stream>(stream: &mut Pin<&mut S>) -> Option<S::Item> {
    poll_fn(|context| stream.as_mut().poll_next(context)).await
}

/// Writes all items into one list.
async fn collect<S: Stream>(
    mut stream: Pin<&mut S>,
    out: &mut Output,
    write: Write<S::Item>,
) -> Result<u32, Refused> {
    let too_large = || Refused {
        status: status::FAILED,
        text: format!(
            "the items take more than {COLLECTED_BYTES_MAX} bytes, the most that one reply collects; \
             ask for the reply in parts, or for fewer items"
        ),
    };
    let mut before: &[u8] = b"[";
    while let Some(item) = next(&mut stream).await {
        if !out.push(before) {
            return Err(too_large());
        }
        before = b",";
        match write(item, out) {
            status::DONE => {}
            status::NOTHING if out.push(b"null") => {}
            status::NOTHING => return Err(too_large()),
            // The text of the error has replaced the items.
            status => return Ok(status),
        }
        if out.appended().len() >= COLLECTED_BYTES_MAX {
            return Err(too_large());
        }
    }
    let end: &[u8] = if before == b"[" { b"[]" } else { b"]" };
    match out.push(end) {
        true => Ok(status::DONE),
        false => Err(too_large()),
    }
}

/// Sends each item to the host, which passes it to the caller.
async fn forward<S: Stream>(
    parts: PartsTarget,
    mut stream: Pin<&mut S>,
    write: Write<S::Item>,
) -> Result<u32, Refused> {
    while let Some(item) = next(&mut stream).await {
        let request = written(parts.head(kind::ITEM), |out| write(item, out))?;
        parts.send(request).await?;
    }
    Ok(status::NOTHING)
}

/// Appends an item to its head.
fn written(
    mut request: Vec<u8>,
    write: impl FnOnce(&mut Output) -> u32,
) -> Result<Vec<u8>, Refused> {
    let status = {
        let mut sink = VecSink::new(&mut request);
        // SAFETY: the sink outlives the output, isn't moved meanwhile, and only the output uses it.
        let mut out = unsafe { Output::new(sink.raw()) };
        write(&mut out)
    };
    match status {
        status::DONE => {}
        status::NOTHING => request.extend_from_slice(b"null"),
        status => {
            let text = String::from_utf8_lossy(&request[HEAD_BYTES..]).into_owned();
            return Err(Refused { status, text });
        }
    }
    match request.len() - HEAD_BYTES {
        0..=PART_BYTES_MAX => Ok(request),
        bytes => Err(Refused {
            status: status::FAILED,
            text: format!(
                "an item of {bytes} bytes, and a part holds at most {PART_BYTES_MAX}; send it in smaller items"
            ),
        }),
    }
}

/// Reports of a command while it runs, each a value of type `T`.
///
/// An `async fn` with `#[command]` takes it as an argument; the host supplies it. The reports reach a caller that has asked
/// for replies in parts, such as `dae-host call`. For all others they are dropped, and the reply is the same.
///
/// ```
/// # use dae_plugin_api::prelude::*;
/// # #[derive(Default)] struct Mover;
/// # #[daemon(name = "Mover")] impl Mover {
/// /// Moves `files` files, and reports each hundredth.
/// #[command]
/// async fn move_all(&self, progress: Progress<u32>, files: u32) -> Result<u32> {
///     for done in 1..=files {
///         // … moves one file …
///         if done % 100 == 0 {
///             progress.send(&done).await?;
///         }
///     }
///     Ok(files)
/// }
/// # }
/// # fn main() {}
/// ```
pub struct Progress<T> {
    parts: PartsTarget,
    item: PhantomData<fn(&T)>,
}

impl<T: Reply> Progress<T> {
    /// Sends a report, and waits until the host has taken it: a caller that doesn't read slows this down. Dropping the
    /// future sends nothing or all of it.
    ///
    /// # Errors
    /// The value can't be written as JSON or takes more than [`PART_BYTES_MAX`], or the caller no longer waits.
    pub fn send(&self, report: &T) -> impl Future<Output = Result<()>> + Send + use<T> {
        let parts = self.parts;
        let request = (parts.call != 0).then(|| {
            written(parts.head(kind::PROGRESS), |out| {
                reply::Plain.write(report, out)
            })
        });
        async move {
            let Some(request) = request else {
                return Ok(());
            };
            let sent = match request {
                Ok(request) => parts.send(request).await,
                Err(refused) => Err(refused),
            };
            sent.map_err(|refused| Error::new(refused.text))
        }
    }
}

impl<T> fmt::Debug for Progress<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Returns a stream of the items of an iterator. It is ready whenever it is polled.
///
/// ```
/// # use dae_plugin_api::prelude::*;
/// # #[derive(Default)] struct Counter;
/// # #[daemon(name = "Counter")] impl Counter {
/// /// Counts from 1 to `n`.
/// #[command]
/// fn count(&self, n: u64) -> impl Stream<Item = u64> {
///     stream_iter(1..=n)
/// }
/// # }
/// # fn main() {}
/// ```
pub fn stream_iter<I: IntoIterator>(items: I) -> StreamIter<I::IntoIter> {
    StreamIter(items.into_iter())
}

/// The stream that [`stream_iter`] returns.
#[derive(Debug, Clone)]
pub struct StreamIter<I>(I);

// The iterator is never pinned: `poll_next` borrows it for the length of the call.
impl<I> Unpin for StreamIter<I> {}

impl<I: Iterator> Stream for StreamIter<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}
