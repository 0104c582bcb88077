//! Finds the name that was probably meant: the hint in an `unknown-command`.
//!
//! The measure is the edit distance with swaps of adjacent letters (optimal string alignment), without regard to
//! case. A hint that is far off is worse than none. So only a few edits are allowed, and fewer for a short name.

/// The most edits between the typed name and the hint. Past three, a hint is a guess.
const EDITS_MAX: usize = 3;

/// The number of letters per allowed edit. The length counts one letter more than was typed: `ad` suggests `add`,
/// but `a` does not suggest `b`.
const LETTERS_PER_EDIT: usize = 3;

/// Returns the name nearest to `wanted`, or `None` if no name is near. Of equally near names, returns the first.
///
/// ```
/// let names = ["greet", "add", "options"];
/// assert_eq!(dae_common_tcp::nearest("gret", names.into_iter()), Some("greet"));
/// assert_eq!(dae_common_tcp::nearest("uninstall", names.into_iter()), None);
/// ```
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(wanted);
    let edits_max = ((wanted.len() + 1) / LETTERS_PER_EDIT).min(EDITS_MAX);
    names
        .map(|name| (edits(&wanted, &folded(name)), name))
        .filter(|&(edits, _)| edits <= edits_max)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, name)| name)
}

fn folded(name: &str) -> Vec<char> {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Returns how many insertions, deletions, replacements or swaps of adjacent letters turn `from` into `to`.
fn edits(from: &[char], to: &[char]) -> usize {
    // Three rows of the table: the one before last (for swaps), the last, and the one being filled.
    let mut earlier = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row];
        for column in 1..=to.len() {
            let replaced = last[column - 1] + usize::from(from[row - 1] != to[column - 1]);
            let mut least = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            if is_swap(&from[..row], &to[..column]) {
                least = least.min(earlier[column - 2] + 1);
            }
            current.push(least);
        }
        earlier = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

/// Returns whether the last two letters of both are the same pair in reverse order.
fn is_swap(from: &[char], to: &[char]) -> bool {
    match (from, to) {
        ([.., a, b], [.., c, d]) => a == d && b == c,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_near_or_none() {
        let names = ["greet", "add", "options", "option", "größe"];
        let table = [
            ("gret", Some("greet")),
            ("geret", Some("greet")),
            ("GREET", Some("greet")),
            ("ad", Some("add")),
            ("adda", Some("add")),
            ("dad", Some("add")),
            ("optoin", Some("option")),
            ("optionss", Some("options")),
            ("grösse", Some("größe")),
            ("stop", None),
            ("x", None),
            ("", None),
        ];
        for (wanted, expected) in table {
            assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted:?}");
        }
    }

    #[test]
    fn edits_are_counted() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ];
        for (from, to, expected) in table {
            assert_eq!(edits(&folded(from), &folded(to)), expected, "{from} {to}");
        }
    }
}
