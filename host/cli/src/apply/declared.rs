//! The file that declares daemons: TOML, with the paths relative to its directory.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use dae_common_tcp::nearest;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use toml::Table;

use dae_store::json5_text;
use dae_store::ranged;
use dae_store::registry;
use dae_store::report::{ConfigureRequest, Mode};
use dae_store::settings::{self, Settings, explain_fault};
use dae_store::text_file;

use super::preview;

/// The largest file that is read (bytes): ten thousand daemons with a config each.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The keys at the top of the file.
const TOP_KEYS: [&str; 1] = ["daemons"];

/// The keys of a daemon.
const KEYS: [&str; 9] = [
    "after", "bounds", "config", "env", "file", "mode", "nice", "port", "settings",
];

/// The keys of a daemon that are settings, and stand beside the others for convenience.
const SETTINGS_BESIDE: [&str; 4] = ["after", "bounds", "env", "nice"];

/// The declared daemons.
#[derive(Debug)]
pub(super) struct DeclaredSet {
    /// The absolute path of the file; `None` for standard input.
    pub(super) path: Option<PathBuf>,
    /// The daemons by name.
    pub(super) daemons: BTreeMap<String, Declared>,
    /// The names in an order in which each daemon comes after those that it waits for.
    pub(super) order: Vec<String>,
}

/// A declared daemon.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    /// The absolute path of the plugin's file.
    pub(super) file: PathBuf,
    pub(super) port: Option<u16>,
    mode: Option<Mode>,
    /// The daemon's own config, an object.
    pub(super) config: Value,
    /// The settings of its own, an object.
    pub(super) settings: Value,
}

/// A daemon as it stands in the file.
#[derive(Debug, Deserialize)]
struct WrittenDaemon {
    file: PathBuf,
    #[serde(default, deserialize_with = "ranged::port_or_null")]
    port: Option<u16>,
    mode: Option<Mode>,
    config: Option<Value>,
    settings: Option<Value>,
}

impl Declared {
    /// Returns the process in which the daemon is to run.
    pub(super) fn mode(&self) -> Mode {
        let by_settings = || serde_json::from_value(self.settings.get("mode")?.clone()).ok();
        self.mode.or_else(by_settings).unwrap_or_default()
    }

    /// Returns the request that gives the daemon of that name its values.
    pub(super) fn values(&self, name: &str) -> ConfigureRequest {
        ConfigureRequest {
            name: name.to_owned(),
            config: Some(self.config.clone()),
            settings: Some(self.settings.clone()),
            port: self.port,
            mode: Some(self.mode()),
            ..ConfigureRequest::default()
        }
    }

    pub(super) fn after(&self) -> Vec<String> {
        let after = self.settings.get("after").cloned().unwrap_or_default();
        serde_json::from_value(after).unwrap_or_default()
    }
}

impl DeclaredSet {
    /// Reads and checks the file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// The file can't be read, is no TOML, or has an unknown key or a wrong value; the text names it.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = text_file::read(file, FILE_BYTES_MAX)
            .with_context(|| format!("cannot read {}; `-f` names another file", file.display()))?;
        let path = std::path::absolute(file)?;
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let set = DeclaredSet::parse(&text, &dir);
        let mut set = set.with_context(|| format!("{} is not as expected", file.display()))?;
        set.path = Some(path);
        Ok(set)
    }

    /// Reads and checks standard input. Paths in it are relative to the current directory.
    ///
    /// # Errors
    /// The errors of [`DeclaredSet::read`].
    pub(super) fn from_reader(input: impl Read) -> Result<Self> {
        let text = text_file::of_reader(input, FILE_BYTES_MAX);
        let text = text.context("cannot read the set of daemons from standard input")?;
        let dir = std::env::current_dir().context("cannot find the current directory")?;
        let set = DeclaredSet::parse(&text, &dir);
        set.context("standard input is not as expected")
    }

    fn parse(text: &str, dir: &Path) -> Result<Self> {
        let table: Table = toml::from_str(text).map_err(|error| anyhow!(no_toml(text, &error)))?;
        check_keys("the file", &table, &TOP_KEYS)?;
        let written = match table.get("daemons") {
            None => Table::new(),
            Some(toml::Value::Table(daemons)) => daemons.clone(),
            Some(_) => bail!("daemons: expected a table, such as [daemons.Sorter]"),
        };
        let mut daemons = BTreeMap::new();
        for (name, written) in written {
            registry::check_installed_name(&name).map_err(|text| anyhow!("daemons: {text}"))?;
            let declared = declared(dir, &name, written);
            let declared = declared.with_context(|| format!("daemons.{name}"))?;
            daemons.insert(name, declared);
        }
        preview::check_ports(&daemons)?;
        let order = order(&daemons)?;
        Ok(DeclaredSet {
            path: None,
            daemons,
            order,
        })
    }
}

