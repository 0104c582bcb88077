//! The settings of one daemon: its owner's choices over the ecosystem's defaults.
//!
//! There are three layers, each a JSON object of the same type. For each member, the last layer that has it wins:
//! `defaults` in the config file, the daemon's entry under `daemons` in the config file, and the settings given at
//! install.

use std::collections::BTreeMap;

use dae_plugin_api::misfit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::difference::shortened;
use crate::ranged;
use crate::report::{LogLevel, Mode};
use crate::restart::Policy;

/// The reaction to a panic in a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPanic {
    /// Answer `crashed` and continue, up to `panics_max` panics in a row.
    #[default]
    GoOn,
    /// End the instance (as in Erlang).
    Restart,
}

/// The preflight of a new file in a subprocess, before it replaces the running code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`preflight` is true, false or \"start\"")]
pub enum Preflight {
    /// Load and check the file and let it read a copy of the state, or skip the preflight.
    Whether(bool),
    /// The same as `true`, with an additional step.
    With(PreflightStep),
}

/// An additional step of the preflight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreflightStep {
    /// Start the daemon with the copy of the state, and stop it again.
    Start,
}

/// A right that a daemon has in its host beyond those of every daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantedRight {
    /// To provide daemons of other hosts.
    Bridge,
}

/// The time at which a daemon's code starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartTime {
    /// With the host, or with its install.
    #[default]
    AtOnce,
    /// With the first command. Until then only the port is there.
    OnDemand,
}

/// The resource limits of a subprocess. An absent one is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The address space (bytes).
    #[serde(deserialize_with = "ranged::positive_or_null")]
    pub memory_bytes: Option<u64>,
    /// The CPU time (seconds), after which the kernel kills the process.
    #[serde(deserialize_with = "ranged::positive_or_null")]
    pub cpu_s: Option<u64>,
    /// The number of open files.
    #[serde(deserialize_with = "ranged::positive_or_null")]
    pub files_max: Option<u64>,
    /// The size of a core file (bytes).
    pub core_bytes: Option<u64>,
}

/// The settings of one daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The process in which its code runs, unless the registry specifies it.
    pub mode: Option<Mode>,
    /// The restart policy.
    pub restart: Policy,
    /// The reaction to a panic in a handler.
    pub on_panic: OnPanic,
    /// The number of panics in a row, with no command answered in between, that ends the instance.
    #[serde(deserialize_with = "ranged::positive")]
    pub panics_max: u32,
    /// The time at which its code starts.
    pub start: StartTime,
    /// The time without a command after which it sleeps until the next command (s); 0 means never.
    pub idle_s: u64,
    /// True if `idle_s` also holds while its `run` runs. The background work then ends with it.
    pub idle_ends_run: bool,
    /// The rights that it has beyond those of every daemon.
    pub grants: Vec<GrantedRight>,
    /// The daemons that must be ready before it starts, at the start of the host.
    pub after: Vec<String>,
    /// The longest time for which it waits for them in total (ms); it then starts without them. 0 means no wait.
    pub after_ms: u64,
    /// The resource limits of its subprocess.
    pub bounds: Bounds,
    /// The nice value of its subprocess, -20 to 19.
    #[serde(deserialize_with = "ranged::nice_or_null")]
    pub nice: Option<i32>,
    /// The environment of its subprocess, in addition to the few variables that every subprocess gets.
    pub env: BTreeMap<String, String>,
    /// The preflight of a new file: none, loading, or also starting the daemon. If absent, the plugin decides: loading
    /// only, unless it says `preflight = "start"`. An exclusive daemon is never started in a preflight.
    pub preflight: Option<Preflight>,
    /// The time limit of the preflight (ms). Loading and checking takes milliseconds, but a static constructor may hang
    /// forever.
    #[serde(deserialize_with = "ranged::positive")]
    pub preflight_ms: u64,
    /// The rollback window: the time after a reload in which a crash restores the previous code (ms); 0 means never.
    pub rollback_window_ms: u64,
    /// The interval of snapshots while it runs (s); 0 means only at a stop or reload.
    pub checkpoint_s: u64,
    /// The interval of health checks (ms); 0 means never.
    pub health_ms: u64,
    /// The number of unanswered health checks in a row that makes it `degraded`.
    #[serde(deserialize_with = "ranged::positive")]
    pub health_misses_max: u32,
    /// True to refuse new code that breaks a caller.
    pub strict: bool,
    /// The least severe level that its log keeps.
    pub log_level: LogLevel,
    /// The program that the host runs when the daemon has crashed, with its arguments; empty for none.
    pub on_crash: Vec<String>,
    /// The longest run of that program (ms), after which it is killed.
    #[serde(deserialize_with = "ranged::positive")]
    pub on_crash_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: None,
            restart: Policy::default(),
            on_panic: OnPanic::default(),
            panics_max: 10,
            start: StartTime::default(),
            idle_s: 0,
            idle_ends_run: false,
            grants: Vec::new(),
            after: Vec::new(),
            after_ms: 60_000,
            bounds: Bounds::default(),
            nice: None,
            env: BTreeMap::new(),
            preflight: None,
            preflight_ms: 5_000,
            rollback_window_ms: 30_000,
            checkpoint_s: 0,
            health_ms: 5_000,
            health_misses_max: 3,
            // An author who changes a daemon's commands usually changes its callers too.
            strict: false,
            // The least severe level that a plugin sends.
            log_level: LogLevel::default(),
            on_crash: Vec::new(),
            // A message that is sent over a slow network takes seconds.
            on_crash_ms: 30_000,
        }
    }
}

