//! `config`: shows the values that a daemon runs with and where each comes from, and changes them.
//!
//! A running host checks a change, applies it as a reload does, and undoes it if the daemon doesn't start. Without a host
//! only the values are shown, as the next host will have them.

mod edit;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::Session;
use super::client::Client;
use super::exit::{self, Fault};
use super::{interrupted, words};
use dae_store::config::Config;
use dae_store::daemon_config::{self, DaemonConfig, SettingOrigin, each_leaf};
use dae_store::json5_text;
use dae_store::registry::Registry;
use dae_store::report::{ConfigureRequest, Configured, Mode, TakesEffect};

/// The prefix of paths into the daemon's own config.
const OF_DAEMON: &str = "config";

/// The prefix that a path of a setting may have.
const OF_HOST: &str = "settings.";

/// The arguments of `config`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A PATH is a setting (restart.burst_max), a member of the daemon's own config (config.every_ms), `port` or \
`mode`. A VALUE is JSON or JSON5, else text.\n
Examples:
  dae-host config Sorter
  dae-host config Sorter set restart.burst_max=10 config.every_ms=500
  dae-host config Sorter set port=4001 --dry-run
  dae-host config Sorter unset restart.burst_max
  dae-host config Sorter --edit"
)]
pub(super) struct Args {
    /// The daemon's name
    name: String,
    #[command(subcommand)]
    change: Option<Change>,
    /// Edit config and settings in $VISUAL or $EDITOR
    #[arg(long, conflicts_with = "dry_run")]
    edit: bool,
    /// Apply the edited values without a question
    #[arg(long, short, requires = "edit")]
    yes: bool,
    /// Show what would change, and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Show all settings, also those with the built-in default
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Set values
    Set {
        /// A path and its new value, such as restart.burst_max=10
        #[arg(required = true, value_name = "PATH=VALUE")]
        values: Vec<String>,
    },
    /// Remove values that were set, so that config.json5 or the default decides
    Unset {
        /// The paths
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
}

/// Shows or changes the values.
pub(super) fn config(session: &Session, args: &Args) -> Result<()> {
    match (&args.change, args.edit) {
        (None, false) if args.dry_run => {
            let text =
                "--dry-run stands with `set` or `unset`; without them nothing changes anyway";
            Err(Fault::Usage(text.to_owned()).into())
        }
        (None, false) => show(session, args),
        (None, true) => edit::edit(session, &args.name, args.yes),
        (Some(_), true) => {
            let text = "--edit and `set` or `unset` exclude each other";
            Err(Fault::Usage(text.to_owned()).into())
        }
        (Some(change), false) => {
            let mut client = interrupted::client(session)?;
            let present: DaemonConfig = client.ask("config", &[&args.name])?;
            let mut request = request(&present, change)?;
            request.dry_run = args.dry_run;
            let done = client.ask("configure", &[&request]);
            let all = session.command_line(&format!("config {} --all", args.name));
            let advice = format!("`{all}` shows all values");
            let done: Configured = done.map_err(|error| exit::advised(error, &advice))?;
            report(session, &done)
        }
    }
}

/// Prints what has changed, or would.
fn report(session: &Session, done: &Configured) -> Result<()> {
    let name = &done.name;
    let effect = match (done.takes_effect, done.dry_run) {
        (TakesEffect::Unchanged, _) => format!("{name} has these values already"),
        (TakesEffect::Reload, true) => {
            format!("{name} would be reloaded; connections stay")
        }
        (TakesEffect::Restart, true) => {
            format!("{name} would be stopped and started; its connections would be closed")
        }
        (TakesEffect::NextStart, true) => format!("{name} would have this from its next start on"),
        (TakesEffect::Reload, false) => format!("{name} runs by this ({} ms)", done.ms),
        (TakesEffect::Restart, false) => {
            format!("{name} was restarted and runs by this ({} ms)", done.ms)
        }
        (TakesEffect::NextStart, false) => {
            format!("{name} is stopped, and has this from its next start on")
        }
    };
    let changed = done.changed.iter().map(|one| format!("  {one}\n"));
    let text = format!("{}{effect}", changed.collect::<String>());
    session.out.changes(done, &text)
}

/// Returns the request that makes a change of the present values.
fn request(present: &DaemonConfig, change: &Change) -> Result<ConfigureRequest> {
    let mut request = ConfigureRequest {
        name: present.name.clone(),
        ..ConfigureRequest::default()
    };
    match change {
        Change::Set { values } => {
            for value in values {
                let Some((path, text)) = value.split_once('=') else {
                    let text = format!(
                        "`set` takes PATH=VALUE, such as restart.burst_max=10; got {value}"
                    );
                    return Err(Fault::Usage(text).into());
                };
                put(&mut request, present, (path.trim(), Some(value_of(text))))?;
            }
        }
        Change::Unset { paths } => {
            for path in paths {
                put(&mut request, present, (path.trim(), None))?;
            }
        }
    }
    Ok(request)
}

/// Reads a value: JSON, JSON5, or text.
fn value_of(text: &str) -> Value {
    let strict = || json5_text::document_to_strict(text).ok();
    let json = serde_json::from_str(text).ok();
    json.or_else(|| strict().and_then(|strict| serde_json::from_str(&strict).ok()))
        .unwrap_or_else(|| json!(text))
}

/// Puts a value at its path of the request; `None` removes it.
fn put(
    request: &mut ConfigureRequest,
    present: &DaemonConfig,
    (path, value): (&str, Option<Value>),
) -> Result<()> {
    let wrong = |expected: &str| Fault::Usage(format!("{path} {expected}"));
    match (path, value) {
        ("port", Some(value)) => {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok());
            let port = port.filter(|port| *port > 0);
            request.port = Some(port.ok_or_else(|| wrong("is a number from 1 to 65535"))?);
        }
        ("mode", Some(value)) => {
            let mode = serde_json::from_value::<Mode>(value);
            request.mode = Some(mode.map_err(|_| wrong("is in-process or subprocess"))?);
        }
        ("port" | "mode", None) => {
            return Err(wrong("can't be unset; `set` changes it").into());
        }
        (path, value) => put_member(request, present, (path, value))?,
    }
    Ok(())
}

