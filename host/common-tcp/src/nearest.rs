//! Finds the name that was probably meant: the hint in an `unknown-command`.
//!
//! The measure is the edit distance with swaps of adjacent letters (optimal string alignment), without regard to
//! case. A hint that is far off is worse than none. So only a few edits are allowed, and fewer for a short name.

use strsim::osa_distance;

/// The most edits between what was typed and what is hinted at: past three, a hint is a guess.
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
    let wanted = wanted.to_lowercase();
    let edits_max = ((wanted.chars().count() + 1) / LETTERS_PER_EDIT).min(EDITS_MAX);
    names
        .map(|name| (osa_distance(&wanted, &name.to_lowercase()), name))
        .filter(|&(edits, _)| edits <= edits_max)
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, name)| name)
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
}
