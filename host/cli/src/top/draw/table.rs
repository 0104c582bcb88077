//! The table of daemons: its columns, and those that stay when the screen is narrow.
//!
//! Each column has a fixed width, so that nothing moves while numbers change. The names take what their longest needs,
//! and the sparkline a part of what is left.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::style::Palette;
use super::{line_of, put};
use crate::list::{Listed, SortColumn};
use crate::top::state::TopState;
use crate::words;
use dae_store::printable::one_line;
use dae_store::report::Mode;
use dae_store::usage::Usage;

/// The width down to which names are cut before a column goes (cells).
const NAME_MIN: u16 = 12;

/// The width up to which names are shown whole (cells).
const NAME_MAX: u16 = 40;

/// The widest sparkline (cells).
const RATES_MAX: u16 = 24;

/// A column that is shown, and its width (cells).
type FittedColumn = (&'static ViewColumn, u16);

/// The content of a column.
enum Content {
    Name,
    /// The sparkline.
    Rates,
    Text(fn(&Listed) -> String),
}

/// A column of the table.
struct ViewColumn {
    heading: &'static str,
    /// The width (cells), or the least one of the names and the sparkline.
    width: u16,
    /// The column with the highest number goes first; 0 never goes.
    expendable: u8,
    content: Content,
    /// The order in which it is marked.
    sort: Option<SortColumn>,
}

const fn column(
    heading: &'static str,
    width: u16,
    expendable: u8,
    cell: fn(&Listed) -> String,
) -> ViewColumn {
    ViewColumn {
        heading,
        width,
        expendable,
        content: Content::Text(cell),
        sort: None,
    }
}

impl ViewColumn {
    const fn by(mut self, sort: SortColumn) -> Self {
        self.sort = Some(sort);
        self
    }

    const fn with(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    fn alignment(&self) -> Alignment {
        match self.heading {
            "NAME" | "STATE" | "MODE" | "" => Alignment::Left,
            _ => Alignment::Right,
        }
    }
}

const COLUMNS: [ViewColumn; 13] = [
    column("NAME", NAME_MIN, 0, |_| String::new())
        .with(Content::Name)
        .by(SortColumn::Name),
    column("STATE", 10, 0, |row| row.status.state.clone()).by(SortColumn::State),
    column("MODE", 10, 7, |row| {
        row.status
            .mode
            .map(Mode::as_str)
            .unwrap_or_default()
            .to_owned()
    })
    .by(SortColumn::Mode),
    column("GEN", 3, 5, |row| {
        own(row, row.status.generation.to_string())
    }),
    column("GUESTS", 6, 3, |row| {
        own(row, row.status.guests.to_string())
    })
    .by(SortColumn::Guests),
    column("CALLS/s", 7, 1, |row| {
        used(row, |usage| Some(words::rate(usage.commands.calls_per_s)))
    })
    .by(SortColumn::Rate),
    column("", 8, 4, |_| String::new()).with(Content::Rates),
    column("P50", 5, 8, |row| {
        used(row, |usage| usage.commands.p50_us.map(words::latency))
    }),
    column("P99", 5, 2, |row| {
        used(row, |usage| usage.commands.p99_us.map(words::latency))
    }),
    column("CPU", 6, 1, |row| used(row, words::cpu)).by(SortColumn::Cpu),
    column("MEM", 5, 1, |row| {
        used(row, |usage| usage.memory_bytes.map(words::memory))
    })
    .by(SortColumn::Mem),
    column("RESTARTS", 8, 6, |row| {
        own(row, row.status.restarts.to_string())
    })
    .by(SortColumn::Restarts),
    column("UPTIME", 6, 2, |row| {
        row.status.uptime_ms.map(words::uptime).unwrap_or_default()
    })
    .by(SortColumn::Uptime),
];

/// Returns nothing for a foreign daemon: this host counts nothing for it.
fn own(row: &Listed, text: String) -> String {
    match row.status.foreign {
        true => String::new(),
        false => text,
    }
}

fn used(row: &Listed, cell: impl FnOnce(&Usage) -> Option<String>) -> String {
    let usage = row.usage.as_ref();
    usage.and_then(cell).unwrap_or_default()
}

/// Draws the heading and the page of rows that has the selected one.
pub(super) fn draw(state: &TopState, area: Rect, palette: Palette, buffer: &mut Buffer) {
    let shown = state.table.shown();
    let longest = shown
        .iter()
        .map(|row| Line::raw(&*row.status.name).width())
        .max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    // One blank on both sides.
    let columns = fitted(area.width.saturating_sub(2), longest);
    draw_heading(state, line_of(area, 0), &columns, palette, buffer);
    if shown.is_empty() && !state.table.rows().is_empty() {
        let text = " no name has this text; Esc shows all";
        let line = Line::styled(text, palette.faint());
        put(buffer, line_of(area, 1), &line);
    }
    let lines = usize::from(area.height.saturating_sub(1)).max(1);
    let selected = state.table.place();
    let page = selected / lines * lines;
    for (at, row) in shown.iter().enumerate().skip(page).take(lines) {
        let line = line_of(area, u16::try_from(1 + at - page).unwrap_or(u16::MAX));
        for (x, width, column) in places(&columns) {
            let text = text_of(state, row, (column, width));
            let style = style_of(state, row, column, palette);
            cell(buffer, (line, x, width), column, (&text, style));
        }
        if at == selected {
            buffer.set_style(line, palette.selected());
        }
    }
}

/// Draws the heading, in which the column of the order is underlined.
fn draw_heading(
    state: &TopState,
    line: Rect,
    columns: &[FittedColumn],
    palette: Palette,
    buffer: &mut Buffer,
) {
    for (x, width, column) in places(columns) {
        let style = match column.sort == Some(state.table.sort) {
            true => palette.bold().add_modifier(Modifier::UNDERLINED),
            false => palette.bold(),
        };
        cell(buffer, (line, x, width), column, (column.heading, style));
    }
}

fn text_of(state: &TopState, row: &Listed, (column, width): (&ViewColumn, u16)) -> String {
    match column.content {
        Content::Name => one_line(&row.status.name).into_owned(),
        Content::Rates => sparkline(state.table.rates(&row.status.name), width),
        Content::Text(cell) => match cell(row) {
            text if text.is_empty() => "-".to_owned(),
            text => one_line(&text).into_owned(),
        },
    }
}

fn style_of(state: &TopState, row: &Listed, column: &ViewColumn, palette: Palette) -> Style {
    match column.heading {
        _ if state.no_host.is_some() => palette.faint(),
        "STATE" => palette.state(&row.status.state),
        "NAME" => palette.bold(),
        _ => Style::new(),
    }
}

/// Writes a cell at its place in a line, aligned within its width and cut there.
fn cell(
    buffer: &mut Buffer,
    (line, x, width): (Rect, u16, u16),
    column: &ViewColumn,
    (text, style): (&str, Style),
) {
    let text = Line::styled(text, style);
    let free = usize::from(width).saturating_sub(text.width());
    let indent = match column.alignment() {
        Alignment::Right => u16::try_from(free).unwrap_or(0),
        _ => 0,
    };
    buffer.set_line(line.x + 1 + x + indent, line.y, &text, width - indent);
}

/// Returns the columns that fit, each with its width.
fn fitted(width: u16, longest_name: u16) -> Vec<FittedColumn> {
    let mut columns: Vec<(&ViewColumn, u16)> = COLUMNS.iter().map(|one| (one, one.width)).collect();
    while needs(&columns) > width {
        let last = columns.iter().enumerate();
        let last = last.max_by_key(|(_, (column, _))| column.expendable);
        match last {
            Some((at, (column, _))) if column.expendable > 0 => drop(columns.remove(at)),
            _ => break,
        }
    }
    let mut free = width.saturating_sub(needs(&columns));
    for (column, width) in &mut columns {
        let most = match column.content {
            Content::Name => longest_name.min(NAME_MAX),
            Content::Rates => RATES_MAX,
            Content::Text(_) => column.width,
        };
        let more = most.saturating_sub(*width).min(free);
        *width += more;
        free -= more;
    }
    columns
}

/// Returns the width of columns with a blank between them (cells).
fn needs(columns: &[(&ViewColumn, u16)]) -> u16 {
    let gaps = u16::try_from(columns.len().saturating_sub(1)).unwrap_or(0);
    columns.iter().map(|(_, width)| width).sum::<u16>() + gaps
}

/// Returns each column with its left edge and its width.
fn places<'c>(
    columns: &'c [FittedColumn],
) -> impl Iterator<Item = (u16, u16, &'static ViewColumn)> + 'c {
    let mut x = 0;
    columns.iter().map(move |(column, width)| {
        let left = x;
        x += width + 1;
        (left, *width, *column)
    })
}

/// Returns the newest rates as bars, the newest at the right. The highest of them is a whole bar; none is a blank.
fn sparkline(rates: impl DoubleEndedIterator<Item = f64>, width: u16) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest: Vec<f64> = rates.rev().take(width.into()).collect();
    let highest = newest.iter().copied().fold(0.0, f64::max);
    let bar = |rate: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let eighths = (rate / highest * 8.0).ceil() as usize;
        BARS[eighths.min(8)]
    };
    let missing = usize::from(width).saturating_sub(newest.len());
    let blanks = std::iter::repeat_n(' ', missing);
    match highest > 0.0 {
        true => blanks.chain(newest.into_iter().rev().map(bar)).collect(),
        false => " ".repeat(width.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_ends_with_the_newest_rate() {
        let line = |rates: &[f64]| sparkline(rates.iter().copied(), 4);
        assert_eq!(line(&[]), "    ");
        assert_eq!(line(&[0.0, 0.0]), "    ");
        assert_eq!(line(&[9.0, 1.0, 0.0, 4.0, 8.0]), "▁ ▄█");
        assert_eq!(line(&[100.0, 1.0]), "  █▁");
    }

    #[test]
    fn columns_fit_any_width_and_the_last_to_go_are_name_and_state() {
        for width in 20..300 {
            let columns = fitted(width, 30);
            assert!(needs(&columns) <= width.max(23), "{width}");
            let headings: Vec<_> = columns.iter().map(|(column, _)| column.heading).collect();
            assert_eq!(headings[..2], ["NAME", "STATE"], "{width}");
        }
        assert_eq!(fitted(138, 12).len(), COLUMNS.len());
    }
}
