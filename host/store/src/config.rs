//! The host's settings: one JSON5 file in the home, in which every member is optional.
//!
//! An unknown member is an error that names it, so that a misspelt limit isn't silently ignored.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic_file;
use crate::difference::{Difference, differences};
use crate::durations;
use crate::json5_text;
use crate::ranged;
use crate::settings::{self, Settings};
use crate::text_file;

/// Dae's default port in Common TCP, 0xDAE.
pub const DAE_PORT: u16 = 3502;

/// The host's settings. Times are in milliseconds, sizes in bytes, unless stated otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Dae's port. If it is taken, Dae uses the next free one. 0 lets the system choose.
    pub dae_port: u16,
    /// The longest line of Common TCP, without its LF. At most the size that can cross to a plugin in one piece (256
    /// MiB).
    #[serde(deserialize_with = "ranged::line_bytes")]
    pub line_bytes_max: usize,
    /// The highest number of guests of one daemon.
    #[serde(deserialize_with = "ranged::positive")]
    pub guests_max: usize,
    /// The longest run time of a command; 0 means no limit.
    pub command_ms: u64,
    /// The longest time for which a command waits for an instance that is being restarted or replaced; 0 means no wait.
    pub instance_wait_ms: u64,
    /// The limit for an incomplete line (ms). A connection that doesn't send the rest within this time is closed. A
    /// connection that reads nothing of a reply over 8 MiB for this time is closed too, since other guests' large
    /// replies wait for it.
    #[serde(deserialize_with = "ranged::positive")]
    pub half_line_ms: u64,
    /// The longest time for a daemon's `start`. In a subprocess, loading the file before that may take the same time
    /// again. During a reload guests wait for the `start` but not for the loading; if either takes longer, the reload
    /// is refused and the old code answers the guests.
    #[serde(deserialize_with = "ranged::positive")]
    pub start_ms: u64,
    /// The time that running commands, and then a daemon's `stop`, get before they are left behind.
    #[serde(deserialize_with = "ranged::positive")]
    pub stop_grace_ms: u64,
    /// The number of loaded files from which on new ones run in subprocesses. Each takes one of the process's 1,024
    /// pthread keys permanently, and a process without free keys aborts (measured at about 1,020 files).
    #[serde(alias = "images_max")]
    #[serde(deserialize_with = "ranged::positive")]
    pub libraries_max: usize,
    /// The number of loaded files at which a warning is logged; 0 means never.
    #[serde(alias = "images_warn")]
    pub libraries_warn: usize,
    /// The number of worker processes that are kept ready for the next start of a subprocess, from the first one on; at
    /// most 16. 0 keeps none, and then each start makes its own.
    #[serde(deserialize_with = "ranged::reserve")]
    pub reserve_processes: usize,
    /// The interval at which the drop-in directory is checked in case events were lost; less than 100 counts as 100.
    #[serde(deserialize_with = "ranged::positive")]
    pub drop_in_poll_ms: u64,
    /// The time for which a drop-in's file may be missing before the daemon is uninstalled: a file is often replaced in
    /// two steps.
    pub drop_in_gone_ms: u64,
    /// The interval at which the machine's listening sockets are searched for daemons that this host doesn't run; 0
    /// means never.
    pub scan_ms: u64,
    /// The ports that are never queried for a daemon, each a number or a range such as `"8000-8099"`.
    pub scan_ports_never: Vec<PortRange>,
    /// The settings of all daemons ([`crate::settings::Settings`]), unless a more specific layer overrides them.
    pub defaults: Value,
    /// The settings of single daemons, by name.
    pub daemons: BTreeMap<String, Value>,
}

/// The members that count from the next start of the host on: those that are given to listeners, gates and intervals once.
const FROM_START: [&str; 10] = [
    "dae_port",
    "line_bytes_max",
    "guests_max",
    "command_ms",
    "instance_wait_ms",
    "half_line_ms",
    "stop_grace_ms",
    "drop_in_gone_ms",
    "scan_ms",
    "scan_ports_never",
];

/// A range of ports, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl PortRange {
    /// Returns whether the range contains the port.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl TryFrom<Value> for PortRange {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let range = match &value {
            Value::String(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                first.trim().parse().ok().zip(last.trim().parse().ok())
            }
            number => number
                .as_u64()
                .and_then(|port| u16::try_from(port).ok())
                .map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first <= last => Ok(PortRange { first, last }),
            _ => Err(format!(
                "expected a port or a range of ports such as \"8000-8099\", got {value}"
            )),
        }
    }
}

