//! The start order of daemons that start after others. Pure.
//!
//! A circle in the config file can't be refused, because its daemons are already installed and must run. So it is
//! reported, and its members start one after another in the order of their names.

use std::collections::{BTreeMap, BTreeSet};

/// The daemons that each daemon starts after.
pub(super) type StartAfter = BTreeMap<String, Vec<String>>;

/// The start order. It has no circles left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StartOrder {
    /// The daemons that each daemon waits for.
    pub(super) waits: StartAfter,
    /// The members of the circle that a daemon is in, by the daemon's name.
    pub(super) circles: BTreeMap<String, Vec<String>>,
}

/// Computes the start order.
pub(super) fn of(after: StartAfter) -> StartOrder {
    let mut order = StartOrder::default();
    for name in in_or_behind_circles(&after) {
        if order.circles.contains_key(&name) {
            continue;
        }
        let reached = reach(&after, &name);
        let is_member = |other: &&String| reach(&after, other).contains(&name);
        let members: Vec<String> = reached.iter().filter(is_member).cloned().collect();
        for member in &members {
            order.circles.insert(member.clone(), members.clone());
        }
    }
    for (name, mut others) in after {
        if let Some(members) = order.circles.get(&name) {
            others.retain(|other| !members.contains(other));
            let before = members.iter().take_while(|member| **member != name).last();
            others.extend(before.cloned());
        }
        order.waits.insert(name, others);
    }
    order
}

/// Returns the daemons that are in a circle or wait for one. It repeatedly removes those that wait for no other.
fn in_or_behind_circles(after: &StartAfter) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    let mut behind: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, others) in after {
        let known: BTreeSet<&String> = others
            .iter()
            .filter(|one| after.contains_key(*one))
            .collect();
        left.insert(name, known.len());
        for other in known {
            behind.entry(other).or_default().push(name);
        }
    }
    let mut free: Vec<&str> = left
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(name, _)| *name)
        .collect();
    while let Some(name) = free.pop() {
        left.remove(name);
        for other in behind.get(name).into_iter().flatten() {
            if let Some(count) = left.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    free.push(other);
                }
            }
        }
    }
    left.into_keys().map(str::to_owned).collect()
}

/// Returns all that a daemon waits for, directly or through others.
fn reach(after: &StartAfter, name: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        for other in after.get(next).into_iter().flatten() {
            if reached.insert(other.clone()) {
                open.push(other);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(edges: &[(&str, &[&str])]) -> StartAfter {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        edges
            .iter()
            .map(|(name, others)| ((*name).to_owned(), owned(others)))
            .collect()
    }

    /// Returns the test cases: the input, the resulting waits, and the members of circles.
    fn cases() -> Vec<(StartAfter, StartAfter, &'static str)> {
        vec![
            (
                after(&[("A", &["B"]), ("B", &[])]),
                after(&[("A", &["B"]), ("B", &[])]),
                "",
            ),
            (after(&[("A", &["A"])]), after(&[("A", &[])]), "A"),
            (
                after(&[("A", &["Nobody"])]),
                after(&[("A", &["Nobody"])]),
                "",
            ),
            (
                after(&[("A", &["B"]), ("B", &["A"])]),
                after(&[("A", &[]), ("B", &["A"])]),
                "AB",
            ),
            (
                // A circle of three, with one daemon before and one behind it, and a circle of one.
                after(&[
                    ("C", &["B", "Z"]),
                    ("B", &["A"]),
                    ("A", &["C"]),
                    ("D", &["A"]),
                    ("E", &["E", "D"]),
                    ("Z", &[]),
                ]),
                after(&[
                    ("C", &["Z", "B"]),
                    ("B", &["A"]),
                    ("A", &[]),
                    ("D", &["A"]),
                    ("E", &["D"]),
                    ("Z", &[]),
                ]),
                "ABCE",
            ),
        ]
    }

    #[test]
    fn members_of_a_circle_start_in_the_order_of_their_names() {
        for (given, waits, in_circles) in cases() {
            let order = of(given.clone());
            assert_eq!(order.waits, waits, "{given:?}");
            let members: String = order.circles.into_keys().collect();
            assert_eq!(members, in_circles, "{given:?}");
            assert_eq!(of(waits).circles, BTreeMap::new(), "no circle is left");
        }
    }

    #[test]
    fn ten_thousand_daemons_in_a_chain_are_no_trouble() {
        let name = |number: u32| format!("D{number:05}");
        let chain: StartAfter = (1..10_000)
            .map(|number| (name(number), vec![name(number - 1)]))
            .collect();
        assert!(of(chain).circles.is_empty());
    }
}
