//! Signals of this process: what its starter has left behind, and which of them end a host in order.
//!
//! A process inherits its signal mask and the signals that are ignored. A host must end on SIGTERM whatever its starter
//! had blocked, and it must learn how its children end although its starter ignored SIGCHLD. So the program empties the
//! mask first of all, and handles SIGCHLD and SIGXFSZ: with a handler in place, a file that grows past the limit on file
//! sizes (`ulimit -f`) is an error of that write, and not the end of the process. An exec resets every handler, so that
//! what a daemon starts finds the system's defaults.
//!
//! The program holds back the signals that end a host until [`Handlers::install`], so that an
//! early one isn't lost and doesn't kill half a start. Where the signal that a closed terminal sends (SIGHUP) is ignored
//! at the start, as under `nohup`, it stays ignored; so do the others below, but for SIGTERM and SIGINT.
//!
//! Absent: SIGTSTP and SIGCONT, which do to a host what they do to any program.

use std::io;
use std::os::unix::net::UnixStream as Pipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::{flag, low_level};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// What a person or a service manager sends. The second one of them ends the host at once.
const ASKED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// What the system or a limit sends, some of it again and again (SIGXCPU each second), or together with one of
/// [`ASKED`] (SIGHUP, by systemd and by shells). The second one changes nothing.
const SENT: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGXCPU,
    #[cfg(target_os = "linux")]
    Signal::SIGPWR,
];

/// What a host gives no meaning to. A stray one, as from a log rotation, must not end it.
const WITHOUT_MEANING: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGUSR2];

/// These end a host even where its starter ignored them: shells start background jobs with SIGINT ignored.
const NEVER_IGNORED: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Empties the mask, and handles SIGCHLD and SIGXFSZ. To be called before there are threads, which inherit the mask.
pub(crate) fn start_clean() {
    // Neither call fails for signals that exist.
    let _ = SigSet::empty().thread_set_mask();
    for signal in [Signal::SIGCHLD, Signal::SIGXFSZ] {
        do_nothing_on(signal);
    }
}

/// Signals that a service manager sends to each process of a service at once.
const SENT_TO_ALL: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Leaves the end of a worker to its host: without this, a worker would die before the host asks it for its state. A
/// worker whose host dies sees the end of its socket.
pub(crate) fn leave_end_to_host() {
    SENT_TO_ALL.into_iter().for_each(do_nothing_on);
}

/// As [`start_clean`], and holds back what ends a host until [`let_through`].
pub fn start_clean_holding_back() {
    start_clean();
    let held: SigSet = ASKED.into_iter().chain(SENT).collect();
    let _ = held.thread_block();
}

/// Lets the signals through that were held back. One that came meanwhile has its effect now.
pub fn let_through() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Returns the signals that mean something to a host, as they come, for who hands them on; and lets them through.
///
/// # Errors
/// The system's.
pub fn forwarded() -> io::Result<signal_hook::iterator::Signals> {
    let all = ASKED.into_iter().chain(SENT).chain(WITHOUT_MEANING);
    let signals = signal_hook::iterator::Signals::new(all.map(|signal| signal as i32))?;
    let_through();
    Ok(signals)
}

/// What ends a command of a person at once, by a key, a closed terminal or a service manager.
const ENDING_A_COMMAND: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Returns the signals that end a command, as they come, but for those that this process ignores. From then on they don't
/// end it by themselves.
///
/// # Errors
/// The system's.
pub fn ending_a_command() -> io::Result<signal_hook::iterator::Signals> {
    let ignored = ignored();
    let ours = ENDING_A_COMMAND
        .into_iter()
        .filter(|signal| !ignored.has(*signal));
    signal_hook::iterator::Signals::new(ours.map(|signal| signal as i32))
}

/// Lets this process learn how its children end, even where its starter ignored SIGCHLD. For programs that embed the
/// host: its own program has started clean.
pub(crate) fn see_subprocesses() {
    do_nothing_on(Signal::SIGCHLD);
}

/// Handles a signal by doing nothing. That is not the same as ignoring it: an exec resets it to its default.
fn do_nothing_on(signal: Signal) {
    // Where it can't be handled, it has its default effect, as in most programs.
    let _ = flag::register(signal as i32, Arc::new(AtomicBool::new(false)));
}

