//! What a child prints, drained for ever into its daemon's log.
//!
//! The pipe is always read, whatever comes, so that a child never blocks on it. How much of it is kept is another matter:
//! a daemon that prints without end fills neither the log nor the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::log::Record;
use crate::services::{Local, Outlet as _};

/// The longest line that is kept whole; what is longer is cut (bytes).
const LINE_BYTES_MAX: usize = 8 << 10;
/// Lines kept in one second; of those beyond, only the number is kept. More than anybody reads, and 1.6 MB a second at most
/// of 80-column text.
const LINES_A_SECOND_MAX: u32 = 1_000;

/// Whose output it is.
pub(super) struct Printer {
    pub(super) local: Arc<Local>,
    pub(super) daemon: String,
    pub(super) generation: u64,
    /// `stdout` or `stderr`.
    pub(super) target: &'static str,
}

/// Drains one pipe until its last writer has closed it.
pub(super) async fn drain(mut pipe: impl AsyncRead + Unpin, printer: Printer) {
    let mut lines = Lines::new(printer);
    let mut bytes = vec![0; 16 << 10];
    loop {
        match pipe.read(&mut bytes).await {
            Ok(0) | Err(_) => return lines.end(),
            Ok(read) => lines.add(&bytes[..read]),
        }
    }
}

struct Lines {
    printer: Printer,
    line: Vec<u8>,
    second: Instant,
    kept: u32,
    left_out: u64,
}

impl Lines {
    fn new(printer: Printer) -> Self {
        Lines {
            printer,
            line: Vec::new(),
            second: Instant::now(),
            kept: 0,
            left_out: 0,
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
        if self.second.elapsed() > Duration::from_secs(1) {
            self.tell_left_out();
            self.second = Instant::now();
            self.kept = 0;
        }
        if self.kept == LINES_A_SECOND_MAX {
            self.left_out += 1;
            return;
        }
        self.kept += 1;
        self.log("info", &String::from_utf8_lossy(&line));
    }

    fn tell_left_out(&mut self) {
        if self.left_out > 0 {
            let text = format!(
                "{} lines were left out: more than {LINES_A_SECOND_MAX} a second",
                self.left_out
            );
            self.log("warn", &text);
            self.left_out = 0;
        }
    }

    fn end(mut self) {
        if !self.line.is_empty() {
            self.finish();
        }
        self.tell_left_out();
    }

    fn log(&self, level: &str, text: &str) {
        let mut record = Record::about(
            &self.printer.daemon,
            Some(self.printer.generation),
            level,
            text,
        );
        record.target = self.printer.target.to_owned();
        self.printer.local.log(record);
    }
}
