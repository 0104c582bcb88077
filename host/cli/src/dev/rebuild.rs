//! The loop that builds a crate whenever its sources change, and hands the result to the host.
//!
//! A build starts at the first save. A newer save ends the running build and starts another. A file may do so only a few
//! times before a build has come to its end: a build that writes one of its own sources would never end otherwise.

mod decide;
mod sources;
mod tree;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use dae_store::tasks;

use super::build::{Build, Built, Outcome, RunningBuild};
use super::package::Crate;
pub(super) use sources::{Sources, Watch};
pub(super) use tree::Paths;

/// The number of builds that changes of one file may end, until a build has come to its end.
const CUT_SHORT_MAX: u32 = 5;

/// Something that the loop reacts to.
#[derive(Debug)]
pub(super) enum Event {
    /// A file may have changed.
    Changed(Instant),
    /// The output of a build has ended.
    Ended(BuildNumber, Result<Output>),
    /// A person asks for a build.
    Asked,
}

/// The number of a build of one crate. The end of an earlier build must not count as that of a later one.
pub(super) type BuildNumber = u64;

/// The libraries that a build has named, and whether it had anything to do.
type Output = (Vec<PathBuf>, Outcome);

/// The reason for a build.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    /// The files that have changed.
    pub(super) paths: Paths,
    /// The time of the save.
    pub(super) saved: Instant,
    /// True if a person has asked for it: cargo then builds, whatever has changed.
    pub(super) is_asked: bool,
}

impl Cause {
    fn of(paths: Paths, saved: Instant) -> Self {
        Cause {
            paths,
            saved,
            is_asked: false,
        }
    }

    /// Returns the cause of a build that a person asks for, which also stands for what had changed before.
    fn asked(paths: Paths) -> Self {
        Cause {
            is_asked: true,
            ..Cause::of(paths, Instant::now())
        }
    }
}

/// The way in which an attempt to build has ended.
enum Attempt {
    /// A newer change has ended it.
    CutShort(Cause),
    Ended(Result<Built>),
}

/// A crate that is built again and again.
pub(super) struct Rebuild<H> {
    pub(super) plugin: Crate,
    pub(super) sources: Sources,
    pub(super) sender: Sender<Event>,
    pub(super) events: Receiver<Event>,
    pub(super) running: RunningBuild,
    /// Receives the results.
    pub(super) hand_over: H,
}

impl<H: FnMut(&Cause, Result<Built>) + Send + 'static> Rebuild<H> {
    /// Starts the loop in a thread, until the process ends. The caller has just finished the first build.
    pub(super) fn start(self) -> Result<()> {
        let mut looped = Loop {
            rebuild: self,
            number: 0,
            cut_short: HashMap::new(),
        };
        let begun = thread::Builder::new()
            .name("rebuild".to_owned())
            .spawn(move || {
                let mut first = Some(Outcome::Compiled);
                tasks::keep_thread_alive("the thread that builds", || {
                    if let Some(outcome) = first.take() {
                        let more = looped.rebuild.sources.after_build(&Paths::new(), outcome);
                        looped.build_for(more);
                    }
                    loop {
                        let Rebuild {
                            sources, events, ..
                        } = &mut looped.rebuild;
                        let cause = wait(sources, events);
                        looped.build(cause);
                    }
                });
            });
        begun
            .map(drop)
            .context("cannot start the thread that builds")
    }
}

/// Waits for a change that needs a build.
pub(super) fn wait(sources: &mut Sources, events: &Receiver<Event>) -> Cause {
    loop {
        let saved = match next_event(sources, events) {
            Ok(Event::Asked) => return Cause::asked(Paths::new()),
            Ok(Event::Changed(saved)) => saved,
            // The rest of a build that was cut short.
            Ok(Event::Ended(..)) => continue,
            Err(_) => Instant::now(),
        };
        let paths = sources.changes_outside_a_build();
        if !paths.is_empty() {
            return Cause::of(paths, saved);
        }
    }
}

fn next_event(sources: &Sources, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
    events.recv_timeout(sources.poll())
}

struct Loop<H> {
    rebuild: Rebuild<H>,
    number: BuildNumber,
    /// The number of builds that each file has ended since a build came to its end.
    cut_short: HashMap<PathBuf, u32>,
}