/// Says where a text is no TOML, and why.
fn no_toml(text: &str, error: &toml::de::Error) -> String {
    let reason = error.message().lines().collect::<Vec<_>>().join(", ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => {
            let line = 1 + before.matches('\n').count();
            format!("line {line} is no TOML: {reason}")
        }
        None => format!("it is no TOML: {reason}"),
    }
}

fn check_keys(place: &str, table: &Table, known: &[&str]) -> Result<()> {
    let Some(wrong) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    if let Some(home) = belongs_in(wrong, known) {
        bail!("{place} has a key `{wrong}`, which belongs {home}");
    }
    let hint = nearest(wrong, known.iter().copied());
    let hint = hint.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    bail!(
        "{place} has an unknown key `{wrong}`; {hint}known are {}",
        known.join(", ")
    )
}

/// Returns where a key belongs that stands among keys of another kind: a setting beside the keys of its daemon, or a key of a
/// daemon at the top of the file.
fn belongs_in(key: &str, known: &[&str]) -> Option<String> {
    let is_setting = settings::is_setting(key);
    if *known == TOP_KEYS {
        let is_of_daemon = KEYS.contains(&key) || is_setting;
        return is_of_daemon
            .then(|| "to a daemon, below a heading such as [daemons.Sorter]".to_owned());
    }
    let near = || {
        let names = settings::names();
        let near = nearest(key, names.iter().map(String::as_str));
        near.map(str::to_owned)
    };
    match (is_setting, nearest(key, known.iter().copied())) {
        (true, _) => Some(format!(
            "in its `settings`, as in `settings = {{ {key} = … }}`"
        )),
        // A misspelt key of a daemon.
        (false, Some(_)) => None,
        (false, None) => near().map(|near| {
            format!("in its `settings` if you mean `{near}`, as in `settings = {{ {near} = … }}`")
        }),
    }
}

fn declared(dir: &Path, name: &str, written: toml::Value) -> Result<Declared> {
    let toml::Value::Table(mut table) = written else {
        bail!("expected a table with the key `file`");
    };
    check_keys(name, &table, &KEYS)?;
    let mut beside = Map::new();
    for key in SETTINGS_BESIDE {
        if let Some(value) = table.remove(key) {
            beside.insert(key.to_owned(), json_of(key, value)?);
        }
    }
    let written = written_daemon(name, table)?;
    let Value::Object(mut settings) = object(dir, "settings", written.settings)? else {
        bail!("settings: expected an object");
    };
    for (key, value) in beside {
        if settings.insert(key.clone(), value).is_some() {
            bail!("`{key}` is given twice, also in `settings`; keep one of them");
        }
    }
    let settings = Value::Object(settings);
    Settings::of(&[&settings]).map_err(|text| anyhow!("settings: {text}"))?;
    Ok(Declared {
        file: dir.join(written.file),
        port: written.port,
        mode: written.mode,
        config: object(dir, "config", written.config)?,
        settings,
    })
}

fn written_daemon(name: &str, table: Table) -> Result<WrittenDaemon> {
    for key in ["config", "settings"] {
        // Checks the values; a date has no JSON.
        if let Some(value) = table.get(key) {
            json_of(key, value.clone())?;
        }
    }
    let written = json_of(name, toml::Value::Table(table))?;
    let written = serde_path_to_error::deserialize(written);
    written.map_err(|error| anyhow!(explain_fault(&error)))
}

fn json_of(key: &str, value: toml::Value) -> Result<Value> {
    let has_date = has_date(&value);
    match has_date {
        true => bail!("{key}: a date has no JSON; write it as text"),
        false => Ok(serde_json::to_value(value)?),
    }
}

fn has_date(value: &toml::Value) -> bool {
    match value {
        toml::Value::Datetime(_) => true,
        toml::Value::Array(all) => all.iter().any(has_date),
        toml::Value::Table(table) => table.values().any(has_date),
        _ => false,
    }
}

/// Returns a daemon's config or settings: a table, JSON5 as text, or `@` and a file with it.
fn object(dir: &Path, key: &str, written: Option<Value>) -> Result<Value> {
    let text = match written {
        None => return Ok(json!({})),
        Some(object @ Value::Object(_)) => return Ok(object),
        Some(Value::String(text)) => text,
        Some(other) => bail!("{key}: expected a table, JSON text, or @FILE; got {other}"),
    };
    let text = match text.strip_prefix('@') {
        None => text,
        Some(file) => {
            let path = dir.join(file);
            text_file::read(&path, FILE_BYTES_MAX)
                .with_context(|| format!("{key}: cannot read {}", path.display()))?
        }
    };
    let strict = json5_text::document_to_strict(&text);
    let strict = strict.map_err(|reason| anyhow!("{key}: not JSON: {reason}"))?;
    match serde_json::from_str(&strict)? {
        object @ Value::Object(_) => Ok(object),
        other => bail!("{key}: expected an object, got {other}"),
    }
}

