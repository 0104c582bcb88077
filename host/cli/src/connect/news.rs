//! Events and remarks, which come at any time: above the line that is being typed, or between the lines of output.
//!
//! In a pipe they go to standard error, so that standard output has the answers alone.

use std::sync::Mutex;
use std::sync::mpsc::SyncSender;

use super::super::incoming::Incoming;
use super::super::show::Out;
use dae_store::lock::lock;
use dae_store::printable;

/// The place where news are shown.
pub(super) struct News {
    out: Out,
    /// The editor of the prompt, which prints above the line; `None` in a pipe.
    editor: Option<SyncSender<String>>,
    is_editing: Mutex<bool>,
}

impl News {
    pub(super) fn new(out: Out, editor: Option<SyncSender<String>>) -> Self {
        News {
            out,
            editor,
            is_editing: Mutex::new(false),
        }
    }

    /// Says whether a line is being typed, so that news go above it.
    pub(super) fn set_editing(&self, is_editing: bool) {
        *lock(&self.is_editing) = is_editing;
    }

    /// Shows an event, or any other line that answers no call.
    pub(super) fn event(&self, line: &Incoming) {
        let text = match line.arguments.as_str() {
            "" => line.name.clone(),
            arguments => format!("{} {arguments}", line.name),
        };
        match self.editor {
            Some(_) => self.show(&format!("< {}", printable::one_line(&text)), "36"),
            None => self.out.note(&format!("event {text}")),
        }
    }

    /// Shows a sentence about the connection.
    pub(super) fn remark(&self, text: &str) {
        match self.editor {
            Some(_) => self.show(&format!("dae-host: {}", printable::one_line(text)), "33"),
            None => self.out.note(text),
        }
    }

    fn show(&self, text: &str, colour: &str) {
        let text = match self.out.ansi() {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let is_editing = lock(&self.is_editing);
        match (&self.editor, *is_editing) {
            // An editor whose queue is full shows that there is more than a person reads.
            (Some(editor), true) => drop(editor.try_send(text)),
            _ => drop(self.out.styled(&text)),
        }
    }
}
