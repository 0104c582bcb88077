//! `run`: the program becomes the host of its home, in the foreground (see `detach` for the background), until a signal or its owner's `shutdown` ends it.
//!
//! The first SIGTERM or SIGINT, or `dae-host shutdown`, ends it in order: it takes no new commands, gives the running
//! ones their grace period, runs every daemon's `stop`, flushes files and exits with code 0. The second signal ends it at
//! once with code 130. The first one after a `shutdown` changes nothing: a service manager sends it to a service whose
//! own command to stop was `shutdown`. A closed terminal (SIGHUP) and a few other signals end it in order too; see `signals`. The handlers are installed
//! before anything starts, so that an early signal is not lost and does not kill a half-started host.
//!
//! `-v` shows more of the host's own log, and `RUST_LOG` overrides the level, as in other programs. The log of daemons
//! is always kept.
//!
//! Standard output gets one line with Dae's address; the log goes to standard error. A service manager gets READY once
//! every daemon has started or failed, so that programs that wait for this can call the daemons.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

use super::Session;
use super::detach::{self, Announcement};
use super::metrics::{self, MetricsArgs, MetricsServer};
use super::show;
use super::traces::Traces;
use super::watchdog;
use dae_host::Dae;
use dae_host::dae::{Builder, StopNews};
use dae_runtime::os::signals::{EndSignals, Handlers};
use dae_runtime::os::{background, service_manager};
use dae_runtime::plugin::library;
use dae_runtime::session::thread_start;
use dae_runtime::threads::fd_limits;
use dae_store::blocking;
use dae_store::log::{Console, Journal, JournalLayer};
use dae_store::registry::DAE_NAME;
use dae_store::tasks;

/// The longest time for running commands to finish at the end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The longest wait of the runtime for a thread that a plugin blocks. The process ends in any case.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

/// The longest time for writing the log's last lines to a slow or stopped terminal.
const LOG_SHOWN_MAX: Duration = Duration::from_secs(1);

/// The threads besides those of the two runtimes: one shows the log, one starts processes, one watches files, and two
/// do work that may block.
const OTHER_THREADS: usize = 5;

/// The code that a shell shows for a program that Ctrl-C ended.
const CODE_INTERRUPTED: i32 = 130;

/// The arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The format of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log: LogFormat,
    /// Start the host in the background, and return once it is ready; its log goes to the home's files only
    #[arg(long, conflicts_with = "log")]
    detach: bool,
    /// Be the host that `--detach` starts
    #[arg(long, hide = true, conflicts_with_all = ["log", "detach"])]
    detached: bool,
    #[command(flatten)]
    metrics: MetricsArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// For people, in colours at a terminal; for the journal of systemd with priorities and fields
    Human,
    /// One JSON object per line
    Json,
}

impl LogFormat {
    fn console(self) -> Console {
        match self {
            LogFormat::Human => {
                let ansi = show::stderr_ansi();
                Console::Human { ansi }.for_service()
            }
            LogFormat::Json => Console::Json,
        }
    }
}

/// Runs the host of the session's home.
pub(super) fn run(session: &Session, args: &Args) -> Result<()> {
    let metrics = args.metrics.address()?;
    if args.detach {
        return detach::start(session, &args.metrics);
    }
    if args.detached {
        background::leave_terminal().context("cannot leave the terminal")?;
    }
    let console = match args.detached {
        true => Console::Off,
        false => args.log.console(),
    };
    let hosting = Hosting {
        builder: Dae::builder(),
        console,
        metrics,
        on_abort: Box::new(|| ()),
    };
    host(session, hosting, async |dae: &Dae| {
        let announcement = announcement(session, dae);
        if !args.detached {
            // Daemons run even if this line can't be written.
            let _ = session.out.done(&announcement, &announcement.sentence());
        }
        dae.ready().await;
        if args.detached {
            // The process that waits for it may be gone.
            let _ = session.out.document(&announcement);
            background::let_go_of_output().context("cannot let go of the output")?;
        }
        service_manager::is_ready();
        watchdog::feed(dae.port()).await;
        Ok(())
    })
}

fn announcement(session: &Session, dae: &Dae) -> Announcement {
    Announcement {
        name: DAE_NAME.to_owned(),
        pid: std::process::id(),
        port: dae.port(),
        home: session.home.data.clone(),
    }
}

/// A host to run, and the work of the program around it.
pub(super) struct Hosting {
    pub(super) builder: Builder,
    pub(super) console: Console,
    /// The address at which the host's metrics can be read.
    pub(super) metrics: Option<SocketAddr>,
    /// Called before a second signal ends the process at once.
    pub(super) on_abort: Box<dyn FnOnce() + Send>,
}

