//! The end of the program: the one place that turns an error into an exit code and a message.
//!
//! Everywhere else in the command line an error is an `anyhow::Error` with its chain of reasons. An error whose exit
//! code is not that of a plain failure carries a [`Fault`] somewhere in that chain, and [`code`] finds it. So a command
//! can add context (`.context(…)`) without changing the code.
//!
//! Codes are part of the interface, since scripts branch on them. No code ever gets another meaning; [`HELP`] lists
//! them.

mod error_object;

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use dae_runtime::plugin::library;
use dae_store::home::HomeBusy;
use dae_store::install_plan::{InstallRefusal, RefusalKind};
use dae_store::printable;
use dae_store::registry::DAE_NAME;
use error_object::ErrorDocument;
pub(super) use error_object::ErrorObject;

/// The exit codes, as `--help` shows them.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  failed; the reason is on standard error
  2  wrong usage
  3  the daemon is not running
  4  no daemon of that name
  6  another host holds this home, or its host can't be reached
  7  no host runs for this home
  130  Ctrl-C has ended it; 128 and the signal's number for any other signal

Data goes to standard output, everything else to standard error. With --json each command prints
exactly one JSON document (`logs`: one a line), and an error is a JSON object on standard error.
NO_COLOR turns colours off.";

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Code {
    /// The command has done its work.
    Done = 0,
    /// The command has failed, and the message says why.
    Failed = 1,
    /// The command line is wrong; clap ends with the same number.
    Usage = 2,
    /// The daemon is known, but does not run.
    NotRunning = 3,
    /// There is no daemon of that name.
    UnknownName = 4,
    /// Another host holds the home.
    HomeHeld = 6,
    /// No host runs for the home, and the command needs one.
    NoHost = 7,
}

