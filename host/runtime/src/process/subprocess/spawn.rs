//! The one thread that creates subprocesses.
//!
//! The kernel kills a subprocess when the *thread* that created it ends (`PR_SET_PDEATHSIG`), and the runtime's threads
//! come and go. So one thread does nothing else and lives as long as the host.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::reserve::{self, ProcessReserve, RefillOnDrop};
use crate::os::own_program;
use crate::os::signals;
use crate::os::worker_process::{self, GroupRecords, WorkerProcess};
use crate::os::worker_stream::{self, HostEnd};
use crate::process::ipc;
use crate::threads::fd_limits;
use dae_store::settings::Settings;
use dae_store::tasks;

/// A handle to the thread, and to the processes in reserve. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Spawner {
    maker: ProcessMaker,
    pub(super) reserve: ProcessReserve,
}

/// A handle to the thread alone.
#[derive(Debug, Clone)]
pub(super) struct ProcessMaker {
    orders: mpsc::Sender<SpawnOrder>,
}

struct SpawnOrder {
    command: Command,
    reply: oneshot::Sender<io::Result<SpawnedProcess>>,
}

/// A process that has just started.
pub(crate) struct SpawnedProcess {
    pub(super) process: WorkerProcess,
    pub(super) socket: HostEnd,
}

impl Spawner {
    /// Starts the thread. Its subprocesses are supervised on `runtime`, and their groups are recorded in `records`.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(runtime: Handle, records: GroupRecords) -> io::Result<Self> {
        signals::see_subprocesses();
        let (orders, inbox) = mpsc::channel::<SpawnOrder>();
        let maker = ProcessMaker { orders };
        let reserve = ProcessReserve::start(&runtime, maker.clone());
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                let _entered = runtime.enter();
                tasks::keep_thread_alive("the thread that makes processes", || {
                    for SpawnOrder { command, reply } in &inbox {
                        tasks::fault_point("spawner");
                        // If no caller waits any more, the process sees the end of its socket and ends.
                        let _ = reply.send(spawn(command, &records));
                    }
                });
            })?;
        Ok(Spawner { maker, reserve })
    }

    /// Keeps that many processes in reserve from now on, once the first subprocess has started. 0 ends those that wait.
    pub fn keep_in_reserve(&self, count: usize) {
        self.reserve.keep(count);
    }

    /// Returns the ids of the processes that wait in reserve.
    pub fn reserve(&self) -> Vec<u32> {
        self.reserve.pids()
    }

    /// Ends the processes in reserve. Later starts make their own.
    pub async fn end_reserve(&self) {
        self.reserve.end().await;
    }

    /// Returns whether there can be worker processes.
    pub fn is_possible() -> bool {
        ipc::WORKERS_POSSIBLE.load(Ordering::Relaxed)
    }

    /// Takes a worker process from the reserve or creates one, for a daemon with those settings. The guard fills the
    /// reserve again; it is to be dropped when the daemon's start is over.
    ///
    /// # Errors
    /// The reason why none can be created.
    pub(super) async fn spawn(
        &self,
        settings: &Settings,
    ) -> Result<(SpawnedProcess, RefillOnDrop), String> {
        if !Self::is_possible() {
            let text = "this program can't be the process of a daemon: it has to call \
                        dae_host::worker::become_worker() first thing in its main";
            return Err(text.to_owned());
        }
        let refill = self.reserve.refill_later();
        if !reserve::needs_new(settings)
            && let Some(spawned) = self.reserve.take().await
        {
            return Ok((spawned, refill));
        }
        let spawned = self.maker.worker(&settings.env).await?;
        Ok((spawned, refill))
    }

    /// Creates the process of a command, with the other end of its socket as its standard input.
    ///
    /// # Errors
    /// The reason why it isn't tried. What the system says about it is in the result.
    pub(super) async fn spawn_command(
        &self,
        command: Command,
    ) -> Result<io::Result<SpawnedProcess>, String> {
        self.maker.make(command).await
    }
}

impl ProcessMaker {
    /// Creates a worker process with those variables.
    ///
    /// # Errors
    /// The reason why it cannot be created.
    pub(super) async fn worker(
        &self,
        variables: &BTreeMap<String, String>,
    ) -> Result<SpawnedProcess, String> {
        let made = match command(variables) {
            Ok(command) => self.make(command).await?,
            Err(error) => Err(error),
        };
        made.map_err(|error| format!("its process can't be made: {error}"))
    }

    async fn make(&self, command: Command) -> Result<io::Result<SpawnedProcess>, String> {
        let (reply, spawned) = oneshot::channel();
        let ended = "the host is ending and makes no more processes";
        self.orders
            .send(SpawnOrder { command, reply })
            .map_err(|_| ended.to_owned())?;
        let failed = "making its process panicked; the cause is in the host's log; try again";
        spawned.await.map_err(|_| failed.to_owned())
    }
}

fn command(variables: &BTreeMap<String, String>) -> io::Result<Command> {
    let mut command = Command::new(own_program::path()?);
    command
        .arg(ipc::ARGUMENT)
        .arg(std::process::id().to_string());
    // The worker needs the original descriptor limit for the programs that it starts: they may not handle a higher one.
    if let Some(files_max) = fd_limits::started_with() {
        command.arg(files_max.to_string());
    }
    set_environment(&mut command, variables);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    worker_process::prepare(&mut command);
    Ok(command)
}

/// Gives a command those variables, and of the host's own only the few that no secret could be in.
pub(super) fn set_environment(command: &mut Command, given: &BTreeMap<String, String>) {
    command.env_clear().envs(given);
    for name in worker_process::SAFE_VARIABLES {
        let is_given = |given: &String| worker_process::is_same_variable(given, name);
        if let Some(value) = std::env::var_os(name).filter(|_| !given.keys().any(is_given)) {
            command.env(name, value);
        }
    }
}

fn spawn(command: Command, records: &GroupRecords) -> io::Result<SpawnedProcess> {
    let (socket, theirs) = worker_stream::pair()?;
    fd_limits::grow(theirs.descriptor());
    let process = WorkerProcess::start(command, theirs, records)?;
    Ok(SpawnedProcess { process, socket })
}
