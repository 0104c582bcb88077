//! The pane below the table: a bar with the panes' names, facts about the selected daemon, and its log, the events or
//! its commands.

use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::style::Palette;
use super::{counted, line_of, lines_of, put};
use crate::guest::address;
use crate::list::Listed;
use crate::top::state::{DescribedInstance, PaneKind, TopState};
use crate::words;
use dae_store::event::DaeEvent;
use dae_store::log::Record;
use dae_store::printable::one_line;
use dae_store::registry::DAE_NAME;
use dae_store::report::Mode;

/// The indent of the lines of a record behind its first: that of its text.
const INDENT: usize = 9;

/// Draws the pane.
pub(super) fn draw(state: &TopState, area: Rect, palette: Palette, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let selected = state.table.selected();
    put(buffer, line_of(area, 0), &bar(state, area.width, palette));
    let Some(row) = selected else { return };
    let facts = facts(row, palette);
    for (at, line) in (1..).zip(&facts) {
        put(buffer, line_of(area, at), line);
    }
    let used = 1 + u16::try_from(facts.len()).unwrap_or(0);
    let content = lines_of(area, used, area.height.saturating_sub(used));
    let lines = match state.panes.kind {
        PaneKind::Log => log(state, row, content, palette),
        PaneKind::Events => events(state, &row.status.name, content, palette),
        PaneKind::Commands => commands(state, row, content.width, palette),
    };
    for (at, line) in (0..content.height).zip(&lines) {
        put(buffer, line_of(content, at), line);
    }
}

/// Returns the bar: the panes' names, the shown one in bold, and how the log is shown.
fn bar(state: &TopState, width: u16, palette: Palette) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, (kind, name)) in (1..).zip(PaneKind::ALL) {
        spans.push(Span::styled("─", palette.faint()));
        let text = format!(" {number} {name} ");
        spans.push(match kind == state.panes.kind {
            true => Span::styled(text, palette.bold().patch(palette.selected())),
            false => Span::styled(text, palette.faint()),
        });
    }
    let log = &state.panes.log;
    let mut remarks = Vec::new();
    if state.panes.kind == PaneKind::Log {
        if !log.filter.is_empty() {
            remarks.push(format!("with {:?}", log.filter));
        }
        remarks.extend(log.wraps.then(|| "whole".to_owned()));
        remarks.push(match log.is_following() {
            true => "newest".to_owned(),
            false => "scrolled back".to_owned(),
        });
    }
    let shown = state.table.shown().len();
    remarks.push(format!("{}/{shown}", (state.table.place() + 1).min(shown)));
    let right = format!(" {} ─", remarks.join(", "));
    let left: usize = spans.iter().map(Span::width).sum();
    let fill = usize::from(width).saturating_sub(left + Span::raw(&*right).width());
    spans.push(Span::styled("─".repeat(fill), palette.faint()));
    spans.push(Span::styled(right, palette.faint()));
    Line::from(spans)
}

/// Returns a line of facts about a daemon, and a second one with the reason for its state, if it needs one.
fn facts(row: &Listed, palette: Palette) -> Vec<Line<'static>> {
    let status = &row.status;
    let mut facts = vec![status.plugin.clone(), status.version.clone()];
    if status.plugin == status.name {
        facts.remove(0);
    }
    facts.extend(status.mode.map(|mode| Mode::as_str(mode).to_owned()));
    facts.extend(status.port.map(|port| address(status, port).to_string()));
    facts.extend(status.pid.map(|pid| format!("pid {pid}")));
    if !status.foreign {
        facts.extend(counts(row));
    }
    facts.retain(|fact| !fact.is_empty());
    let name = Span::styled(format!(" {}  ", one_line(&status.name)), palette.bold());
    let text = one_line(&facts.join("  ")).into_owned();
    let mut lines = vec![Line::from(vec![name, Span::raw(text)])];
    let why: Vec<&str> = [status.reason.as_str(), status.source_note.as_str()]
        .into_iter()
        .filter(|text| !text.is_empty() && *text != status.state)
        .collect();
    if !why.is_empty() {
        let text = format!(" {}: {}", status.state, one_line(&why.join("; ")));
        lines.push(Line::styled(text, palette.state(&status.state)));
    }
    lines
}

/// Returns the counts of a daemon of this host.
fn counts(row: &Listed) -> Vec<String> {
    let status = &row.status;
    let number = |count: u64, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let (calls, errors) = (number(status.calls, "call"), number(status.errors, "error"));
    let rates = row.usage.as_ref().map(|usage| usage.commands);
    let latencies = rates.and_then(|rates| rates.p50_us.zip(rates.p99_us));
    let latencies = latencies.map(|(p50, p99)| {
        let (p50, p99) = (words::latency(p50), words::latency(p99));
        format!("p50 {p50}, p99 {p99}")
    });
    let generation = format!("generation {}", status.generation);
    let restarts = number(status.restarts, "restart");
    let first = std::iter::once(format!("{calls}, {errors}"));
    first
        .chain(latencies)
        .chain([generation, restarts])
        .collect()
}

