//! The styles of the screen, with colours or without.

use ratatui::style::{Color, Modifier, Style};

/// The styles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    colours: bool,
}

impl Palette {
    pub(super) fn of(colours: bool) -> Self {
        Palette { colours }
    }

    fn coloured(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn faint(self) -> Style {
        self.coloured(Color::DarkGray)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn success(self) -> Style {
        self.coloured(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn failure(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Returns the style of a daemon's state, in the colours of `list`.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "ready" => self.success(),
            "foreign" => self.coloured(Color::Cyan),
            "failed" | "crash-loop" | "impostor" => self.failure(),
            "asleep" | "stopped" | "finished" => self.faint(),
            _ => self.warning(),
        }
    }

    /// Returns the style of a record of that level.
    pub(super) fn level(self, level: &str) -> Style {
        match level {
            "error" => self.failure(),
            "warn" => self.warning(),
            "debug" | "trace" => self.faint(),
            _ => Style::new(),
        }
    }
}
