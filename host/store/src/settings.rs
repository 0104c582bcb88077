//! How one daemon is run: what its owner may set, with the ecosystem's defaults behind it.
//!
//! Three layers, each a JSON object of the same shape, of which the later wins member by member: `defaults` of the config
//! file, the daemon's own entry under `daemons` there, and what was given at install.

use std::collections::BTreeMap;

use dae_plugin_api::misfit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::Mode;
use crate::restart::Policy;

/// What a panic in a handler leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPanic {
    /// It is answered `crashed`, and the daemon goes on, up to `panics_max` in a row.
    #[default]
    GoOn,
    /// It ends the instance (Erlang's way).
    Restart,
}

/// What is done with a new file in a process of its own, before it comes near the one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "`trial` is true, false or \"start\"")]
pub enum Preflight {
    /// It is loaded, checked, and given a copy of the state to read; or nothing is done.
    Whether(bool),
    /// The same, and more.
    With(PreflightStep),
}

/// What a trial may do besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreflightStep {
    /// The daemon is started with the copy, and stopped again.
    Start,
}

/// Bounds of a subprocess. What is absent is not bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Address space (bytes).
    pub memory_bytes: Option<u64>,
    /// CPU time (seconds); past it the kernel kills.
    pub cpu_s: Option<u64>,
    /// Open files.
    pub files_max: Option<u64>,
    /// Size of a core file (bytes).
    pub core_bytes: Option<u64>,
}

/// See the file's head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where its code runs, unless the registry says otherwise.
    pub mode: Option<Mode>,
    /// How it is restarted.
    pub restart: Policy,
    /// What a panic in a handler leads to.
    pub on_panic: OnPanic,
    /// As many panics in a row, with no command answered between them, end the instance.
    pub panics_max: u32,
    /// When the host starts, it starts when these are ready.
    pub after: Vec<String>,
    /// How long it waits for them (ms), all in all; then it starts without them. 0 means that it doesn't wait.
    pub after_ms: u64,
    /// Bounds of its subprocess.
    pub bounds: Bounds,
    /// Its subprocess's nice value, -20 to 19.
    pub nice: Option<i32>,
    /// Its subprocess's environment, besides the few variables that every one gets.
    pub env: BTreeMap<String, String>,
    /// Whether a new file is loaded in a process of its own first, and whether it is started there too; absent means as
    /// the plugin says, which is to load it unless it says `trial = "start"`. A daemon that must be alone is never
    /// started there.
    pub trial: Option<Preflight>,
    /// How long that may take (ms). Loading and checking takes milliseconds; a static constructor that hangs never ends.
    pub trial_ms: u64,
    /// For how long after a reload a crash leads back to the code of before (ms); 0 means never.
    pub probation_ms: u64,
    /// How often its state is kept while it runs (s); 0 means only at a stop or reload.
    pub checkpoint_s: u64,
    /// How often it is asked whether it is well (ms); 0 means never.
    pub health_ms: u64,
    /// As many unanswered questions in a row make it `degraded`.
    pub health_misses_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: None,
            restart: Policy::default(),
            on_panic: OnPanic::default(),
            panics_max: 10,
            after: Vec::new(),
            after_ms: 60_000,
            bounds: Bounds::default(),
            nice: None,
            env: BTreeMap::new(),
            trial: None,
            trial_ms: 5_000,
            probation_ms: 30_000,
            checkpoint_s: 0,
            health_ms: 5_000,
            health_misses_max: 3,
        }
    }
}

impl Settings {
    /// The settings that these layers come to, the later ones over the earlier.
    ///
    /// # Errors
    /// A member that isn't known, has a wrong type, or makes no sense; the text names it.
    pub fn of(layers: &[&Value]) -> Result<Self, String> {
        let mut merged = Value::Object(serde_json::Map::new());
        for layer in layers {
            if !matches!(layer, Value::Object(_) | Value::Null) {
                return Err(format!("expected an object of settings, got {layer}"));
            }
            merge(&mut merged, layer);
        }
        let settings: Settings =
            serde_path_to_error::deserialize(merged).map_err(|error| told(&error))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        let Settings { bounds, .. } = self;
        check_positive(&[
            ("panics_max", self.panics_max.into()),
            ("trial_ms", self.trial_ms),
            ("health_misses_max", self.health_misses_max.into()),
            ("bounds.memory_bytes", bounds.memory_bytes.unwrap_or(1)),
            ("bounds.cpu_s", bounds.cpu_s.unwrap_or(1)),
            ("bounds.files_max", bounds.files_max.unwrap_or(1)),
        ])?;
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Err(format!("nice: expected -20 to 19, got {nice}"));
        }
        if self.after.iter().any(String::is_empty) {
            return Err("after: expected names of daemons, got an empty one".to_owned());
        }
        self.env
            .iter()
            .try_for_each(|(name, value)| check_variable(name, value))
    }
}

/// The system takes no others.
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

/// Checks that none of these members is 0.
///
/// # Errors
/// The name of the first that is.
pub(crate) fn check_positive(members: &[(&str, u64)]) -> Result<(), String> {
    match members.iter().find(|(_, value)| *value == 0) {
        Some((name, _)) => Err(format!("{name}: expected at least 1, got 0")),
        None => Ok(()),
    }
}

/// Returns what is wrong with which member, without the names of Rust's types.
pub fn told<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let reason = misfit::say_of_json5(&error.inner().to_string());
    match error.path().iter().next() {
        Some(_) => format!("{}: {reason}", error.path()),
        None => reason,
    }
}

/// Objects are merged member by member; anything else replaces what was there.
fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        // An absent layer.
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
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_members_name() {
        for (given, member) in [
            (json!({"panics_max": 0}), "panics_max"),
            (json!({"health_misses_max": 0}), "health_misses_max"),
            (json!({"trial_ms": 0}), "trial_ms"),
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
            (json!([]), "object"),
        ] {
            let told = Settings::of(&[&given]).unwrap_err();
            assert!(told.contains(member), "{given}: {told}");
        }
        let most = json!({
            "after_ms": u64::MAX, "trial_ms": u64::MAX, "probation_ms": u64::MAX, "checkpoint_s": u64::MAX,
            "health_ms": u64::MAX, "bounds": {"cpu_s": u64::MAX, "core_bytes": 0}, "env": {"A": ""},
        });
        assert!(Settings::of(&[&most]).is_ok());
    }

    #[test]
    fn a_trial_is_one_of_three_words_or_what_the_plugin_says() {
        let trial = |given: Value| Settings::of(&[&given]).map(|settings| settings.trial);
        assert_eq!(trial(json!({})), Ok(None));
        assert_eq!(
            trial(json!({"trial": false})),
            Ok(Some(Preflight::Whether(false)))
        );
        let start = Ok(Some(Preflight::With(PreflightStep::Start)));
        assert_eq!(trial(json!({"trial": "start"})), start);
        let error = trial(json!({"trial": "run"})).unwrap_err();
        assert!(error.contains("true, false or \"start\""), "{error}");
    }
}
