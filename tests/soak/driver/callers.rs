//! A guest that keeps calling while something happens to its daemon, and the answers it got.
//!
//! It sends a batch of commands, waits for the replies, and sends the next batch. Each command carries a mark that its
//! reply brings back. Replies that are wrong, missing or sent twice are therefore detected at once. The functions of
//! [`Told`] check the counts, which depend on what happened to the daemon.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dae_tests::{Message, until};

use super::ledger::Range;
use super::patience::patience;

/// The number of commands in flight.
const IN_FLIGHT: u64 = 8;

/// The time between two batches, which leaves the processor to other work.
const PAUSE: Duration = Duration::from_millis(1);

/// The interval, in commands, at which one command takes a while, so that changes find commands running.
const SLOW_EVERY: u64 = 4;
const SLOW_MS: u64 = 3;

/// The kind of commands that a guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Only quick commands, whose counts come in order.
    Quick,
    /// Quick commands and some that take a while.
    Mixed,
}

/// A calling guest on its own thread.
pub struct Caller {
    progress: Arc<Progress>,
    thread: JoinHandle<Told>,
}

#[derive(Default)]
struct Progress {
    is_over: AtomicBool,
    batches: AtomicU64,
}

/// The answers that the guest got, one list for each batch.
#[derive(Debug, Default)]
pub struct Told {
    batches: Vec<Vec<Answer>>,
    /// The connection was closed before the last batch was fully answered.
    is_closed: bool,
}

#[derive(Debug)]
enum Answer {
    Counted { version: u64, count: u64 },
    Failed(String),
}

