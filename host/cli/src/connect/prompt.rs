//! The prompt at a terminal: an editor with history, completion and lines that go on.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, ExternalPrinter, FileBackedHistory, KeyCode,
    KeyModifiers, MenuBuilder as _, Prompt, PromptEditMode, PromptHistorySearch, Reedline,
    ReedlineEvent, ReedlineMenu, Span, Suggestion, ValidationResult, Validator,
    default_emacs_keybindings,
};

use super::super::Session;
use super::super::signatures::Commands;
use super::super::suggest;
use super::line::{self, OWN};
use dae_store::atomic_file;
use dae_store::home::make_private;
use dae_store::registry::check_name;

/// The lines of a daemon's history.
const HISTORY_LINES: usize = 1000;

/// The interval at which news are shown above the line: a person sees no delay.
const NEWS_EVERY: Duration = Duration::from_millis(50);

const MENU: &str = "words";

/// The end of the prompt, also while the menu is open.
const INDICATOR: &str = "> ";

/// The text before the line.
pub(super) struct DaemonPrompt<'a> {
    pub(super) daemon: &'a str,
    pub(super) is_raw: bool,
}

impl Prompt for DaemonPrompt<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        match self.is_raw {
            true => format!("{} raw", self.daemon).into(),
            false => self.daemon.into(),
        }
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        INDICATOR.into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "... ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("(history: {}) ", search.term).into()
    }
}

/// A line goes on while a bracket or a quote is open.
struct Brackets;

impl Validator for Brackets {
    fn validate(&self, line: &str) -> ValidationResult {
        match line::split(line).is_open {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Complete,
        }
    }
}

/// Completes commands and arguments by what the daemon describes now.
pub(super) struct Words<C>(pub(super) C);

impl<C: Fn() -> Arc<Commands>> Words<C> {
    fn suggestions(&self, typed: &str) -> Vec<Suggestion> {
        let split = line::split(typed);
        let mut before: Vec<&str> = split.words.iter().map(String::as_str).collect();
        let current = match split.last < typed.len() {
            true => before.pop().unwrap_or_default(),
            false => "",
        };
        let is_own = before.is_empty() && current.starts_with('.');
        let own = OWN.iter().filter(|own| is_own && own.starts_with(current));
        let own = own.map(|own| ((*own).to_owned(), String::new()));
        // The words behind `.help` are those behind `help`.
        if let Some(first) = before.first_mut().filter(|first| **first == ".help") {
            *first = "help";
        }
        let words = suggest::words(&(self.0)(), &before, current);
        let words = words.into_iter().map(|one| (one.word, one.about));
        let suggestion = |(value, about): (String, String)| Suggestion {
            append_whitespace: !value.ends_with('='),
            description: Some(about).filter(|about| !about.is_empty()),
            span: Span::new(split.last, typed.len()),
            value,
            ..Suggestion::default()
        };
        own.chain(words).map(suggestion).collect()
    }
}

impl<C: Fn() -> Arc<Commands>> Completer for Words<C> {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        CompletionResult::fresh(self.suggestions(&line[..pos]))
    }
}

/// Returns the editor of the prompt.
pub(super) fn editor(
    session: &Session,
    name: &str,
    completer: Box<dyn Completer + Send>,
    printer: ExternalPrinter<String>,
) -> Result<Reedline> {
    let mut keys = default_emacs_keybindings();
    let completes = vec![
        ReedlineEvent::Menu(MENU.to_owned()),
        ReedlineEvent::MenuNext,
    ];
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(completes),
    );
    let menu = ColumnarMenu::default().with_name(MENU);
    let menu = ReedlineMenu::EngineCompleter(Box::new(menu.with_marker(INDICATOR)));
    let mut editor = Reedline::create()
        .with_ansi_colors(session.out.ansi())
        .with_completer(completer)
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_menu(menu)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(Brackets))
        .with_external_printer(printer)
        .with_poll_interval(NEWS_EVERY);
    if let Some(history) = history(session, name)? {
        editor = editor.with_history(Box::new(history));
    }
    Ok(editor)
}

/// Opens the history of a daemon, which only its owner may read: it has all arguments that were typed. Returns `None`
/// for a foreign daemon whose name is no name of a file.
fn history(session: &Session, name: &str) -> Result<Option<FileBackedHistory>> {
    if check_name(name).is_err() {
        return Ok(None);
    }
    let directory = session.home.history_dir();
    make_private(&directory)?;
    let file = directory.join(name);
    if !file.exists() {
        atomic_file::write(&file, b"")?;
    }
    // The editor would wait for a pipe.
    let opened = atomic_file::open(&file);
    drop(opened.with_context(|| format!("cannot read the history {}", file.display()))?);
    let history = FileBackedHistory::with_file(HISTORY_LINES, file.clone());
    let history = history.with_context(|| format!("cannot read the history {}", file.display()))?;
    Ok(Some(history))
}

#[cfg(test)]
mod tests {
    use super::super::super::signatures;
    use super::*;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    fn suggested(typed: &str) -> Vec<(String, usize)> {
        let answer = json!({
            "greet": {"signature": "greet(who: string)", "doc": "Greets.", "schema": {"arguments": [
                {"name": "who", "schema": {"enum": ["Ada", "Bob"]}},
            ]}},
            "grow": {"signature": "grow()"},
        });
        let answer = to_raw_value(&answer).expect("JSON");
        let commands = Arc::new(signatures::commands(&answer).expect("commands"));
        let words = Words(move || Arc::clone(&commands));
        let suggestions = words.suggestions(typed).into_iter();
        suggestions.map(|one| (one.value, one.span.start)).collect()
    }

    #[test]
    fn each_place_of_a_line_has_its_words() {
        let cases: [(&str, &[&str], usize); 7] = [
            ("gr", &["greet", "grow"], 0),
            ("  gre", &["greet"], 2),
            (".h", &[".help"], 0),
            (".help gro", &["grow"], 6),
            ("greet ", &["Ada", "Bob", "--who"], 6),
            ("greet A", &["Ada"], 6),
            ("greet --who=B", &["--who=Bob"], 6),
        ];
        for (typed, words, start) in cases {
            let expected: Vec<_> = words
                .iter()
                .map(|word| ((*word).to_owned(), start))
                .collect();
            assert_eq!(suggested(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn an_open_bracket_asks_for_more() {
        let is_open = |line| matches!(Brackets.validate(line), ValidationResult::Incomplete);
        assert!(is_open("put {\"a\": [1,") && !is_open("put {\"a\": [1]}"));
    }
}
