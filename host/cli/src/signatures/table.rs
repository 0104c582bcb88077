//! The table of signatures at a terminal: one line for each command, which fits the width.

use comfy_table::{ColumnConstraint, Width};
use dae_store::printable::one_line;

use super::Commands;
use crate::table::{finish, plain};

/// The width that is left to the descriptions when signatures are long (cells).
const DESCRIPTION_CELLS: u16 = 30;

/// The narrowest column of signatures (cells), however narrow the terminal is.
const SIGNATURE_CELLS_MIN: u16 = 10;

/// Returns the signature of each command and the first line of its doc comment. Long cells are cut.
pub(crate) fn table(commands: &Commands, width: u16) -> String {
    // No cell is wider than the table; comfy-table counts in 16 bits.
    let cell = |text: &str| -> String {
        let shown = one_line(text);
        shown.chars().take(usize::from(width) + 1).collect()
    };
    let mut table = plain(width, ["COMMAND", "DESCRIPTION"]);
    for command in commands.values() {
        table.add_row([cell(&command.signature), cell(command.summary())]);
    }
    let signatures = commands.values().map(|command| cell(&command.signature));
    let widest = signatures.map(|cell| cell.chars().count()).max();
    let share = width
        .saturating_sub(DESCRIPTION_CELLS)
        .max(SIGNATURE_CELLS_MIN);
    let share = usize::from(share).min(widest.unwrap_or_default());
    if let Some(column) = table.column_mut(0) {
        let width = Width::Fixed(u16::try_from(share).unwrap_or(u16::MAX));
        column.set_constraint(ColumnConstraint::LowerBoundary(width));
    }
    finish(&mut table, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use serde_json::value::RawValue;

    fn shown(answer: &serde_json::Value, width: u16) -> String {
        let answer = RawValue::from_string(answer.to_string()).expect("JSON");
        table(&super::super::commands(&answer).expect("commands"), width)
    }

    #[test]
    fn a_command_is_one_line() {
        let answer = json!({
            "greet": {"signature": "greet(who: string)", "doc": "Greets `who`.\nTwice."},
            "add": {"signature": "add(a: number, b: number)", "doc": "The sum of two numbers."},
            "quiet": {"signature": "quiet()", "doc": ""},
        });
        let expected = "\
COMMAND                    DESCRIPTION
add(a: number, b: number)  The sum of two numbers.
greet(who: string)         Greets `who`.
quiet()";
        assert_eq!(shown(&answer, 80), expected);
    }

    #[test]
    fn a_line_fits_and_cannot_control_the_terminal() {
        let (wide, harmful) = ("w".repeat(70_000), "\u{1b}[2J\u{202e}");
        let answer = json!({
            "wide": {"signature": format!("wide({wide})"), "doc": wide},
            "odd": {"signature": format!("odd{harmful}\n()"), "doc": harmful},
        });
        for width in [1, 20, 60, 80, 200] {
            let text = shown(&answer, width);
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
            assert_eq!(text.lines().count(), 3, "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            if width >= 20 {
                assert!(widest <= Some(usize::from(width)), "{width}: {text}");
            }
        }
        assert!(
            shown(&answer, 80).contains("wide(www"),
            "the signature goes first"
        );
    }
}