impl Settings {
    /// Merges the layers into settings; later layers override earlier ones.
    ///
    /// # Errors
    /// A member is unknown, has a wrong type, or is invalid; the text names it.
    pub fn of(layers: &[&Value]) -> Result<Self, String> {
        let mut merged = Value::Object(serde_json::Map::new());
        for layer in layers {
            match layer {
                Value::Object(members) => merge(&mut merged, &by_current_names(members)?),
                Value::Null => {}
                _ => return Err(format!("expected an object of settings, got {layer}")),
            }
        }
        let settings: Settings =
            serde_path_to_error::deserialize(merged).map_err(|error| explain_fault(&error))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        if self.after.iter().any(String::is_empty) {
            return Err("after: expected names of daemons, got an empty one".to_owned());
        }
        check_program(&self.on_crash)?;
        self.env
            .iter()
            .try_for_each(|(name, value)| check_variable(name, value))
    }
}

/// Earlier names of members, each with the current one. They are replaced before layers are merged, so that a later layer
/// overrides an earlier one under either name.
const EARLIER_NAMES: [(&str, &str); 3] = [
    ("trial", "preflight"),
    ("trial_ms", "preflight_ms"),
    ("probation_ms", "rollback_window_ms"),
];

/// Returns a layer with the current names of its members.
///
/// # Errors
/// A member is given under both names.
fn by_current_names(layer: &serde_json::Map<String, Value>) -> Result<Value, String> {
    let mut layer = layer.clone();
    for (earlier, current) in EARLIER_NAMES {
        if let Some(value) = layer.remove(earlier)
            && layer.insert(current.to_owned(), value).is_some()
        {
            return Err(format!(
                "{current} is given twice: `{earlier}` is its earlier name; keep one of them"
            ));
        }
    }
    Ok(Value::Object(layer))
}

/// Checks the program of `on_crash` and its arguments.
fn check_program(words: &[String]) -> Result<(), String> {
    if words.first().is_some_and(String::is_empty) {
        return Err("on_crash: expected a program and its arguments, got an empty name".to_owned());
    }
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(format!(
            "on_crash: expected texts without NUL, got {}",
            shortened(&format!("{word:?}"))
        )),
        None => Ok(()),
    }
}

/// Checks an environment variable: the system accepts no other names and values.
fn check_variable(name: &str, value: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(format!(
            "env: expected names of at least one character, without = and NUL; got {name:?}"
        ));
    }
    match value.contains('\0') {
        true => Err(format!(
            "env.{name}: expected a text without NUL; got {value:?}"
        )),
        false => Ok(()),
    }
}

/// Returns whether it is the name of a setting of daemons, at the top of the object.
#[must_use]
pub fn is_setting(name: &str) -> bool {
    let is_earlier = EARLIER_NAMES.iter().any(|(earlier, _)| *earlier == name);
    is_earlier || names().iter().any(|known| known == name)
}

/// Returns the names of the settings of daemons.
#[must_use]
pub fn names() -> Vec<String> {
    // Settings are plain data, so they can always be written.
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let members = defaults.as_object().map(|members| members.keys().cloned());
    members.into_iter().flatten().collect()
}

/// Describes an error and the member that it concerns, without names of Rust types.
pub fn explain_fault<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let text = without_earlier_names(error.inner().to_string());
    let reason = misfit::say_of_json5(&text) + &probably_meant(&text);
    match error.path().iter().next() {
        Some(_) => format!("{}: {reason}", error.path()),
        None => reason,
    }
}

/// Removes the earlier names of members of config.json5 from a list of known ones. They are accepted, but not offered.
fn without_earlier_names(text: String) -> String {
    let earlier = ["`images_max`, ", "`images_warn`, "];
    earlier
        .iter()
        .fold(text, |text, name| text.replace(name, ""))
}

