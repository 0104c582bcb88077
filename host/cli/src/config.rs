//! `config`: shows the values that a daemon runs with and where each comes from, and changes them.
//!
//! A running host checks a change, applies it as a reload does, and undoes it if the daemon doesn't start. Without a host
//! only the values are shown, as the next host will have them.

mod edit;

use anyhow::{Result, anyhow};
use dae_plugin_api::misfit;
use serde_json::{Value, json};

use super::Session;
use super::client::Client;
use super::exit::{self, Fault};
use super::{interrupted, words};
use dae_store::config::Config;
use dae_store::daemon_config::{self, DaemonConfig, SettingOrigin, each_leaf};
use dae_store::difference::{Difference, shortened};
use dae_store::json5_text;
use dae_store::printable::one_line;
use dae_store::ranged;
use dae_store::registry::{DAE_NAME, Registry};
use dae_store::report::{
    ConfigReloaded, ConfigureRequest, Configured, Mode, TakesEffect, ValueChange,
};

/// The prefix of paths into the daemon's own config.
const OF_DAEMON: &str = "config";

/// The word in place of a name that reads config.json5 again. No daemon gets this name.
const RELOAD: &str = "reload";

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
  dae-host config Sorter --edit
  dae-host config reload                  takes up a changed config.json5"
)]
pub(super) struct Args {
    /// The daemon's name, or `reload` to take up a changed config.json5
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
    /// Remove values that were set, so that config.json5 or the default decides; `port`: pin none
    Unset {
        /// The paths
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
}

/// Shows or changes the values.
pub(super) fn config(session: &Session, args: &Args) -> Result<()> {
    if args.name == DAE_NAME {
        return Err(of_host(session).into());
    }
    match (&args.change, args.edit) {
        (None, false) if args.dry_run => {
            let text =
                "--dry-run stands with `set` or `unset`; without them nothing changes anyway";
            Err(Fault::Usage(text.to_owned()).into())
        }
        (None, false) if args.name == RELOAD => reload(session),
        (None, false) => show(session, args),
        (None, true) => edit::edit(session, &args.name, args.yes),
        (Some(_), true) => {
            let text = "--edit and `set` or `unset` exclude each other";
            Err(Fault::Usage(text.to_owned()).into())
        }
        (Some(change), false) => {
            let mut client = interrupted::client(session)?;
            let mut request = request(&args.name, change)?;
            request.dry_run = args.dry_run;
            let done = client.ask("configure", &[&request]);
            let all = session.command_line(&format!("config {} --all", args.name));
            let advice = format!("`{all}` shows all values");
            let done: Configured = done.map_err(|error| exit::advised(error, &advice))?;
            report(session, &done)
        }
    }
}

/// Returns the fault for the name of the host itself.
fn of_host(session: &Session) -> Fault {
    let file = session.home.config_file();
    let text = format!(
        "{DAE_NAME} is the host's own daemon, and its settings are those of the host: they stand in {}, and each that is missing \
         there has its default; `{}` takes up a change, and `{}` shows the host",
        file.display(),
        session.command_line("config reload"),
        session.command_line(&format!("status {DAE_NAME}")),
    );
    Fault::Refused {
        code: "bad-arguments".to_owned(),
        message: text,
    }
}

/// Has the host take up a changed config.json5.
fn reload(session: &Session) -> Result<()> {
    let mut client = interrupted::client(session)?;
    let done: ConfigReloaded = client.ask("reload_config", &json!([]))?;
    let list = |changed: &[Difference]| -> String {
        changed.iter().map(|one| format!("  {one}\n")).collect()
    };
    let mut text = list(&done.changed);
    for one in &done.daemons {
        text += &format!("{} runs by its new settings\n", one.name);
    }
    if !done.needs_restart.is_empty() {
        text += "from the next start of the host on:\n";
        text += &list(&done.needs_restart);
    }
    text += &match (done.changed.is_empty(), done.needs_restart.is_empty()) {
        (true, true) => "the host runs by this config.json5 already".to_owned(),
        (true, false) => "nothing else has changed".to_owned(),
        (false, _) => format!("the host runs by its config.json5 ({} ms)", done.ms),
    };
    session.out.changes(&done, &text)
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
            format!("{name} doesn't run, and has this from its next start on")
        }
    };
    let changed = done.changed.iter().map(|one| format!("  {one}\n"));
    let text = format!("{}{effect}", changed.collect::<String>());
    session.out.changes(done, &text)
}

