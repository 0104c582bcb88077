//! Signals of this process: the state inherited from its parent, and the signals that end a host in order.
//!
//! A process inherits its signal mask and the set of ignored signals. A host must end on SIGTERM even if its parent had
//! blocked that, and it must learn how its subprocesses end even if its parent ignored SIGCHLD. So the program empties
//! the mask first of all, and handles SIGCHLD and SIGXFSZ. With a handler in place, a file that grows past the limit on
//! file sizes (`ulimit -f`) makes that write fail, and does not end the process. An exec resets every handler, so that
//! the programs that a daemon starts find the system's defaults.
//!
//! The program blocks the signals that end a host until [`Handlers::install`], so that an early one is not lost and
//! does not interrupt the start halfway. If SIGHUP, which a closed terminal sends, is ignored at the start, as under
//! `nohup`, it stays ignored. So do the other signals below, except SIGTERM and SIGINT.
//!
//! SIGTSTP and SIGCONT are not handled: they affect a host as they affect any program.

use std::io;
use std::os::unix::net::UnixStream as Pipe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::{flag, low_level};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// The signals that a person or a service manager sends. The second one ends the host at once.
const ASKED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// The signals that the system or a limit sends. Some come again and again (SIGXCPU each second), or together with one
/// of [`ASKED`] (SIGHUP, by systemd and by shells). The second one changes nothing.
const SENT: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGXCPU,
    #[cfg(target_os = "linux")]
    Signal::SIGPWR,
];

/// The signals without a meaning for a host. A stray one, as from a log rotation, must not end it.
const WITHOUT_MEANING: [Signal; 2] = [Signal::SIGUSR1, Signal::SIGUSR2];

/// The signals that end a host even if its parent ignored them: shells start background jobs with SIGINT ignored.
const NEVER_IGNORED: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Empties the mask, and handles SIGCHLD and SIGXFSZ. Call it before there are threads, which inherit the mask.
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

/// Works like [`start_clean`], and blocks the signals that end a host until [`let_through`].
pub fn start_clean_holding_back() {
    start_clean();
    let held: SigSet = ASKED.into_iter().chain(SENT).collect();
    let _ = held.thread_block();
}

/// Unblocks the signals. One that came meanwhile takes effect now.
pub fn let_through() {
    let _ = SigSet::empty().thread_set_mask();
}

/// Returns the signals that mean something to a host, as they come, and unblocks them. It is for a process that
/// forwards them.
///
/// # Errors
/// The system's error.
pub fn forwarded() -> io::Result<signal_hook::iterator::Signals> {
    let all = ASKED.into_iter().chain(SENT).chain(WITHOUT_MEANING);
    let signals = signal_hook::iterator::Signals::new(all.map(|signal| signal as i32))?;
    let_through();
    Ok(signals)
}

/// The signals that end a person's command at once, from a key, a closed terminal or a service manager.
const ENDING_A_COMMAND: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Returns the signals that end a command, as they come, except those that this process ignores. From then on they do
/// not end the process by themselves.
///
/// # Errors
/// The system's error.
pub fn ending_a_command() -> io::Result<signal_hook::iterator::Signals> {
    let ignored = ignored();
    let ours = ENDING_A_COMMAND
        .into_iter()
        .filter(|signal| !ignored.has(*signal));
    signal_hook::iterator::Signals::new(ours.map(|signal| signal as i32))
}

/// Lets this process learn how its subprocesses end, even if its parent ignored SIGCHLD. Programs that embed the host
/// need it; the host's own program has started clean.
pub(crate) fn see_subprocesses() {
    do_nothing_on(Signal::SIGCHLD);
}

/// Handles a signal by doing nothing. This is not the same as ignoring it: an exec resets it to its default.
fn do_nothing_on(signal: Signal) {
    // If the signal cannot be handled, it has its default effect, as in most programs.
    let _ = flag::register(signal as i32, Arc::new(AtomicBool::new(false)));
}

/// The handlers for the signals that end a host in order, before their reports are read.
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

/// The reports of some signals, as they come.
#[derive(Debug)]
struct SignalReport<P> {
    /// The flag that each signal sets. It alone counts, because a daemon in this process may write to any descriptor.
    has_come: Arc<AtomicBool>,
    /// The pipe that can be read after each signal.
    pipe: P,
}

impl Handlers {
    /// Installs the handlers, and unblocks the signals. Call it before there are threads.
    ///
    /// # Errors
    /// The system's error.
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

    /// Starts to read the reports, including those of signals that have already come. Call it on a runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen(self) -> io::Result<EndSignals> {
        Ok(EndSignals {
            asked: self.asked.listen()?,
            sent: self.sent.listen()?,
        })
    }
}

impl EndSignals {
    /// Waits for a signal that ends the host in order.
    pub async fn first(&mut self) {
        tokio::select! {
            () = self.asked.next() => {}
            () = self.sent.next() => {}
        }
    }

    /// Waits until a person or a service manager requests the end once more.
    pub async fn second(&mut self) {
        self.asked.next().await;
    }
}

/// Registers reports of these signals.
fn report(signals: impl Iterator<Item = Signal>) -> io::Result<SignalReport<Pipe>> {
    let (reader, writer) = Pipe::pair()?;
    let has_come = Arc::new(AtomicBool::new(false));
    for signal in signals {
        // The handlers run in the order in which they are registered.
        flag::register(signal as i32, Arc::clone(&has_come))?;
        low_level::pipe::register(signal as i32, writer.try_clone()?)?;
    }
    // If no signal uses the other end, the stream must not end for that reason.
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
    /// Waits until a signal has come since the last call.
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

/// A set of signals by their numbers, as the kernel writes it: bit 0 is signal 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signals(u64);

impl Signals {
    fn has(self, signal: Signal) -> bool {
        self.0 & (1 << (signal as i32 - 1)) != 0
    }
}

/// Returns the signals that this process ignores, or none where the system does not report them.
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