impl From<PortRange> for Value {
    fn from(PortRange { first, last }: PortRange) -> Self {
        if first == last {
            return Value::from(first);
        }
        Value::from(format!("{first}-{last}"))
    }
}

/// Returns the end of a message about a member at the top that is not known there, if it is a setting of daemons.
fn belongs_elsewhere<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let text = error.inner().to_string();
    let name = text
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    let is_at_top = error.path().iter().count() <= 1;
    match name.filter(|name| is_at_top && settings::is_setting(name)) {
        Some(name) => format!(
            "; {name} is a setting of daemons, and belongs in `defaults`, or in `daemons: {{NAME: {{…}}}}`"
        ),
        None => String::new(),
    }
}

/// Adds to an error the line of the member that it opens with, such as `daemons.A: panics_max: …`, if that is found.
fn with_line(document: &str, error: String) -> String {
    let is_name = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    let names = error
        .split(": ")
        .take_while(|part| part.chars().all(is_name));
    let mut at = Some(0);
    for name in names.flat_map(|part| part.split('.')) {
        at = at.and_then(|from| Some(from + member_at(document.get(from..)?, name)?));
    }
    match at {
        Some(at @ 1..) => {
            let line = 1 + document[..at].matches('\n').count();
            format!("{error} (line {line})")
        }
        _ => error,
    }
}

/// Returns the place behind a member's name in the text of an object.
fn member_at(text: &str, name: &str) -> Option<usize> {
    let places = text.match_indices(name);
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut members = places.filter(|(at, _)| {
        let behind = &text[at + name.len()..];
        let behind = behind.trim_start_matches(['"', '\'']).trim_start();
        !text[..*at].ends_with(is_inside) && behind.starts_with(':')
    });
    members.next().map(|(at, _)| at + name.len())
}

