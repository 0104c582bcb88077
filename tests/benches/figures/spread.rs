//! The spread of the rounds of a figure: the median between its two quartiles.
//!
//! Quartiles, because a single round that something else disturbed must not hide a difference, as the extremes would.

use serde_json::{Value, json};

/// The median of the rounds, and the quartiles below and above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Returns the spread of the given values, NaN throughout if there are none.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let place = values.len().saturating_sub(1) as f64 * quarters as f64 / 4.0;
            let value = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
            let (below, above) = (value(place.floor()), value(place.ceil()));
            below + (above - below) * place.fract()
        };
        Spread {
            low: at(1),
            median: at(2),
            high: at(3),
        }
    }

    /// Returns the form in which it is stored.
    pub(crate) fn json(self) -> Value {
        json!({"median": self.median, "low": self.low, "high": self.high})
    }

    /// Reads the stored form. `None` if it is another value, or nothing.
    pub(crate) fn read(stored: &Value) -> Option<Self> {
        let number = |member: &str| stored[member].as_f64();
        Some(Spread {
            low: number("low")?,
            median: number("median")?,
            high: number("high")?,
        })
    }

    /// Returns whether a ratio differs from 1 by no more than its rounds differ from each other.
    pub(crate) fn is_no_result(self) -> bool {
        (self.median - 1.0).abs() <= self.high - self.low
    }

    /// Returns the median with the quartiles behind it.
    pub(crate) fn shown(self, digits: usize) -> String {
        let Spread { low, median, high } = self;
        format!("{median:.digits$} [{low:.digits$}..{high:.digits$}]")
    }

    /// Returns the same for a ratio, with a mark if it is no result.
    pub(crate) fn ratio(self) -> String {
        let mark = if self.is_no_result() { " ~" } else { "" };
        self.shown(2) + mark
    }
}