impl Caller {
    /// Connects and starts to call. The first batch is answered when this returns.
    pub fn start(port: u16, manner: Manner) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream
            .set_read_timeout(Some(patience()))
            .expect("a socket option");
        let progress = Arc::<Progress>::default();
        let ours = Arc::clone(&progress);
        let thread = std::thread::spawn(move || call(&stream, manner, &ours));
        let caller = Caller { progress, thread };
        caller.until_more();
        caller
    }

    /// Waits until a batch sent after this call has been answered.
    #[track_caller]
    pub fn until_more(&self) {
        let batches = || self.progress.batches.load(Ordering::Relaxed);
        let before = batches();
        until(patience(), "the caller is answered", || {
            batches() > before + 1 || self.thread.is_finished()
        });
    }

    /// Ends the caller, and returns the answers it got.
    pub fn end(self) -> Told {
        self.progress.is_over.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

fn call(stream: &TcpStream, manner: Manner, progress: &Progress) -> Told {
    let mut told = Told::default();
    let mut replies = BufReader::new(stream);
    let mut first = 1;
    while !progress.is_over.load(Ordering::Relaxed) {
        let marks = first..first + IN_FLIGHT;
        first += IN_FLIGHT;
        let lines: String = marks.clone().map(|mark| line(manner, mark)).collect();
        let mut sending = stream;
        // Answers from before the connection broke can still be read.
        let _ = sending.write_all(lines.as_bytes());
        let answers: Vec<Answer> = marks.map_while(|mark| answer(&mut replies, mark)).collect();
        told.is_closed = answers.len() < IN_FLIGHT as usize;
        told.batches.push(answers);
        progress.batches.fetch_add(1, Ordering::Relaxed);
        if told.is_closed {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    told
}

fn line(manner: Manner, mark: u64) -> String {
    match manner == Manner::Mixed && mark.is_multiple_of(SLOW_EVERY) {
        true => format!("slow [{mark},{SLOW_MS}]\n"),
        false => format!("increment [{mark}]\n"),
    }
}

/// Returns the next reply, which must have the given mark, or `None` if the connection was closed.
fn answer(replies: &mut BufReader<&TcpStream>, mark: u64) -> Option<Answer> {
    let mut line = Vec::new();
    match replies.read_until(b'\n', &mut line) {
        Ok(_) if line.ends_with(b"\n") => {}
        // A host that is killed may stop in the middle of a line.
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
        Err(error) => panic!("no reply to {mark} within {:?}: {error}", patience()),
    }
    let line = std::str::from_utf8(&line).expect("what a daemon sends is UTF-8");
    match Message::read(line.trim_end()).result() {
        Err(fault) => Some(Answer::Failed(fault.code)),
        Ok(reply) => {
            let numbers: Vec<u64> = reply
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|n| n.as_u64())
                .collect();
            let [came, version, count] = numbers[..] else {
                panic!("the reply to {mark}: {reply}");
            };
            assert_eq!(came, mark, "a reply to another command: {reply}");
            Some(Answer::Counted { version, count })
        }
    }
}

impl Told {
    /// Checks that each command was answered and counted once, from `count` on, by one of `versions`. Returns the last
    /// count.
    #[track_caller]
    pub fn all_counted(&self, count: u64, versions: &[u64]) -> u64 {
        assert!(!self.is_closed, "its connection was closed");
        let mut last = count;
        for batch in &self.batches {
            let mut counts: Vec<u64> = batch.iter().map(|answer| answer.count(versions)).collect();
            counts.sort_unstable();
            let right: Vec<u64> = (last + 1..).take(counts.len()).collect();
            assert_eq!(counts, right, "a command was lost or made twice");
            last += counts.len() as u64;
        }
        last
    }

    /// Checks that each answered command was counted once. From some command on all answers may be one of `codes`,
    /// which a stopping daemon sends, until the connection is closed. Returns the possible range of the count.
    #[track_caller]
    pub fn until_closed(&self, count: u64, versions: &[u64], codes: &[&str]) -> Range {
        let mut range = Range::exactly(count);
        let mut is_going = false;
        for batch in &self.batches {
            let was_going = is_going;
            let is_refusal = |answer: &&Answer| matches!(answer, Answer::Failed(code) if codes.contains(&code.as_str()));
            let (refused, run): (Vec<&Answer>, Vec<&Answer>) = batch.iter().partition(is_refusal);
            is_going |= !refused.is_empty();
            let mut counts: Vec<u64> = run.iter().map(|answer| answer.count(versions)).collect();
            counts.sort_unstable();
            // A refused command was not run. A command without an answer may have been.
            let sent = range.high + IN_FLIGHT - refused.len() as u64;
            let is_once = counts.windows(2).all(|two| two[0] < two[1]);
            let is_next = counts
                .iter()
                .all(|count| (range.low + 1..=sent).contains(count));
            assert!(
                is_once && is_next && (counts.is_empty() || !was_going),
                "a command was lost or made twice, or after others were refused: {counts:?} after {range:?}"
            );
            let is_whole = counts.len() as u64 == IN_FLIGHT;
            range = Range {
                low: counts.last().copied().unwrap_or(range.low),
                high: if is_whole {
                    range.low + IN_FLIGHT
                } else {
                    sent
                },
            };
        }
        range
    }

    /// Checks the answers around a crash: running commands fail with `crashed`, and the next instance starts from
    /// `kept`. Returns the count from which it started, and the last count.
    #[track_caller]
    pub fn over_crash(&self, count: u64, kept: impl Fn(u64) -> Range) -> (Range, u64) {
        assert!(!self.is_closed, "its connection was closed");
        let (mut last, mut crashed, mut went_on) = (count, 0, None);
        for answer in self.batches.iter().flatten() {
            match answer {
                Answer::Failed(code) => {
                    assert_eq!(code, "crashed");
                    crashed += 1;
                }
                Answer::Counted { count, .. } if *count == last + 1 => last = *count,
                Answer::Counted { count, .. } => {
                    let kept = kept(last + crashed);
                    let is_right = went_on.is_none() && kept.has(*count - 1);
                    assert!(
                        is_right,
                        "{count} after {last}: the instance after the crash starts from {kept:?}, and {went_on:?} was one"
                    );
                    went_on = Some(*count - 1);
                    last = *count;
                }
            }
        }
        let kept = kept(last + crashed);
        (went_on.map_or(kept, Range::exactly), last)
    }
}

impl Answer {
    #[track_caller]
    fn count(&self, versions: &[u64]) -> u64 {
        match self {
            Answer::Counted { version, count } => {
                assert!(
                    versions.contains(version),
                    "version {version} answers, and not one of {versions:?}"
                );
                *count
            }
            Answer::Failed(code) => panic!("a command was answered {code}"),
        }
    }
}