/// An error that ends the program with its own exit code.
#[derive(Debug)]
pub(super) enum Fault {
    /// Wrong usage that clap can't detect.
    Usage(String),
    /// A refusal by a host, with a code of the protocol or of the control socket.
    Refused {
        /// The code as it was received.
        code: String,
        /// The message for a person.
        message: String,
    },
    /// The error that a daemon has answered. Its code may be any word of the daemon's author, so it has no exit code of its
    /// own and no hint: `not-running` of a daemon isn't that of a host.
    Answered {
        /// The message for a person.
        message: String,
        /// The error as it was received, a JSON object.
        error: String,
    },
    /// Nothing listens on the home's control socket.
    NoHost {
        /// The home that was asked.
        home: PathBuf,
        /// The command that starts a host for it.
        start: String,
    },
    /// A process holds the home, and nothing listens on its control socket.
    NotListening {
        /// The process that holds the home.
        held: HomeBusy,
        /// The socket on which it should listen.
        socket: PathBuf,
    },
    /// The host that this process has started has ended before it was ready.
    Ended {
        /// The exit code of a host that ends so.
        code: Code,
        /// The message of the host.
        reason: String,
    },
    /// The output says it all. Of several names that failed, the code is that of the first.
    Reported(Code),
    /// The reader of the output has gone (`| head`): nothing is left to do or to print.
    ReaderGone,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Usage(text) | Fault::Ended { reason: text, .. } => f.write_str(text),
            // A peer's message is shown on one line, whatever it contains.
            Fault::Refused { message, .. } | Fault::Answered { message, .. } => {
                f.write_str(&printable::one_line(message))
            }
            Fault::NoHost { home, .. } => {
                write!(f, "no host runs for the home {}", home.display())?;
                match self.advice() {
                    Some(advice) => write!(f, "; {advice}"),
                    None => Ok(()),
                }
            }
            Fault::NotListening { held, socket } => {
                let (home, socket) = (held.home.display(), socket.display());
                let pid = held
                    .pid
                    .map_or_else(String::new, |pid| format!(" with pid {pid}"));
                write!(
                    f,
                    "a host{pid} holds the home {home}, but its control socket {socket} is gone or not there yet; \
                     it is starting or ending, so try again in a few seconds; if that lasts, its log says why"
                )
            }
            Fault::Reported(_) => f.write_str("not everything was done; see above"),
            Fault::ReaderGone => f.write_str("nobody reads the output any more"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Returns the fault for an unknown daemon `name`; `known` are the names that exist.
    pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Fault {
        if name == DAE_NAME {
            return Fault::Refused {
                code: "bad-arguments".to_owned(),
                message: format!(
                    "{DAE_NAME} is the host itself, and can't be changed like a daemon"
                ),
            };
        }
        let hint = dae_common_tcp::nearest(name, known);
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Fault::Refused {
            code: "unknown-daemon".to_owned(),
            message: format!("there is no daemon {name:?} in this home{hint}"),
        }
    }

    /// Returns what to do, which stands at the end of the message; `None` if the message itself says it, or nothing can
    /// be said.
    fn advice(&self) -> Option<String> {
        match self {
            Fault::NoHost { start, .. } => Some(format!("start one with `{start}`")),
            _ => None,
        }
    }

    fn code(&self) -> Code {
        match self {
            Fault::Usage(_) => Code::Usage,
            Fault::Refused { code, .. } => code_of_refusal(code),
            Fault::Answered { .. } => Code::Failed,
            Fault::NoHost { .. } => Code::NoHost,
            Fault::NotListening { .. } => Code::HomeHeld,
            Fault::Reported(code) | Fault::Ended { code, .. } => *code,
            Fault::ReaderGone => Code::Done,
        }
    }
}

/// Two codes of the control socket have their own exit codes; every other refusal is a plain failure.
fn code_of_refusal(code: &str) -> Code {
    match code {
        "not-running" => Code::NotRunning,
        "unknown-daemon" => Code::UnknownName,
        _ => Code::Failed,
    }
}

/// Returns the exit code for an error: that of the first link of its chain that has one.
pub(super) fn code(error: &anyhow::Error) -> Code {
    let of_link = |link: &(dyn std::error::Error + 'static)| {
        let held = || link.is::<HomeBusy>().then_some(Code::HomeHeld);
        link.downcast_ref::<Fault>().map(Fault::code).or_else(held)
    };
    // anyhow's own downcast also finds a fault that was attached as context, which the chain shows only as text.
    let attached = error.downcast_ref::<Fault>().map(Fault::code);
    attached
        .or_else(|| error.chain().find_map(of_link))
        .unwrap_or(Code::Failed)
}

/// Returns the options of this program that lead on from an error of the library, whose own text names none.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    const REPLACE: &str = "on the command line: `install NAME FILE --replace`";
    const FORCE: &str = "on the command line: `install NAME FILE --replace --force`";
    error.chain().find_map(|link| {
        if let Some(Fault::Refused { code, .. }) = link.downcast_ref() {
            return match code.as_str() {
                "name-taken" => Some(REPLACE),
                "quarantined" => Some(FORCE),
                _ => None,
            };
        }
        if let Some(refusal) = link.downcast_ref::<InstallRefusal>() {
            return match refusal.kind() {
                RefusalKind::NameTaken => Some(REPLACE),
                RefusalKind::Quarantined => Some(FORCE),
                RefusalKind::BadArguments | RefusalKind::Failed => None,
            };
        }
        link.is::<HomeBusy>()
            .then_some("--home or DAE_HOME names another home")
    })
}

/// Adds `advice` to a refusal that has no kind of its own. The library names no command of this program.
pub(super) fn advised(error: anyhow::Error, advice: &str) -> anyhow::Error {
    match error.downcast() {
        Ok(Fault::Refused { code, message }) if code == "failed" => Fault::Refused {
            message: format!("{message} ({advice})"),
            code,
        }
        .into(),
        Ok(fault) => fault.into(),
        Err(error) => error,
    }
}

/// Prints the error on standard error, with `is_json` as one object on a line, and returns the exit code.
pub(super) fn report(error: &anyhow::Error, is_json: bool) -> Code {
    let quiet = matches!(
        error.downcast_ref::<Fault>(),
        Some(Fault::Reported(_) | Fault::ReaderGone)
    );
    match (quiet, is_json) {
        (true, _) => {}
        (false, true) => write_object(ErrorObject::of(error)),
        (false, false) => {
            let hint = hint(error).map_or_else(String::new, |hint| format!(" ({hint})"));
            let text = format!("{error:#}{hint}");
            // If standard error is closed, nobody reads the message.
            let _ = writeln!(io::stderr(), "dae-host: {}", printable::message(&text));
        }
    }
    code(error)
}

/// Writes an error as an object on standard error.
pub(super) fn write_object(error: ErrorObject) {
    if let Ok(text) = serde_json::to_string(&ErrorDocument { error }) {
        // If standard error is closed, nobody reads the object.
        let _ = writeln!(io::stderr(), "{}", printable::json(&text));
    }
}

