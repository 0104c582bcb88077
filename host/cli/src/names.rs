//! Several daemons at once: by their names, by patterns such as `web-*`, or `--all`.

use anyhow::Result;
use glob::Pattern;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::client::Client;
use super::document::Row;
use super::exit::{self, ErrorObject, Fault};
use dae_runtime::os::control_client::ControlClient;
use dae_store::registry::DAE_NAME;
use dae_store::report::Status;

/// The characters that make a word a pattern. No daemon's name has one.
const PATTERN_CHARACTERS: [char; 3] = ['*', '?', '['];

/// The arguments that name daemons.
#[derive(Debug, clap::Args)]
pub(super) struct Names {
    /// The daemons' names, or patterns with * and ?, such as 'web-*'
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// All daemons of this host
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Names {
    /// Returns the only name, if it is given as it is, however often.
    pub(super) fn single(&self) -> Option<&str> {
        let (first, others) = self.names.split_first()?;
        let is_one = !is_pattern(first) && others.iter().all(|name| name == first);
        is_one.then_some(first)
    }

    /// Returns whether all daemons of the host are meant.
    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// Returns the names that are meant, each once. The host is asked only if there is a pattern.
    ///
    /// # Errors
    /// See [`Names::among`].
    pub(super) fn of_host(&self, client: &mut Client<ControlClient>) -> Result<Vec<String>> {
        if !self.all && !has_pattern(&self.names) {
            return expand(&self.names, std::iter::empty());
        }
        let daemons: Vec<Status> = client.ask("list", &json!([]))?;
        let own = daemons.into_iter().filter(|one| !one.foreign);
        let names: Vec<String> = own.map(|one| one.name).collect();
        self.among(names.iter().filter(|name| *name != DAE_NAME))
    }

    /// Returns the names that are meant among the known ones: each once, in the order of the words. A pattern that matches
    /// none stands for itself.
    ///
    /// # Errors
    /// A pattern can't be read.
    pub(super) fn among<'a>(
        &self,
        known: impl Iterator<Item = &'a String> + Clone,
    ) -> Result<Vec<String>> {
        match self.all {
            true => Ok(known.cloned().collect()),
            false => expand(&self.names, known),
        }
    }
}

/// Returns whether one of the words is a pattern.
pub(super) fn has_pattern(words: &[String]) -> bool {
    words.iter().any(|word| is_pattern(word))
}

/// Returns the names that the words stand for among the known ones: each once, in the order of the words. A pattern that
/// matches none stands for itself.
///
/// # Errors
/// A pattern can't be read.
pub(super) fn expand<'a>(
    words: &[String],
    known: impl Iterator<Item = &'a String> + Clone,
) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    for word in words {
        let names: Vec<&String> = match is_pattern(word) {
            false => vec![word],
            true => {
                let pattern = pattern(word)?;
                known.clone().filter(|name| pattern.matches(name)).collect()
            }
        };
        // A pattern that matches nothing is refused in its turn, as an unknown name is.
        let names = match names.is_empty() {
            true => vec![word],
            false => names,
        };
        for name in names {
            if !found.contains(name) {
                found.push(name.clone());
            }
        }
    }
    Ok(found)
}

fn is_pattern(word: &str) -> bool {
    word.contains(PATTERN_CHARACTERS)
}

pub(super) fn pattern(word: &str) -> Result<Pattern, Fault> {
    Pattern::new(word).map_err(|error| Fault::Usage(format!("{word} is no pattern: {error}")))
}

/// Runs `act` for one name after another. Prints a sentence after each, or one array at the end with `--json`, with a row
/// for each name. The error and the exit code are those of the first that failed.
pub(super) fn each<T: Serialize + Default>(
    session: &Session,
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(T, String)>,
) -> Result<()> {
    if session.out.json {
        return each_as_row(session, names, act);
    }
    let mut failed = None;
    for name in names {
        match act(name) {
            Ok((value, sentence)) => session.out.done(&value, &sentence)?,
            Err(error) => {
                let code = exit::report(&error, false);
                failed.get_or_insert(code);
            }
        }
    }
    failed.map_or(Ok(()), |code| Err(Fault::Reported(code).into()))
}

fn each_as_row<T: Serialize + Default>(
    session: &Session,
    names: &[String],
    mut act: impl FnMut(&str) -> Result<(T, String)>,
) -> Result<()> {
    let outcomes: Vec<_> = names.iter().map(|name| (name, act(name))).collect();
    let mut rows = Vec::new();
    for (name, outcome) in &outcomes {
        rows.push(match outcome {
            Ok((done, _)) => Row::done(done),
            Err(error) => Row::failed(name, &ErrorObject::of(error))?,
        });
    }
    session.out.document(&rows)?;
    let failed = outcomes.into_iter().find_map(|(_, outcome)| outcome.err());
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(words: &[&str], all: bool) -> Result<Vec<String>> {
        let names = Names {
            names: words.iter().map(|word| (*word).to_owned()).collect(),
            all,
        };
        let known = ["api", "web-1", "web-2", "Web-3"].map(str::to_owned);
        names.among(known.iter())
    }

    #[test]
    fn names_and_patterns_stand_for_daemons_each_once() {
        for (words, expected) in [
            (&["web-*"][..], &["web-1", "web-2"][..]),
            (&["*eb-?"], &["web-1", "web-2", "Web-3"]),
            (&["web-2", "web-*", "new"], &["web-2", "web-1", "new"]),
            (&["web-[12]"], &["web-1", "web-2"]),
            (&["new", "api", "new", "api"], &["new", "api"]),
        ] {
            assert_eq!(among(words, false).unwrap(), expected, "{words:?}");
        }
        assert_eq!(among(&[], true).unwrap().len(), 4);
    }

    #[test]
    fn a_pattern_that_matches_nothing_stands_for_itself_and_a_wrong_one_is_an_error() {
        assert_eq!(among(&["db-*", "api"], false).unwrap(), ["db-*", "api"]);
        let error = among(&["web-["], false).unwrap_err();
        assert_eq!(exit::code(&error), exit::Code::Usage, "{error}");
    }
}