/// Returns the end of a message about a name that is not known: the nearest of those that are. serde gives all of them
/// only as text: "unknown field `a`, expected one of `b`, `c`".
fn probably_meant(text: &str) -> String {
    let is_unknown = text.starts_with("unknown field `") || text.starts_with("unknown variant `");
    let mut names = text.split('`').skip(1).step_by(2).filter(|_| is_unknown);
    let near = names
        .next()
        .and_then(|name| dae_common_tcp::nearest(name, names));
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// Merges objects member by member; any other value replaces the previous one.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        // An absent object changes nothing.
        (Value::Object(_), Value::Null) => {}
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn later_layers_win_member_by_member_and_a_misspelt_one_is_told() {
        let defaults = json!({"restart": {"burst_max": 3}, "env": {"A": "1"}});
        let own =
            json!({"restart": {"restart": "always"}, "env": {"B": "2"}, "mode": "subprocess"});
        let settings = Settings::of(&[&defaults, &own, &Value::Null]).unwrap();
        assert_eq!(settings.restart.burst_max, 3);
        assert_eq!(settings.restart.restart, crate::restart::When::Always);
        assert_eq!(settings.env.len(), 2);
        assert_eq!(settings.mode, Some(Mode::Subprocess));
        let error = Settings::of(&[&json!({"helth_ms": 5})]).unwrap_err();
        assert!(error.contains("helth_ms"), "{error}");
        for (given, near) in [
            (json!({"helth_ms": 5}), "; did you mean `health_ms`?"),
            (
                json!({"restart": {"bust_max": 5}}),
                "; did you mean `burst_max`?",
            ),
            (json!({"mode": "subproces"}), "; did you mean `subprocess`?"),
        ] {
            let error = Settings::of(&[&given]).unwrap_err();
            assert!(error.ends_with(near), "{error}");
        }
        let error = Settings::of(&[&json!({"colour": 5})]).unwrap_err();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn earlier_names_are_accepted_in_each_layer_and_the_later_layer_wins() {
        let of = |layers: &[&Value]| {
            let settings = Settings::of(layers)?;
            Ok((settings.preflight, settings.rollback_window_ms))
        };
        let earlier = json!({"trial": false, "trial_ms": 7, "probation_ms": 1});
        let current = json!({"preflight": true, "rollback_window_ms": 2});
        let (off, on) = (Preflight::Whether(false), Preflight::Whether(true));
        assert_eq!(of(&[&current, &earlier]), Ok((Some(off), 1)));
        assert_eq!(of(&[&earlier, &current]), Ok((Some(on), 2)));
        let both = json!({"trial": false, "preflight": true});
        let error: String = of(&[&both]).unwrap_err();
        assert!(error.contains("`trial` is its earlier name"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_members_name() {
        for (given, member) in [
            (json!({"panics_max": 0}), "panics_max"),
            (json!({"health_misses_max": 0}), "health_misses_max"),
            (json!({"preflight_ms": 0}), "preflight_ms"),
            (json!({"nice": 100}), "nice"),
            (json!({"nice": -21}), "nice"),
            (json!({"nice": i64::MAX}), "nice"),
            (json!({"env": {"": "x"}}), "env"),
            (json!({"env": {"A=B": "x"}}), "A=B"),
            (json!({"env": {"A\0": "x"}}), "env"),
            (json!({"env": {"A": "x\0y"}}), "env.A"),
            (json!({"env": {"A": 5}}), "env.A"),
            (
                json!({"bounds": {"memory_bytes": 0}}),
                "bounds.memory_bytes",
            ),
            (json!({"bounds": {"cpu_s": 0}}), "bounds.cpu_s"),
            (json!({"bounds": {"files_max": 0}}), "bounds.files_max"),
            (json!({"bounds": {"files_max": -1}}), "bounds.files_max"),
            (json!({"restart": {"burst_ms": "long"}}), "restart.burst_ms"),
            (json!({"restart": {"burst_ms": 1.5}}), "restart.burst_ms"),
            (json!({"after": [""]}), "after"),
            (json!({"after": "B"}), "after"),
            (json!({"after_ms": -1}), "after_ms"),
            (json!({"start": "later"}), "start"),
            (json!({"idle_s": -1}), "idle_s"),
            (json!({"idle_s": 0.5}), "idle_s"),
            (json!({"idle_ends_run": 1}), "idle_ends_run"),
            (json!([]), "object"),
        ] {
            let error = Settings::of(&[&given]).unwrap_err();
            assert!(error.contains(member), "{given}: {error}");
        }
        let most = json!({
            "after_ms": u64::MAX, "preflight_ms": u64::MAX, "rollback_window_ms": u64::MAX, "checkpoint_s": u64::MAX,
            "idle_s": u64::MAX, "health_ms": u64::MAX, "bounds": {"cpu_s": u64::MAX, "core_bytes": 0}, "env": {"A": ""},
        });
        assert!(Settings::of(&[&most]).is_ok());
    }

    #[test]
    fn a_preflight_is_one_of_three_words_or_what_the_plugin_says() {
        let preflight = |given: Value| Settings::of(&[&given]).map(|settings| settings.preflight);
        assert_eq!(preflight(json!({})), Ok(None));
        assert_eq!(
            preflight(json!({"preflight": false})),
            Ok(Some(Preflight::Whether(false)))
        );
        let start = Ok(Some(Preflight::With(PreflightStep::Start)));
        assert_eq!(preflight(json!({"preflight": "start"})), start);
        let error = preflight(json!({"preflight": "run"})).unwrap_err();
        assert!(error.contains("true, false or \"start\""), "{error}");
    }
}
