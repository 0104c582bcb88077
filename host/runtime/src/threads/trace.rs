//! Traces: which span the code on this thread works for, and where ended spans are reported.
//!
//! A span is one command of a daemon, from its line to its reply. A guest names the trace of a command
//! ([`TraceParent`]). The host then gives the command a span of its own, sets it on each thread that runs the command's
//! code while it does so, and passes it on with everything that this code asks of the host. So calls from daemon to
//! daemon and log records find it without a parameter through the author's code. A command without a trace costs a look
//! at one word.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use dae_common_tcp::TraceParent;

/// The length of a span between host and worker (bytes).
pub(crate) const SPAN_BYTES: usize = 33;

thread_local!(static CURRENT: Cell<Option<TraceSpan>> = const { Cell::new(None) });

/// The receiver of ended spans. It is one for the process.
type SpanSink = Box<dyn Fn(EndedSpan) + Send + Sync>;
static SINK: OnceLock<SpanSink> = OnceLock::new();

/// The span of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceSpan {
    context: TraceParent,
    parent_id: u64,
}

impl TraceSpan {
    /// Makes a new span below that one.
    pub(crate) fn below(parent: TraceParent) -> Self {
        let span_id = fastrand::u64(1..);
        let context = TraceParent::new(parent.trace_id(), span_id, parent.flags());
        TraceSpan {
            // Neither number is 0.
            context: context.unwrap_or(parent),
            parent_id: parent.span_id(),
        }
    }

    /// Returns its bytes for the other side of a worker's connection.
    pub(crate) fn bytes(&self) -> [u8; SPAN_BYTES] {
        let mut bytes = [0; SPAN_BYTES];
        bytes[..16].copy_from_slice(&self.context.trace_id().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.context.span_id().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.parent_id.to_le_bytes());
        bytes[32] = self.context.flags();
        bytes
    }

    /// Reads the bytes that the other side has sent.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let (parent_id, flags) = rest.split_first_chunk()?;
        let trace_id = u128::from_le_bytes(*trace_id);
        let context = TraceParent::new(trace_id, u64::from_le_bytes(*span_id), *flags.first()?)?;
        Some(TraceSpan {
            context,
            parent_id: u64::from_le_bytes(*parent_id),
        })
    }

    /// Reports that it has ended now.
    #[cold]
    pub(crate) fn end(&self, (daemon, command): (&str, &str), took: Duration, is_error: bool) {
        let Some(report) = SINK.get() else { return };
        let now = SystemTime::now();
        report(EndedSpan {
            context: self.context,
            parent_id: self.parent_id,
            daemon: daemon.to_owned(),
            command: command.to_owned(),
            began: now.checked_sub(took).unwrap_or(now),
            took,
            is_error,
        });
    }
}

/// A command of a trace that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSpan {
    /// The trace, and the command's own span.
    pub context: TraceParent,
    /// The span of the caller.
    pub parent_id: u64,
    /// The name of the daemon.
    pub daemon: String,
    /// The name of the command.
    pub command: String,
    /// The time when its line was taken.
    pub began: SystemTime,
    /// The time until its reply.
    pub took: Duration,
    /// True if it was answered with an error.
    pub is_error: bool,
}

/// Sends every span that ends from now on to `sink`, which is called on the threads that run commands and must be quick.
/// There is one sink for all ecosystems of a process. Returns false if there is one already.
///
/// ```
/// use dae_runtime::threads::trace;
///
/// let (sender, _spans) = std::sync::mpsc::sync_channel(1024);
/// assert!(trace::report_spans(move |span| drop(sender.try_send(span))));
/// ```
pub fn report_spans(sink: impl Fn(EndedSpan) + Send + Sync + 'static) -> bool {
    SINK.set(Box::new(sink)).is_ok()
}

/// Returns the span that the code on this thread works for.
#[inline]
pub(crate) fn current() -> Option<TraceSpan> {
    CURRENT.get()
}

/// Returns the trace that the code on this thread works for, and its span as the parent of further ones.
#[inline]
pub(crate) fn current_parent() -> Option<TraceParent> {
    CURRENT.get().map(|span| span.context)
}

/// Runs code that works for that span; without one, it works for what it worked for before.
#[inline]
pub(crate) fn during<T>(span: Option<TraceSpan>, code: impl FnOnce() -> T) -> T {
    match span {
        None => code(),
        Some(span) => during_span(span, code),
    }
}

#[cold]
fn during_span<T>(span: TraceSpan, code: impl FnOnce() -> T) -> T {
    /// Sets the span from before, also after a panic.
    struct Before(Option<TraceSpan>);

    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }

    let _before = Before(CURRENT.replace(Some(span)));
    code()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn parent() -> TraceParent {
        TraceParent::new(7, 9, 1).expect("not 0")
    }

    #[test]
    fn a_span_is_in_its_parents_trace_and_crosses_as_it_is() {
        let span = TraceSpan::below(parent());
        assert_eq!((span.context.trace_id(), span.parent_id), (7, 9));
        assert_ne!(span.context.span_id(), 9);
        assert_eq!(span.context.flags(), 1);
        assert_eq!(TraceSpan::read(&span.bytes()), Some(span));
        assert_eq!(TraceSpan::read(&span.bytes()[..SPAN_BYTES - 1]), None);
        assert_eq!(TraceSpan::read(&[0; SPAN_BYTES]), None);
    }

    #[test]
    fn the_span_from_before_is_back_after_the_code_whatever_happens_in_it() {
        let (outer, inner) = (TraceSpan::below(parent()), TraceSpan::below(parent()));
        assert_eq!(current(), None);
        during(Some(outer), || {
            during(None, || assert_eq!(current(), Some(outer)));
            during(Some(inner), || assert_eq!(current(), Some(inner)));
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                during(Some(inner), || panic!("in a handler"));
            }));
            assert!(panicked.is_err());
            assert_eq!(current(), Some(outer));
        });
        assert_eq!(current(), None);
    }
}
