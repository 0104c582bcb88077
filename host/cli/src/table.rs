//! The table of `list`: its columns, and those that stay when the terminal is narrow.
//!
//! At a terminal no row is broken over two lines, since a broken row is easily misread. First long names are cut, then
//! whole columns are dropped, the least needed first. A pipe gets every cell whole and without blanks inside, so that
//! `awk` and `cut` can split the rows.

use comfy_table::{Cell, Color, ContentArrangement, Row, Table, presets};

use super::list::Listed;
use super::words::{GAP, aligned, cpu, memory, uptime, widths};
use dae_store::printable::one_line;
use dae_store::report::{Mode, Status};
use dae_store::usage::Usage;

/// The width to which a name may be cut before a column is dropped (cells).
const NAME_CELLS_MIN: usize = 16;

/// The contents of a column.
enum Cells {
    Status(fn(&Status) -> String),
    /// Shown only if usage was measured.
    Usage(fn(&Usage) -> Option<String>),
}

/// A column of `list`: its heading, its contents, and its priority when the terminal is too narrow.
struct Column {
    heading: &'static str,
    cell: Cells,
    /// The column with the highest number is dropped first; 0 is never dropped.
    expendable: u8,
}

/// The columns. The least needed are dropped first: `status` and `--json` still have them.
const COLUMNS: [Column; 14] = [
    Column::new("NAME", 0, |s| s.name.clone()),
    Column::new("HOST", 3, |s| s.host.clone().unwrap_or_default()),
    Column::new("VERSION", 3, |s| s.version.clone()),
    Column::new("MODE", 4, |s| {
        s.mode.map(Mode::as_str).unwrap_or_default().to_owned()
    }),
    Column::new("STATE", 0, |s| s.state.clone()),
    Column::new("PID", 6, |s| or_dash(s.pid)),
    Column::new("PORT", 0, |s| or_dash(s.port)),
    Column::new("UPTIME", 1, |s| or_dash(s.uptime_ms.map(uptime))),
    Column::new("RESTARTS", 5, |s| or_dash(counted(s, s.restarts))),
    Column::new("CALLS", 2, |s| or_dash(counted(s, s.calls))),
    Column::wide("GUESTS", 2, |u| Some(u.guests.to_string())),
    Column::wide("CPU", 1, cpu),
    Column::wide("MEM", 1, |u| u.memory_bytes.map(memory)),
    Column::new("NOTE", 0, |s| s.source_note.clone()),
];

/// Returns all columns: the notes and the hosts only if there is one, and usage only if it was measured.
fn columns(rows: &[Listed]) -> Vec<&'static Column> {
    let has_notes = rows.iter().any(|one| !one.status.source_note.is_empty());
    let has_hosts = rows.iter().any(|one| one.status.host.is_some());
    let has_usage = rows.iter().any(|one| one.usage.is_some());
    let is_shown = |column: &&Column| match column.cell {
        Cells::Usage(_) => has_usage,
        Cells::Status(_) => match column.heading {
            "NOTE" => has_notes,
            "HOST" => has_hosts,
            _ => true,
        },
    };
    COLUMNS.iter().filter(is_shown).collect()
}

impl Column {
    const fn new(heading: &'static str, expendable: u8, cell: fn(&Status) -> String) -> Column {
        Column {
            heading,
            cell: Cells::Status(cell),
            expendable,
        }
    }

    const fn wide(
        heading: &'static str,
        expendable: u8,
        cell: fn(&Usage) -> Option<String>,
    ) -> Column {
        Column {
            heading,
            cell: Cells::Usage(cell),
            expendable,
        }
    }
}

