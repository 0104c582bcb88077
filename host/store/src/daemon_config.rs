//! The values that a daemon runs with, and the layer that each of its settings comes from: what `config NAME` shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::registry::Entry;
use crate::report::Mode;

/// The layer that a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingOrigin {
    /// The built-in default.
    Default,
    /// `defaults` of config.json5.
    Defaults,
    /// `daemons.NAME` of config.json5.
    Daemons,
    /// `install --settings` or `config NAME set`.
    Installed,
}

/// The values that a daemon runs with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonConfig {
    /// The daemon's name.
    pub name: String,
    /// The file that it was installed from.
    pub source: Option<String>,
    /// Its port; `None` before its first start.
    pub port: Option<u16>,
    /// True if a person has chosen the port.
    pub port_pinned: bool,
    /// The process in which its code runs.
    pub mode: Mode,
    /// The JSON object that its `start` gets.
    pub config: Value,
    /// The settings, merged from all layers.
    pub settings: Value,
    /// The layer of each setting, by its path.
    pub origins: BTreeMap<String, SettingOrigin>,
    /// The layer of its own: what was given at its install or set later.
    pub given: Value,
    /// The file of the `apply` that installed it.
    pub applied_from: Option<PathBuf>,
}

impl DaemonConfig {
    /// Returns the values of a daemon. `home` is the directory of the registry.
    ///
    /// # Errors
    /// Its settings have an unknown or invalid member; the text names it.
    pub fn of(name: &str, entry: &Entry, config: &Config, home: &Path) -> Result<Self, String> {
        let settings = config.settings(name, &entry.settings)?;
        // Settings are plain data, so they can always be written.
        let settings = serde_json::to_value(settings).unwrap_or_default();
        let own = config.daemons.get(name).unwrap_or(&Value::Null);
        let layers = [
            (&entry.settings, SettingOrigin::Installed),
            (own, SettingOrigin::Daemons),
            (&config.defaults, SettingOrigin::Defaults),
        ];
        let mut origins = BTreeMap::new();
        each_leaf("", &settings, &mut |path| {
            let layer = layers.iter().find(|(layer, _)| has(layer, path));
            let origin = layer.map_or(SettingOrigin::Default, |(_, origin)| *origin);
            origins.insert(path.to_owned(), origin);
        });
        let mut settings = settings;
        settings["mode"] = serde_json::json!(entry.mode);
        origins.insert("mode".to_owned(), mode_origin(entry.mode, &layers));
        let source = entry.source_in(home);
        Ok(DaemonConfig {
            name: name.to_owned(),
            source: source.map(|path| path.display().to_string()),
            port: entry.port,
            port_pinned: entry.port_pinned,
            mode: entry.mode,
            config: entry.config.clone(),
            settings,
            origins,
            given: match &entry.settings {
                Value::Null => Value::Object(Map::new()),
                given => given.clone(),
            },
            applied_from: entry.applied_from.clone(),
        })
    }
}

/// Returns the layer that a daemon's mode comes from. Its entry decides: the layers counted when that was made, and may say
/// something else since.
fn mode_origin(mode: Mode, layers: &[(&Value, SettingOrigin)]) -> SettingOrigin {
    let value = serde_json::json!(mode);
    let mut layers = layers.iter();
    let layer = layers.find(|(layer, _)| at(layer, "mode") == Some(&value));
    match (layer, mode == Mode::default()) {
        (Some((_, origin)), _) => *origin,
        (None, true) => SettingOrigin::Default,
        (None, false) => SettingOrigin::Installed,
    }
}

/// Calls `visit` with the path of each member that is no object. An object without members counts as one.
pub fn each_leaf(path: &str, value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let inner = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                each_leaf(&inner, value, visit);
            }
        }
        _ => visit(path),
    }
}

/// Returns the value at a path, and `None` if there is none.
#[must_use]
pub fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.')
        .try_fold(value, |value, name| value.get(name))
}

