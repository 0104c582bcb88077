//! `log`: shows the level of a daemon's log, or changes it at run time.
//!
//! The host filters what the daemon's code logs, wherever that code runs. The change outlasts reloads and crashes, and ends
//! with the host; the setting `log_level` is for good.

use anyhow::Result;

use super::Session;
use super::client::Client;
use super::exit::Fault;
use dae_store::registry::DAE_NAME;
use dae_store::report::{DaemonLogLevel, LogLevel, LogLevelRequest};

/// The word that returns to the setting.
const DEFAULT: &str = "default";

/// The arguments of `log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dae-host log Sorter                 the level of its log
  dae-host log Sorter warn            only warnings and errors, until the host ends
  dae-host log Sorter default         by the setting log_level again")]
pub(super) struct Args {
    /// The daemon's name
    name: String,
    /// error, warn, info, debug, or `off` for nothing; `default` returns to the setting log_level
    #[arg(value_parser = wanted)]
    level: Option<Wanted>,
}

/// A level, or the setting.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Level(LogLevel),
    Setting,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let word = text.to_lowercase();
    let level = LogLevel::ALL.into_iter().find(|one| one.as_str() == word);
    match (level, word.as_str()) {
        (Some(level), _) => Ok(Wanted::Level(level)),
        (None, DEFAULT) => Ok(Wanted::Setting),
        (None, "trace") => {
            let text = "a plugin keeps its records below debug to itself; `debug` shows all others";
            Err(text.to_owned())
        }
        (None, word) => {
            let names = LogLevel::ALL.map(LogLevel::as_str);
            let near = dae_common_tcp::nearest(word, names.into_iter().chain([DEFAULT]));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let known = names.join(", ");
            Err(format!("expected {known} or {DEFAULT}{hint}"))
        }
    }
}

/// Shows or changes the level.
pub(super) fn log(session: &Session, args: &Args) -> Result<()> {
    if args.name == DAE_NAME {
        let text = "the level of the host's own log is chosen at its start: `run -v`, `run -q` or RUST_LOG";
        return Err(Fault::Usage(text.to_owned()).into());
    }
    let request = LogLevelRequest {
        name: args.name.clone(),
        level: match args.level {
            Some(Wanted::Level(level)) => Some(level),
            _ => None,
        },
        reset: matches!(args.level, Some(Wanted::Setting)),
    };
    let found: DaemonLogLevel = Client::control(session)?.ask("log", &[&request])?;
    match args.level {
        None if session.out.json => session.out.document(&found),
        None => session.out.line(&in_words(session, &found)),
        Some(_) => session.out.done(&found, &in_words(session, &found)),
    }
}

fn in_words(session: &Session, found: &DaemonLogLevel) -> String {
    let DaemonLogLevel {
        name,
        level,
        setting,
    } = found;
    let (level, setting) = (level.as_str(), setting.as_str());
    if level == setting {
        return format!("{name} logs at level {level}");
    }
    let keep = session.command_line(&format!("config {name} set log_level={level}"));
    format!(
        "{name} logs at level {level} until the host ends, and at {setting} from then on; `{keep}` keeps {level}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_may_be_written_in_capitals_and_a_wrong_one_gets_the_nearest() {
        assert!(matches!(wanted("WARN"), Ok(Wanted::Level(LogLevel::Warn))));
        assert!(matches!(wanted("default"), Ok(Wanted::Setting)));
        assert!(wanted("wran").unwrap_err().ends_with("did you mean warn?"));
        assert!(wanted("trace").unwrap_err().contains("debug"));
        assert!(!wanted("everything").unwrap_err().contains("did you mean"));
    }
}
