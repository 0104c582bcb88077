//! The screen of `top`, drawn from the state into a buffer: a line about the host, the table, the pane, a line of hints,
//! and at times a window over them.
//!
//! Nothing here sees a terminal or a clock, so the tests compare whole screens. Without colours everything is told apart
//! by words, by bold and by reversed cells.

mod overlay;
mod panes;
mod style;
mod table;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::state::{Overlay, TopState};
use crate::list::{Listed, remark};
use crate::words;
use dae_store::printable::one_line;
use dae_store::registry::DAE_NAME;
use style::Palette;

/// The smallest screen that shows anything useful (cells).
const WIDTH_MIN: u16 = 40;
const HEIGHT_MIN: u16 = 10;

/// The lines that are not the table's: the host, its heading, the bar and two lines of the pane, the hints.
const OTHER_LINES: u16 = 6;

/// Draws the whole screen.
pub(super) fn draw(state: &TopState, area: Rect, buffer: &mut Buffer) {
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        let text = format!("too small: {WIDTH_MIN}x{HEIGHT_MIN} at least");
        put(buffer, area, &Line::raw(text));
        return;
    }
    let palette = Palette::of(state.colours);
    let attention = attention(state);
    let used = 1 + u16::from(attention.is_some());
    put(buffer, line_of(area, 0), &host_line(state, palette));
    if let Some(text) = attention {
        put(
            buffer,
            line_of(area, 1),
            &Line::styled(text, palette.warning()),
        );
    }
    let rows = u16::try_from(state.table.shown().len()).unwrap_or(u16::MAX);
    let table_lines = table_lines(area.height, rows);
    let table = lines_of(area, used, table_lines);
    table::draw(state, table, palette, buffer);
    let below = used + table_lines;
    let pane = lines_of(area, below, area.height.saturating_sub(below + 1));
    panes::draw(state, pane, palette, buffer);
    let last = line_of(area, area.height - 1);
    put(buffer, last, &footer(state, palette));
    overlay::draw(state, area, palette, buffer);
}

/// Returns the lines of the table with its heading: as many as it needs, but at most half of what there is.
fn table_lines(height: u16, rows: u16) -> u16 {
    let half = 1 + height.saturating_sub(OTHER_LINES).div_ceil(2);
    rows.saturating_add(1).clamp(2, half.max(3))
}

fn line_of(area: Rect, line: u16) -> Rect {
    lines_of(area, line, 1)
}

fn lines_of(area: Rect, from: u16, count: u16) -> Rect {
    Rect::new(area.x, area.y + from, area.width, count).intersection(area)
}

/// Writes one line. One that is too long ends in `…` at the right edge.
fn put(buffer: &mut Buffer, area: Rect, line: &Line<'_>) {
    buffer.set_line(area.x, area.y, line, area.width);
    let edge = (area.right().saturating_sub(1), area.y);
    if line.width() > usize::from(area.width)
        && let Some(cell) = buffer.cell_mut(edge)
    {
        cell.set_symbol("…");
    }
}

/// Returns the line about the host: its address, its age, and sums over its daemons.
fn host_line(state: &TopState, palette: Palette) -> Line<'static> {
    if let Some(reason) = &state.no_host {
        let text = format!(" {}; it is shown again once one runs", one_line(reason));
        return Line::styled(text, palette.failure());
    }
    let rows = state.table.rows();
    let Some(dae) = rows.iter().find(|row| row.status.name == DAE_NAME) else {
        return Line::raw(" asking the host …");
    };
    let port = dae.status.port.unwrap_or_default();
    let mut parts = vec![
        format!("port {port}"),
        format!("up {}", words::uptime(dae.status.uptime_ms.unwrap_or(0))),
        counted(rows.len() - 1, "daemon"),
        counted(guests(rows), "guest"),
    ];
    if let Some(usage) = &dae.usage {
        let rate: f64 = rates(rows).sum();
        parts.push(format!("{} calls/s", words::rate(rate)));
        parts.extend(words::cpu(usage).map(|cpu| format!("CPU {cpu}")));
        parts.extend(
            usage
                .memory_bytes
                .map(|bytes| format!("MEM {}", words::memory(bytes))),
        );
    }
    Line::from(vec![
        Span::styled(" Dae", palette.bold()),
        Span::raw(format!("  {}", parts.join("  "))),
    ])
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn guests(rows: &[Listed]) -> usize {
    let guests = rows.iter().map(|row| row.status.guests);
    usize::try_from(guests.sum::<u64>()).unwrap_or(usize::MAX)
}

fn rates(rows: &[Listed]) -> impl Iterator<Item = f64> {
    let usages = rows.iter().filter_map(|row| row.usage.as_ref());
    usages.map(|usage| usage.commands.calls_per_s)
}

/// Returns the line about daemons that need somebody.
fn attention(state: &TopState) -> Option<String> {
    let name = |command: &str| command.trim_start_matches("status ").to_owned();
    let text = remark(state.table.rows(), name)?;
    state.no_host.is_none().then(|| format!(" {text}"))
}

/// Returns the last line: a text that is typed, the result of a change, or hints.
fn footer(state: &TopState, palette: Palette) -> Line<'static> {
    let typed = |what: &str, text: &str| {
        Line::from(vec![
            Span::styled(format!(" {what}: {text}_"), palette.bold()),
            Span::styled("  Enter keeps it, Esc clears it", palette.faint()),
        ])
    };
    match (&state.overlay, &state.notice) {
        (Overlay::FilterTable, _) => typed("names with", &state.table.filter),
        (Overlay::FilterLog, _) => typed("records with", &state.panes.log.filter),
        (_, Some(Ok(text))) => styled_notice(text, palette.success()),
        (_, Some(Err(text))) => styled_notice(text, palette.failure()),
        _ => hints(state, palette),
    }
}

fn styled_notice(text: &str, style: Style) -> Line<'static> {
    Line::styled(format!(" {}", one_line(text)), style)
}

fn hints(state: &TopState, palette: Palette) -> Line<'static> {
    let mut keys = vec![
        ("?", "help".to_owned()),
        ("/", "filter".to_owned()),
        ("o", format!("order: {}", state.table.sort.name())),
        ("r", "restart".to_owned()),
        ("s", "start".to_owned()),
        ("x", "stop".to_owned()),
        ("Tab", "pane".to_owned()),
        ("q", "quit".to_owned()),
    ];
    if !state.table.filter.is_empty() {
        keys[1].1 = format!("names with {:?}, Esc: all", state.table.filter);
    }
    let spans = keys.into_iter().flat_map(|(key, text)| {
        [
            Span::styled(format!(" {key}"), palette.bold()),
            Span::styled(format!(" {text} "), palette.faint()),
        ]
    });
    Line::from_iter(spans)
}

#[cfg(test)]
mod tests;