/// Handlers for the signals that end a host in order, whose reports nobody reads yet.
#[derive(Debug)]
pub struct Handlers {
    asked: SignalReport<Pipe>,
    sent: SignalReport<Pipe>,
}

/// The signals that end a host in order, as they come.
#[derive(Debug)]
pub struct EndSignals {
    asked: SignalReport<UnixStream>,
    sent: SignalReport<UnixStream>,
}

/// Some signals, as they come.
#[derive(Debug)]
struct SignalReport<P> {
    /// Set by each. It alone counts: a daemon in this process may write to any descriptor.
    has_come: Arc<AtomicBool>,
    /// Has something to read after each.
    pipe: P,
}

impl Handlers {
    /// Puts them in place, and lets the signals through. To be called before there are threads.
    ///
    /// # Errors
    /// The system's.
    pub fn install() -> io::Result<Self> {
        let ignored = ignored();
        let is_ours = |signal: &Signal| !ignored.has(*signal) || NEVER_IGNORED.contains(signal);
        let asked = report(ASKED.into_iter().filter(is_ours))?;
        let sent = report(SENT.into_iter().filter(is_ours))?;
        WITHOUT_MEANING
            .into_iter()
            .filter(is_ours)
            .for_each(do_nothing_on);
        let_through();
        Ok(Handlers { asked, sent })
    }

    /// Reads their reports, those of signals that have come already included. To be called on a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn listen(self) -> io::Result<EndSignals> {
        Ok(EndSignals {
            asked: self.asked.listen()?,
            sent: self.sent.listen()?,
        })
    }
}

impl EndSignals {
    /// Ends when a signal has come that ends the host in order.
    pub async fn first(&mut self) {
        tokio::select! {
            () = self.asked.next() => {}
            () = self.sent.next() => {}
        }
    }

    /// Ends when somebody has asked for the end once more.
    pub async fn second(&mut self) {
        self.asked.next().await;
    }
}

/// Has these signals reported from now on.
fn report(signals: impl Iterator<Item = Signal>) -> io::Result<SignalReport<Pipe>> {
    let (reader, writer) = Pipe::pair()?;
    let has_come = Arc::new(AtomicBool::new(false));
    for signal in signals {
        // In this order: they are done in it.
        flag::register(signal as i32, Arc::clone(&has_come))?;
        low_level::pipe::register(signal as i32, writer.try_clone()?)?;
    }
    // Where no signal has the other end, the stream must not end for that.
    std::mem::forget(writer);
    reader.set_nonblocking(true)?;
    Ok(SignalReport {
        has_come,
        pipe: reader,
    })
}

impl SignalReport<Pipe> {
    fn listen(self) -> io::Result<SignalReport<UnixStream>> {
        Ok(SignalReport {
            has_come: self.has_come,
            pipe: UnixStream::from_std(self.pipe)?,
        })
    }
}

impl SignalReport<UnixStream> {
    /// Ends when one has come since the last time.
    async fn next(&mut self) {
        while !self.has_come.swap(false, Ordering::SeqCst) {
            let mut bytes = [0; 64];
            if !matches!(self.pipe.read(&mut bytes).await, Ok(1..)) {
                // The other end stays open for as long as the process lives, unless a daemon has closed it.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Signals by their numbers, as the kernel writes them: bit 0 is signal 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signals(u64);

impl Signals {
    fn has(self, signal: Signal) -> bool {
        self.0 & (1 << (signal as i32 - 1)) != 0
    }
}

/// The signals that this process ignores. Where the system has no such account, none.
fn ignored() -> Signals {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status)
}

fn ignored_in(status: &str) -> Signals {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    Signals(mask.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_of_ignored_signals_is_understood() {
        let ignored = ignored_in("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n");
        assert!(ignored.has(Signal::SIGHUP) && ignored.has(Signal::SIGPIPE));
        assert!(!ignored.has(Signal::SIGTERM) && !ignored.has(Signal::SIGINT));
        assert_eq!(ignored_in(""), Signals(0));
    }
}