/// Returns the lines of the log, the newest last.
fn log(state: &TopState, row: &Listed, area: Rect, palette: Palette) -> Vec<Line<'static>> {
    if row.status.foreign {
        return vec![remark(
            "the log of a foreign daemon is not kept here",
            palette,
        )];
    }
    let room = usize::from(area.height);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for record in state.panes.log.shown() {
        if lines.len() >= room {
            break;
        }
        let of_record = record_lines(record, area, state.panes.log.wraps);
        let style = palette.level(&record.level);
        lines.extend(
            of_record
                .into_iter()
                .rev()
                .map(|text| Line::styled(text, style)),
        );
    }
    lines.truncate(room);
    lines.reverse();
    if lines.is_empty() {
        lines.push(remark("no record yet", palette));
    }
    lines
}

/// Returns a record as one line, or whole over several.
fn record_lines(record: &Record, area: Rect, wraps: bool) -> Vec<String> {
    let line = record.line(false);
    // The date and the fractions of the seconds are left out.
    let said = line.split_once(' ').map_or("", |(_, rest)| rest);
    let first = format!(" {} {said}", record.time.strftime("%H:%M:%S"));
    match wraps {
        true => wrapped(&first, area.width.into(), area.height.into()),
        false => vec![first],
    }
}

/// Breaks a text into at most so many lines of that width (cells), between words where that is possible.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for letter in text.chars() {
        let Some(line) = lines.last_mut() else { break };
        if cells(line) + cells(letter.encode_utf8(&mut [0; 4])) > width {
            let rest = last_word(line, width);
            if lines.len() == most {
                break;
            }
            lines.push(format!("{}{rest}", " ".repeat(INDENT)));
        }
        if let Some(line) = lines.last_mut() {
            line.push(letter);
        }
    }
    lines
}

/// Takes the last word off a full line, unless it takes up too much of it.
fn last_word(line: &mut String, width: usize) -> String {
    let start = line.rfind(' ').map_or(0, |blank| blank + 1);
    match start > INDENT && cells(&line[start..]) < width / 2 {
        true => line.split_off(start),
        false => String::new(),
    }
}

fn cells(text: &str) -> usize {
    Span::raw(text).width()
}

/// Returns the events of a daemon, or of all if it is Dae, the newest last.
fn events(state: &TopState, name: &str, area: Rect, palette: Palette) -> Vec<Line<'static>> {
    let is_shown = |event: &&DaeEvent| name == DAE_NAME || event.daemon == name;
    let newest = state.panes.events.iter().rev().filter(is_shown);
    let zone = TimeZone::system();
    let line = |event: &DaeEvent| {
        let time = event.time.to_zoned(zone.clone());
        Line::from(vec![
            Span::raw(time.strftime(" %H:%M:%S ").to_string()),
            Span::styled(one_line(&event.daemon).into_owned(), palette.bold()),
            Span::raw(format!("  {}", one_line(&event.kind.to_string()))),
        ])
    };
    let mut lines: Vec<_> = newest.take(area.height.into()).map(line).collect();
    lines.reverse();
    if lines.is_empty() {
        lines.push(remark("no event is kept", palette));
    }
    lines
}

/// Returns the commands with their descriptions, or why there are none.
fn commands(state: &TopState, row: &Listed, width: u16, palette: Palette) -> Vec<Line<'static>> {
    let wanted = DescribedInstance {
        name: row.status.name.clone(),
        generation: row.status.generation,
    };
    let described = state.panes.described.as_ref();
    let Some(described) = described.filter(|one| one.instance == wanted) else {
        return vec![remark("asking …", palette)];
    };
    let commands = match &described.commands {
        Ok(commands) if commands.is_empty() => return vec![remark("it describes none", palette)],
        Ok(commands) => commands,
        Err(reason) => {
            return vec![Line::styled(
                format!(" {}", one_line(reason)),
                palette.failure(),
            )];
        }
    };
    let longest = commands
        .iter()
        .map(|(signature, _)| Span::raw(&**signature).width())
        .max();
    let column = longest.unwrap_or(0).min(usize::from(width) / 2);
    let line = |(signature, summary): &(String, String)| {
        let signature = one_line(signature);
        let free = column.saturating_sub(Span::raw(&*signature).width());
        let text = format!(" {signature}{}  ", " ".repeat(free));
        Line::from(vec![
            Span::styled(text, palette.bold()),
            Span::styled(one_line(summary).into_owned(), Style::new()),
        ])
    };
    commands.iter().map(line).collect()
}

fn remark(text: &str, palette: Palette) -> Line<'static> {
    Line::styled(format!(" {text}"), palette.faint())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_broken_at_the_edge_and_indented() {
        let lines = wrapped(&"x".repeat(25), 20, 5);
        assert_eq!(
            lines,
            ["x".repeat(20), format!("{}xxxxx", " ".repeat(INDENT))]
        );
        assert_eq!(wrapped(&"x".repeat(99), 20, 2).len(), 2);
        assert_eq!(wrapped("", 20, 2), [""]);
        let words = wrapped(" 00:00:00 some words", 15, 5);
        assert_eq!(words, [" 00:00:00 some ", "         words"]);
        // A wide letter takes two cells.
        assert_eq!(wrapped("ああ", 3, 5)[0], "あ");
    }
}