/// Returns whether a layer gives the setting at that path, or an object that holds it.
fn has(layer: &Value, path: &str) -> bool {
    at(layer, path).is_some()
}

/// Puts a value at a path, or removes what is there. Missing objects on the way to a value are made.
///
/// # Errors
/// Something on the way is no object, or there is nothing to remove; the text names it.
pub fn put(object: &mut Value, path: &str, value: Option<Value>) -> Result<(), String> {
    if value.is_none() && at(object, path).is_none() {
        return Err(format!("{path} is not set"));
    }
    let (parents, name) = match path.rsplit_once('.') {
        Some((parents, name)) => (parents.split('.').collect(), name),
        None => (Vec::new(), path),
    };
    let mut place = object;
    let mut way = String::new();
    for parent in parents.into_iter().chain([name]) {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(members) = place else {
            return Err(format!(
                "{} is no object, so it has no member {parent}",
                way.trim_end_matches('.')
            ));
        };
        way.push_str(parent);
        way.push('.');
        if way.len() == path.len() + 1 {
            match value {
                Some(value) => drop(members.insert(parent.to_owned(), value)),
                None => drop(members.remove(parent)),
            }
            return Ok(());
        }
        place = members.entry(parent).or_insert(Value::Null);
    }
    Ok(())
}

/// Removes the objects on the way to a path that are empty, from the innermost on.
pub fn prune(object: &mut Value, path: &str) {
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('.') {
        if !at(object, parent).is_some_and(is_empty) || put(object, parent, None).is_err() {
            return;
        }
        path = parent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_setting_names_the_layer_that_it_comes_from() {
        let config = Config::parse(
            r#"{"defaults": {"restart": {"burst_max": 7}, "panics_max": 3},
                "daemons": {"A": {"panics_max": 4, "restart": {"slow_max": 8}}}}"#,
        )
        .unwrap();
        let entry = json!({
            "plugin": "A", "version": "1", "hash": "", "source": null,
            "settings": {"restart": {"slow_max": 9}},
        });
        let entry: Entry = serde_json::from_value(entry).unwrap();
        let found = DaemonConfig::of("A", &entry, &config, Path::new("/home")).unwrap();
        for (path, value, origin) in [
            ("restart.slow_max", json!(9), SettingOrigin::Installed),
            ("panics_max", json!(4), SettingOrigin::Daemons),
            ("restart.burst_max", json!(7), SettingOrigin::Defaults),
            ("health_ms", json!(5000), SettingOrigin::Default),
        ] {
            assert_eq!(found.origins[path], origin, "{path}");
            assert_eq!(at(&found.settings, path), Some(&value), "{path}");
        }
    }

    #[test]
    fn a_value_is_put_at_its_path_and_removed_again() {
        let mut value = json!({"a": 1});
        put(&mut value, "b.c", Some(json!(2))).unwrap();
        assert_eq!(value, json!({"a": 1, "b": {"c": 2}}));
        put(&mut value, "b.c", None).unwrap();
        for path in ["x", "b.c", "x.y"] {
            let error = put(&mut value, path, None).unwrap_err();
            assert_eq!(error, format!("{path} is not set"));
        }
        assert_eq!(value, json!({"a": 1, "b": {}}));
        prune(&mut value, "b.c");
        assert_eq!(value, json!({"a": 1}));
        let mut deep = json!({"a": {"b": {"c": {}}, "d": {}}});
        prune(&mut deep, "a.b.c.x");
        assert_eq!(deep, json!({"a": {"d": {}}}));
        let error = put(&mut value, "a.b.c", Some(json!(1))).unwrap_err();
        assert_eq!(error, "a is no object, so it has no member b");
        let mut nothing = Value::Null;
        put(&mut nothing, "a.b", Some(json!(1))).unwrap();
        assert_eq!(nothing, json!({"a": {"b": 1}}));
    }
}
