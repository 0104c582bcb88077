//! The lines of `connect`: words as in a shell, brackets as in JSON, and the prompt's own commands.
//!
//! Outside of brackets, blanks separate words, and quotes hold them together. From an opening bracket to its end all is
//! one word as it stands, blanks, quotes and line ends included, so that JSON needs no quotes around it. A line whose
//! bracket or quote is open goes on in the next one.

/// A line that was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A blank line.
    Nothing,
    /// `.help`, with the name of a command or without.
    Help(Option<String>),
    /// `.options`
    Options,
    /// `.raw`
    Raw,
    /// `.quit`
    Quit,
    /// Another word with a dot.
    Unknown(String),
    /// A command of the daemon and its words.
    Command(String, Vec<String>),
}

/// The prompt's own commands.
pub(super) const OWN: [&str; 4] = [".help", ".options", ".raw", ".quit"];

/// The meaning of the prompt's own commands, for a person.
pub(super) const HELP: &str = "\
COMMAND [ARG]...   runs a command of the daemon; words are read as by `dae-host call`, JSON needs no quotes
.options           lists the daemon's commands
.help [COMMAND]    describes a command, or shows this
.raw               sends lines of Common TCP as they are typed, until the next .raw
.quit              ends (also Ctrl-D)";

/// A line in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) words: Vec<String>,
    /// The place where the last word begins (bytes); the end of the line if a blank follows it.
    pub(super) last: usize,
    /// True if a bracket or a quote is open.
    pub(super) is_open: bool,
}

/// Reads a whole line. A dot that is part of a name of a command is not at its start.
pub(super) fn read(line: &str) -> Typed {
    let mut words = split(line).words.into_iter();
    let Some(first) = words.next() else {
        return Typed::Nothing;
    };
    match first.as_str() {
        ".help" => Typed::Help(words.next()),
        ".options" => Typed::Options,
        ".raw" => Typed::Raw,
        ".quit" | ".exit" => Typed::Quit,
        other if other.starts_with('.') => Typed::Unknown(first),
        _ => Typed::Command(first, words.collect()),
    }
}

/// Splits a line, whole or still being typed, into words.
pub(super) fn split(line: &str) -> Split {
    let mut reader = Reader::default();
    for (at, c) in line.char_indices() {
        reader.take(at, c);
    }
    let is_open = reader.quote.is_some() || !reader.brackets.is_empty();
    let last = reader.start.unwrap_or(line.len());
    reader.end_word();
    Split {
        words: reader.words,
        last,
        is_open,
    }
}

#[derive(Default)]
struct Reader {
    words: Vec<String>,
    word: String,
    /// The start of the present word.
    start: Option<usize>,
    quote: Option<char>,
    /// The brackets that must be closed, innermost last.
    brackets: Vec<char>,
    is_escaped: bool,
}

impl Reader {
    fn take(&mut self, at: usize, c: char) {
        if c.is_whitespace() && self.quote.is_none() && self.brackets.is_empty() {
            return self.end_word();
        }
        self.start.get_or_insert(at);
        match self.brackets.is_empty() {
            true => self.in_shell(c),
            false => self.in_json(c),
        }
    }

    fn end_word(&mut self) {
        if self.start.take().is_some() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn in_shell(&mut self, c: char) {
        match (self.quote, c) {
            (Some('"'), _) if self.is_escaped => {
                self.is_escaped = false;
                self.word.push(c);
            }
            (Some('"'), '\\') => self.is_escaped = true,
            (Some(quote), _) if c == quote => self.quote = None,
            (Some(_), _) => self.word.push(c),
            (None, '"' | '\'') => self.quote = Some(c),
            (None, _) => {
                self.brackets.extend(closing(c));
                self.word.push(c);
            }
        }
    }

    fn in_json(&mut self, c: char) {
        self.word.push(c);
        match (self.quote, c) {
            (Some(_), _) if self.is_escaped => self.is_escaped = false,
            (Some(_), '\\') => self.is_escaped = true,
            (Some(quote), _) if c == quote => self.quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => self.quote = Some(c),
            (None, _) if self.brackets.last() == Some(&c) => drop(self.brackets.pop()),
            (None, _) => self.brackets.extend(closing(c)),
        }
    }
}

fn closing(opening: char) -> Option<char> {
    match opening {
        '[' => Some(']'),
        '{' => Some('}'),
        _ => None,
    }
}

/// The start of a line of Common TCP: the command's name, its tag, and the arguments.
pub(super) fn of_protocol(line: &str) -> (&str, Option<&str>, &str) {
    let line = line.trim();
    let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
    match command.split_once('#') {
        Some((name, tag)) => (name, Some(tag), arguments),
        None => (command, None, arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_separate_words_outside_of_quotes_and_brackets() {
        let cases: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  add 1  2 ", &["add", "1", "2"]),
            ("greet 'Ada Lovelace'", &["greet", "Ada Lovelace"]),
            (r#"greet "a \"b\" c" x"#, &["greet", "a \"b\" c", "x"]),
            ("greet ''", &["greet", ""]),
            (
                "put {a: 1, \"b\": [1, 2]} x",
                &["put", "{a: 1, \"b\": [1, 2]}", "x"],
            ),
            ("put --at=[1, 2]", &["put", "--at=[1, 2]"]),
            (
                r#"put {"a": "} \" {"} x"#,
                &["put", r#"{"a": "} \" {"}"#, "x"],
            ),
            ("put [1,\n2]", &["put", "[1,\n2]"]),
        ];
        for (line, words) in cases {
            let split = split(line);
            assert_eq!(split.words, words, "{line:?}");
            assert!(!split.is_open, "{line:?}");
        }
    }

    #[test]
    fn an_open_bracket_or_quote_goes_on() {
        for (line, is_open) in [
            ("put {", true),
            ("put {\"a\": [1}", true),
            ("put {\"a\": \"}", true),
            ("greet 'Ada", true),
            ("greet \"Ada\\\"", true),
            ("put {}", false),
            ("put }", false),
        ] {
            assert_eq!(split(line).is_open, is_open, "{line}");
        }
    }

    #[test]
    fn the_last_word_has_its_place() {
        for (line, last) in [
            ("", 0),
            ("gr", 0),
            ("greet ", 6),
            ("greet A", 6),
            ("größe --a", 8),
        ] {
            assert_eq!(split(line).last, last, "{line}");
        }
    }

    #[test]
    fn own_commands_begin_with_a_dot() {
        let cases = [
            (" ", Typed::Nothing),
            (".help", Typed::Help(None)),
            (".help add", Typed::Help(Some("add".to_owned()))),
            (".options", Typed::Options),
            (".quit", Typed::Quit),
            (".rwa", Typed::Unknown(".rwa".to_owned())),
            (
                "add 1",
                Typed::Command("add".to_owned(), vec!["1".to_owned()]),
            ),
        ];
        for (line, typed) in cases {
            assert_eq!(read(line), typed, "{line}");
        }
    }

    #[test]
    fn a_line_of_the_protocol_has_its_tag() {
        assert_eq!(of_protocol(" add#7 [1, 2]\n"), ("add", Some("7"), "[1, 2]"));
        assert_eq!(of_protocol("dae"), ("dae", None, ""));
    }
}