/// Returns a table of texts: whole for a pipe, and in at most `width` cells for a terminal, one line a row.
pub(super) fn texts(rows: &[Vec<String>], width: Option<u16>, ansi: bool) -> String {
    let (Some(width), Some((heading, rows))) = (width, rows.split_first()) else {
        return aligned(rows);
    };
    let mut table = plain(width, heading);
    for row in rows {
        // No cell is wider than the table; comfy-table counts in 16 bits.
        let cut = |cell: &String| {
            one_line(cell)
                .chars()
                .take(usize::from(width) + 1)
                .collect()
        };
        let cells: Vec<String> = row.iter().map(cut).collect();
        table.add_row(cells);
    }
    finish(&mut table, ansi)
}

/// Returns the whole table for a pipe: nothing is cut.
pub(super) fn whole(daemons: &[Listed]) -> String {
    aligned(&rows(daemons, &columns(daemons)))
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns `None` for a foreign daemon: this host counts nothing for it, which must not look like 0.
fn counted(daemon: &Status, count: u64) -> Option<u64> {
    (!daemon.foreign).then_some(count)
}

/// Returns the heading and one row per daemon. Cells hold no blanks, so that a pipe can split them.
fn rows(daemons: &[Listed], columns: &[&Column]) -> Vec<Vec<String>> {
    let heading = columns
        .iter()
        .map(|column| column.heading.to_owned())
        .collect();
    let row = |daemon| columns.iter().map(|column| cell(column, daemon)).collect();
    std::iter::once(heading)
        .chain(daemons.iter().map(row))
        .collect()
}

fn cell(column: &Column, daemon: &Listed) -> String {
    let text = match column.cell {
        Cells::Status(cell) => cell(&daemon.status),
        Cells::Usage(cell) => daemon.usage.as_ref().and_then(cell).unwrap_or_default(),
    };
    match text.as_str() {
        "" => "-".to_owned(),
        text => one_line(text).replace(char::is_whitespace, "_"),
    }
}

/// Returns the table of `list` in at most `width` cells. Columns are dropped, the most expendable first. If the
/// remaining ones are still too wide, their texts are cut.
pub(super) fn fitted(daemons: &[Listed], width: u16, ansi: bool) -> String {
    let mut columns = columns(daemons);
    while needs(&rows(daemons, &columns)) > usize::from(width) {
        let Some(last) = most_expendable(&columns) else {
            break;
        };
        columns.remove(last);
    }
    let mut rows = rows(daemons, &columns).into_iter();
    let mut table = plain(width, rows.next().unwrap_or_default());
    for (row, daemon) in rows.zip(daemons) {
        // No cell is wider than the table; comfy-table counts in 16 bits.
        let cut = |cell: String| cell.chars().take(usize::from(width) + 1).collect();
        let row = row.into_iter().map(cut);
        let cells = row.zip(&columns);
        table.add_row(cells.map(|(text, column)| coloured(text, column, &daemon.status, ansi)));
    }
    finish(&mut table, ansi)
}

/// Formats the table: no borders, two blanks between columns, one line per row.
pub(super) fn finish(table: &mut Table, ansi: bool) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP as u16));
    }
    if let Some(last) = table.column_iter_mut().last() {
        last.set_padding((0, 0));
    }
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
    if ansi {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.trim_fmt()
}

