//! The steps of a comparison that are left. Each takes about as long as any other: a long text or value is several.

use std::cell::Cell;

use serde_json::Value;

/// The most steps of one comparison. Usual schemas have a few dozen parts.
const STEPS_MAX: usize = 20_000;
/// The bytes of a text that cost one step. To read them takes no longer than the rest of a step.
const STEP_BYTES: usize = 32;

/// The steps that are left.
pub(in crate::client) struct Steps {
    left: Cell<usize>,
    /// The number of times that steps were wanted and none were left.
    #[cfg(test)]
    refused: Cell<usize>,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            left: Cell::new(STEPS_MAX),
            #[cfg(test)]
            refused: Cell::default(),
        }
    }
}

impl Steps {
    /// Takes that many steps. Returns whether they were left; if not, none is left after this.
    pub(super) fn take(&self, count: usize) -> bool {
        let left = self.left.get().checked_sub(count);
        self.left.set(left.unwrap_or(0));
        #[cfg(test)]
        self.refused
            .set(self.refused.get() + usize::from(left.is_none()));
        left.is_some()
    }

    /// Returns the number of steps that were taken, and how often steps were wanted in vain.
    #[cfg(test)]
    pub(in crate::client) fn taken_and_refused(&self) -> (usize, usize) {
        (STEPS_MAX - self.left.get(), self.refused.get())
    }

    /// Takes the steps of a text: one, and more for a long one.
    pub(super) fn take_text(&self, text: &str) -> bool {
        self.take(1 + text.len() / STEP_BYTES)
    }

    /// Takes the steps of a value with all that is in it. Looks no further than the steps reach.
    pub(super) fn take_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.take_text(text),
            Value::Array(all) => self.take(1) && all.iter().all(|one| self.take_value(one)),
            Value::Object(all) => {
                let mut all = all.iter();
                self.take(1) && all.all(|(name, one)| self.take_text(name) && self.take_value(one))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.take(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken_by(value: &Value) -> usize {
        let steps = Steps::default();
        let was_left = steps.take_value(value);
        assert_eq!(was_left, steps.left.get() > 0, "{value}");
        steps.taken_and_refused().0
    }

    #[test]
    fn a_value_takes_steps_by_its_size() {
        assert_eq!(taken_by(&json!(true)), 1);
        assert_eq!(taken_by(&json!([1, 2, [3]])), 5);
        assert_eq!(taken_by(&json!({"a": 1})), 3);
        assert_eq!(taken_by(&json!("x".repeat(STEP_BYTES))), 2);
        for large in [
            json!(vec![1; STEPS_MAX]),
            json!("x".repeat(STEPS_MAX * STEP_BYTES)),
        ] {
            assert_eq!(taken_by(&large), STEPS_MAX);
        }
    }

    #[test]
    fn nothing_is_left_after_too_much() {
        let steps = Steps::default();
        assert!(!steps.take(STEPS_MAX + 1));
        assert!(!steps.take(1));
        assert_eq!(steps.taken_and_refused(), (STEPS_MAX, 2));
    }
}
