//! The last line of `list`: which daemons need somebody, and the command that says why.

use super::Listed;

/// The states that need somebody, the gravest first, each with its words behind the number of daemons.
const STATES: [(&str, &str); 4] = [
    ("crash-loop", "in crash-loop"),
    ("failed", "failed"),
    ("degraded", "degraded"),
    ("backoff", "in backoff"),
];

/// The notes that need somebody: the newest file is not the one that runs.
const NOTES: [(&str, &str); 2] = [
    ("newer: refused", "whose newest file was refused"),
    ("newer: quarantined", "whose newest file is quarantined"),
];

/// Returns the remark: `1 in crash-loop: ...`; `None` if all is well. `command_line` completes a command of this
/// program.
pub(crate) fn remark(rows: &[Listed], command_line: impl Fn(&str) -> String) -> Option<String> {
    let states = STATES.iter().map(|(state, words)| {
        let is_so = |row: &&Listed| row.status.state == *state;
        (rows.iter().filter(is_so).collect::<Vec<_>>(), words)
    });
    let notes = NOTES.iter().map(|(note, words)| {
        let is_so = |row: &&Listed| row.status.source_note == *note;
        (rows.iter().filter(is_so).collect::<Vec<_>>(), words)
    });
    let part = |(rows, words): (Vec<&Listed>, &&str)| {
        let first = rows.first()?;
        let command = command_line(&format!("status {}", first.status.name));
        Some(format!("{} {words}: `{command}`", rows.len()))
    };
    let parts: Vec<String> = states.chain(notes).filter_map(part).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::report::Status;

    fn row(name: &str, state: &str, note: &str) -> Listed {
        Listed::from(Status {
            name: name.to_owned(),
            state: state.to_owned(),
            source_note: note.to_owned(),
            ..Status::default()
        })
    }

    #[test]
    fn the_gravest_comes_first_with_the_command_for_the_first_of_its_kind() {
        let command_line = |command: &str| format!("dae-host {command}");
        for (rows, expected) in [
            (vec![row("A", "ready", ""), row("B", "stopped", "")], None),
            (
                vec![row("A", "crash-loop", "")],
                Some("1 in crash-loop: `dae-host status A`"),
            ),
            (
                vec![
                    row("A", "backoff", ""),
                    row("B", "failed", ""),
                    row("C", "failed", ""),
                    row("D", "ready", "newer: refused"),
                    row("E", "ready", "newer: rolled back"),
                ],
                Some(
                    "2 failed: `dae-host status B`; 1 in backoff: `dae-host status A`; \
                     1 whose newest file was refused: `dae-host status D`",
                ),
            ),
        ] {
            assert_eq!(remark(&rows, command_line).as_deref(), expected);
        }
    }
}