impl<H: FnMut(&Cause, Result<Built>)> Loop<H> {
    /// Waits for an event, or until the sources are to be polled.
    fn event(&self) -> Result<Event, RecvTimeoutError> {
        next_event(&self.rebuild.sources, &self.rebuild.events)
    }

    fn build_for(&mut self, paths: Paths) {
        if !paths.is_empty() {
            self.build(Cause::of(paths, Instant::now()));
        }
    }

    /// Builds until nothing has changed since.
    fn build(&mut self, mut cause: Cause) {
        loop {
            let mut ended = match self.attempt(&cause) {
                Attempt::CutShort(newer) => {
                    cause = newer;
                    continue;
                }
                Attempt::Ended(_) if self.rebuild.running.is_over() => return,
                Attempt::Ended(ended) => ended,
            };
            if let Ok(built) = &mut ended
                && !self.cut_short.is_empty()
            {
                // A build that was cut short may have compiled what this one found done.
                built.outcome = Outcome::Compiled;
            }
            self.cut_short.clear();
            let outcome = self.learn(&ended);
            let mut paths = self.rebuild.sources.after_build(&cause.paths, outcome);
            (self.rebuild.hand_over)(&cause, ended);
            // The build has ended before, so these are saves of a person.
            paths.extend(self.rebuild.sources.changes_outside_a_build());
            if paths.is_empty() {
                return;
            }
            cause = Cause::of(paths, Instant::now());
        }
    }

    /// Takes from a build that has ended which files are sources.
    fn learn(&mut self, ended: &Result<Built>) -> Outcome {
        let Rebuild {
            plugin, sources, ..
        } = &mut self.rebuild;
        match ended {
            Ok(built) => {
                sources.learn(plugin.sources(built), plugin.has_build_script());
                built.outcome
            }
            Err(_) => {
                sources.on_failure();
                Outcome::Compiled
            }
        }
    }

    fn attempt(&mut self, cause: &Cause) -> Attempt {
        self.number += 1;
        self.rebuild.sources.on_build();
        let build = match self.start(cause) {
            Ok(build) => build,
            Err(error) => return Attempt::Ended(Err(error)),
        };
        loop {
            let saved = match self.event() {
                Ok(Event::Ended(number, output)) if number == self.number => {
                    let ended = self.rebuild.plugin.ended(build, output);
                    return Attempt::Ended(ended);
                }
                Ok(Event::Ended(..)) => continue,
                Ok(Event::Asked) => {
                    build.cut_short();
                    *self.cut_short.entry(PathBuf::new()).or_default() += 1;
                    return Attempt::CutShort(Cause::asked(cause.paths.clone()));
                }
                Ok(Event::Changed(saved)) => saved,
                Err(_) => Instant::now(),
            };
            let newer = self.rebuild.sources.changes_in_a_build();
            if newer.iter().any(|path| self.may_cut_short(path)) {
                build.cut_short();
                return Attempt::CutShort(self.newer_cause(cause, newer, saved));
            }
        }
    }

    /// Returns the cause of the build that follows one which `newer` files have ended.
    fn newer_cause(&mut self, cause: &Cause, newer: Paths, saved: Instant) -> Cause {
        for path in newer {
            *self.cut_short.entry(path).or_default() += 1;
        }
        let mut paths = self.rebuild.sources.start_over();
        paths.extend(cause.paths.iter().cloned());
        Cause {
            is_asked: cause.is_asked,
            ..Cause::of(paths, saved)
        }
    }

    fn may_cut_short(&self, path: &PathBuf) -> bool {
        self.cut_short
            .get(path)
            .is_none_or(|count| *count < CUT_SHORT_MAX)
    }

    /// Starts a build. A thread reads its output, and sends what it says when the build ends.
    fn start(&mut self, cause: &Cause) -> Result<Build> {
        let (number, sender) = (self.number, self.rebuild.sender.clone());
        let (mut build, read) = self.rebuild.plugin.start(cause, &self.rebuild.running)?;
        let output = build.output()?;
        let reading = thread::Builder::new()
            .name("build".to_owned())
            .spawn(move || {
                // The loop lives as long as the process.
                let _ = sender.send(Event::Ended(number, read(output)));
            });
        match reading {
            Ok(_) => Ok(build),
            Err(error) => {
                build.cut_short();
                Err(error).context("cannot start the thread that reads the build's output")
            }
        }
    }
}
