//! The events of `top`: the differences between two answers of the host.
//!
//! A change that comes and goes between two answers is not seen.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::list::Listed;
use dae_store::report::{Mode, Status};

/// A change of one daemon.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SeenChange {
    pub(super) time: Timestamp,
    pub(super) daemon: String,
    pub(super) text: String,
}

/// Returns the changes from one answer to the next, in the order of the rows.
pub(super) fn changes(before: &[Listed], after: &[Listed], time: Timestamp) -> Vec<SeenChange> {
    let by_name = |rows| -> HashMap<&str, &Status> { names(rows).collect() };
    let (earlier, later) = (by_name(before), by_name(after));
    let gone = names(before).filter(|(name, _)| !later.contains_key(name));
    let gone = gone.map(|(name, status)| (name, left(status).to_owned()));
    let changed = names(after).flat_map(|(name, status)| {
        let texts = match earlier.get(name) {
            Some(before) => differences(before, status),
            None => vec![came(status)],
        };
        texts.into_iter().map(move |text| (name, text))
    });
    let change = |(name, text): (&str, String)| SeenChange {
        time,
        daemon: name.to_owned(),
        text,
    };
    gone.chain(changed).map(change).collect()
}

fn names(rows: &[Listed]) -> impl Iterator<Item = (&str, &Status)> {
    rows.iter()
        .map(|row| (row.status.name.as_str(), &row.status))
}

fn came(status: &Status) -> String {
    match status.foreign {
        true => "a foreign daemon is found".to_owned(),
        false => format!("installed; {}", status.state),
    }
}

fn left(status: &Status) -> &'static str {
    match status.foreign {
        true => "the foreign daemon is gone",
        false => "uninstalled",
    }
}

/// Returns the differences of one daemon that an operator cares for.
fn differences(before: &Status, after: &Status) -> Vec<String> {
    let mut texts = Vec::new();
    if before.state != after.state {
        let reason = match after.reason.as_str() {
            "" => String::new(),
            reason if reason == after.state => String::new(),
            reason => format!(": {reason}"),
        };
        texts.push(format!("{} → {}{reason}", before.state, after.state));
    }
    if before.generation != after.generation {
        texts.push(format!("generation {} answers", after.generation));
    }
    if before.mode != after.mode {
        let mode = after.mode.map_or("unknown", Mode::as_str);
        texts.push(format!("mode {mode}"));
    }
    if before.hash != after.hash && !before.hash.is_empty() {
        texts.push(format!("version {} runs", after.version));
    }
    if before.last_end != after.last_end
        && let Some(end) = &after.last_end
    {
        texts.push(format!(
            "generation {} ended: {}",
            end.generation, end.cause
        ));
    }
    if before.last_refusal != after.last_refusal
        && let Some(refusal) = &after.last_refusal
    {
        texts.push(format!("{} refused: {}", refusal.change, refusal.reason));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &str, generation: u64) -> Listed {
        Listed::from(Status {
            name: name.to_owned(),
            state: state.to_owned(),
            generation,
            ..Status::default()
        })
    }

    #[test]
    fn each_difference_is_one_change() {
        let before = [
            row("A", "ready", 1),
            row("B", "ready", 1),
            row("C", "ready", 1),
        ];
        let mut after = [
            row("A", "ready", 1),
            row("B", "backoff", 2),
            row("D", "ready", 1),
        ];
        after[1].status.reason = "it was killed".to_owned();
        let time = Timestamp::UNIX_EPOCH;
        let seen = changes(&before, &after, time);
        let seen: Vec<_> = seen
            .iter()
            .map(|one| (one.daemon.as_str(), one.text.as_str()))
            .collect();
        let expected = [
            ("C", "uninstalled"),
            ("B", "ready → backoff: it was killed"),
            ("B", "generation 2 answers"),
            ("D", "installed; ready"),
        ];
        assert_eq!(seen, expected);
        assert!(changes(&after, &after, time).is_empty());
    }
}
