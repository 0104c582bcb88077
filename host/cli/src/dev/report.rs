//! The line that `dev` prints for each save: the time that each step took, and the changed commands.

use std::time::Duration;

use dae_store::report::{CommandChanges, Installed};

use super::build::Compiler;

/// The steps from a save to the answer of the new code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) by: Compiler,
    /// The time that the compiler took.
    pub(super) build: Duration,
    /// The time from the finished file to the new code's first answer.
    pub(super) take_over: Duration,
    /// The time from the save to that answer.
    pub(super) total: Duration,
}

/// Returns the line for a save after which new code runs.
pub(super) fn line(installed: &Installed, steps: &Steps) -> String {
    let Steps { by, .. } = steps;
    let (build, take_over) = (steps.build.as_millis(), steps.take_over.as_millis());
    let (name, by, total) = (&installed.name, by.name(), steps.total.as_secs_f64());
    let commands = commands(&installed.changes) + &breaks(&installed.changes);
    format!("{name}: saved → {by} {build} ms → took over {take_over} ms = {total:.2} s{commands}")
}

/// Returns the changes that break a caller.
fn breaks(changes: &CommandChanges) -> String {
    match changes.breaks.is_empty() {
        true => String::new(),
        false => format!(" · breaks callers: {}", changes.breaks.join("; ")),
    }
}

/// Returns the changed commands: new ones with their arguments, the others by name.
fn commands(changes: &CommandChanges) -> String {
    let name = |call: &String| call.split('(').next().unwrap_or_default().to_owned();
    let added = changes.added.iter().map(|call| format!("+{call}"));
    let removed = changes
        .removed
        .iter()
        .map(|call| format!("-{}", name(call)));
    let changed = changes
        .changed
        .iter()
        .map(|call| format!("{} changed", name(call)));
    let all: Vec<String> = added.chain(removed).chain(changed).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(" · commands: {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_breaks_a_caller_stands_behind_the_commands() {
        let mut changes = CommandChanges {
            changed: vec!["add(a: any), before add()".to_owned()],
            ..CommandChanges::default()
        };
        assert_eq!(commands(&changes), " · commands: add changed");
        assert_eq!(breaks(&changes), "");
        changes.breaks = vec!["add: a became required".to_owned()];
        assert_eq!(
            breaks(&changes),
            " · breaks callers: add: a became required"
        );
    }
}