/// The limits of one daemon's guests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest line, in bytes without its LF.
    pub line_bytes_max: usize,
    /// The highest number of guests. A further guest gets the error `too-many-guests`.
    pub guests_max: usize,
    /// The longest run time of a command; zero means no limit.
    pub command: Duration,
    /// The longest time for which a command waits for an instance.
    pub instance_wait: Duration,
    /// The longest time for which an incomplete line may wait for its rest.
    pub half_line: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dae_port: DAE_PORT,
            line_bytes_max: dae_common_tcp::LINE_BYTES_MAX,
            // More guests than any daemon on one machine has, and few enough that their buffers fit its memory.
            guests_max: 20_000,
            command_ms: 30_000,
            instance_wait_ms: 5_000,
            half_line_ms: 60_000,
            start_ms: 10_000,
            stop_grace_ms: 5_000,
            libraries_max: 900,
            libraries_warn: 700,
            // A crash or a reload needs one. More help where several daemons crash at once.
            reserve_processes: 1,
            drop_in_poll_ms: 5_000,
            drop_in_gone_ms: 10_000,
            scan_ms: 5_000,
            scan_ports_never: Vec::new(),
            defaults: Value::Null,
            daemons: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file. A missing file gives the defaults.
    ///
    /// # Errors
    /// The file can't be read, isn't JSON5, or has an unknown or invalid member; the text names it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = match atomic_file::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Config::default());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the config {} can't be read", path.display()));
            }
        };
        let text = text_file::of_file(bytes);
        text.and_then(|text| Config::parse(&text))
            .map_err(|text| anyhow!(text))
            .with_context(|| format!("the config {} is not as expected", path.display()))
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The whole text is checked first: the reader of members stops after the value, and gives no position for an
        // early end.
        json5_text::check_document(text)?;
        let mut reader = json5::Deserializer::from_str(text);
        let config: Config = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| settings::explain_fault(&error) + &belongs_elsewhere(&error))?;
        json5_text::check_numbers(text)?;
        config.check().map_err(|error| with_line(text, error))?;
        Ok(config)
    }

    /// Checks the values now, so that an invalid one isn't found only when a daemon is installed.
    fn check(&self) -> Result<(), String> {
        let defaults = Settings::of(&[&self.defaults]);
        defaults.map_err(|text| format!("defaults: {text}"))?;
        for name in self.daemons.keys() {
            let settings = self.settings(name, &Value::Null);
            settings.map_err(|text| format!("daemons.{name}: {text}"))?;
        }
        Ok(())
    }

    /// Returns the config by which a host that runs by this one goes on once the file says `new`, what that changes, and
    /// what waits for the next start of the host.
    #[must_use]
    pub fn taking_up(&self, new: &Config) -> (Config, Vec<Difference>, Vec<Difference>) {
        // A config is plain data, so it can always be written, and read again.
        let value = |config: &Config| serde_json::to_value(config).unwrap_or_default();
        let all = differences("", &value(self), &value(new));
        let waits = |one: &Difference| FROM_START.contains(&one.path.as_str());
        let (waiting, changed): (Vec<_>, Vec<_>) = all.into_iter().partition(waits);
        let mut next = value(new);
        for one in &waiting {
            next[&one.path] = one.before.clone().unwrap_or_default();
        }
        let next = serde_json::from_value(next).unwrap_or_else(|_| self.clone());
        (next, changed, waiting)
    }

    /// Returns the settings of that daemon; `given` was given at its installation.
    ///
    /// # Errors
    /// A member is unknown, has a wrong type, or is invalid.
    pub fn settings(&self, name: &str, given: &Value) -> Result<Settings, String> {
        let own = self.daemons.get(name).unwrap_or(&Value::Null);
        Settings::of(&[&self.defaults, own, given])
    }

    /// Returns the limits of daemons' guests.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            line_bytes_max: self.line_bytes_max,
            guests_max: self.guests_max,
            command: durations::ms(self.command_ms),
            instance_wait: durations::ms(self.instance_wait_ms),
            half_line: durations::ms(self.half_line_ms),
        }
    }

    /// Returns the limits of the control socket's guests. Their commands wait for daemons that start and stop, which
    /// have limits of their own. Small limits for daemons' guests must not lock the owner out.
    #[must_use]
    pub fn control_limits(&self) -> Limits {
        let limits = self.limits();
        let default = Config::default().limits();
        Limits {
            line_bytes_max: limits.line_bytes_max.max(default.line_bytes_max),
            half_line: limits.half_line.max(default.half_line),
            command: Duration::ZERO,
            ..limits
        }
    }

    /// Returns the time limit of a daemon's `start`.
    #[must_use]
    pub fn start_limit(&self) -> Duration {
        durations::ms(self.start_ms)
    }

    /// Returns the time that an end may take before it is abandoned.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        durations::ms(self.stop_grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_a_misspelt_member_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json5");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        std::fs::write(
            &path,
            "{command_ms: 5, scan_ports_never: [8080, '9000-9009'], defaults: {restart: {restart: 'never'}}}",
        )
        .unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!((config.command_ms, config.start_ms), (5, 10_000));
        assert!(config.scan_ports_never[1].contains(9009));
        let settings = config.settings("A", &Value::Null).unwrap();
        assert_eq!(settings.restart.restart, crate::restart::When::Never);
        std::fs::write(&path, "{defaults: {restrat: {}}}").unwrap();
        assert!(Config::load(&path).is_err());
        std::fs::write(&path, "{comand_ms: 5}").unwrap();
        let error = format!("{:#}", Config::load(&path).unwrap_err());
        assert!(error.contains("comand_ms"), "{error}");
    }

    #[test]
    fn an_error_names_the_line_of_its_member() {
        for (text, line) in [
            ("{\n defaults: {\n  panics_max: 0}}", "line 3"),
            (
                "{\n\n \"daemons\": {A: {\n 'restart': {\n\n burst_maxx: 1}}}}",
                "line 6",
            ),
            ("{\n guests_max: 0}", "line 2"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
    }

    #[test]
    fn a_setting_of_daemons_at_the_top_is_told_where_it_belongs() {
        for text in ["{panics_max: 3}", "{start_ms: 5, restart: {burst_max: 3}}"] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains("belongs in `defaults`"), "{error}");
        }
        for text in ["{colour: 3}", "{defaults: {colour: 3}}"] {
            let error = Config::parse(text).unwrap_err();
            assert!(!error.contains("belongs in"), "{error}");
        }
    }

    #[test]
    fn what_needs_a_start_of_the_host_waits_for_it() {
        let running = Config::parse("{start_ms: 5, defaults: {panics_max: 3}}").unwrap();
        let new = "{start_ms: 6, command_ms: 7, scan_ports_never: [80], defaults: {panics_max: 4}}";
        let (next, changed, waiting) = running.taking_up(&Config::parse(new).unwrap());
        let paths = |found: &[Difference]| -> Vec<String> {
            found.iter().map(|one| one.path.clone()).collect()
        };
        assert_eq!(paths(&changed), ["defaults.panics_max", "start_ms"]);
        assert_eq!(paths(&waiting), ["command_ms", "scan_ports_never"]);
        assert_eq!((next.start_ms, next.command_ms), (6, 30_000));
        let again = running.taking_up(&running);
        assert_eq!(again, (running, Vec::new(), Vec::new()));
    }

    /// Invalid configs, each with the member that the error names.
    const SENSELESS: [(&str, &str); 21] = [
        ("{line_bytes_max: 0}", "line_bytes_max"),
        ("{line_bytes_max: 18446744073709551615}", "line_bytes_max"),
        ("{guests_max: 0}", "guests_max"),
        ("{guests_max: -1}", "guests_max"),
        ("{half_line_ms: 0}", "half_line_ms"),
        ("{start_ms: 0}", "start_ms"),
        ("{start_ms: 'soon'}", "start_ms"),
        ("{stop_grace_ms: 0}", "stop_grace_ms"),
        ("{libraries_max: 0}", "libraries_max"),
        ("{reserve_processes: -1}", "reserve_processes"),
        ("{reserve_processes: 17}", "from 0 to 16"),
        ("{drop_in_poll_ms: 0}", "drop_in_poll_ms"),
        ("{scan_ports_never: ['9000-8000']}", "scan_ports_never[0]"),
        ("{scan_ports_never: 5}", "scan_ports_never"),
        ("{dae_port: 70000}", "dae_port"),
        ("{defaults: 5}", "defaults"),
        (
            "{defaults: {restart: {burst_max: -1}}}",
            "restart.burst_max",
        ),
        ("{defaults: {panics_max: 0}}", "defaults: panics_max"),
        ("{daemons: {A: {nice: 100}}}", "daemons.A: nice"),
        ("{daemons: {A: 5}}", "daemons.A"),
        ("{daemons: {A: {env: {'': 'x'}}}}", "daemons.A: env"),
    ];

    #[test]
    fn what_makes_no_sense_is_refused_with_the_members_name() {
        for (text, member) in SENSELESS {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(member), "{text}: {error}");
            assert!(
                !error.contains("usize") && !error.contains("u64"),
                "{text}: {error}"
            );
        }
        for text in [
            "{dae_port: 0, command_ms: 0, instance_wait_ms: 0, libraries_warn: 0, scan_ms: 0}",
            "{command_ms: 18446744073709551615, start_ms: 18446744073709551615}",
            "{defaults: null, daemons: {A: {after_ms: 0, rollback_window_ms: 0, checkpoint_s: 0, health_ms: 0}}}",
            "{} // the end",
        ] {
            assert!(Config::parse(text).is_ok(), "{text}");
        }
        assert!(Config::parse("{} {}").is_err());
    }

    #[test]
    fn numbers_are_taken_as_they_stand_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json5");
        std::fs::write(&path, "\u{feff}{command_ms: 6}").unwrap();
        assert_eq!(Config::load(&path).unwrap().command_ms, 6);
        std::fs::write(&path, "{\ncommand_ms: 1.5}").unwrap();
        let error = format!("{:#}", Config::load(&path).unwrap_err());
        assert!(
            error.contains("expected a number, whole") && error.contains("line 2"),
            "{error}"
        );
        for (number, said) in [
            (
                "NaN",
                "at .defaults.nice: expected a number that JSON has, got NaN",
            ),
            (
                "18446744073709551616",
                "at .defaults.nice: the integer 18446744073709551616",
            ),
        ] {
            std::fs::write(&path, format!("{{defaults: {{nice: {number}}}}}")).unwrap();
            let error = format!("{:#}", Config::load(&path).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn ports_are_numbers_or_ranges() {
        let ports = |text: &str| serde_json::from_str::<PortRange>(text);
        let range = |first, last| PortRange { first, last };
        for (text, expected) in [
            ("8080", range(8080, 8080)),
            ("\"8000-8099\"", range(8000, 8099)),
        ] {
            let read = ports(text).unwrap();
            assert_eq!(read, expected);
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        for wrong in ["70000", "-1", "\"9-8\"", "\"8000-\"", "\"\"", "null", "[1]"] {
            let error = ports(wrong).unwrap_err().to_string();
            assert!(error.contains("range of ports"), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_earlier_name_is_accepted_and_not_offered() {
        let config = Config::parse("{images_max: 5, images_warn: 4}").unwrap();
        assert_eq!((config.libraries_max, config.libraries_warn), (5, 4));
        let error = Config::parse("{image_max: 5}").unwrap_err();
        assert!(error.contains("libraries_max"), "{error}");
        assert!(!error.contains("images_"), "{error}");
    }
}
