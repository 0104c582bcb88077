//! The output of a subprocess, drained for ever into its daemon's log.
//!
//! The pipe is always read, so that a subprocess never blocks on it. Only a limited part of the output is kept: a
//! daemon that prints without end fills neither the log nor the memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::rate::Rate;
use dae_store::log::Record;
use dae_store::tasks;

/// The longest line that is kept whole (bytes). A longer one is cut.
const LINE_BYTES_MAX: usize = 8 << 10;

/// The time for which the rest in the pipe is read after the subprocess has ended. A pipe holds 64 KiB, which takes far
/// less.
const AFTER_END_MAX: Duration = Duration::from_secs(1);

/// The origin of the output.
#[derive(Clone)]
pub(super) struct Printer {
    /// Takes the records.
    pub(super) log: Arc<dyn Fn(Record) + Send + Sync>,
    pub(super) daemon: String,
    pub(super) generation: Option<u64>,
    /// `stdout`, `stderr`, or the setting that names the program.
    pub(super) target: &'static str,
}

/// Drains one pipe in a task of its own, which continues after a line whose record has panicked.
pub(super) fn keep_draining<E>(
    pipe: impl AsyncRead + Unpin + Send + 'static,
    printer: Printer,
    ended: impl Fn() -> E + Send + 'static,
) where
    E: Future<Output = ()> + Send + 'static,
{
    let pipe = Arc::new(Mutex::new(pipe));
    let make = move || {
        let (pipe, printer, ended) = (Arc::clone(&pipe), printer.clone(), ended());
        async move { drain(&mut *pipe.lock().await, printer, ended).await }
    };
    tasks::keep_alive(&Handle::current(), "what a daemon prints", make);
}

/// Drains one pipe until its last writer has closed it, or for a little longer than the subprocess lives. A process
/// that the subprocess has started and that has left its group may hold the other end for ever.
async fn drain(
    mut pipe: impl AsyncRead + Unpin,
    printer: Printer,
    ended: impl Future<Output = ()>,
) {
    let mut lines = OutputLines::new(printer);
    let mut bytes = vec![0; 16 << 10];
    let over = async {
        ended.await;
        tokio::time::sleep(AFTER_END_MAX).await;
    };
    let mut over = pin!(over);
    loop {
        let read = tokio::select! {
            biased;
            () = &mut over => return lines.end(),
            read = pipe.read(&mut bytes) => read,
        };
        match read {
            Ok(0) | Err(_) => return lines.end(),
            Ok(read) => lines.add(&bytes[..read]),
        }
    }
}

struct OutputLines {
    printer: Printer,
    line: Vec<u8>,
    rate: Rate,
}

impl OutputLines {
    fn new(printer: Printer) -> Self {
        OutputLines {
            printer,
            line: Vec::new(),
            rate: Rate::of("lines"),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            self.extend(&rest[..at]);
            self.finish();
            rest = &rest[at + 1..];
        }
        self.extend(rest);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(&mut self) {
        let line = std::mem::take(&mut self.line);
        let (is_kept, left_out) = self.rate.take(line.len());
        self.tell(left_out);
        if is_kept {
            self.log("info", &String::from_utf8_lossy(&line));
        }
    }

    fn tell(&self, left_out: Option<String>) {
        if let Some(text) = left_out {
            self.log("warn", &text);
        }
    }

    fn end(mut self) {
        if !self.line.is_empty() {
            self.finish();
        }
        let left_out = self.rate.left_out();
        self.tell(left_out);
    }

    fn log(&self, level: &str, text: &str) {
        let mut record = Record::about(&self.printer.daemon, self.printer.generation, level, text);
        record.target = self.printer.target.to_owned();
        (self.printer.log)(record);
    }
}
