//! An event as a sentence for people.
//!
//! The texts of causes may come from a daemon's code, so the reader escapes the sentence before it prints it
//! ([`crate::printable`]).

use std::fmt;

use super::DaeEventKind as Kind;
use super::{DaeEvent, DaeEventKind};
use crate::restart_rule::span;

/// The hex digits of a content hash in a sentence.
const HASH_DIGITS: usize = 12;

/// The weight of an event, by which a reader colours or filters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventWeight {
    /// It happens all the time and needs nobody.
    Usual,
    /// A change that somebody asked for, or the end of one.
    Change,
    /// The daemon works, and somebody should have a look.
    Warning,
    /// The daemon doesn't work, or something was lost.
    Error,
}

impl DaeEventKind {
    /// Returns whether the event is about a daemon that this host doesn't run.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(
            self,
            DaeEventKind::ForeignAppeared { .. }
                | DaeEventKind::ForeignChanged { .. }
                | DaeEventKind::ForeignGone
        )
    }

    /// Returns the event's weight.
    #[must_use]
    pub fn weight(&self) -> EventWeight {
        match self {
            Kind::Started
            | Kind::Asleep { .. }
            | Kind::Woken { .. }
            | Kind::ForeignAppeared { .. }
            | Kind::ForeignChanged { .. }
            | Kind::ForeignGone
            | Kind::Unknown => EventWeight::Usual,
            Kind::HostStarted {
                after_crash: false, ..
            }
            | Kind::Installed { .. }
            | Kind::SettingsChanged { .. }
            | Kind::Ready
            | Kind::Reloaded { .. }
            | Kind::Isolated
            | Kind::Embedded
            | Kind::Finished
            | Kind::Stopped
            | Kind::Uninstalled
            | Kind::HostEnding
            | Kind::HostEnded
            | Kind::DiskWorks { .. } => EventWeight::Change,
            Kind::HostStarted { .. }
            | Kind::Refused { .. }
            | Kind::RestartPlanned { .. }
            | Kind::Degraded { .. }
            | Kind::RolledBack { .. }
            | Kind::Quarantined { .. }
            | Kind::HistoryLost { .. }
            | Kind::Missed { .. } => EventWeight::Warning,
            Kind::Crashed { .. }
            | Kind::CrashLoop { .. }
            | Kind::Failed { .. }
            | Kind::StateUnsaved { .. }
            | Kind::Unrecorded { .. }
            | Kind::DiskFailed { .. } => EventWeight::Error,
        }
    }
}

/// Formats what has happened, without the time and the daemon's name.
impl fmt::Display for DaeEventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Installed { version, hash } => file(f, "installed", version, hash),
            Kind::SettingsChanged { changed } => {
                let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
                write!(f, "changed: {}", changed.join(", "))
            }
            Kind::Started => f.write_str("starting"),
            Kind::Ready => f.write_str("ready"),
            Kind::Reloaded {
                version,
                hash,
                changes,
            } => {
                file(f, "took over", version, hash)?;
                reason(f, "; its commands have changed", changes)
            }
            Kind::Isolated => f.write_str("moved to a subprocess"),
            Kind::Embedded => f.write_str("moved into the host's process"),
            Kind::Refused {
                change,
                reason: why,
            } => write!(f, "{change} refused: {why}"),
            Kind::Crashed { cause, .. } => write!(f, "crashed: {cause}"),
            Kind::RestartPlanned { cause, wait_ms, .. } => {
                match wait_ms {
                    0 => f.write_str("restart at once")?,
                    ms => write!(f, "restart in {}", span(*ms))?,
                }
                reason(f, "", cause)
            }
            Kind::Degraded { cause, .. } => write!(f, "degraded: {cause}"),
            Kind::CrashLoop { cause, .. } => write!(f, "crash loop: {cause}"),
            Kind::Failed { cause, .. } => write!(f, "failed: {cause}"),
            Kind::Finished => f.write_str("finished"),
            other => rarer_event(other, f),
        }
    }
}

/// Formats an event that is rarer than a restart.
fn rarer_event(kind: &DaeEventKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match kind {
        Kind::RolledBack { cause, .. } => write!(f, "rolled back: {cause}"),
        Kind::Quarantined { hash, reason: why } => {
            write!(f, "file {} quarantined: {why}", short(hash))
        }
        Kind::StateUnsaved { cause, .. } => write!(f, "its state was not saved: {cause}"),
        Kind::Unrecorded { change, cause, .. } => {
            write!(f, "{change} is done, and won't outlive the host: {cause}")
        }
        Kind::Asleep { .. } => f.write_str("asleep"),
        Kind::Woken { command } => write!(f, "woken by the command {command}"),
        Kind::Stopped => f.write_str("stopped"),
        Kind::Uninstalled => f.write_str("uninstalled"),
        Kind::ForeignAppeared { credential } => write!(
            f,
            "foreign daemon found on port {} (pid {})",
            credential.port, credential.pid
        ),
        Kind::ForeignChanged { credential, was } => write!(
            f,
            "foreign daemon changed: now on port {} (pid {}), before listed as {was}",
            credential.port, credential.pid
        ),
        Kind::ForeignGone => f.write_str("foreign daemon gone"),
        Kind::Unknown => f.write_str("an event of a later version of dae-host"),
        of_host => host_event(of_host, f),
    }
}

/// Formats an event of the host itself.
fn host_event(kind: &DaeEventKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match kind {
        DaeEventKind::HostStarted {
            version,
            pid,
            after_crash,
        } => {
            write!(f, "host {version} started (pid {pid})")?;
            match after_crash {
                true => f.write_str("; the host before it did not end in order"),
                false => Ok(()),
            }
        }
        DaeEventKind::HostEnding => f.write_str("the host is ending"),
        DaeEventKind::HostEnded => f.write_str("the host has ended"),
        DaeEventKind::DiskFailed { cause, .. } => f.write_str(cause),
        DaeEventKind::HistoryLost { path } => write!(
            f,
            "{}, or a directory above it, was moved or removed; it is made anew, without the events before",
            path.display()
        ),
        DaeEventKind::DiskWorks { lost } => {
            write!(
                f,
                "the disk works again; {lost} events or log records were not kept"
            )
        }
        DaeEventKind::Missed { count } => write!(
            f,
            "{count} events are left out here, since they came faster than they were read; the kept events have them"
        ),
        _ => Ok(()),
    }
}

fn file(f: &mut fmt::Formatter<'_>, done: &str, version: &str, hash: &str) -> fmt::Result {
    write!(f, "{done}: version {version}")?;
    match hash {
        "" => Ok(()),
        hash => write!(f, " ({})", short(hash)),
    }
}

fn reason(f: &mut fmt::Formatter<'_>, lead: &str, text: &str) -> fmt::Result {
    match text {
        "" => Ok(()),
        text => write!(f, "{lead}: {text}"),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..HASH_DIGITS).unwrap_or(hash)
}

/// Formats daemon, generation and sentence, without the time.
impl fmt::Display for DaeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.daemon)?;
        // The generations of a foreign daemon are counted by its own host.
        if let Some(generation) = self.generation.filter(|_| !self.kind.is_foreign()) {
            write!(f, "#{generation}")?;
        }
        write!(f, ": {}", self.kind)
    }
}