/// Puts a value into the daemon's config or its settings.
fn put_member(
    request: &mut ConfigureRequest,
    present: &DaemonConfig,
    (path, value): (&str, Option<Value>),
) -> Result<(), Fault> {
    let wrong = |expected: &str| Err(Fault::Usage(format!("{path} {expected}")));
    let (object, inner) = match path.strip_prefix(OF_DAEMON) {
        Some("") => return wrong("is a whole object; name its members, as config.NAME"),
        Some(inner) if inner.starts_with('.') => {
            let config = request.config.get_or_insert_with(|| present.config.clone());
            (config, &inner[1..])
        }
        _ => {
            let given = request
                .settings
                .get_or_insert_with(|| present.given.clone());
            (given, path.strip_prefix(OF_HOST).unwrap_or(path))
        }
    };
    if inner.split('.').any(str::is_empty) {
        return wrong("has an empty name");
    }
    daemon_config::put(object, inner, value).map_err(Fault::Usage)
}

/// Returns the values as the host has them, or without a host as the next one will have them.
fn present(session: &Session, name: &str) -> Result<DaemonConfig> {
    let asked = Client::control(session).and_then(|mut client| client.ask("config", &[name]));
    let error = match asked {
        Ok(found) => return Ok(found),
        Err(error) if exit::code(&error) == exit::Code::NoHost => error,
        Err(error) => return Err(error),
    };
    let registry = Registry::load(&session.home.registry_file())?;
    let Some(entry) = registry.daemons.get(name) else {
        return Err(match registry.daemons.is_empty() {
            true => error,
            false => Fault::unknown(name, registry.daemons.keys().map(String::as_str)).into(),
        });
    };
    let config = Config::load(&session.home.config_file())?;
    DaemonConfig::of(name, entry, &config, &session.home.data).map_err(|text| anyhow!(text))
}

fn show(session: &Session, args: &Args) -> Result<()> {
    let found = present(session, &args.name)?;
    match session.out.json {
        true => session.out.document(&found),
        false => session.out.line(&text(&found, args.all)),
    }
}

