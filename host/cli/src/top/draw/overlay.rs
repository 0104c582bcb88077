//! The windows over the screen: the help, and the confirmation of a change.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Widget as _, Wrap};

use super::style::Palette;
use crate::top::keys::HELP;
use crate::top::state::{HostAction, Overlay, TopState};

/// The width of the question (cells).
const QUESTION_WIDTH: u16 = 60;

/// The width of the help's column of keys (cells).
const KEYS_WIDTH: usize = 11;

/// Draws the window, if there is one.
pub(super) fn draw(state: &TopState, area: Rect, palette: Palette, buffer: &mut Buffer) {
    match &state.overlay {
        Overlay::Help => help(area, palette, buffer),
        Overlay::Confirm(action, name) => question(state, (*action, name), (area, palette), buffer),
        Overlay::None | Overlay::FilterTable | Overlay::FilterLog => {}
    }
}

fn help(area: Rect, palette: Palette, buffer: &mut Buffer) {
    let line = |(keys, meaning): &(&str, &str)| {
        Line::from(vec![
            Span::styled(format!("{keys:KEYS_WIDTH$}"), palette.bold()),
            Span::raw(format!(" {meaning}")),
        ])
    };
    let lines: Vec<Line<'_>> = HELP.iter().map(line).collect();
    window(" keys ", Text::from(lines), area, buffer);
}

fn question(
    state: &TopState,
    (action, name): (HostAction, &str),
    (area, palette): (Rect, Palette),
    buffer: &mut Buffer,
) {
    // The daemon may have gone since the key.
    let row = state
        .table
        .rows()
        .iter()
        .find(|row| row.status.name == name);
    let effect = row.map_or_else(|| "It is gone.".to_owned(), |row| action.effect(row));
    let answer = Line::styled("y: do it   any other key: don't", palette.bold());
    let text = Text::from(vec![Line::raw(effect), Line::raw(""), answer]);
    let title = format!(" {} {name}? ", action.command());
    window(&title, text, area, buffer);
}

/// Draws a window of the text's size in the middle.
fn window(title: &str, text: Text<'_>, area: Rect, buffer: &mut Buffer) {
    let widest = u16::try_from(text.width()).unwrap_or(u16::MAX);
    let width = widest.min(QUESTION_WIDTH).saturating_add(4).min(area.width);
    let paragraph = Paragraph::new(text).wrap(Wrap { trim: true });
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let lines = wrapped_lines(&paragraph, inner);
    let height = lines.saturating_add(2).min(area.height);
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let place = Rect::new(area.x + x, area.y + y, width, height);
    Clear.render(place, buffer);
    let block = Block::bordered()
        .title(title.to_owned())
        .padding(ratatui::widgets::Padding::horizontal(1));
    paragraph.block(block).render(place, buffer);
}

/// Returns the number of lines that a text takes at that width, found by drawing it aside.
fn wrapped_lines(paragraph: &Paragraph<'_>, width: usize) -> u16 {
    const LINES_MAX: u16 = 60;
    let area = Rect::new(0, 0, u16::try_from(width).unwrap_or(u16::MAX), LINES_MAX);
    let mut aside = Buffer::empty(area);
    paragraph.clone().render(area, &mut aside);
    let is_blank = |line: u16| (0..area.width).all(|x| aside[(x, line)].symbol() == " ");
    let last = (0..LINES_MAX).rev().find(|line| !is_blank(*line));
    last.map_or(1, |last| last + 1)
}