/// Prints clap's answer to a command line, a help text or what is wrong with it, and returns the exit code.
pub(super) fn end_usage(error: &clap::Error, is_json: bool) -> ExitCode {
    match is_json && error.use_stderr() {
        true => write_object(ErrorObject::of_usage(error)),
        // If the output is closed, nobody reads the answer.
        false => drop(error.print()),
    }
    let code = if error.use_stderr() {
        Code::Usage
    } else {
        Code::Done
    };
    ExitCode::from(code as u8)
}

/// Reports an error, and returns the exit code. While a library is being loaded, exits at once: the libraries' exit
/// handlers would wait for the loader's lock.
pub(super) fn end(result: anyhow::Result<()>, is_json: bool) -> ExitCode {
    let code = result.map_or_else(|error| report(&error, is_json), |()| Code::Done);
    if library::is_loading() {
        library::exit(code as i32);
    }
    ExitCode::from(code as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context as _, anyhow};

    fn refused(code: &str) -> anyhow::Error {
        let (code, message) = (code.to_owned(), "no".to_owned());
        anyhow::Error::new(Fault::Refused { code, message })
    }

    #[test]
    fn each_fate_has_its_code() {
        let no_host = Fault::NoHost {
            home: "/h".into(),
            start: "dae-host run".into(),
        };
        let held = HomeBusy {
            home: "/h".into(),
            pid: Some(1),
            since: None,
        };
        let not_listening = Fault::NotListening {
            held: held.clone(),
            socket: "/h/run/control.sock".into(),
        };
        let cases = [
            (anyhow!("anything else"), Code::Failed),
            (Fault::Usage("x".into()).into(), Code::Usage),
            (refused("not-running"), Code::NotRunning),
            (refused("unknown-daemon"), Code::UnknownName),
            (refused("bad-arguments"), Code::Failed),
            (refused("a-code-of-a-later-host"), Code::Failed),
            (no_host.into(), Code::NoHost),
            (not_listening.into(), Code::HomeHeld),
            (held.into(), Code::HomeHeld),
            (Fault::Reported(Code::UnknownName).into(), Code::UnknownName),
            (Fault::ReaderGone.into(), Code::Done),
        ];
        for (error, expected) in cases {
            assert_eq!(code(&error), expected, "{error:#}");
        }
    }

    #[test]
    fn an_error_of_the_library_has_the_hint_of_its_kind() {
        for (code, expected) in [
            ("name-taken", Some("--replace")),
            ("quarantined", Some("--force")),
            ("failed", None),
        ] {
            let error = refused(code).context("cannot install Sample");
            let found = hint(&error);
            let is_right = match expected {
                Some(option) => found.is_some_and(|hint| hint.contains(option)),
                None => found.is_none(),
            };
            assert!(is_right, "{code}: {found:?}");
        }
        let (home, pid, since) = ("/h".into(), None, None);
        let held = anyhow::Error::new(HomeBusy { home, pid, since });
        assert!(hint(&held).is_some_and(|hint| hint.contains("--home")));
        assert!(!held.to_string().contains("--"), "{held}");
    }

    #[test]
    fn advice_is_added_to_a_refusal_without_a_kind() {
        for (code, expected) in [("failed", "no (try)"), ("not-running", "no")] {
            let error = anyhow::Error::new(Fault::Refused {
                code: code.to_owned(),
                message: "no".to_owned(),
            });
            let advised = advised(error, "try");
            assert_eq!(advised.to_string(), expected);
            assert_eq!(super::code(&advised), code_of_refusal(code));
        }
        assert_eq!(advised(anyhow::anyhow!("no"), "try").to_string(), "no");
    }

    #[test]
    fn context_around_a_fault_keeps_its_code() {
        let error = Err::<(), _>(refused("not-running")).context("cannot call Sample");
        let error = error.context("again").expect_err("it is an error");
        assert_eq!(code(&error), Code::NotRunning);
    }

    #[test]
    fn the_help_names_every_code() {
        for code in [
            Code::Done,
            Code::Failed,
            Code::Usage,
            Code::NotRunning,
            Code::UnknownName,
            Code::HomeHeld,
            Code::NoHost,
        ] {
            assert!(HELP.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
    }

    #[test]
    fn a_missing_host_says_how_to_start_one() {
        let fault = Fault::NoHost {
            home: "/h".into(),
            start: "dae-host --home /h run".into(),
        };
        let text = fault.to_string();
        assert!(
            text.contains("/h") && text.contains("`dae-host --home /h run`"),
            "{text}"
        );
    }
}