/// Returns the values for a person: first what the daemon has, then its settings with their origins.
fn text(found: &DaemonConfig, is_all: bool) -> String {
    let port = match (found.port, found.port_pinned) {
        (Some(port), true) => format!("{port} (pinned)"),
        (Some(port), false) => format!("{port} (chosen by the system, and kept)"),
        (None, _) => "- (the system chooses one at its first start)".to_owned(),
    };
    let source = found.source.clone().unwrap_or_else(|| "-".to_owned());
    let mode = found.mode.as_str().to_owned();
    let head = [("source", source), ("port", port), ("mode", mode)];
    let mut rows = vec![["NAME", "VALUE", "FROM"].map(str::to_owned).to_vec()];
    each_leaf("", &found.config, &mut |path| {
        if !path.is_empty() {
            let value = daemon_config::at(&found.config, path);
            let value = value.map(ToString::to_string).unwrap_or_default();
            rows.push(vec![
                format!("{OF_DAEMON}.{path}"),
                value,
                "install".to_owned(),
            ]);
        }
    });
    for (path, origin) in &found.origins {
        if is_all || *origin != SettingOrigin::Default {
            let value = daemon_config::at(&found.settings, path);
            let value = value.map(ToString::to_string).unwrap_or_default();
            rows.push(vec![path.clone(), value, origin_text(*origin, &found.name)]);
        }
    }
    let mut text = format!("{}\n{}", found.name, words::facts(&head));
    if rows.len() > 1 {
        text = format!("{text}\n\n{}", words::aligned(&rows));
    }
    if !is_all {
        text.push_str("\n\nall other settings have the built-in default; --all shows them");
    }
    text
}

fn origin_text(origin: SettingOrigin, name: &str) -> String {
    match origin {
        SettingOrigin::Default => "default".to_owned(),
        SettingOrigin::Defaults => "config.json5: defaults".to_owned(),
        SettingOrigin::Daemons => format!("config.json5: daemons.{name}"),
        SettingOrigin::Installed => "install".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn present() -> DaemonConfig {
        DaemonConfig {
            name: "A".to_owned(),
            source: None,
            port: Some(4000),
            port_pinned: false,
            mode: Mode::InProcess,
            config: json!({"every_ms": 500}),
            settings: json!({}),
            origins: BTreeMap::new(),
            given: json!({"restart": {"burst_max": 9}}),
            applied_from: None,
        }
    }

    fn set(values: &[&str]) -> Result<ConfigureRequest> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        request(&present(), &Change::Set { values })
    }

    #[test]
    fn a_path_leads_to_the_config_a_setting_the_port_or_the_mode() {
        let request = set(&[
            "restart.slow_max=3",
            "settings.panics_max=4",
            "config.name=Ada L.",
            "config.deep.er=[1,]",
            "port=4001",
            "mode=subprocess",
        ])
        .expect("right values");
        let settings = json!({"restart": {"burst_max": 9, "slow_max": 3}, "panics_max": 4});
        assert_eq!(request.settings, Some(settings));
        let config = json!({"every_ms": 500, "name": "Ada L.", "deep": {"er": [1]}});
        assert_eq!(request.config, Some(config));
        assert_eq!(
            (request.port, request.mode),
            (Some(4001), Some(Mode::Subprocess))
        );
        let paths = vec!["restart.burst_max".to_owned(), "config.every_ms".to_owned()];
        let request = super::request(&present(), &Change::Unset { paths }).expect("right paths");
        assert_eq!(request.settings, Some(json!({"restart": {}})));
        assert_eq!(request.config, Some(json!({})));
    }

    #[test]
    fn a_wrong_path_or_value_is_wrong_usage() {
        for wrong in [
            "port=0",
            "port=70000",
            "mode=fast",
            "config=1",
            "a..b=1",
            "restart",
            "config.every_ms.x=1",
        ] {
            let error = set(&[wrong]).expect_err(wrong);
            assert_eq!(exit::code(&error), exit::Code::Usage, "{wrong}: {error}");
        }
    }
}