/// Returns the width of a table whose names are cut as far as they may be (cells).
fn needs(rows: &[Vec<String>]) -> usize {
    let mut widths = widths(rows);
    if let Some(names) = widths.first_mut() {
        *names = NAME_CELLS_MIN.min(*names);
    }
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

fn most_expendable(columns: &[&Column]) -> Option<usize> {
    let found = columns
        .iter()
        .enumerate()
        .max_by_key(|(_, column)| column.expendable);
    found
        .filter(|(_, column)| column.expendable > 0)
        .map(|(index, _)| index)
}

fn coloured(text: String, column: &Column, daemon: &Status, ansi: bool) -> Cell {
    let cell = Cell::new(text);
    match column.heading {
        "STATE" if ansi => cell.fg(state_colour(&daemon.state)),
        _ => cell,
    }
}

fn state_colour(state: &str) -> Color {
    match state {
        "ready" => Color::Green,
        "foreign" => Color::Cyan,
        "failed" | "impostor" => Color::Red,
        "asleep" | "stopped" => Color::DarkGrey,
        _ => Color::Yellow,
    }
}

/// Returns an empty table of that width (cells) without lines, under a heading of one line.
pub(super) fn plain<C: Into<Cell>>(width: u16, heading: impl IntoIterator<Item = C>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width);
    table.set_truncation_indicator("…");
    let mut heading = Row::from(heading.into_iter().map(Into::into).collect::<Vec<Cell>>());
    heading.max_height(1);
    table.set_header(heading);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use dae_store::usage::{CommandRates, CpuKind};

    fn daemon(name: &str, state: &str) -> Listed {
        let running = state == "ready";
        Listed::from(Status {
            name: name.to_owned(),
            plugin: "Sample".to_owned(),
            version: "0.1.0".to_owned(),
            mode: Some(Mode::InProcess),
            foreign: false,
            address: None,
            state: state.to_owned(),
            pid: running.then_some(4_194_304),
            port: running.then_some(40_123),
            generation: 1,
            uptime_ms: running.then_some(187_000),
            restarts: 0,
            calls: 12_345,
            errors: 0,
            guests: 0,
            hash: "ab".repeat(32),
            ..Status::default()
        })
    }

    fn ecosystem() -> Vec<Listed> {
        vec![
            daemon("Dae", "ready"),
            daemon(&"long-name.".repeat(6), "ready"),
            daemon("Sample", "stopped"),
        ]
    }

    #[test]
    fn a_table_of_texts_fits_a_terminal_and_is_whole_in_a_pipe() {
        let rows = [
            ["NAME", "VALUE"],
            ["env", &"long ".repeat(30)],
            ["after", "a\nb"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        for width in [20, 40, 80] {
            let table = texts(&rows, Some(width), false);
            let is_fitting = |line: &str| line.chars().count() <= usize::from(width);
            assert!(table.lines().all(is_fitting), "{width}:\n{table}");
            assert_eq!(table.lines().count(), 3, "{width}:\n{table}");
        }
        let whole = texts(&rows[..2], None, false);
        assert!(whole.contains(&"long ".repeat(29)), "{whole}");
    }

    #[test]
    fn a_table_is_never_wider_than_the_terminal() {
        for width in [12, 20, 30, 40, 60, 80, 100, 200] {
            let table = fitted(&ecosystem(), width, false);
            for line in table.lines() {
                assert!(
                    line.chars().count() <= usize::from(width),
                    "{width}: {line:?}\n{table}"
                );
            }
            assert_eq!(table.lines().count(), 4, "{width}: one line a row\n{table}");
        }
    }

    #[test]
    fn a_name_of_any_width_is_shown() {
        let wide = daemon(&"x".repeat(70_000), "ready");
        for width in [20, 80, u16::MAX] {
            assert!(
                fitted(std::slice::from_ref(&wide), width, true).contains('x'),
                "{width}"
            );
        }
        assert!(whole(&[wide]).contains("more_characters"));
    }

    #[test]
    fn a_narrow_table_keeps_name_state_and_port() {
        let table = fitted(
            &[daemon("Dae", "ready"), daemon("Sample", "stopped")],
            24,
            false,
        );
        let heading: Vec<&str> = table
            .lines()
            .next()
            .expect("a heading")
            .split_whitespace()
            .collect();
        assert_eq!(heading, ["NAME", "STATE", "PORT"], "{table}");
        assert!(
            table.contains("40123") && table.contains("Sample"),
            "{table}"
        );
    }

    #[test]
    fn a_long_name_is_cut_before_columns_go() {
        let table = fitted(&ecosystem(), 90, false);
        let heading = table
            .lines()
            .next()
            .expect("a heading")
            .split_whitespace()
            .count();
        assert_eq!(heading, columns(&ecosystem()).len(), "{table}");
        assert!(
            table.contains("long-name.long") && table.contains('…'),
            "{table}"
        );
    }

    #[test]
    fn a_usual_table_fits_eighty_cells_whole() {
        let table = fitted(
            &[daemon("Dae", "ready"), daemon("Sample", "stopped")],
            80,
            false,
        );
        let heading: Vec<&str> = table
            .lines()
            .next()
            .expect("a heading")
            .split_whitespace()
            .collect();
        let all = columns(&ecosystem());
        let all: Vec<&str> = all.iter().map(|column| column.heading).collect();
        assert_eq!(heading, all, "{table}");
    }

    /// Adds what `--wide` measures.
    fn used(mut daemon: Listed, kind: CpuKind, memory_bytes: Option<u64>) -> Listed {
        daemon.usage = Some(Usage {
            name: daemon.status.name.clone(),
            state: daemon.status.state.clone(),
            cpu_percent: Some(12.34),
            cpu_kind: Some(kind),
            memory_bytes,
            commands: CommandRates::default(),
            guests: 3,
            restarts: 0,
            generation: 1,
            uptime_ms: None,
        });
        daemon
    }

    #[test]
    fn usage_has_columns_where_it_was_measured_and_invents_nothing() {
        let daemons = [
            used(daemon("Own", "ready"), CpuKind::Process, Some(3 << 20)),
            used(daemon("Here", "ready"), CpuKind::Handlers, None),
            daemon("Foreign", "foreign"),
        ];
        let text = whole(&daemons);
        let ends: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().rev().take(3).collect())
            .collect();
        let expected = [
            ["MEM", "CPU", "GUESTS"],
            ["3.0M", "12%", "3"],
            ["-", "~12%", "3"],
            ["-", "-", "-"],
        ];
        assert_eq!(ends, expected, "{text}");
        let narrow = fitted(&daemons, 80, false);
        let heading = narrow.lines().next().expect("a heading");
        assert!(
            heading.contains("CPU") && heading.contains("MEM"),
            "{narrow}"
        );
    }

    #[test]
    fn a_note_has_a_column_where_there_is_one() {
        let mut daemons = ecosystem();
        daemons[2].status.source_note = "newer: refused".to_owned();
        assert!(whole(&daemons).ends_with("newer:_refused"));
        let narrow = fitted(&daemons, 60, false);
        assert!(narrow.contains("newer:_refused"), "{narrow}");
        assert!(!whole(&ecosystem()).contains("NOTE"));
    }

    #[test]
    fn a_pipe_gets_every_cell_whole() {
        let text = whole(&ecosystem());
        assert!(text.contains(&"long-name.".repeat(6)), "{text}");
        for line in text.lines() {
            assert_eq!(
                line.split_whitespace().count(),
                columns(&ecosystem()).len(),
                "{line}"
            );
            assert_eq!(line, line.trim_end());
        }
        let stopped: Vec<&str> = text
            .lines()
            .last()
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(
            stopped,
            [
                "Sample",
                "0.1.0",
                "in-process",
                "stopped",
                "-",
                "-",
                "-",
                "0",
                "12345"
            ]
        );
    }

    #[test]
    fn what_is_not_counted_of_a_foreign_daemon_is_no_nought() {
        let foreign = Status {
            name: "Sensor".to_owned(),
            foreign: true,
            state: "foreign".to_owned(),
            pid: Some(4711),
            port: Some(40_123),
            ..Status::default()
        };
        let text = whole(&[foreign.into()]);
        let row: Vec<&str> = text
            .lines()
            .last()
            .expect("a row")
            .split_whitespace()
            .collect();
        let expected = [
            "Sensor", "-", "-", "foreign", "4711", "40123", "-", "-", "-",
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        assert!(!fitted(&ecosystem(), 80, false).contains('\u{1b}'));
        assert!(fitted(&ecosystem(), 80, true).contains('\u{1b}'));
    }
}
