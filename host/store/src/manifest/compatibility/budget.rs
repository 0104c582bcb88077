//! A budget of work, so that no schema makes a comparison endless or fills the memory.
//!
//! A schema of a few bytes can stand for any number of cases: one that refers to itself twice has 2^n of them at depth n.
//! So each function that walks over parts, branches, elements or listed values takes from the budget first. Once it is
//! used up, every answer is "not known", and the whole comparison counts as one that can't be made.

use std::cell::Cell;

use serde_json::Value;

/// The most work of one comparison, or of one description. A usual schema has a few dozen parts and takes a few hundred
/// units. There is room for 100 variants against 100 others, or 1,000 listed values against 1,000 others. A unit is about
/// one look at a keyword, a branch or a value, and holds at most 100 bytes.
const COMPARISON_MAX: usize = 1 << 20;

/// The most work of all comparisons of two manifests. A manifest of 4 MiB has room for 50,000 small schemas. As many usual
/// ones fit into this; as many that use up all they may would take many minutes.
const TOTAL_MAX: usize = 1 << 26;

/// The work that a description may always take, so that a schema has a name also where nothing is compared any more.
const DESCRIPTION_LEAST: usize = 1 << 10;

/// The work that may still be done.
#[derive(Debug)]
pub(in crate::manifest) struct Budget {
    /// The rest for the present comparison; 0 once it is used up.
    left: Cell<usize>,
    /// The rest for all comparisons.
    total_left: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            left: Cell::new(0),
            total_left: Cell::new(TOTAL_MAX),
        }
    }
}

impl Budget {
    /// Starts the next comparison.
    pub(super) fn start_comparison(&self) {
        self.left.set(COMPARISON_MAX.min(self.total_left.get()));
    }

    /// Starts the description of a schema.
    pub(super) fn start_description(&self) {
        self.start_comparison();
        self.left.set(self.left.get().max(DESCRIPTION_LEAST));
    }

    /// Takes work from the budget, and returns whether there was more than that.
    pub(super) fn take(&self, amount: usize) -> bool {
        self.left.set(self.left.get().saturating_sub(amount));
        let total_left = self.total_left.get().saturating_sub(amount);
        self.total_left.set(total_left);
        !self.is_used_up()
    }

    /// Returns whether nothing is left. What was found out since may be wrong then.
    pub(super) fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }

    /// Returns whether two values are equal; false once the budget is used up.
    pub(super) fn are_equal(&self, one: &Value, other: &Value) -> bool {
        match (one, other) {
            _ if !self.take(1) => false,
            (Value::Array(one), Value::Array(other)) => {
                let mut pairs = one.iter().zip(other);
                one.len() == other.len() && pairs.all(|(one, other)| self.are_equal(one, other))
            }
            (Value::Object(one), Value::Object(other)) => {
                let is_in_other = |(name, one): (&String, &Value)| {
                    self.take(text_work(name))
                        && other
                            .get(name)
                            .is_some_and(|other| self.are_equal(one, other))
                };
                one.len() == other.len() && one.iter().all(is_in_other)
            }
            (Value::String(one), Value::String(other)) => {
                one.len() == other.len() && self.take(text_work(one)) && one == other
            }
            _ => one == other,
        }
    }
}

/// Returns the work of reading a text.
pub(super) fn text_work(text: &str) -> usize {
    /// The bytes that are read in about the time of one step.
    const STEP_BYTES: usize = 64;
    text.len() / STEP_BYTES
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::compatibility::{SchemaAt, Unlisted, accepts, spoken};

    #[test]
    fn all_comparisons_share_one_budget() {
        let budget = Budget {
            left: Cell::new(0),
            total_left: Cell::new(100),
        };
        let (number, integer) = (json!({"type": "number"}), json!({"type": "integer"}));
        let [wide, narrow] = [&number, &integer].map(|schema| SchemaAt::whole(schema, &budget));
        let results: Vec<_> = (0..100)
            .map(|_| accepts(wide, narrow, Unlisted::Ignored))
            .collect();
        assert_eq!(results[0], Ok(()));
        let mismatch = results[99].clone().expect_err("the budget is used up");
        assert!(mismatch.is_open, "{mismatch:?}");
        assert_eq!(spoken(wide), "number", "a small schema always has a name");
    }
}
