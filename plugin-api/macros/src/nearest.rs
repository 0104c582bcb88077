//! Finds the known name that an unknown one may stand for.

/// Returns the name that differs from `given` by the fewest letters, if it is close enough to be meant.
pub fn nearest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let most = given.chars().count().max(3) / 3;
    names
        .into_iter()
        .map(|name| (distance(given, name), name))
        .filter(|(distance, name)| *distance <= most || is_start(given, name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn is_start(given: &str, name: &str) -> bool {
    !given.is_empty() && name.starts_with(given)
}

/// Returns the number of letters to insert, remove or replace (Levenshtein's distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let names = ["blocking", "name", "timeout_s"];
        for (given, near) in [
            ("bloking", Some("blocking")),
            ("timeout", Some("timeout_s")),
            ("nam", Some("name")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, names), near, "{given}");
        }
    }
}
