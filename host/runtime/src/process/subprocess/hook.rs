//! A program that the host runs for a daemon, such as that of `on_crash`: bounded as a worker is.
//!
//! There is no shell. Its standard input is at its end, its output goes to the daemon's log at a limited rate, and it has
//! none of the host's variables but those that locate programs and files. When it has ended or its time is over, all that
//! it has started is killed too, so that nothing of it runs on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;

use super::output::{self, Printer};
use super::spawn::{self, Spawner};
use crate::os::worker_process::{self, WorkerProcess};
use dae_store::log::Record;

/// The time that a killed program may take to be gone. It takes longer only if the kernel can't end it.
const GONE_MAX: Duration = Duration::from_secs(5);

/// A program and all that it gets.
#[derive(Debug)]
pub struct Hook {
    /// The setting that names it.
    pub setting: &'static str,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its variables, besides the few that every subprocess has.
    pub variables: BTreeMap<String, String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// The longest time for which it may run.
    pub limit: Duration,
}

/// The log of the daemon that a program is run for.
#[derive(Clone)]
pub struct HookLog {
    /// The daemon's name.
    pub daemon: String,
    /// The generation that the program is run for.
    pub generation: Option<u64>,
    /// Takes the records.
    pub log: Arc<dyn Fn(Record) + Send + Sync>,
}

impl std::fmt::Debug for HookLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookLog")
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

/// The process of a program. Dropping it kills the program, with all that it has started.
struct RunningHook {
    process: WorkerProcess,
    is_reaped: bool,
    /// True once the program has ended. Its output is read for a short time after that.
    ended: watch::Sender<bool>,
}

impl Drop for RunningHook {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.process.kill_now();
            self.process.forget();
        }
        self.ended.send_replace(true);
    }
}

/// Runs a program until it ends, and for at most its time. Dropping the future kills it.
///
/// # Errors
/// It can't be run, ended with another code than 0, or was killed since its time was over; a text for a person.
pub async fn run(hook: Hook, log: HookLog, spawner: &Spawner) -> Result<(), String> {
    let (setting, limit) = (hook.setting, hook.limit);
    let spawned = spawner.spawn_command(command(&hook)).await;
    let spawned = spawned.map_err(|text| format!("{setting}: {text}"))?;
    // Without the host's end of its socket, its standard input is at its end.
    let process = spawned.map_err(|error| missing(&hook, &error))?.process;
    let mut running = RunningHook {
        process,
        is_reaped: false,
        ended: watch::Sender::new(false),
    };
    running.drain(setting, &log);
    let is_over = tokio::time::timeout(limit, running.process.exited()).await;
    let status = running.process.kill().await;
    running.is_reaped = true;
    let gone = tokio::time::timeout(GONE_MAX, running.process.all_gone()).await;
    if gone.is_ok() {
        running.process.forget();
    }
    let name = hook.words.first().map_or("", String::as_str);
    match (is_over, status) {
        (Err(_), _) => Err(format!(
            "{setting}: {name} was killed: it had not ended after {limit:?}"
        )),
        (Ok(()), Ok(status)) if status.success() => Ok(()),
        (Ok(()), Ok(status)) => {
            let ended = worker_process::in_words(status);
            Err(format!("{setting}: {name} {ended}"))
        }
        (Ok(()), Err(error)) => Err(format!("{setting}: how {name} ended is not known: {error}")),
    }
}

/// Says why the program can't be run.
fn missing(hook: &Hook, error: &io::Error) -> String {
    let name = hook.words.first().map_or("", String::as_str);
    format!(
        "{}: {name} can't be run ({error}); expected the path of a program, or the name of one on the host's PATH",
        hook.setting
    )
}

fn command(hook: &Hook) -> Command {
    let mut words = hook.words.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).current_dir(&hook.directory);
    spawn::set_environment(&mut command, &hook.variables);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    worker_process::stand_apart(&mut command);
    command
}

impl RunningHook {
    /// Writes what it prints to the daemon's log.
    fn drain(&mut self, setting: &'static str, log: &HookLog) {
        let ended = self.ended.subscribe();
        let ended = move || {
            let mut ended = ended.clone();
            async move {
                // An error means that it has ended, too.
                let _ = ended.wait_for(|ended| *ended).await;
            }
        };
        let printer = Printer {
            log: Arc::clone(&log.log),
            daemon: log.daemon.clone(),
            generation: log.generation,
            target: setting,
        };
        let (stdout, stderr) = self.process.take_output();
        if let Some(stdout) = stdout {
            output::keep_draining(stdout, printer.clone(), ended.clone());
        }
        if let Some(stderr) = stderr {
            output::keep_draining(stderr, printer, ended);
        }
    }
}