/// Starts the host, runs `begin`, and then waits for a signal or the owner's `shutdown`. One that comes earlier cuts
/// `begin` short.
pub(super) fn host(
    session: &Session,
    hosting: Hosting,
    begin: impl AsyncFnOnce(&Dae) -> Result<()>,
) -> Result<()> {
    let handlers = Handlers::install().context("cannot listen for signals")?;
    fd_limits::keep_to_ourselves();
    fd_limits::allow_some();
    check_threads().context("cannot start the host")?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(thread_start::prepare)
        .build()
        .context("cannot start the async runtime")?;
    // This thread runs the end of the host.
    thread_start::prepare();
    let journal = journal(session, hosting.console)?;
    let dae = hosting
        .builder
        .home(session.home.clone())
        .ends_on_request()
        .journal(journal.clone());
    let program = Program {
        session,
        handlers,
        metrics: hosting.metrics,
        on_abort: hosting.on_abort,
    };
    let result = runtime.block_on(program.serve(dae, begin));
    runtime.shutdown_timeout(THREADS_END_MAX);
    journal.flush(LOG_SHOWN_MAX);
    result
}

/// The program around a host.
struct Program<'a> {
    session: &'a Session,
    handlers: Handlers,
    metrics: Option<SocketAddr>,
    on_abort: Box<dyn FnOnce() + Send>,
}

impl Program<'_> {
    /// Runs the host from its start to its end.
    async fn serve(
        self,
        builder: Builder,
        begin: impl AsyncFnOnce(&Dae) -> Result<()>,
    ) -> Result<()> {
        let mut endings = self
            .handlers
            .listen()
            .context("cannot listen for signals")?;
        let traces = Traces::start()?;
        // A start is not cut short: what it has begun is ended in order.
        let (dae, _metrics) = start(self.session, builder, self.metrics).await?;
        let (begun, mut cause) = tokio::select! {
            cause = is_to_end(&mut endings, &dae) => (Ok(()), Some(cause)),
            result = begin(&dae) => (result, None),
        };
        if begun.is_ok() && cause.is_none() {
            cause = Some(is_to_end(&mut endings, &dae).await);
        }
        end(dae, (endings, cause), self.on_abort).await;
        traces.end().await;
        begun
    }
}

/// Starts the host, and serves its metrics until the returned server is dropped. The address is taken before any daemon
/// starts, so that a mistake in it is noticed by its author and not by a missing alert. A second host of the home is told
/// that the home is in use, and not that the address is.
async fn start(
    session: &Session,
    builder: Builder,
    metrics: Option<SocketAddr>,
) -> Result<(Dae, Option<MetricsServer>)> {
    let listening = metrics.map(metrics::listen).transpose();
    if listening.is_err() {
        session.home.lock()?;
    }
    let listening = listening?;
    let dae = builder.start().await?;
    let server = listening.map(|listener| MetricsServer::start(listener, &dae));
    Ok((dae, server.transpose()?))
}

/// Checks, before anything starts, that the process may have enough threads for a host.
pub(super) fn check_threads() -> std::io::Result<()> {
    let own_runtime = std::thread::available_parallelism().map_or(1, usize::from);
    blocking::check_threads(own_runtime + Dae::threads() + OTHER_THREADS)
}

/// Opens the home's log and sends the host's own events to it. It is opened before anything starts, so that it is
/// complete. A host that then finds the home in use has written nothing to it.
fn journal(session: &Session, console: Console) -> Result<Journal> {
    session.home.create()?;
    let journal = Journal::open(session.home.logs_dir(), console)?;
    let level = match session.verbose {
        0 => "info",
        1 => "info,dae_host=debug,dae_runtime=debug,dae_store=debug",
        _ => "info,dae_host=trace,dae_runtime=trace,dae_store=trace",
    };
    // Levels by target are all that a host's log needs. Filters of fields would bring a regex engine into the build.
    let chosen = std::env::var("RUST_LOG").ok();
    let chosen = chosen.and_then(|filter| filter.parse::<Targets>().ok());
    let filter = match chosen {
        Some(filter) => filter,
        None => level
            .parse()
            .context("the program's own filter can be read")?,
    };
    if session.verbose > 0 {
        journal.show_debug();
    }
    if session.out.quiet {
        journal.show_no_info();
    }
    let layer = JournalLayer::new(journal.clone());
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber)
        .context("the program sets up its log once")?;
    Ok(journal)
}

async fn end(
    dae: Dae,
    (mut endings, cause): (EndSignals, Option<EndCause>),
    on_abort: Box<dyn FnOnce() + Send>,
) {
    service_manager::is_stopping();
    tokio::spawn(tasks::logged("the second signal", async move {
        if cause == Some(EndCause::Request) {
            endings.first().await;
        }
        endings.second().await;
        on_abort();
        library::exit(CODE_INTERRUPTED);
    }));
    dae.shutdown_telling(STOP_GRACE, tell_service_manager).await;
}

/// Extends the service manager's timeout while the shutdown makes progress.
fn tell_service_manager(news: &StopNews) {
    let within = news.within + THREADS_END_MAX + LOG_SHOWN_MAX;
    service_manager::needs_time(within, &news.status);
}

/// The reason for an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndCause {
    Signal,
    /// `shutdown` on the control socket.
    Request,
}

/// Waits for a signal that ends the host in order, or for `shutdown` on the control socket. If both have come, the signal
/// counts, so that it isn't taken for a second one.
async fn is_to_end(endings: &mut EndSignals, dae: &Dae) -> EndCause {
    tokio::select! {
        biased;
        () = endings.first() => EndCause::Signal,
        () = dae.shutdown_requested() => EndCause::Request,
    }
}
