//! One build of a crate: started, watched, and ended early when a newer save comes.
//!
//! A build is a process with a process group of its own, so that all of it can be ended. The build before the first run
//! is different: it stays in the program's group, and Ctrl-C at the terminal ends both.

use std::io::{self, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{Artifact, Message};
use dae_runtime::os::process_group::{BuildGroup, start_leader};
use dae_store::lock::lock;

/// A build that has succeeded.
#[derive(Debug)]
pub(super) struct Built {
    /// The crate's dynamic libraries; usually one.
    pub(super) files: Vec<PathBuf>,
    pub(super) outcome: Outcome,
    /// The program that has built them.
    pub(super) by: Compiler,
    pub(super) took: Duration,
}

/// The work that a build had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something was compiled, or it was tried.
    Compiled,
    /// Cargo found nothing to do.
    Fresh,
}

/// The program that builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compiler {
    Cargo,
    /// The compiler itself, with the command that cargo gave it before.
    Rustc,
}

impl Compiler {
    pub(super) fn name(self) -> &'static str {
        match self {
            Compiler::Cargo => "cargo",
            Compiler::Rustc => "rustc",
        }
    }
}

/// The build that runs, if one does. The thread that ends the program shares it with the thread that builds.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningBuild(Arc<Mutex<BuildState>>);

#[derive(Debug, Default)]
struct BuildState {
    /// The process group of the build.
    group: Option<BuildGroup>,
    /// True once no further build may begin.
    is_over: bool,
}

impl RunningBuild {
    /// Ends the build that runs, with all its processes, and lets no other begin.
    pub(super) fn end(&self) {
        let mut state = lock(&self.0);
        state.is_over = true;
        state.kill();
    }

    /// Returns whether no further build may begin.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.0).is_over
    }
}

impl BuildState {
    /// The caller holds the lock: the process is not waited for meanwhile, so its id is its own.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            group.end();
        }
    }
}

/// A build's process.
#[derive(Debug)]
pub(super) struct Build {
    child: Child,
    pub(super) by: Compiler,
    began: Instant,
    running: RunningBuild,
}

impl Build {
    /// Starts a build as `running`, in a process group of its own.
    pub(super) fn start(
        mut command: Command,
        by: Compiler,
        running: &RunningBuild,
    ) -> Result<Self> {
        let mut state = lock(&running.0);
        ensure!(!state.is_over, "`dev` is ending");
        let (child, group) = start_with(&mut command, start_leader)?;
        state.group = group;
        Ok(Build::of(child, by, running))
    }

    /// Starts a build in the program's own process group.
    pub(super) fn start_here(
        mut command: Command,
        by: Compiler,
        running: &RunningBuild,
    ) -> Result<Self> {
        let child = start_with(&mut command, Command::spawn)?;
        Ok(Build::of(child, by, running))
    }

    fn of(child: Child, by: Compiler, running: &RunningBuild) -> Self {
        Build {
            child,
            by,
            began: Instant::now(),
            running: running.clone(),
        }
    }

    /// Returns the build's standard output. It ends when the build does.
    pub(super) fn output(&mut self) -> Result<BufReader<ChildStdout>> {
        let output = self.child.stdout.take();
        output
            .map(BufReader::new)
            .context("the output is read once")
    }

    /// Ends the build before its time, and waits for that.
    pub(super) fn cut_short(mut self) {
        lock(&self.running.0).kill();
        // The compiler has ended or will; its result is not used.
        let _ = self.child.wait();
    }

    /// Waits for the end of a build whose output has ended.
    pub(super) fn wait(mut self) -> Result<(ExitStatus, Duration)> {
        // From here on the id may become another process's.
        lock(&self.running.0).group = None;
        let status = self.child.wait().context("cannot wait for the build")?;
        Ok((status, self.began.elapsed()))
    }
}

/// Starts the command of a build, whose output is read.
fn start_with<T>(
    command: &mut Command,
    start: impl FnOnce(&mut Command) -> io::Result<T>,
) -> Result<T> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let program = command.get_program().to_string_lossy().into_owned();
    start(command).with_context(|| format!("cannot run {program}"))
}

/// Reads cargo's messages: the files of `is_ours` artefacts, and whether anything was compiled.
pub(super) fn read_messages(
    messages: impl std::io::BufRead,
    is_ours: impl Fn(&Artifact) -> bool,
) -> Result<(Vec<PathBuf>, Outcome)> {
    let mut files = Vec::new();
    let mut outcome = Outcome::Fresh;
    for message in Message::parse_stream(messages) {
        let Message::CompilerArtifact(artefact) = message.context("cannot read what cargo says")?
        else {
            continue;
        };
        if !artefact.fresh {
            outcome = Outcome::Compiled;
        }
        if artefact.target.is_cdylib() && is_ours(&artefact) {
            let extension = Some(std::env::consts::DLL_EXTENSION);
            let mut names = artefact.filenames.iter();
            let file = names.find(|file| file.extension() == extension);
            files.extend(file.map(|file| file.clone().into_std_path_buf()));
        }
    }
    Ok((files, outcome))
}