/// Returns the request that makes a change.
fn request(name: &str, change: &Change) -> Result<ConfigureRequest> {
    let mut request = ConfigureRequest {
        name: name.to_owned(),
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
                put(&mut request, (path.trim(), Some(value_of(text))))?;
            }
        }
        Change::Unset { paths } => {
            for path in paths {
                put(&mut request, (path.trim(), None))?;
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

/// Puts a value into the request; `None` removes it. The host puts it into the present values.
fn put(request: &mut ConfigureRequest, (path, value): (&str, Option<Value>)) -> Result<(), Fault> {
    let wrong = |expected: &str| Err(Fault::Usage(format!("{path:?} {expected}")));
    match (path.strip_prefix(OF_HOST).unwrap_or(path), value) {
        ("port", Some(value)) => {
            let expected = |error: serde_json::Error| misfit::say(&error.to_string());
            match ranged::port_or_null(value).map_err(expected) {
                Ok(Some(port)) => request.port = Some(port),
                Ok(None) => return wrong("can't be null; `unset port` pins none"),
                Err(text) => return Err(Fault::Usage(format!("port: {text}"))),
            }
        }
        ("mode", Some(value)) => match serde_json::from_value::<Mode>(value) {
            Ok(mode) => request.mode = Some(mode),
            Err(_) => return wrong("is in-process or subprocess"),
        },
        ("port", None) => request.unpin = true,
        ("mode", None) => return wrong("can't be unset; `set` changes it"),
        (OF_DAEMON, _) => return wrong("is a whole object; name its members, as config.NAME"),
        (path, value) => {
            if path.split('.').any(str::is_empty) {
                return wrong("has an empty name");
            }
            let path = path.to_owned();
            if request
                .values
                .iter()
                .any(|other| overlap(&other.path, &path))
            {
                return wrong("is given twice; keep one of them");
            }
            request.values.push(ValueChange { path, value });
        }
    }
    Ok(())
}

/// Returns whether the paths are the same, or one of them leads into the other.
fn overlap(one: &str, other: &str) -> bool {
    let (short, long) = match one.len() < other.len() {
        true => (one, other),
        false => (other, one),
    };
    let rest = long.strip_prefix(short);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
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
        false => session.out.line(&text(session, &found, args.all)),
    }
}

/// Returns the values for a person: first what the daemon has, then its settings with their origins.
fn text(session: &Session, found: &DaemonConfig, is_all: bool) -> String {
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
            let value = shown(daemon_config::at(&found.config, path));
            let path = format!("{OF_DAEMON}.{path}");
            rows.push(vec![
                one_line(&path).into_owned(),
                value,
                "install".to_owned(),
            ]);
        }
    });
    for (path, origin) in &found.origins {
        if is_all || *origin != SettingOrigin::Default {
            let value = shown(daemon_config::at(&found.settings, path));
            rows.push(vec![path.clone(), value, origin_text(*origin, &found.name)]);
        }
    }
    let mut text = format!("{}\n{}", found.name, words::facts(&head));
    if rows.len() > 1 {
        text = format!("{text}\n\n{}", session.out.texts(&rows));
    }
    if !is_all {
        text.push_str("\n\nall other settings have the built-in default; --all shows them");
    }
    text
}

/// Returns a value for a table. `--json` has a long one as a whole.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(String::new, |value| shortened(&value.to_string()))
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

    fn set(values: &[&str]) -> Result<ConfigureRequest> {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        request("A", &Change::Set { values })
    }

    fn change(path: &str, value: Option<Value>) -> ValueChange {
        let path = path.to_owned();
        ValueChange { path, value }
    }

    #[test]
    fn a_path_leads_to_the_config_a_setting_the_port_or_the_mode() {
        let request = set(&[
            "settings.panics_max=4",
            "config.name=Ada L.",
            "config.deep.er=[1,]",
            "port=4001",
            "mode=subprocess",
        ])
        .expect("right values");
        let expected = [
            change("panics_max", Some(json!(4))),
            change("config.name", Some(json!("Ada L."))),
            change("config.deep.er", Some(json!([1]))),
        ];
        assert_eq!(request.values, expected);
        assert_eq!(
            (request.port, request.mode),
            (Some(4001), Some(Mode::Subprocess))
        );
        let paths = vec!["restart.burst_max".to_owned()];
        let request = super::request("A", &Change::Unset { paths }).expect("right paths");
        assert_eq!(request.values, [change("restart.burst_max", None)]);
    }

    #[test]
    fn a_wrong_path_or_value_is_wrong_usage() {
        for wrong in [
            &["port=0"][..],
            &["port=70000"],
            &["mode=fast"],
            &["config=1"],
            &["a..b=1"],
            &["=1"],
            &["restart"],
            &["panics_max=3", "panics_max=4"],
            &["restart.burst_max=5", "settings.restart=null"],
        ] {
            let error = set(wrong).expect_err("wrong usage");
            assert_eq!(exit::code(&error), exit::Code::Usage, "{wrong:?}: {error}");
        }
        assert!(set(&["restart.burst_max=5", "restart.burst_ms=6"]).is_ok());
    }
}
