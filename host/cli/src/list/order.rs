//! The orders of `list --sort` and `top`.
//!
//! Texts go upwards and numbers downwards, so that the daemons of interest come first. Dae always stands first. Daemons
//! that are equal in the column, and those without a value, are in the order of their names, foreign ones last.

use std::cmp::{Ordering, Reverse};

use clap::ValueEnum;

use super::{Listed, is_dae};
use dae_store::report::{Mode, Status};

/// A column to sort by, under the name that `--sort` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortColumn {
    Name,
    Version,
    Mode,
    State,
    Pid,
    Port,
    Uptime,
    Restarts,
    /// The commands since the host's start.
    Calls,
    /// The commands per second.
    Rate,
    Cpu,
    Mem,
    Guests,
}

/// The states in the order in which an operator wants to see them: those that need somebody first.
const STATES: [&str; 12] = [
    "failed",
    "crash-loop",
    "degraded",
    "backoff",
    "impostor",
    "reloading",
    "starting",
    "finished",
    "stopped",
    "asleep",
    "ready",
    "foreign",
];

impl SortColumn {
    /// Returns whether the host must measure for it.
    pub(crate) fn needs_usage(self) -> bool {
        matches!(self, SortColumn::Cpu | SortColumn::Mem | SortColumn::Rate)
    }

    /// Returns the name that `--sort` takes.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Sorts rows by a column.
pub(crate) fn sort(rows: &mut [Listed], column: SortColumn) {
    rows.sort_by(|a, b| compare(a, b, column));
}

fn compare(a: &Listed, b: &Listed, column: SortColumn) -> Ordering {
    let by_value = in_column(a, b, column);
    let dae_first = is_dae(&b.status).cmp(&is_dae(&a.status));
    let own_first = a.status.foreign.cmp(&b.status.foreign);
    let by_name = own_first.then_with(|| a.status.name.cmp(&b.status.name));
    dae_first.then(by_value).then(by_name)
}

fn in_column(a: &Listed, b: &Listed, column: SortColumn) -> Ordering {
    let text = |of: fn(&Status) -> &str| of(&a.status).cmp(of(&b.status));
    // `None` is the least, and so comes last.
    let number =
        |of: fn(&Status) -> Option<u64>| Reverse(of(&a.status)).cmp(&Reverse(of(&b.status)));
    let used = |of: fn(&Listed) -> Option<f64>| {
        let (a, b) = (of(a).unwrap_or(-1.0), of(b).unwrap_or(-1.0));
        b.total_cmp(&a)
    };
    match column {
        SortColumn::Name => Ordering::Equal,
        SortColumn::Version => text(|s| &s.version),
        SortColumn::Mode => text(|s| s.mode.map_or("", Mode::as_str)),
        SortColumn::State => urgency(&a.status.state).cmp(&urgency(&b.status.state)),
        SortColumn::Pid => number(|s| s.pid.map(u64::from)),
        SortColumn::Port => number(|s| s.port.map(u64::from)),
        SortColumn::Uptime => number(|s| s.uptime_ms),
        SortColumn::Restarts => number(|s| Some(s.restarts)),
        SortColumn::Calls => number(|s| Some(s.calls)),
        SortColumn::Guests => number(|s| Some(s.guests)),
        SortColumn::Rate => used(|row| Some(row.usage.as_ref()?.commands.calls_per_s)),
        SortColumn::Cpu => used(|row| row.usage.as_ref()?.cpu_percent),
        SortColumn::Mem => used(|row| {
            // The order needs no more than the 52 bits that a float has.
            #[allow(clippy::cast_precision_loss)]
            row.usage.as_ref()?.memory_bytes.map(|bytes| bytes as f64)
        }),
    }
}

/// Returns the place of a state in [`STATES`]; a state of a later host comes behind all of them.
fn urgency(state: &str) -> usize {
    let place = STATES.iter().position(|one| *one == state);
    place.unwrap_or(STATES.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::usage::{CommandRates, Usage};

    fn row(name: &str, state: &str, calls: u64, cpu: Option<f64>) -> Listed {
        let usage = Usage {
            name: name.to_owned(),
            state: state.to_owned(),
            cpu_percent: cpu,
            cpu_kind: None,
            memory_bytes: None,
            commands: CommandRates::default(),
            guests: 0,
            restarts: 0,
            generation: 1,
            uptime_ms: None,
        };
        Listed {
            status: Status {
                name: name.to_owned(),
                state: state.to_owned(),
                calls,
                ..Status::default()
            },
            usage: Some(usage),
        }
    }

    fn rows() -> Vec<Listed> {
        vec![
            row("C", "ready", 5, Some(0.0)),
            row("Dae", "ready", 0, Some(1.0)),
            row("B", "crash-loop", 5, None),
            row("A", "stopped", 9, Some(30.0)),
        ]
    }

    #[test]
    fn numbers_go_down_texts_up_and_dae_stands_first() {
        for (column, expected) in [
            (SortColumn::Name, ["Dae", "A", "B", "C"]),
            (SortColumn::State, ["Dae", "B", "A", "C"]),
            (SortColumn::Calls, ["Dae", "A", "B", "C"]),
            (SortColumn::Cpu, ["Dae", "A", "C", "B"]),
            (SortColumn::Guests, ["Dae", "A", "B", "C"]),
        ] {
            let mut rows = rows();
            sort(&mut rows, column);
            let names: Vec<&str> = rows.iter().map(|row| row.status.name.as_str()).collect();
            assert_eq!(names, expected, "{column:?}");
        }
    }

    #[test]
    fn every_state_has_a_place() {
        for state in ["failed", "ready", "foreign", "finished", "reloading"] {
            assert!(urgency(state) < STATES.len(), "{state}");
        }
        assert_eq!(urgency("new"), STATES.len());
    }
}
