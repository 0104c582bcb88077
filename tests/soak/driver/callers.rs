//! A guest that calls all the while that something happens to its daemon, and what it was answered.
//!
//! It sends a few commands at once, waits for their replies, and sends the next. Each command carries a mark that its reply
//! brings back, so that a reply to another command, one too many and one too few are seen at once. What the counts must be
//! depends on what happened, and is judged by the functions of [`Told`].

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

/// Commands in flight.
const IN_FLIGHT: u64 = 8;

/// Between two batches: the machine has other things to do, too.
const PAUSE: Duration = Duration::from_millis(1);

/// Every so many commands one takes a while, so that what happens finds commands running.
const SLOW_EVERY: u64 = 4;
const SLOW_MS: u64 = 3;

/// What a guest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Quick commands alone: their counts come in order.
    Quick,
    /// Some take a while.
    Mixed,
}

/// A guest at work, on a thread of its own.
pub struct Caller {
    progress: Arc<Progress>,
    thread: JoinHandle<Told>,
}

#[derive(Default)]
struct Progress {
    is_over: AtomicBool,
    batches: AtomicU64,
}

/// What the guest was answered: a list for each batch.
#[derive(Debug, Default)]
pub struct Told {
    batches: Vec<Vec<Answer>>,
    /// The last batch was not answered to its end, since the connection was closed.
    is_closed: bool,
}

#[derive(Debug)]
enum Answer {
    Counted { version: u64, count: u64 },
    Failed(String),
}

impl Caller {
    /// Connects and calls; the first batch is answered when this returns.
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

    /// Waits until something was asked and answered that was not asked before.
    #[track_caller]
    pub fn until_more(&self) {
        let batches = || self.progress.batches.load(Ordering::Relaxed);
        let before = batches();
        until(patience(), "the caller is answered", || {
            batches() > before + 1 || self.thread.is_finished()
        });
    }

    /// Ends it.
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
        // What was answered before the connection broke is still there to be read.
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

/// The next reply, which must be the one to that mark; `None` where the connection was closed.
fn answer(replies: &mut BufReader<&TcpStream>, mark: u64) -> Option<Answer> {
    let mut line = Vec::new();
    match replies.read_until(b'\n', &mut line) {
        Ok(_) if line.ends_with(b"\n") => {}
        // A host that was killed may have been writing.
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
    /// Every command was answered and counted once, from `count` on, by one of these versions. Returns the last count.
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

    /// As far as commands were answered, each was counted once. From some command on `codes` are what came, which a daemon
    /// answers that goes, until the connection was closed. Returns what the count may be.
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
            // What was refused was not run; what was not answered may have been.
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

    /// Once the instance crashed: what it was at was answered `crashed`, and the next one went on from `kept`. Returns from
    /// which count, and the last one.
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
