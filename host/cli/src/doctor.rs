//! `doctor`: looks for what keeps a host from its work, or soon will, and says how to cure it.
//!
//! It works with a running host and without one, and changes nothing. With `--fix` it does what is safe: it closes the
//! host's own directories to others, and without a host it removes files that no host uses any more, under the home's
//! lock. Everything else is a command that it names.
//!
//! Each check is a function that returns its findings, also the good ones. The checks use the code that a host uses for
//! the same matter, so that both judge alike. A home that is not there yet is not made.

mod files;
mod home;
mod machine;
mod plugins;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::Session;
use super::client::Client;
use super::exit::{Code, Fault};
use super::words;
use dae_runtime::os::control_client::ControlClient;
use dae_store::config::Config;
use dae_store::home::HomeBusy;
use dae_store::printable::one_line;
use dae_store::registry::Registry;

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Do the safe cures: close directories, remove files that nothing uses
    #[arg(long)]
    fix: bool,
}

/// The weight of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    Warning,
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The matter, one word for programs.
    kind: &'static str,
    severity: Severity,
    /// The thing that was found, with the expected one.
    text: String,
    /// A command, or advice where there is none.
    cure: Option<String>,
    /// True if `--fix` has cured it.
    fixed: bool,
}

impl Finding {
    fn ok(kind: &'static str, text: impl Into<String>) -> Self {
        Finding {
            kind,
            severity: Severity::Ok,
            text: text.into(),
            cure: None,
            fixed: false,
        }
    }

    fn warning(kind: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Warning,
            cure: Some(cure.into()),
            ..Finding::ok(kind, text)
        }
    }

    fn error(kind: &'static str, text: impl Into<String>, cure: impl Into<String>) -> Self {
        Finding {
            severity: Severity::Error,
            ..Finding::warning(kind, text, cure)
        }
    }

    /// Says that `--fix` has cured it, if `cured` is no error. Otherwise adds why it could not.
    fn cured(mut self, cured: Result<()>) -> Self {
        match cured {
            Ok(()) => self.fixed = true,
            Err(error) => self.text += &format!("; --fix could not cure it: {error:#}"),
        }
        self
    }

    fn is_left(&self) -> bool {
        self.severity != Severity::Ok && !self.fixed
    }
}

/// The state of the home that several checks share.
struct Patient<'a> {
    session: &'a Session,
    /// True if `--fix` is given.
    fix: bool,
    /// The settings, or the defaults if they can't be read.
    config: Config,
    /// The installed daemons; none if the registry can't be read.
    registry: Option<Registry>,
    /// The process that holds the home.
    holder: Option<HomeBusy>,
    /// The connection to the host that runs.
    host: Option<Client<ControlClient>>,
}

/// `doctor`: checks the home and the machine.
pub(super) fn doctor(session: &Session, args: &Args) -> Result<()> {
    let findings = examine(session, args.fix);
    match session.out.json {
        true => session.out.document(&findings)?,
        false => session.out.line(&shown(session, &findings))?,
    }
    match findings.iter().any(Finding::is_left) {
        true => Err(Fault::Reported(Code::Failed).into()),
        false => Ok(()),
    }
}

fn examine(session: &Session, fix: bool) -> Vec<Finding> {
    let home = &session.home;
    let mut findings = vec![home::top(home)];
    let (config, read) = home::config(home);
    findings.push(read);
    let (registry, read) = home::registry(home);
    findings.push(read);
    let holder = home.holder();
    let host = holder.as_ref().map(|_| Client::control(session));
    let mut patient = Patient {
        session,
        fix,
        config,
        registry,
        holder,
        host: None,
    };
    findings.push(home::host(&patient, host.as_ref()));
    patient.host = host.and_then(Result::ok);
    findings.extend(home::modes(&patient));
    findings.extend(files::check(&patient));
    findings.push(home::clock(&patient));
    findings.extend(machine::check(&patient));
    findings.extend(plugins::check(&patient));
    findings
}

/// Returns a line for each finding, and one for each cure.
fn shown(session: &Session, findings: &[Finding]) -> String {
    let seen = findings
        .iter()
        .filter(|one| !session.out.quiet || one.is_left());
    let mut lines = Vec::new();
    for one in seen {
        let mark = match one.fixed {
            true => "fixed".to_owned(),
            false => one.severity.to_string(),
        };
        lines.push(format!(
            "{mark:<8} {:<12} {}",
            one.kind,
            one_line(&one.text)
        ));
        let cure = one.cure.iter().filter(|_| one.is_left());
        lines.extend(cure.map(|cure| format!("{:22}cure: {}", "", one_line(cure))));
    }
    let left = findings.iter().filter(|one| one.is_left()).count();
    if !session.out.quiet {
        lines.push(match left {
            0 => "nothing is left to cure".to_owned(),
            1 => "1 finding".to_owned(),
            left => format!("{left} findings"),
        });
    }
    lines.join("\n")
}

/// Formats a number of things: `1 file`, `3 files`.
fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

/// Returns a path as a word of a command line.
fn word(path: &std::path::Path) -> String {
    words::shell_word(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cured_finding_is_none_any_more() {
        let stale = || Finding::warning("socket", "it is stale", "rm it");
        assert!(stale().is_left());
        assert!(!stale().cured(Ok(())).is_left());
        let failed = stale().cured(Err(anyhow!("no right")));
        assert!(failed.is_left() && failed.text.ends_with("no right"));
        assert!(!Finding::ok("socket", "it is fine").is_left());
    }
}
