//! The log on the host's standard error.
//!
//! Standard error may be a pipe whose reader has stopped, and a write to it then blocks forever. A separate thread
//! therefore writes from a bounded queue. Lines that don't fit are dropped and counted, and the count is shown. The
//! process must give the queue time to empty before it exits ([`ConsoleThread::flush`]).

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Record;
use crate::lock::lock;
use crate::os::journald::{self, JournaldSocket};
use crate::printable;
use crate::tasks;

/// The longest text in the queue (bytes), enough for a burst of some ten thousand lines.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// The form in which standard error shows the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// One line per record, for people.
    Human {
        /// True if the line has colours.
        ansi: bool,
    },
    /// One JSON object per line, as in the files.
    Json,
    /// Entries of systemd's journal with priorities and fields, in place of standard error; see
    /// [`Console::for_service`].
    Journald,
    /// Nothing, except records that the files can't keep.
    Off,
}

impl Console {
    /// Returns the journal if standard error leads there by systemd's will, and otherwise this one.
    #[must_use]
    pub fn for_service(self) -> Self {
        match journald::is_standard_error() && JournaldSocket::connect().is_ok() {
            true => Console::Journald,
            false => self,
        }
    }
}

/// The thread that writes to standard error. It ends once this handle is dropped and the queue is empty.
#[derive(Debug)]
pub(super) struct ConsoleThread {
    kind: Console,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// True if an empty line ends an entry, as for [`Console::Journald`].
    has_entries: bool,
    state: Mutex<ConsoleState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct ConsoleState {
    text: Vec<u8>,
    lines_dropped: u64,
    is_writing: bool,
    is_closed: bool,
}

impl ConsoleThread {
    /// Starts the thread, which writes to `sink`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(kind: Console, sink: impl Write + Send + 'static) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            has_entries: kind == Console::Journald,
            ..Queue::default()
        });
        let theirs = Arc::clone(&queue);
        thread::Builder::new()
            .name("dae-console".to_owned())
            .spawn(move || {
                let mut sink = sink;
                tasks::keep_thread_alive("the console", || theirs.write_all_to(&mut sink));
            })?;
        Ok(ConsoleThread { kind, queue })
    }

    /// Shows a record. `json` is the same record as a JSON line.
    pub(super) fn show(&self, record: &Record, json: &[u8]) {
        match self.kind {
            Console::Human { ansi } => self.queue.push(&human(record, ansi)),
            Console::Json => self.queue.push(&safe(json)),
            Console::Journald => self.queue.push(&super::journald::entry(record)),
            Console::Off => {}
        }
    }

    /// Shows a record even if the console is off, since the files can't keep it.
    pub(super) fn insist(&self, record: &Record, json: &[u8]) {
        match self.kind {
            Console::Off => self.queue.push(&human(record, false)),
            _ => self.show(record, json),
        }
    }

    /// Waits until everything in the queue is written, for at most `limit`. Returns whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let is_busy = |state: &mut ConsoleState| state.is_writing || !state.text.is_empty();
        let waited = self
            .queue
            .changed
            .wait_timeout_while(self.queue.state(), limit, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}

impl Drop for ConsoleThread {
    fn drop(&mut self) {
        self.queue.state().is_closed = true;
        self.queue.changed.notify_all();
    }
}

/// Returns the JSON line in a form that is safe for a terminal.
fn safe(json: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(json).map(printable::json) {
        Ok(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
        Ok(Cow::Borrowed(_)) | Err(_) => Cow::Borrowed(json),
    }
}

fn human(record: &Record, ansi: bool) -> Vec<u8> {
    let mut line = record.line(ansi).into_bytes();
    line.push(b'\n');
    line
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, ConsoleState> {
        lock(&self.state)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        match state.text.len() + line.len() <= WAITING_BYTES_MAX {
            true => state.text.extend_from_slice(line),
            false => state.lines_dropped += 1,
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes the queue to `sink` until the queue is closed and empty. Runs on the console thread.
    fn write_all_to(&self, mut sink: impl Write) {
        while let Some(text) = self.next() {
            // Standard error may be closed; the files keep the records anyway.
            let _ = sink.write_all(&text).and_then(|()| sink.flush());
            self.state().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for text and returns the whole queue. Returns `None` once the queue is closed and empty.
    fn next(&self) -> Option<Vec<u8>> {
        let is_idle = |state: &mut ConsoleState| state.text.is_empty() && !state.is_closed;
        let waited = self.changed.wait_while(self.state(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.text.is_empty() {
            return None;
        }
        state.is_writing = true;
        let mut text = std::mem::take(&mut state.text);
        let dropped = std::mem::take(&mut state.lines_dropped);
        if dropped > 0 {
            let note = format!(
                "… {dropped} lines of the log were not shown: standard error was not read fast enough\n"
            );
            text.extend_from_slice(note.as_bytes());
            text.extend(self.has_entries.then_some(b'\n'));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::mpsc;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A sink that forwards each write and delays the first one until the gate opens.
    struct Sink {
        gate: Option<mpsc::Receiver<()>>,
        out: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(gate) = self.gate.take() {
                let _ = gate.recv_timeout(LIMIT);
            }
            let _ = self.out.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record() -> Record {
        let text = r#"{"time":"2026-01-02T03:04:05Z","daemon":"A","level":"info","target":"t","message":"m"}"#;
        serde_json::from_str(text).unwrap()
    }

    fn shown(kind: Console, show: impl Fn(&ConsoleThread)) -> String {
        let (out, written) = mpsc::channel();
        let console = ConsoleThread::start(kind, Sink { gate: None, out }).unwrap();
        show(&console);
        assert!(console.flush(LIMIT));
        String::from_utf8(written.try_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn each_kind_shows_a_record_in_its_way() {
        let show = |console: &ConsoleThread| console.show(&record(), b"{}\n");
        let human = "2026-01-02T03:04:05.000Z  INFO A: m\n";
        assert_eq!(shown(Console::Human { ansi: false }, show), human);
        assert_eq!(shown(Console::Json, show), "{}\n");
        assert_eq!(shown(Console::Off, show), "");
        let insist = |console: &ConsoleThread| console.insist(&record(), b"{}\n");
        assert_eq!(shown(Console::Off, insist), human);
        assert_eq!(shown(Console::Json, insist), "{}\n");
    }

    #[test]
    fn a_reader_that_has_stopped_holds_nobody_up_and_hears_what_it_missed() {
        let (open, gate) = mpsc::channel();
        let (out, written) = mpsc::channel();
        let gate = Some(gate);
        let console = ConsoleThread::start(Console::Json, Sink { gate, out }).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let sent = WAITING_BYTES_MAX / line.len() * 2;
        for _ in 0..sent {
            console.show(&record(), &line);
        }
        assert!(!console.flush(Duration::from_millis(10)));
        open.send(()).unwrap();
        assert!(console.flush(LIMIT));
        drop(console);
        // The channel ends once the thread has dropped its sender.
        let bytes: Vec<u8> = written.iter().flatten().collect();
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('x')).count();
        let note = text.lines().find(|line| line.starts_with('…')).unwrap();
        assert!(note.contains(&format!(" {} lines", sent - lines)), "{note}");
    }
}