/// Returns the names in the start order. Daemons that the file doesn't declare count as ready.
fn order(daemons: &BTreeMap<String, Declared>) -> Result<Vec<String>> {
    let (mut order, mut way) = (Vec::new(), Vec::new());
    for name in daemons.keys() {
        visit(daemons, name, &mut way, &mut order)?;
    }
    Ok(order)
}

fn visit(
    daemons: &BTreeMap<String, Declared>,
    name: &str,
    way: &mut Vec<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    let Some(declared) = daemons.get(name) else {
        return Ok(());
    };
    if order.iter().any(|done| done == name) {
        return Ok(());
    }
    if way.iter().any(|open| open == name) {
        way.push(name.to_owned());
        bail!("the start order is a circle: {}", way.join(" after "));
    }
    way.push(name.to_owned());
    for other in declared.after() {
        visit(daemons, &other, way, order)?;
    }
    way.pop();
    order.push(name.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<DeclaredSet> {
        DeclaredSet::parse(text, Path::new("/set"))
    }

    #[test]
    fn a_daemon_has_all_its_values() {
        let set = parsed(
            r#"
            [daemons.A]
            file = "a.so"
            port = 4000
            mode = "subprocess"
            config = { deep = { list = [1, 2.5] } }
            after = ["B", "Elsewhere"]
            bounds = { files_max = 9 }
            settings.restart.burst_max = 3
            [daemons.B]
            file = "/abs/b.so"
            config = '{a: null}'
            "#,
        )
        .unwrap();
        let a = &set.daemons["A"];
        assert_eq!(
            (a.file.as_path(), a.port),
            (Path::new("/set/a.so"), Some(4000))
        );
        assert_eq!(a.mode(), Mode::Subprocess);
        assert_eq!(a.config, json!({"deep": {"list": [1, 2.5]}}));
        let settings = json!({
            "after": ["B", "Elsewhere"], "bounds": {"files_max": 9}, "restart": {"burst_max": 3},
        });
        assert_eq!(a.settings, settings);
        let b = &set.daemons["B"];
        assert_eq!(
            (b.file.as_path(), &b.config),
            (Path::new("/abs/b.so"), &json!({"a": null}))
        );
        assert_eq!(set.order, ["B", "A"]);
    }

    /// Mistakes, each with a part of its message.
    const MISTAKES: [(&str, &str); 19] = [
        ("[daemon.A]", "did you mean `daemons`?"),
        ("daemons = 1", "[daemons.Sorter]"),
        ("[daemons.A]\nprot = 1", "did you mean `port`?"),
        ("[daemons.A]", "file"),
        (
            "[daemons.A]\nfile = 'a'\nidle_s = 60",
            "in its `settings`, as in `settings = { idle_s = … }`",
        ),
        (
            "[daemons.A]\nfile = 'a'\nrestart = { burst_max = 3 }",
            "`settings = { restart = … }`",
        ),
        (
            "[daemons.A]\nfile = 'a'\nrollback_windw_ms = 5",
            "if you mean `rollback_window_ms`",
        ),
        ("file = 'a'", "below a heading such as [daemons.Sorter]"),
        ("idle_s = 60", "below a heading such as [daemons.Sorter]"),
        (
            "[daemons.A]\nfile = 'a'\nport = 0",
            "port: expected a whole number from 1 to 65535, got 0",
        ),
        (
            "[daemons.A]\nfile = 'a'\nport = 70000",
            "port: expected a whole number from 1 to 65535, got 70000",
        ),
        ("[daemons.A]\nfile = 'a'\nmode = 'fast'", "subprocess"),
        ("[daemons.A]\nfile = 'a'\nconfig = 1", "config"),
        (
            "[daemons.A]\nfile = 'a'\nconfig = { at = 2026-11-30 }",
            "date",
        ),
        (
            "[daemons.A]\nfile = 'a'\nsettings = { panics_max = 0 }",
            "from 1 to",
        ),
        (
            "[daemons.A]\nfile = 'a'\nnice = 3\nsettings = { nice = 4 }",
            "twice",
        ),
        (
            "[daemons.A]\nfile = 'a'\nafter = ['A']",
            "circle: A after A",
        ),
        ("[daemons.Dae]\nfile = 'a'", "Dae"),
        ("[daemons.A", "TOML"),
    ];

    #[test]
    fn each_mistake_is_named_with_its_place() {
        for (text, told) in MISTAKES {
            let error = format!("{:#}", parsed(text).unwrap_err());
            assert!(error.contains(told), "{text:?}: {error}");
        }
    }
}
